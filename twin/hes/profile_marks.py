"""What is doubtful about rows, and what is not there: marked, never hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.dlms.date_time import ClockStatus
from twin.hes.profile_tables import ProfileRow

STATUS_MARKS = (
    (0x80, "power-down"),
    (0x40, "power-up"),
    (0x20, "clock-adjusted"),
    (0x10, "billing-reset"),
    (0x08, "daylight-saving"),
    (0x04, "data-not-valid"),
    (0x02, "clock-invalid"),
    (0x01, "critical-error"),
)
"""Bits of the AMR profile status (0-0:96.10.x), as DSMR and IDIS give them."""
_CLOCK_MARKS = (
    (ClockStatus.INVALID, "clock-invalid"),
    (ClockStatus.DOUBTFUL, "clock-doubtful"),
)
_POWER = {"power-down", "power-up"}
_CLOCK = {"clock-adjusted", "clock-invalid"}
_LATE = 1.5
"""Periods between two rows from which one is missing: a clock that was corrected moves a row by seconds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Between two rows, or between a row and a limit of the range, `missing` rows were expected and are not there.

    `cause` is what the row behind it says: `power-failure`, `clock-change`, or `unknown`.
    """

    from_utc_ms: int
    to_utc_ms: int
    missing: int
    cause: str


def marks(row: ProfileRow) -> tuple[str, ...]:
    """What makes a row doubtful, by the meter's own words."""
    found = [name for bit, name in STATUS_MARKS if row.status is not None and row.status & bit]
    if row.clock_status is not None and row.clock_status != ClockStatus.NOT_SPECIFIED:
        found += [name for bit, name in _CLOCK_MARKS if row.clock_status & bit and name not in found]
    if row.captured_utc_ms is None:
        found.append("time-unknown")
    return tuple(found)


def find_gaps(
    rows: Sequence[ProfileRow], period_s: int, from_utc_ms: int | None = None, to_utc_ms: int | None = None
) -> list[Gap]:
    """Where rows of a periodic profile are missing; `rows` in the order of capture. Nothing for a period of 0."""
    if period_s <= 0:
        return []
    period_ms = period_s * 1000
    timed = [row for row in rows if row.captured_utc_ms is not None]
    gaps: list[Gap] = []
    previous_ms = from_utc_ms if from_utc_ms is None else from_utc_ms - 1
    is_limit = True
    for row in timed:
        at_ms = row.captured_utc_ms or 0
        if previous_ms is not None:
            gaps += _gap(previous_ms, at_ms, period_ms, _cause(row), is_limit=is_limit)
        previous_ms, is_limit = at_ms, False
    if to_utc_ms is not None and previous_ms is not None and to_utc_ms > previous_ms:
        gaps += _gap(previous_ms, to_utc_ms + 1, period_ms, "unknown", is_limit=True)
    return gaps


def _gap(start_ms: int, end_ms: int, period_ms: int, cause: str, *, is_limit: bool) -> list[Gap]:
    elapsed = (end_ms - start_ms) / period_ms
    missing = int(elapsed) if is_limit else round(elapsed) - 1
    if is_limit and elapsed == int(elapsed):
        missing -= 1
    if missing < 1 or (not is_limit and elapsed < _LATE):
        return []
    return [Gap(start_ms, end_ms, missing, cause)]


def _cause(row: ProfileRow) -> str:
    said = set(marks(row))
    if said & _POWER:
        return "power-failure"
    return "clock-change" if said & _CLOCK else "unknown"
