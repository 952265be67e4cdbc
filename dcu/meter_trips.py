"""Leakage trips: a meter announces them by a push, and is asked for the records until the head-end's queue has them.

The meter repeats its announcement until it is told which trips were taken over, so nothing here need be kept: what a
power cut interrupts begins anew with the next announcement.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from dcu.dlms_session import MeterSession
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess
from dcu.registry import Meter, Registry
from dcu.sessions import Sessions
from dcu.storage import StorageError
from dcu.tasks import TaskGroup
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, double_long_unsigned
from protocols.dlms.notification import DataNotification
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.trips import TripReport
from protocols.leakage_protection import CLASS_DATA, KEPT_TRIPS, TRIP_PUSH, TRIPS_READ, trip_slot
from protocols.ports import Trace
from protocols.trip_record import TripRecord

_LOG = logging.getLogger(__name__)
_TRIPS_ELEMENT = 3
"""Place of the list of trips in the push's body, behind logical device name, logical name of the push setup, time."""


def announced_trips(apdu: bytes) -> list[int] | None:
    """Numbers of the trips that a DataNotification announces, in its order; None if it announces none.

    Raises RemoteProtocolError if it comes from the push setup of trips, and is malformed.
    """
    body = DataNotification.decode(apdu).body
    if body.tag != Tag.STRUCTURE or len(body.value) <= _TRIPS_ELEMENT or body.value[1].value != bytes(TRIP_PUSH):
        return None
    trips = body.value[_TRIPS_ELEMENT]
    if trips.tag != Tag.ARRAY or any(item.tag != Tag.STRUCTURE or not item.value for item in trips.value):
        raise RemoteProtocolError("trips that are no array of structures")
    numbers = [item.value[0] for item in trips.value]
    if any(number.tag != Tag.DOUBLE_LONG_UNSIGNED for number in numbers):
        raise RemoteProtocolError("a trip without its number")
    return [int(number.value) for number in numbers]


class MeterTrips:
    """Takes announcements; fetches, reports and acknowledges what is new."""

    def __init__(
        self,
        *,
        headend: Headend,
        registry: Registry,
        sessions: Sessions,
        access: MeterAccess,
        tasks: TaskGroup,
        on_refused: Callable[[Meter, MeterRefusedError], None],
        trace: Trace,
    ) -> None:
        self._headend = headend
        self._registry = registry
        self._sessions = sessions
        self._access = access
        self._tasks = tasks
        self._on_refused = on_refused
        self._trace = trace
        self._busy: set[bytes] = set()
        self.counters: Counter[str] = Counter()

    def take(self, eui64: bytes, apdu: bytes) -> bool:
        """Whether a DataNotification, its protection verified, announced trips."""
        try:
            numbers = announced_trips(apdu)
        except RemoteProtocolError as error:
            self.counters["malformed"] += 1
            _LOG.warning("meter %s: %s", eui64.hex(), error)
            return True
        if numbers is None:
            return False
        self.counters["announcements"] += 1
        meter = self._registry.find(eui64)
        if meter is not None and meter.identity is not None and eui64 not in self._busy:
            self._busy.add(eui64)
            self._tasks.spawn(self._fetch(meter, meter.identity.serial, numbers), f"trips of {meter.name}")
        return True

    async def _fetch(self, meter: Meter, serial: str, numbers: list[int]) -> None:
        try:
            async with self._access.turn(meter):
                session = self._sessions.find(meter.eui64)
                taken = await _taken(session)
                fresh = [number for number in numbers if number > taken][-KEPT_TRIPS:]
                for number in fresh:
                    await self._report(session, serial, number)
                if fresh:
                    await session.set_once(
                        AttributeReference(CLASS_DATA, TRIPS_READ, 2), double_long_unsigned(max(fresh))
                    )
        except MeterRefusedError as error:
            self._on_refused(meter, error)
        except (NoAnswerError, RemoteProtocolError, LocalProtocolError, StorageError) as error:
            # Not acknowledged: the meter announces it again.
            self.counters["interrupted"] += 1
            _LOG.warning("trips of meter %s: %s", meter.name, error)
        finally:
            self._busy.discard(meter.eui64)

    async def _report(self, session: MeterSession, serial: str, number: int) -> None:
        """A record that the meter has lost, or that is another one's by now, is passed over."""
        (value,) = await session.get([AttributeReference(CLASS_DATA, trip_slot(number), 2)])
        raw = value.value if isinstance(value, Data) and value.tag == Tag.OCTET_STRING else b""
        record = TripRecord.decode(raw) if raw else None
        if record is None or record.number != number:
            self.counters["lost"] += 1
            self._trace("dcu-trip-lost", serial=serial, number=number)
            return
        identifier = f"trip.{serial}.{number}.{record.time_ms}"
        self.counters["reported"] += 1
        self._trace("dcu-trip", serial=serial, number=number, line=record.line, cause=record.cause.text)
        collected_ms = self._headend.utc_ms()
        report = TripReport.from_record(record, report_id=identifier[:64], serial=serial, collected_utc_ms=collected_ms)
        self._headend.deliver(identifier, report)


async def _taken(session: MeterSession) -> int:
    (value,) = await session.get([AttributeReference(CLASS_DATA, TRIPS_READ, 2)])
    if not isinstance(value, Data) or value.tag != Tag.DOUBLE_LONG_UNSIGNED:
        raise RemoteProtocolError(f"{TRIPS_READ} is no number")
    return int(value.value)
