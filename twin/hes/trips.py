"""Leakage trips at the head-end: each kept once, with its waveform."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from protocols.headend.messages import Event
from protocols.headend.trips import TripReport
from protocols.ports import Trace
from protocols.trip_record import COUNT_MA, decode_counts
from twin.hes.trip_tables import TripRow

EVENT_TRIP = "leakage-trip"
_KEPT = (
    "serial", "number", "time_utc_ms", "line", "cause", "smooth_dc_ua", "pulsating_dc_ua", "ac_ua",
    "high_frequency_ua", "total_ua", "line_mhz", "rate_hz", "count_ua", "trip_index", "samples", "collected_utc_ms",
)  # fmt: skip


def samples_ma(row: TripRow) -> tuple[float, ...]:
    """The residual current of a kept trip in mA."""
    factor = row.count_ua / 1000 / COUNT_MA
    return tuple(value * factor for value in decode_counts(row.samples))


class TripStore:
    """Each call is a transaction of its own. Rows that are returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def add(self, dcu_id: str, report: TripReport, now_ms: int) -> bool:
        """Keep a trip; False if it is there already."""
        known = select(TripRow.trip_id).where(
            TripRow.serial == report.serial,
            TripRow.number == report.number,
            TripRow.time_utc_ms == report.time_utc_ms,
        )
        with self._session() as session:
            if session.scalar(known) is not None:
                return False
            values = {name: getattr(report, name) for name in _KEPT}
            session.add(TripRow(**values, dcu_id=dcu_id, received_utc_ms=now_ms))
            return True

    def trips(self, serial: str | None = None, limit: int = 100) -> list[TripRow]:
        """The newest first, as they were received."""
        query = select(TripRow).order_by(TripRow.trip_id.desc()).limit(limit)
        if serial is not None:
            query = query.where(TripRow.serial == serial)
        with self._session() as session:
            return list(session.scalars(query))

    def trip(self, trip_id: int) -> TripRow | None:
        with self._session() as session:
            return session.get(TripRow, trip_id)


class TripService:
    """Takes reports; a new one is an event, too."""

    def __init__(
        self, store: TripStore, *, now_ms: Callable[[], int], add_event: Callable[[Event], bool], trace: Trace
    ) -> None:
        self.store = store
        self.repeated = 0
        self._now_ms = now_ms
        self._add_event = add_event
        self._trace = trace

    def take(self, dcu_id: str, report: TripReport) -> None:
        if not self.store.add(dcu_id, report, self._now_ms()):
            self.repeated += 1
            return
        self._trace(
            "hes.trip", dcu=dcu_id, serial=report.serial, number=report.number, line=report.line, cause=report.cause
        )
        details = (
            ("cause", report.cause),
            ("line", str(report.line)),
            ("number", str(report.number)),
            ("total_ma", f"{report.total_ua / 1000:.1f}"),
        )
        self._add_event(Event(report.id, EVENT_TRIP, report.time_utc_ms, report.serial, details=details))
