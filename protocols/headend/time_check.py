"""The clocks of DCU and head-end compared, as NTP does it (RFC 5905, section 8), and what keeps the DCU's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from protocols.headend.kinds import COUNT, ID, UTC
from protocols.headend.shapes import Choice, Integer, Optional


class TimeSource(StrEnum):
    """What the DCU's clock follows."""

    GPS = "gps"
    PTP = "ptp"
    NETWORK = "network"
    HOLDOVER = "holdover"
    """Its reference is lost; the clock runs on by itself."""
    FREE = "free"
    """It has never had a reference since it started."""


@dataclass(frozen=True, slots=True)
class ClockQuery:
    """Head-end to DCU: what is your time? `sent_utc_ms` is the head-end's."""

    TYPE: ClassVar[str] = "clock-query"
    id: Annotated[str, ID]
    sent_utc_ms: Annotated[int, UTC]


@dataclass(frozen=True, slots=True)
class ClockReport:
    """DCU to head-end: answers `ClockQuery`. `query_sent_utc_ms` is the query's own, the other two are the DCU's.

    `holdover_s` is how long the reference has been lost, 0 while there is one; `uncertainty_ms` how far the DCU itself
    believes to be off at most.
    """

    TYPE: ClassVar[str] = "clock-report"
    request_id: Annotated[str, ID]
    query_sent_utc_ms: Annotated[int, UTC]
    received_utc_ms: Annotated[int, UTC]
    sent_utc_ms: Annotated[int, UTC]
    source: Annotated[TimeSource, Choice(TimeSource)]
    holdover_s: Annotated[int, COUNT] = 0
    uncertainty_ms: Annotated[int, COUNT] = 0


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """DCU to head-end: what is the time? The DCU measures the round trip by its oscillator."""

    TYPE: ClassVar[str] = "time-request"
    id: Annotated[str, ID]


@dataclass(frozen=True, slots=True)
class TimeAnswer:
    """Head-end to DCU: answers `TimeRequest` by network time.

    `leap_at_utc_ms` is the midnight before which a second is inserted (`leap_step_s` 1) or left out (-1), if that is
    announced.
    """

    TYPE: ClassVar[str] = "time"
    request_id: Annotated[str, ID]
    received_utc_ms: Annotated[int, UTC]
    sent_utc_ms: Annotated[int, UTC]
    leap_at_utc_ms: Annotated[int | None, Optional(UTC)] = None
    leap_step_s: Annotated[int | None, Optional(Integer(-1, 1))] = None


def clock_offset_s(report: ClockReport, arrived_utc_ms: int) -> tuple[float, float]:
    """The DCU's clock minus the head-end's, and the round trip, in seconds; the offset is wrong by half of the round
    trip at most."""
    there_ms = report.received_utc_ms - report.query_sent_utc_ms
    back_ms = report.sent_utc_ms - arrived_utc_ms
    round_trip_ms = (arrived_utc_ms - report.query_sent_utc_ms) - (report.sent_utc_ms - report.received_utc_ms)
    return (there_ms + back_ms) / 2000, round_trip_ms / 1000
