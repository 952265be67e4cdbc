"""Type tests of an inverter after IEEE 1547.1: what the bench applies, stage by stage, and what has to come of it.

A procedure is data; this module plays it on an inverter in steps of STEP_S and reports what it measured against its
limits. Nothing waits: a procedure of ten minutes takes a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from grid.der.categories import Category, TripPoint
from grid.der.inverter import DerState, GridPoint, Inverter
from grid.der.settings import PROFILES, Curve, DerSettings, VarReference
from protocols.errors import BadInputError

STEP_S = 0.01
_KEPT_EVERY_S = 0.1
_TINY = 1e-9
SERVICE = {"in-service": {DerState.RUNNING, DerState.RAMPING}, "ceased": {DerState.CEASED},
           "tripped": {DerState.TRIPPED, DerState.WAITING}, "connected": {DerState.RUNNING, DerState.RAMPING,
                                                                         DerState.CEASED}}  # fmt: skip
"""What a stage may expect of the inverter's state, by the word that a file uses."""

Band = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the bench applies for `seconds`; voltage, frequency and phase go there within `over_s`.

    `throughout` and `at_end` are words of SERVICE. `active_pct` and `reactive_pct` are of the rated active and apparent
    power at the stage's end. `stops_within_s`: when power has to have stopped, from the stage's beginning.
    """

    name: str
    seconds: float
    voltage_pu: float = 1.0
    hz: float | None = None
    phase_deg: float = 0.0
    over_s: float = 0.0
    available_pct: float = 100.0
    throughout: str | None = None
    at_end: str | None = None
    active_pct: Band | None = None
    reactive_pct: Band | None = None
    stops_within_s: Band | None = None

    def __post_init__(self) -> None:
        for value in (self.throughout, self.at_end):
            if value is not None and value not in SERVICE:
                raise BadInputError(f"no state {value!r}; there are {', '.join(SERVICE)}", key=self.name)
        if not (math.isfinite(self.seconds) and 0.0 < self.seconds <= 7200.0 and 0.0 <= self.over_s <= self.seconds):
            raise BadInputError("a stage lasts above 0 to 7200 s, and what it does takes no longer", key=self.name)

    @property
    def expects(self) -> bool:
        limits = (self.throughout, self.at_end, self.active_pct, self.reactive_pct, self.stops_within_s)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True, slots=True)
class Procedure:
    """One test by name. `settings` are changes of the profile's defaults, by dotted names of `DerSettings`.

    Raises BadInputError for a test without a stage that expects something: it could not fail.
    """

    name: str
    title: str
    requirement: str
    stages: tuple[Stage, ...]
    profile: str = "ieee1547-60"
    category: Category = Category.II
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise BadInputError(f"no profile {self.profile!r}; there are {', '.join(PROFILES)}", key=self.name)
        if not any(stage.expects for stage in self.stages):
            raise BadInputError("no stage expects anything: nothing would be measured", key=self.name)


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured value and its limits, ends included; both None: `holds` says it all."""

    name: str
    value: float
    unit: str
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low - _TINY <= self.value <= self.high + _TINY


@dataclass(slots=True)
class Trace:
    """What a procedure applied and what came of it, every 0.1 s."""

    time_s: list[float] = field(default_factory=list)
    voltage_pu: list[float] = field(default_factory=list)
    hz: list[float] = field(default_factory=list)
    active_pct: list[float] = field(default_factory=list)
    reactive_pct: list[float] = field(default_factory=list)
    connected: list[bool] = field(default_factory=list)

    def add(self, time_s: float, inverter: Inverter) -> None:
        rating, grid = inverter.rating, inverter.grid
        self.time_s.append(time_s)
        self.voltage_pu.append(grid.voltage_pu)
        self.hz.append(grid.hz)
        self.active_pct.append(100.0 * inverter.active_w / rating.active_w)
        self.reactive_pct.append(100.0 * inverter.reactive_var / rating.apparent_va)
        self.connected.append(inverter.connected)


@dataclass(frozen=True, slots=True)
class Outcome:
    findings: tuple[Finding, ...]
    trace: Trace

    @property
    def holds(self) -> bool:
        return bool(self.findings) and all(finding.holds for finding in self.findings)


