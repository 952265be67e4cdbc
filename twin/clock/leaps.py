"""Leap seconds of the simulated world: when UTC is set back or forward by one second."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import BadInputError

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class LeapSecond:
    """At the end of the UTC day before `at_utc_s`, a midnight, one second is inserted (`step_s` 1) or left out (-1)."""

    at_utc_s: int
    step_s: int = 1


class LeapSeconds:
    """Uniform time made UTC. Uniform time is POSIX time as it was when the run began, counted on without steps.

    POSIX has no name for an inserted second: it has the number of the second before it, which is repeated.
    """

    def __init__(self) -> None:
        self._leaps: list[LeapSecond] = []

    def insert(self, leap: LeapSecond) -> None:
        """Raises BadInputError where it is not at a midnight, or not behind every earlier one."""
        if leap.at_utc_s % _DAY_S or leap.step_s not in (1, -1):
            raise BadInputError("a leap second is 1 or -1 at a midnight of UTC", key="leap second")
        if self._leaps and leap.at_utc_s <= self._leaps[-1].at_utc_s:
            raise BadInputError("must be later than the one before", key="leap second")
        self._leaps.append(leap)

    @property
    def announced(self) -> LeapSecond | None:
        """The last one, past or to come."""
        return self._leaps[-1] if self._leaps else None

    def utc_s(self, uniform_s: float) -> float:
        return uniform_s - self.count(uniform_s)

    def count(self, uniform_s: float) -> int:
        """How many seconds have been inserted since the run began, those left out counted negative."""
        total = 0
        for leap in self._leaps:
            if uniform_s >= _begins(leap) + total:
                total += leap.step_s
        return total

    def is_inserted(self, uniform_s: float) -> bool:
        """Whether this moment is in an inserted second, 23:59:60."""
        total = 0
        for leap in self._leaps:
            begins_s = _begins(leap) + total
            if leap.step_s == 1 and begins_s <= uniform_s < begins_s + 1:
                return True
            total += leap.step_s if uniform_s >= begins_s else 0
        return False


def _begins(leap: LeapSecond) -> int:
    """UTC, on the scale before the leap: midnight, or the second that is left out before it."""
    return leap.at_utc_s if leap.step_s == 1 else leap.at_utc_s - 1
