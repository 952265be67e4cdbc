"""Earth faults on the lines of a meter under test: what flows through its sensors, until its relays stop it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from grid.loads import Load, line_currents_a
from grid.waveforms import WAVEFORMS, LineFrequency, ResidualBatch
from meters.hardware.leakage_test_path import Leak, Polarity
from meters.hardware.relay import Relay
from meters.hardware.relay_opening import Opening, open_relay
from meters.meter import Meter
from protocols.errors import BadInputError
from protocols.ports import Timers

Samples = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 8000
_OPENING_S = 0.3
"""How far a pole's current is followed after the relay was told to open. No zero within this is never."""
_QUIET_S = 1.0
"""How long after the last current the converter still runs: the record of a trip needs 40 ms."""
_LINE_V = 230.0
_HALF_WAVE_MEAN = 0.45
_DIRECT = ("dc", "dc-plus-ac")


@dataclass(slots=True)
class LineFault:
    """An earth fault on one line. It lasts until it is cleared; its current flows while the line's relay lets it.

    `onset_s` is the time of its first sample, in seconds on the timers' clock.
    """

    line: int
    waveform: str
    ma: float
    onset_s: float
    batch: ResidualBatch = field(repr=False)
    load: Load = field(repr=False)
    phase_rad: float
    _opening: tuple[float, Opening] | None = field(default=None, repr=False)

    def residual_ma(self, time_s: Samples) -> Samples:
        """What would flow at these times, were the line closed."""
        return np.asarray(self.batch.sample(time_s - self.onset_s)[0])

    def load_a(self, time_s: Samples) -> Samples:
        return np.asarray(self.load.sample(time_s - self.onset_s, self.batch.frequency, np.array([self.phase_rad]))[0])

    def opening(self, relay: Relay) -> Opening | None:
        """When the relay's last pole came to zero (seconds), None while it is closed."""
        if relay.commanded_closed:
            return None
        command_s = relay.moved_at_s
        if self._opening is None or self._opening[0] != command_s:
            times_s = command_s + np.arange(round(_OPENING_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
            phase_a, neutral_a = line_currents_a(self.load_a(times_s), self.residual_ma(times_s))
            poles = {pole: neutral_a if pole == "N" else phase_a for pole in relay.poles}
            found = open_relay(relay.model, poles, 0.0, SAMPLE_RATE_HZ, relay.welded)
            if found.zero_s is not None:
                found = Opening(command_s + found.zero_s)
            self._opening = (command_s, found)
        return self._opening[1]

    def conducts(self, relay: Relay, time_s: Samples) -> npt.NDArray[np.bool_]:
        """At which of these times current can still get to the fault."""
        opening = self.opening(relay)
        if opening is None or opening.zero_s is None:
            return np.ones(len(time_s), dtype=bool)
        return np.asarray((time_s < opening.zero_s) | (time_s < relay.moved_at_s))


@dataclass(frozen=True, slots=True)
class Isolation:
    """What became of a fault: when the relay was told to open, and when its last pole's current was zero, both in ms
    from the fault's first sample; None where it was not. `reason` says why a told relay did not isolate."""

    command_ms: float | None
    isolate_ms: float | None
    reason: str = ""


class LeakageVerbs:
    """The bench's verbs on a meter's lines (from 1), and the `ResidualSource` of its sensors. Raises BadInputError for
    a line or a waveform that there is not."""

    def __init__(self, meter: Meter, timers: Timers) -> None:
        if meter.hardware.leakage is None or meter.disconnector is None or meter.hardware.leakage_test_path is None:
            raise BadInputError(f"model {meter.model.model} has no leakage protection", key="leakage")
        self._meter = meter
        self._timers = timers
        self._front_end = meter.hardware.leakage
        self._test_path = meter.hardware.leakage_test_path
        self._relays = meter.disconnector.relays
        self._faults: dict[int, LineFault] = {}
        self._last_flow_s = float("-inf")
        self._cleared_s = float("-inf")
        for relay in self._relays:
            relay.on_moved.append(self._front_end.wake)

    def apply(
        self, waveform: str, ma: float, *, line: int = 1, phase_deg: float = 0.0, direct_ma: float = 0.0
    ) -> LineFault:
        """From the next sample on, this fault is on the line, in `ma` of the waveform's own rating. `phase_deg` is the
        line's angle at its first sample. The leak is there for the test path, too, when the line is open."""
        relay = self._relay(line)
        if waveform not in WAVEFORMS:
            raise BadInputError(f"no {waveform!r}; there are {', '.join(WAVEFORMS)}", key="waveform")
        instant = self._meter.metrology.instant()
        current_a = instant.phases[0].current_a / max(1, sum(item.carries_load for item in self._relays))
        first = int(np.floor(self._timers.time() * SAMPLE_RATE_HZ)) + 1
        phase = float(np.radians(phase_deg))
        fault = LineFault(
            line, waveform, ma, first / SAMPLE_RATE_HZ,
            ResidualBatch(
                WAVEFORMS[waveform], np.array([phase]), np.array([ma]),
                LineFrequency(instant.frequency_hz or self._meter.model.nominal_frequency_hz), fault_dc_ma=direct_ma,
            ),
            Load(current_a), phase,
        )  # fmt: skip
        self._faults[line] = fault
        self._test_path.set_leak(line - 1, _leak(waveform, ma, direct_ma))
        if relay.commanded_closed:
            self._last_flow_s = fault.onset_s
        self._front_end.attach(self)
        return fault

    def clear(self, line: int = 1) -> None:
        """The fault is mended."""
        self._relay(line)
        self._faults.pop(line, None)
        self._test_path.set_leak(line - 1, None)
        self._cleared_s = self._timers.time()

    def fault(self, line: int = 1) -> LineFault | None:
        """The fault that is on a line now."""
        self._relay(line)
        return self._faults.get(line)

    def isolation(self, fault: LineFault) -> Isolation:
        """What the line's relay has made of a fault."""
        relay = self._relays[fault.line - 1]
        opening = fault.opening(relay)
        if opening is None or relay.moved_at_s < fault.onset_s:
            return Isolation(None, None)
        command_ms = (relay.moved_at_s - fault.onset_s) * 1000.0
        if opening.zero_s is None:
            return Isolation(command_ms, None, opening.reason)
        return Isolation(command_ms, (opening.zero_s - fault.onset_s) * 1000.0)

    def break_test_path(self, line: int = 1, *, broken: bool = True) -> None:
        """The resistor of the pre-close check is open (or mended): nothing can be measured."""
        self._relay(line)
        self._test_path.break_path(line - 1, broken)

    def unplug_sensor(self, line: int = 1) -> None:
        """The line's sensor is unplugged: its input floats to the rail."""
        self._relay(line)
        self._front_end.unplug(line - 1)

    def plug_sensor(self, line: int = 1) -> None:
        """It is plugged in again."""
        self._relay(line)
        self._front_end.plug(line - 1)

    def stick_converter(self, line: int = 1) -> None:
        """The line's converter repeats its last code."""
        self._relay(line)
        self._front_end.stick(line - 1)

    def let_converter_go(self, line: int = 1) -> None:
        """It converts again."""
        self._relay(line)
        self._front_end.let_go(line - 1)

    # the sensors' source

    def sample(self, time_s: Samples) -> tuple[Samples, Samples]:
        """Residual current in mA and load current in A: lines x times."""
        residual_ma = np.zeros((len(self._relays), len(time_s)))
        load_a = np.zeros_like(residual_ma)
        for line, fault in self._faults.items():
            on = fault.conducts(self._relays[line - 1], time_s)
            if on.any():
                residual_ma[line - 1] = np.where(on, fault.residual_ma(time_s), 0.0)
                load_a[line - 1] = np.where(on, fault.load_a(time_s), 0.0)
                self._last_flow_s = float(time_s[-1])
        return residual_ma, load_a

    def is_quiet(self, now_s: float) -> bool:
        """No fault's current flows, nor has for a second."""
        flowing = any(fault.conducts(self._relays[line - 1], np.array([now_s])).any() for line, fault in
                      self._faults.items())  # fmt: skip
        return not flowing and now_s > max(self._last_flow_s, self._cleared_s) + _QUIET_S

    def _relay(self, line: int) -> Relay:
        if not 1 <= line <= len(self._relays):
            raise BadInputError(f"no line {line}; the meter has 1 to {len(self._relays)}", key="line")
        return self._relays[line - 1]


def _leak(waveform: str, ma: float, direct_ma: float) -> Leak | None:
    """The resistance to earth that would let such a current flow at the line's voltage, for the check of an open line.
    Direct and pulsating currents come from a leak that conducts one way."""
    if ma == 0.0 and direct_ma == 0.0:
        return None
    one_way = waveform in _DIRECT or waveform.startswith("half-wave") or waveform.endswith("-pulse")
    if not one_way and direct_ma == 0.0:
        return Leak(_LINE_V / abs(ma) * 1000.0)
    mean_ma = ma if waveform in _DIRECT else 0.45 * ma + direct_ma
    polarity = Polarity.POSITIVE if mean_ma >= 0.0 else Polarity.NEGATIVE
    return Leak(_HALF_WAVE_MEAN * _LINE_V / abs(mean_ma) * 1000.0, (polarity,))
