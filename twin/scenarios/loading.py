"""Finding, reading and adjusting scenario files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from meters.datafile import DataFile, parse, read_text
from protocols.errors import BadInputError
from twin.scenarios.fleet import with_fleet
from twin.scenarios.schema import Parameter, Scenario


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A checked scenario, the values of its parameters, and the file it came from (for error texts)."""

    scenario: Scenario
    values: dict[str, float | int | str | bool]
    file: DataFile


def packaged_scenarios() -> dict[str, str]:
    """Title of every scenario that comes with the project, by name."""
    folder = resources.files("twin.scenarios").joinpath("library")
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {name: str(_packaged(name).data.get("title", "")) for name in names}


def _packaged(name: str) -> DataFile:
    source = resources.files("twin.scenarios").joinpath("library", f"{name}.yaml")
    return parse(source.read_text(encoding="utf-8"), f"{name}.yaml (packaged)")


def load_scenario(name_or_path: str, overrides: list[str] | None = None) -> LoadedScenario:
    """The scenario of that name or file, with `KEY=VALUE` overrides.

    A key is a parameter of the scenario, or a place in the file such as `radio.max_psdu_bytes`. Raises BadInputError
    that names file, line and key.
    """
    file = _find(name_or_path)
    settings = [_split(text) for text in overrides or []]
    parameters = file.data.get("parameters")
    declared = set(parameters) if isinstance(parameters, dict) else set()
    for key, value in settings:
        if key not in declared:
            _put(file, key, value)
    scenario = file.check(Scenario)
    _refuse_doubles(file, scenario)
    values = {name: parameter.default for name, parameter in scenario.parameters.items()}
    for key, value in settings:
        if key in declared:
            values[key] = _parameter_value(key, value, scenario.parameters[key])
    return LoadedScenario(with_fleet(scenario, values), values, file)


def _find(name_or_path: str) -> DataFile:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return parse(read_text(path), name_or_path)
    known = packaged_scenarios()
    if name_or_path not in known:
        raise BadInputError(
            f"no scenario of that name, and no such file; there are: {', '.join(known)}", key=name_or_path
        )
    return _packaged(name_or_path)


def _split(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BadInputError("must be KEY=VALUE, as in --set hours=24", key=f"--set {text}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise BadInputError(f"the value {value!r} cannot be read", key=f"--set {key}") from None


def _put(file: DataFile, key: str, value: Any) -> None:
    """Set a dotted place of the file; the schema judges it afterwards."""
    *folders, last = key.split(".")
    target: Any = file.data
    for part in folders:
        target = target.setdefault(part, {}) if isinstance(target, dict) else None
    if not isinstance(target, dict) or (not folders and last not in Scenario.model_fields):
        names = sorted(file.data.get("parameters") or {})
        raise BadInputError(
            f"this scenario has no such parameter; it has: {', '.join(names) or 'none'}", key=f"--set {key}"
        )
    target[last] = value


def _parameter_value(key: str, value: Any, parameter: Parameter) -> Any:
    kind = type(parameter.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise BadInputError(f"must be a {kind.__name__} like {parameter.default!r}, not {value!r}", key=f"--set {key}")
    low, high = parameter.minimum, parameter.maximum
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        raise BadInputError(
            f"must lie between {'any' if low is None else f'{low:g}'} and {'any' if high is None else f'{high:g}'}, "
            f"not {value!r}",
            key=f"--set {key}",
        )
    return value


def _refuse_doubles(file: DataFile, scenario: Scenario) -> None:
    for field in ("name", "serial"):
        first: dict[str, int] = {}
        for index, meter in enumerate(scenario.meters):
            value = str(getattr(meter, field))
            if value in first:
                line = file.line_of(("meters", first[value], field))
                raise file.error(
                    f"{value!r} is the {field} of another meter already (line {line}); give this one its own",
                    "meters", index, field,
                )  # fmt: skip
            first[value] = index
