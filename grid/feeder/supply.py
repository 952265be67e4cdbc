"""What comes from above the transformer: voltage and frequency over time, in straight lines between moments."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from grid.der.inverter import GridPoint
from protocols.errors import BadInputError


@dataclass(frozen=True, slots=True)
class _Mark:
    at_s: float
    voltage_pu: float
    hz: float


class Supply:
    """Voltage (per unit of nominal) and frequency of the grid above; changes are made at present or later times."""

    def __init__(self, start_s: float, voltage_pu: float = 1.0, hz: float = 50.0) -> None:
        _check(voltage_pu, hz)
        self._marks = [_Mark(start_s, voltage_pu, hz)]

    def change(self, at_s: float, *, voltage_pu: float | None = None, hz: float | None = None, over_s: float = 0.0
               ) -> None:  # fmt: skip
        """From `at_s` on go to these values, at once or within `over_s`; what was planned for later is dropped.

        Raises BadInputError for values that no grid has.
        """
        before = self.at(at_s)
        after = (
            before.voltage_pu if voltage_pu is None else voltage_pu,
            before.hz if hz is None else hz,
        )
        _check(*after)
        if not (math.isfinite(over_s) and over_s >= 0.0):
            raise BadInputError(f"must be 0 s or more, is {over_s}", key="over_s")
        self._marks = [mark for mark in self._marks if mark.at_s < at_s]
        self._marks.append(_Mark(at_s, before.voltage_pu, before.hz))
        self._marks.append(_Mark(at_s + over_s, *after))

    def at(self, time_s: float) -> GridPoint:
        """The supply at a moment; at a step, what comes after it."""
        index = bisect.bisect_right(self._marks, time_s, key=lambda mark: mark.at_s) - 1
        mark = self._marks[max(index, 0)]
        if index < 0 or index + 1 >= len(self._marks):
            return GridPoint(mark.voltage_pu, mark.hz)
        after = self._marks[index + 1]
        share = (time_s - mark.at_s) / (after.at_s - mark.at_s)
        return GridPoint(
            mark.voltage_pu + share * (after.voltage_pu - mark.voltage_pu), mark.hz + share * (after.hz - mark.hz)
        )

    def is_moving(self, time_s: float) -> bool:
        """Whether it changes right after this moment."""
        return self.next_mark_s(time_s) < math.inf and self.at(time_s) != self.at(self.next_mark_s(time_s) - 1e-9)

    def next_mark_s(self, time_s: float) -> float:
        """When its course changes next; infinity if it stays as it is."""
        index = bisect.bisect_right(self._marks, time_s, key=lambda mark: mark.at_s)
        return self._marks[index].at_s if index < len(self._marks) else math.inf


def _check(voltage_pu: float, hz: float) -> None:
    if not (math.isfinite(voltage_pu) and 0.0 <= voltage_pu <= 2.0):
        raise BadInputError(f"must be from 0 to 2 pu, is {voltage_pu}", key="voltage_pu")
    if not (math.isfinite(hz) and 30.0 <= hz <= 80.0):
        raise BadInputError(f"must be from 30 to 80 Hz, is {hz}", key="hz")
