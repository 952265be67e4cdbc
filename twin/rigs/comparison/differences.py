"""What two finished runs agree on. Times may differ: how long a processor takes is a result, not an error."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from twin.conformance.tables import Table
from twin.rigs.comparison.finished import FinishedRun, Milestone, ProfileRow

_METERED = ("load", "daily", "monthly")
"""Profiles whose rows stand at fixed instants; logs are compared by what they say, in their order."""

_UNSOLICITED = ("event: meter-alarm",)
"""What a meter sends by itself, whenever the air lets it: its place among what others asked for is a matter of time."""

_LOST = "event: meter-lost"
"""A route's lifetime ran out. A run that heals sooner can end before it does, so it is told, and decides nothing."""

_UNORDERED = (*_UNSOLICITED, _LOST)


@dataclass(frozen=True, slots=True)
class Agreement:
    """One thing that both runs should have the same. `shared` of `first` and `second` are."""

    what: str
    first: int
    second: int
    shared: int
    detail: str = ""

    @property
    def is_empty(self) -> bool:
        """Neither run has any of it: nothing was compared."""
        return not self.first and not self.second

    @property
    def holds(self) -> bool:
        return self.first == self.second == self.shared


@dataclass(frozen=True, slots=True)
class Comparison:
    """Agreements decide; the tables tell."""

    agreements: tuple[Agreement, ...]
    tables: tuple[Table, ...]

    @property
    def holds(self) -> bool:
        """Whether there was something to compare, and all of it agrees."""
        compared = [item for item in self.agreements if not item.is_empty]
        return bool(compared) and all(item.holds for item in compared)


def compare(first: FinishedRun, second: FinishedRun) -> Comparison:
    agreements = (
        _steps(first, second),
        _instants(first, second),
        _logs(first, second),
        _readings(first, second),
        _order("use-case events of each meter, in their order", _by_subject(first), _by_subject(second)),
        _order("alarms of each meter, in their order", _alarms(first), _alarms(second)),
        _order("kinds of use-case events of the whole run, in their order", _phases(first), _phases(second)),
    )
    tables = (_durations(first, second), _waiting(first, second), _lost(first, second), _values(first, second))
    return Comparison(agreements, tables)


def _common(first: list[object], second: list[object]) -> int:
    """How many places of two sequences hold the same."""
    return sum(one == other for one, other in zip(first, second, strict=False))


def _steps(first: FinishedRun, second: FinishedRun) -> Agreement:
    mine, theirs = ([(step.title, step.verdict) for step in run.steps] for run in (first, second))
    return Agreement("steps and their verdicts", len(mine), len(theirs), _common(list(mine), list(theirs)))


def _metered(run: FinishedRun) -> dict[tuple[str, str, int | None], ProfileRow]:
    return {(row.serial, row.profile, row.captured_ms): row for row in run.rows if row.profile in _METERED}


def _instants(first: FinishedRun, second: FinishedRun) -> Agreement:
    mine, theirs = _metered(first), _metered(second)
    shared = mine.keys() & theirs.keys()
    alone = sorted((mine.keys() | theirs.keys()) - shared, key=str)
    return Agreement(
        "rows of profiles in the MDMS, by meter and instant", len(mine), len(theirs), len(shared),
        ", ".join(f"{serial} {name} {at}" for serial, name, at in alone[:3]),
    )  # fmt: skip


def _logs(first: FinishedRun, second: FinishedRun) -> Agreement:
    mine, theirs = (
        [(row.serial, row.profile, row.values[:1]) for row in run.rows if row.profile not in _METERED]
        for run in (first, second)
    )
    return Agreement("entries of event logs in the MDMS", len(mine), len(theirs), _common(list(mine), list(theirs)))


def _readings(first: FinishedRun, second: FinishedRun) -> Agreement:
    mine, theirs = ({(item.serial, item.request, item.name) for item in run.readings} for run in (first, second))
    return Agreement("values read on demand, by meter and register", len(mine), len(theirs), len(mine & theirs))


def _by_subject(run: FinishedRun) -> list[object]:
    return _sorted_by_subject([item for item in run.milestones if item.what not in _UNORDERED])


