"""Shot plans: YAML files of shots, ramps, pulse-ramps, state sequences, phase and frequency sweeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from grid.faults import Expectation
from grid.loads import Load
from grid.waveforms import WAVEFORMS, LineFrequency
from meters.datafile import DataFile, FileModel, load
from meters.hardware.leakage_sensor import SENSOR_MODELS
from meters.hardware.relay import RELAY_MODELS
from protocols.errors import BadInputError
from twin.protection.bench import frequency_sweep, pulse_ramp, run_shot
from twin.protection.shots import FaultState, Shot, ShotKind, ShotResult

_MOST_STEPS = 1000


class _Common(FileModel):
    """Keys that every entry of a plan may have."""

    name: str = ""
    waveform: str = "ac"
    hz: float = 50.0
    drift_hz_per_s: float = 0.0
    relay: str = "mosfet"
    sensor: str = "type-b"
    load_a: float = Field(10.0, ge=0, le=200)
    load_phase_deg: float = 0.0
    dc_ma: float = 0.0
    standing_ma: float = 0.0
    standing_dc_ma: float = 0.0
    phases: int = Field(1, ge=1, le=4096)
    phase_deg: float = 0.0
    duration_s: float = Field(1.0, gt=0, le=86400)
    expect: Literal["trip", "hold"] | None = None


class ShotEntry(_Common):
    """One current, one phase."""

    kind: Literal["shot"]
    ma: float


class PhaseSweepEntry(_Common):
    """One current, all around the cycle."""

    kind: Literal["phase-sweep"]
    ma: float
    phases: int = Field(64, ge=1, le=4096)


class FrequencySweepEntry(_Common):
    """One current from `from_hz` to `to_hz`, both included."""

    kind: Literal["frequency-sweep"]
    ma: float
    from_hz: float = 45.0
    to_hz: float = 52.0
    step_hz: float = Field(0.5, gt=0)


class RampEntry(_Common):
    """A current that grows from zero to `ma` without a break."""

    kind: Literal["ramp"]
    ma: float
    ma_per_s: float = Field(gt=0)


class PulseRampEntry(_Common):
    """Pulses of growing current, each from rest."""

    kind: Literal["pulse-ramp"]
    from_ma: float
    to_ma: float
    step_ma: float = Field(gt=0)


class StateEntry(FileModel):
    waveform: str = "ac"
    ma: float = 0.0
    dc_ma: float = 0.0
    duration_s: float = Field(gt=0, le=3600)


class SequenceEntry(_Common):
    """Pre-fault, fault and post-fault states, one after the other."""

    kind: Literal["sequence"]
    states: list[StateEntry] = Field(min_length=1)


Entry = Annotated[
    ShotEntry | PhaseSweepEntry | FrequencySweepEntry | RampEntry | PulseRampEntry | SequenceEntry,
    Field(discriminator="kind"),
]


class Plan(FileModel):
    """A plan: its entries are fired in order, each at a rested detector."""

    title: str = ""
    seed: int = 1
    shots: list[Entry] = Field(min_length=1)


def run_plan(path: Path, *, captures: int = 0) -> list[ShotResult]:
    """Fire every entry of the plan. Raises BadInputError, with file, line and key, for what cannot be fired."""
    file = load(path)
    plan = file.check(Plan)
    shots = [_checked(entry, index, plan.seed, file) for index, entry in enumerate(plan.shots)]
    results = []
    for entry, shot in zip(plan.shots, shots, strict=True):
        results += _fire(entry, shot, captures)
    return results


def _checked(entry: Entry, index: int, seed: int, file: DataFile) -> Shot:
    known = (("waveform", WAVEFORMS), ("relay", RELAY_MODELS), ("sensor", SENSOR_MODELS))
    for key, names in known:
        name = getattr(entry, key)
        if name not in names:
            raise file.error(f"no {name!r}; there are {', '.join(names)}", "shots", index, key)
    if isinstance(entry, SequenceEntry):
        for number, state in enumerate(entry.states):
            if state.waveform not in WAVEFORMS:
                message = f"no {state.waveform!r}; there are {', '.join(WAVEFORMS)}"
                raise file.error(message, "shots", index, "states", number, "waveform")
    if isinstance(entry, FrequencySweepEntry):
        _check_steps(file, index, entry.from_hz, entry.to_hz, entry.step_hz, "to_hz")
    if isinstance(entry, PulseRampEntry):
        _check_steps(file, index, entry.from_ma, entry.to_ma, entry.step_ma, "to_ma")
    try:
        return _shot(entry, index, seed)
    except BadInputError as error:
        raise file.error(str(error), "shots", index) from None


def _check_steps(file: DataFile, index: int, first: float, last: float, step: float, key: str) -> None:
    if last < first or (last - first) / step > _MOST_STEPS:
        raise file.error(f"must lie above its beginning, at most {_MOST_STEPS} steps away", "shots", index, key)


def _shot(entry: Entry, index: int, seed: int) -> Shot:
    wanted = {"trip": Expectation.TRIP, "hold": Expectation.HOLD, None: None}[entry.expect]
    shot = Shot(
        entry.name or f"{index + 1} {entry.kind} {entry.waveform}", entry.waveform, 0.0, ShotKind(entry.kind),
        LineFrequency(entry.hz, entry.drift_hz_per_s), entry.phases, entry.phase_deg, RELAY_MODELS[entry.relay],
        SENSOR_MODELS[entry.sensor], Load(entry.load_a, entry.load_phase_deg), entry.dc_ma, entry.standing_ma,
        entry.standing_dc_ma, duration_s=entry.duration_s, expected=wanted, seed=seed + index,
    )  # fmt: skip
    if isinstance(entry, ShotEntry | PhaseSweepEntry | FrequencySweepEntry | RampEntry):
        shot = replace(shot, ma=entry.ma)
    if isinstance(entry, RampEntry):
        shot = replace(shot, ramp_ma_per_s=entry.ma_per_s)
    if isinstance(entry, SequenceEntry):
        states = tuple(FaultState(state.waveform, state.ma, state.duration_s, state.dc_ma) for state in entry.states)
        shot = replace(shot, sequence=states)
    return shot


def _fire(entry: Entry, shot: Shot, captures: int) -> list[ShotResult]:
    if isinstance(entry, FrequencySweepEntry):
        return frequency_sweep(shot, _steps(entry.from_hz, entry.to_hz, entry.step_hz), captures=captures)
    if isinstance(entry, PulseRampEntry):
        return pulse_ramp(shot, _steps(entry.from_ma, entry.to_ma, entry.step_ma), captures=captures)
    return run_shot(shot, captures=captures)


def _steps(first: float, last: float, step: float) -> list[float]:
    """Both ends included, whatever the rounding of the step."""
    count = round((last - first) / step + 0.499)
    return [round(min(first + step * index, last), 9) for index in range(count + 1)]