def play(procedure: Procedure, inverter: Inverter | None = None) -> Outcome:
    """Run a procedure on a new inverter of its profile, or on the one that is given, set as the procedure says.

    Raises BadInputError for settings that the standard's ranges do not allow.
    """
    if inverter is None:
        inverter = Inverter(PROFILES[procedure.profile], procedure.category)
    settings = inverter.settings
    for path, value in procedure.settings.items():
        settings = with_setting(settings, path, value)
    inverter.apply(settings)
    inverter.available_pct = procedure.stages[0].available_pct
    before = GridPoint(1.0, settings.nominal_hz)
    inverter.step(before, STEP_S)
    trace, findings, now_s = Trace(), [], 0.0
    trace.add(now_s, inverter)
    for stage in procedure.stages:
        after = GridPoint(stage.voltage_pu, settings.nominal_hz if stage.hz is None else stage.hz, stage.phase_deg)
        findings += _play_stage(stage, before, after, inverter, trace, now_s)
        before, now_s = after, now_s + stage.seconds
    return Outcome(tuple(findings), trace)


def _play_stage(
    stage: Stage, before: GridPoint, after: GridPoint, inverter: Inverter, trace: Trace, began_s: float
) -> list[Finding]:
    inverter.available_pct = stage.available_pct
    steps = max(1, round(stage.seconds / STEP_S))
    every = max(1, round(_KEPT_EVERY_S / STEP_S))
    seen: set[DerState] = set()
    stopped_s = math.inf
    for step in range(1, steps + 1):
        inverter.step(_between(before, after, stage.over_s, step * STEP_S), STEP_S)
        seen.add(inverter.state)
        if inverter.active_w == 0.0:
            stopped_s = min(stopped_s, step * STEP_S)
        if step % every == 0 or step == steps:
            trace.add(began_s + step * STEP_S, inverter)
    return _judge(stage, inverter, seen, stopped_s)


def _between(before: GridPoint, after: GridPoint, over_s: float, since_s: float) -> GridPoint:
    if since_s >= over_s - _TINY:
        return after
    share = since_s / over_s
    return GridPoint(
        before.voltage_pu + share * (after.voltage_pu - before.voltage_pu),
        before.hz + share * (after.hz - before.hz),
        before.phase_deg + share * (after.phase_deg - before.phase_deg),
    )


def _judge(stage: Stage, inverter: Inverter, seen: set[DerState], stopped_s: float) -> list[Finding]:
    found, rating = [], inverter.rating
    if stage.throughout is not None:
        held = seen <= SERVICE[stage.throughout]
        found.append(Finding(f"{stage.name}: {stage.throughout} throughout", float(held), "", 1.0, 1.0))
    if stage.at_end is not None:
        there = inverter.state in SERVICE[stage.at_end]
        found.append(Finding(f"{stage.name}: {stage.at_end} at its end", float(there), "", 1.0, 1.0))
    for name, value, band in (
        ("active power", 100.0 * inverter.active_w / rating.active_w, stage.active_pct),
        ("reactive power", 100.0 * inverter.reactive_var / rating.apparent_va, stage.reactive_pct),
    ):
        if band is not None:
            found.append(Finding(f"{stage.name}: {name}", value, "%", *band))
    if stage.stops_within_s is not None:
        found.append(Finding(f"{stage.name}: power stopped after", stopped_s, "s", *stage.stops_within_s))
    return found


def with_setting(settings: DerSettings, path: str, value: Any) -> DerSettings:
    """The settings with one changed: `volt_var.enabled`, `power.limit_pct`, `voltage.uv1` ([limit, seconds]),
    `volt_var.curve` (points). Raises BadInputError for a name that there is not, or a value of the wrong shape."""
    changed: DerSettings = _changed(settings, path.split("."), value, path)
    return changed


def _changed(part: Any, names: list[str], value: Any, path: str) -> Any:
    known = [item.name for item in fields(part)] if is_dataclass(part) else []
    if names[0] not in known:
        raise BadInputError(f"no setting {names[0]!r}; there are {', '.join(known)}", key=path)
    old = getattr(part, names[0])
    new = _changed(old, names[1:], value, path) if len(names) > 1 else _shaped(old, value, path)
    made: dict[str, Any] = {names[0]: new}
    return replace(part, **made)


def _shaped(old: Any, value: Any, path: str) -> Any:
    try:
        if isinstance(old, TripPoint):
            return TripPoint(float(value[0]), float(value[1]))
        if isinstance(old, Curve):
            return Curve(tuple((float(x), float(y)) for x, y in value))
        if isinstance(old, VarReference):
            return VarReference[str(value).upper()]
        if isinstance(old, bool):
            if not isinstance(value, bool):
                raise BadInputError(f"must be true or false, is {value!r}", key=path)
            return value
        return float(value)
    except (TypeError, ValueError, KeyError, IndexError):
        raise BadInputError(f"cannot be {value!r}", key=path) from None