def _alarms(run: FinishedRun) -> list[object]:
    return _sorted_by_subject([item for item in run.milestones if item.what in _UNSOLICITED])


def _sorted_by_subject(milestones: list[Milestone]) -> list[object]:
    """Stable: the order of each subject's own stays."""
    return [(item.subject, item.what) for item in sorted(milestones, key=lambda item: item.subject)]


def _phases(run: FinishedRun) -> list[object]:
    """The kinds of events as they followed each other, whichever meter came first among equals."""
    phases: list[object] = []
    for item in run.milestones:
        if item.what not in _UNORDERED and (not phases or phases[-1] != item.what):
            phases.append(item.what)
    return phases


def _order(what: str, mine: list[object], theirs: list[object]) -> Agreement:
    shared = _common(mine, theirs)
    detail = ""
    if shared < max(len(mine), len(theirs)):
        place = next(
            (i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]),
            min(len(mine), len(theirs)),
        )
        detail = f"first difference at {place + 1}: {mine[place : place + 1]} and {theirs[place : place + 1]}"
    return Agreement(what, len(mine), len(theirs), shared, detail)


def _durations(first: FinishedRun, second: FinishedRun) -> Table:
    others = {step.title: step for step in second.steps}
    rows = tuple(
        (step.title, f"{step.duration_s:.3f}", f"{other.duration_s:.3f}", f"{other.duration_s - step.duration_s:+.3f}")
        for step in first.steps
        if (other := others.get(step.title)) is not None
    )
    return Table("How long the steps took, in s", ("Step", first.how, second.how, "Difference"), rows)


def _waits(run: FinishedRun) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for item in run.milestones:
        if item.waited_s is not None:
            found.setdefault(item.what, []).append(item.waited_s)
    return found


def _waiting(first: FinishedRun, second: FinishedRun) -> Table:
    mine, theirs = _waits(first), _waits(second)
    rows = []
    for what in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(what, []), theirs.get(what, [])
        rows.append((what, len(one), _spread(one), len(other), _spread(other)))
    columns = ("Answer to", f"{first.how}: number", "median (max), s", f"{second.how}: number", "median (max), s")
    return Table("How long the operator waited", columns, tuple(rows))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({max(values):.3f})" if values else "none"


def _lost(first: FinishedRun, second: FinishedRun) -> Table:
    mine, theirs = (
        {item.subject: item.at_ms for item in run.milestones if item.what == _LOST} for run in (first, second)
    )
    rows = tuple(
        (serial, *(_clock_time(found[serial]) if serial in found else "not in the run" for found in (mine, theirs)))
        for serial in sorted(mine.keys() | theirs.keys())
    )
    return Table("When a meter's route was last given up for lost, UTC", ("Meter", first.how, second.how), rows)


def _clock_time(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _values(first: FinishedRun, second: FinishedRun) -> Table:
    """Values at the same instant or of the same request: how many are the same, and how far the others are apart."""
    mine, theirs = _metered(first), _metered(second)
    rows = []
    for profile in _METERED:
        keys = [key for key in mine if key in theirs and key[1] == profile]
        pairs = [pair for key in keys for pair in zip(mine[key].values, theirs[key].values, strict=False)]
        if pairs:
            rows.append((f"rows of {profile}", len(pairs), *_apart(pairs)))
    others = {(item.serial, item.request, item.name): item.value for item in second.readings}
    for name in sorted({item.name for item in first.readings}):
        pairs = [
            (item.value, others[key])
            for item in first.readings
            if item.name == name and (key := (item.serial, item.request, item.name)) in others
        ]
        if pairs:
            rows.append((f"{name}, on demand", len(pairs), *_apart(pairs)))
    columns = ("Values", "in both runs", "the same", "largest difference")
    return Table("Values side by side", columns, tuple(rows))


def _apart(pairs: Iterable[tuple[str, str]]) -> tuple[int, str]:
    pairs = list(pairs)
    same = sum(one == other for one, other in pairs)
    numbers = [(float(one), float(other)) for one, other in pairs if _is_number(one) and _is_number(other)]
    largest = max((abs(one - other) for one, other in numbers), default=0.0)
    return same, f"{largest:g}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
