"""Verdicts, and the measurements they follow from. What was not measured is never a PASS."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Value = float | int | str | bool | None


class Verdict(enum.StrEnum):
    PASS = "PASS"  # noqa: S105 (a verdict, not a password)
    FAIL = "FAIL"
    ERROR = "ERROR"
    TIMEOUT = "TIMEOUT"
    SKIP = "SKIP"
    NOT_COVERED = "NOT COVERED"


_WORST_FIRST = (Verdict.ERROR, Verdict.TIMEOUT, Verdict.FAIL, Verdict.PASS, Verdict.SKIP, Verdict.NOT_COVERED)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that a group of verdicts deserves: an ERROR outweighs all, a SKIP counts only among its like."""
    found = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in found), Verdict.NOT_COVERED)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a measured value must satisfy; `text` is how a report writes it."""

    text: str
    holds: Callable[[Value], bool] = field(repr=False)


def _number(value: Value) -> float | None:
    return None if value is None or isinstance(value, str | bool) else float(value)


def within(low: float, high: float) -> Limit:
    """Both ends included."""
    return Limit(f"{low:g} to {high:g}", lambda value: (x := _number(value)) is not None and low <= x <= high)


def at_most(high: float) -> Limit:
    return Limit(f"≤ {high:g}", lambda value: (x := _number(value)) is not None and x <= high)


def at_least(low: float) -> Limit:
    return Limit(f"≥ {low:g}", lambda value: (x := _number(value)) is not None and x >= low)


def equals(expected: Value) -> Limit:
    return Limit(f"= {expected}", lambda value: type(value) is type(expected) and value == expected)


def one_of(*expected: Value) -> Limit:
    return Limit(" or ".join(str(item) for item in expected), lambda value: value in expected)


def differs_from(other: Value) -> Limit:
    return Limit(f"≠ {other}", lambda value: value is not None and value != other)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value with its unit ("" for a count or a text) and its limit; without a limit it is information."""

    name: str
    value: Value
    unit: str = ""
    limit: Limit | None = None

    @property
    def verdict(self) -> Verdict | None:
        """None where there is no limit to hold."""
        if self.limit is None:
            return None
        return Verdict.PASS if self.limit.holds(self.value) else Verdict.FAIL


class Record:
    """Where a step writes what it measured."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.attachments: list[str] = []

    def measure(self, name: str, value: Value, *, unit: str = "", limit: Limit | None = None) -> None:
        if isinstance(value, float):
            value = round(value, 9)
        self.measurements.append(Measurement(name, value, unit, limit))

    def attach(self, file_name: str) -> None:
        """Name a file of the run folder that belongs to this step."""
        self.attachments.append(file_name)

    def verdict(self) -> tuple[Verdict, str]:
        """PASS if something was held against a limit and everything held; else FAIL, and why."""
        failed = [m for m in self.measurements if m.verdict is Verdict.FAIL]
        if failed:
            return Verdict.FAIL, "; ".join(
                f"{m.name} is {'nothing' if m.value is None else m.value}{' ' + m.unit if m.unit else ''}, "
                f"must be {m.limit.text}"
                for m in failed
                if m.limit
            )
        if not any(m.verdict for m in self.measurements):
            return Verdict.FAIL, "nothing was measured against a limit"
        return Verdict.PASS, ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a step, kept whatever came of it. Times in seconds since the run began."""

    verdict: Verdict
    reason: str
    started_s: float
    ended_s: float
    measurements: tuple[Measurement, ...]
    attachments: tuple[str, ...] = ()


def is_picture(file_name: str) -> bool:
    """An attachment that a page can show."""
    return file_name.endswith((".png", ".svg"))


class SgamLayer(enum.StrEnum):
    """Interoperability layers of the Smart Grid Architecture Model."""

    BUSINESS = "business"
    FUNCTION = "function"
    INFORMATION = "information"
    COMMUNICATION = "communication"
    COMPONENT = "component"


class UneceDimension(enum.StrEnum):
    """UNECE's dimensions of interoperability."""

    TECHNICAL = "technical"
    INFORMATIONAL = "informational"
    ORGANIZATIONAL = "organizational"


@dataclass(frozen=True, slots=True)
class Layers:
    """Where a case belongs: OSI layer (1 to 7), SGAM layer, UNECE dimension."""

    osi: int
    sgam: SgamLayer
    unece: UneceDimension


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A step of a scenario, or a conformance case, with every attempt. The last attempt decides."""

    name: str
    title: str
    requirements: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    purpose: str = ""
    """What it is about, in a sentence or two; empty where the title says it."""
    layers: Layers | None = None

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    @property
    def verdict(self) -> Verdict:
        return self.last.verdict

    @property
    def has_pictures(self) -> bool:
        return any(is_picture(name) for attempt in self.attempts for name in attempt.attachments)
