"""The verbs of a meter's hardware by name: the same ones that a test in this process calls.

A verb is `part.verb`, such as `rtc.advance`; what can be read is `part.property`. The firmware knows none of them.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from meters.hardware.disconnector import Disconnector
from meters.hardware.enclosure import Contact, Enclosure
from meters.hardware.flash import Flash
from meters.hardware.metrology import Metrology
from meters.hardware.power import PowerSupply, SupplyState
from meters.hardware.rtc import Rtc
from meters.meter import Meter
from protocols.errors import BadInputError
from protocols.loads import ConstantLoad, PhaseLoad
from protocols.ports import Timers

if TYPE_CHECKING:
    from twin.protection.line_faults import LeakageVerbs

_PARTS: dict[str, tuple[type, tuple[str, ...]]] = {
    "rtc": (
        Rtc,
        (
            "offset_s",
            "rate_error_ppm",
            "temperature_c",
            "set_temperature",
            "advance",
            "set",
            "kill_cell",
            "replace_cell",
        ),
    ),
    "flash": (
        Flash,
        ("operations", "used_bytes", "fail_power_at", "cancel_failure", "mark_bad", "erase_count", "flip_bit"),
    ),
    "metrology": (
        Metrology,
        ("neutral_present", "flowing", "reverse_current", "lose_neutral", "set_voltage"),
    ),
    "power": (PowerSupply, ("state", "restore", "cut", "cut_at_once", "set_mains")),
    "enclosure": (
        Enclosure,
        (
            "open_meter_cover",
            "close_meter_cover",
            "open_terminal_cover",
            "close_terminal_cover",
            "apply_magnet",
            "remove_magnet",
        ),
    ),
    "disconnector": (Disconnector, ("is_closed", "weld", "free", "press_button")),
}
_JSON_NAMES = {int: "integer", float: "number", bool: "boolean", str: "string", types.NoneType: "null"}


class VerbError(BadInputError):
    """A verb that is not there, or cannot be done with these values."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that a verb takes, and the Python types that it may have."""

    name: str
    kinds: tuple[type, ...]
    is_required: bool

    def accept(self, value: object) -> object:
        """The value as the verb gets it. Raises VerbError."""
        if type(value) is int and float in self.kinds and int not in self.kinds:
            value = float(value)
        if type(value) not in self.kinds or (isinstance(value, float) and value - value != 0):
            raise VerbError(f"must be {self.kind_names}", key=self.name)
        return value

    @property
    def kind_names(self) -> str:
        return " or ".join(_JSON_NAMES[kind] for kind in self.kinds)


class Bench:
    """A meter on the bench: its parts, and the faults on its lines."""

    def __init__(self, meter: Meter, timers: Timers) -> None:
        self.meter = meter
        self._timers = timers

    @functools.cached_property
    def leakage(self) -> LeakageVerbs:
        """Raises BadInputError on a model without leakage protection."""
        from twin.protection.line_faults import LeakageVerbs

        return LeakageVerbs(self.meter, self._timers)

    def part(self, name: str) -> Any:
        """None for a part that the model has not."""
        return self.leakage if name == _LEAKAGE else getattr(self.meter, name)


@dataclass(frozen=True, slots=True)
class Verb:
    """`call` does it on the bench, with values by name."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    call: Callable[[Bench, Mapping[str, Any]], object]

    def describe(self) -> dict[str, object]:
        parameters = [
            {"name": item.name, "type": item.kind_names, "required": item.is_required} for item in self.parameters
        ]
        return {"method": self.name, "about": self.about, "parameters": parameters}

    def run(self, bench: Bench, values: Mapping[str, object] | Sequence[object]) -> object:
        """Do it, with values by name or in order. Raises VerbError that names the value that is wrong."""
        if not isinstance(values, Mapping):
            if len(values) > len(self.parameters):
                raise VerbError(f"{self.name} takes {len(self.parameters)} values, not {len(values)}")
            values = {item.name: value for item, value in zip(self.parameters, values, strict=False)}
        known = {item.name: item for item in self.parameters}
        for name in values:
            if name not in known:
                raise VerbError(f"{self.name} takes no such value; it takes: {', '.join(known) or 'none'}", key=name)
        for item in self.parameters:
            if item.is_required and item.name not in values:
                raise VerbError(f"{self.name} needs it", key=item.name)
        return self.call(bench, {name: known[name].accept(value) for name, value in values.items()})


def _set_load(bench: Bench, values: Mapping[str, Any]) -> None:
    meter = bench.meter
    phases = meter.metrology.phase_count
    voltage_v = values.get("voltage_v", meter.model.nominal_voltage_v)
    share = PhaseLoad(values["power_w"] / phases, values.get("reactive_power_var", 0.0) / phases, voltage_v)
    meter.metrology.set_source(ConstantLoad((share,) * phases, meter.model.nominal_frequency_hz))


_SET_LOAD = Verb(
    "metrology.set_load",
    "From now on this load, shared by the phases.",
    (
        Parameter("power_w", (float,), True),
        Parameter("reactive_power_var", (float,), False),
        Parameter("voltage_v", (float,), False),
    ),
    _set_load,
)


def _apply_fault(bench: Bench, values: Mapping[str, Any]) -> None:
    bench.leakage.apply(**values)


def _isolation(bench: Bench, values: Mapping[str, Any]) -> dict[str, object] | None:
    fault = bench.leakage.fault(**values)
    return None if fault is None else asdict(bench.leakage.isolation(fault))


_LEAKAGE = "leakage"
_LINE = Parameter("line", (int,), False)
_FAULTS = (
    Verb(
        "leakage.apply",
        "From the next sample on, this earth fault is on the line (from 1), at that angle of its first sample.",
        (
            Parameter("waveform", (str,), True),
            Parameter("ma", (float,), True),
            _LINE,
            Parameter("phase_deg", (float,), False),
            Parameter("direct_ma", (float,), False),
        ),
        _apply_fault,
    ),
    Verb(
        "leakage.isolation",
        "What the line's relay made of its fault: told to open, last pole's current zero, in ms from the first sample.",
        (_LINE,),
        _isolation,
    ),
)


def _parts() -> dict[str, tuple[type, tuple[str, ...]]]:
    """Waveforms need numpy, which comes with the extra `grid`."""
    if find_spec("numpy") is None:
        return _PARTS
    from twin.protection.line_faults import LeakageVerbs

    names = ("clear", "unplug_sensor", "plug_sensor", "stick_converter", "let_converter_go", "break_test_path")
    return _PARTS | {_LEAKAGE: (LeakageVerbs, names)}


@functools.cache
def verbs() -> Mapping[str, Verb]:
    """All of them, by name."""
    parts = _parts()
    found = {verb.name: verb for verb in (_SET_LOAD, *(_FAULTS if _LEAKAGE in parts else ()))}
    for part, (of, names) in parts.items():
        for name in names:
            verb = _verb(part, of, name)
            found[verb.name] = verb
    return dict(sorted(found.items()))


def _verb(part: str, of: type, name: str) -> Verb:
    member = inspect.getattr_static(of, name, None)
    method = member if inspect.isfunction(member) else None
    documented = method or getattr(member, "fget", None)
    documentation = None if documented is None else inspect.getdoc(documented)
    about = " ".join((documentation or name.replace("_", " ")).split("\n\n")[0].split())

    def call(bench: Bench, values: Mapping[str, Any]) -> object:
        target = bench.part(part)
        if target is None:
            raise VerbError(f"model {bench.meter.model.model} has no {part}")
        result = getattr(target, name)
        return _plain(result if method is None else result(**values))

    parameters = () if method is None else _parameters(method)
    return Verb(f"{part}.{name}", about, parameters, call)


def _parameters(function: Callable[..., object]) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(function)
    return tuple(
        Parameter(item.name, _kinds(hints[item.name]), item.default is inspect.Parameter.empty)
        for item in inspect.signature(function).parameters.values()
        if item.name != "self"
    )


def _kinds(hint: Any) -> tuple[type, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _plain(value: object) -> object:
    """As JSON can say it."""
    return value.value if isinstance(value, SupplyState | Contact) else value
