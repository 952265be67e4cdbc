"""Use cases III and IV at the head-end: profiles by range on request, and the concentrators' daily bundles."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass

from protocols.errors import BadInputError, RemoteProtocolError
from protocols.headend.bulk import (
    BundleAck,
    BundlePart,
    BundleStatus,
    ProfileChunk,
    ProfileEnd,
    ProfileRequest,
)
from protocols.headend.bundle import unpack_bundle
from protocols.headend.messages import Message
from protocols.headend.tables import BY_NAME
from protocols.ports import Cancellable, Timers, Trace
from twin.hes.profile_store import ProfileStore
from twin.hes.profile_tables import ProfileRequestRecord
from twin.hes.tables import Meter, MeterState, RequestStatus

_log = logging.getLogger(__name__)

MIN_TIMEOUT_S = 1.0
MAX_TIMEOUT_S = 7 * 86_400.0
DEFAULT_TIMEOUT_S = 1800.0


@dataclass(slots=True)
class ProfileCounters:
    """What was refused or came twice."""

    rejected: int = 0
    late: int = 0
    duplicate_rows: int = 0
    refused_bundles: int = 0


class ProfileService:
    """Requests for ranges, and bundles. `send(dcu_id, message)` publishes; `meter_of` finds a registered meter."""

    def __init__(
        self,
        store: ProfileStore,
        *,
        timers: Timers,
        now_ms: Callable[[], int],
        send: Callable[[str, Message], None],
        meter_of: Callable[[str], Meter | None],
        notify: Callable[[], None],
        prefix: str,
        trace: Trace,
        uplink_margin_s: float,
    ) -> None:
        self.store = store
        self.counters = ProfileCounters()
        self._timers = timers
        self._now_ms = now_ms
        self._send = send
        self._meter_of = meter_of
        self._notify = notify
        self._prefix = prefix
        self._trace = trace
        self._margin_s = uplink_margin_s
        self._deadlines: dict[str, Cancellable] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        for record in store.pending_requests():
            self._arm(record)

    def stop(self) -> None:
        """Forget the deadlines; pending requests are taken up at the next start."""
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()

    # for the operator

    def request(
        self, serial: str, name: str, from_utc_ms: int, to_utc_ms: int, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> ProfileRequestRecord:
        """Ask for the rows captured from `from_utc_ms` to `to_utc_ms`, both included. Progress is in the record.

        Raises BadInputError for a name that no profile has, and for a range or a time-out that cannot be.
        """
        table = BY_NAME.get(name)
        if table is None:
            raise BadInputError(f"no profile {name!r}; there are {', '.join(BY_NAME)}", key="profile")
        if from_utc_ms > to_utc_ms:
            raise BadInputError("must not be after its end", key="from")
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            raise BadInputError(f"must be {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}", key="timeout_s")
        meter, sequence, now_ms = self._meter_of(serial), self.store.next_sequence(), self._now_ms()
        record = ProfileRequestRecord(
            request_id=f"profile-{self._prefix}-{sequence}",
            sequence=sequence,
            serial=serial,
            dcu_id="" if meter is None else meter.dcu_id,
            name=name,
            from_utc_ms=from_utc_ms,
            to_utc_ms=to_utc_ms,
            covered_utc_ms=from_utc_ms,
            status=RequestStatus.PENDING.value,
            created_utc_ms=now_ms,
            deadline_utc_ms=now_ms + round(timeout_s * 1000),
        )
        self.store.add_request(record)
        self._trace("hes.profile_request", request=record.request_id, serial=serial, name=name)
        if meter is None:
            self._finish(record.request_id, "unknown-meter", "no meter of this serial number is registered")
        elif meter.state == MeterState.REVOKED:
            self._finish(record.request_id, "refused", "the meter is revoked")
        else:
            self._arm(record)
            deadline_ms = record.deadline_utc_ms - round(min(self._margin_s, timeout_s / 4) * 1000)
            request = ProfileRequest(
                record.request_id, serial, name, table.candidates, from_utc_ms, to_utc_ms, deadline_ms
            )
            self._send(record.dcu_id, request)
        return self.store.request(record.request_id) or record

    async def wait(self, request_id: str) -> ProfileRequestRecord:
        """The request when it has ended, by its deadline at the latest. Raises KeyError for an unknown id."""
        record = self.store.request(request_id)
        if record is None:
            raise KeyError(request_id)
        if record.status == RequestStatus.PENDING:
            ended = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(request_id, []).append(ended)
            await ended
            record = self.store.request(request_id) or record
        return record

    # from the concentrators

    def take_chunk(self, dcu_id: str, chunk: ProfileChunk) -> None:
        """Keep its rows, whatever has become of the request: they are the meter's."""
        record = self.store.request(chunk.request_id)
        reason = _mismatch(record, dcu_id, chunk.serial)
        if record is not None and chunk.table.name != record.name:
            reason = "another profile was asked for"
        if reason:
            self._reject(f"part of {chunk.request_id}", reason)
            return
        stored = self.store.add_chunk(chunk, self._now_ms())
        self.counters.duplicate_rows += stored.duplicates
        self._trace(
            "hes.profile_chunk",
            request=chunk.request_id,
            serial=chunk.serial,
            rows=stored.added,
            duplicates=stored.duplicates,
        )

    def take_end(self, dcu_id: str, end: ProfileEnd) -> None:
        reason = _mismatch(self.store.request(end.request_id), dcu_id, end.serial)
        if reason:
            self._reject(f"end of {end.request_id}", reason)
        elif not self._finish(end.request_id, end.status.value, end.detail):
            self.counters.late += 1

    def take_part(self, dcu_id: str, part: BundlePart) -> None:
        """Acknowledged when the bundle is in the database, and again whenever a part of it comes again."""
        before = self.store.bundle(dcu_id, part.bundle_id)
        if before is not None and before.status == BundleStatus.STORED and before.sha256 == part.sha256.hex():
            if part.number == part.count:
                self._send(dcu_id, BundleAck(part.bundle_id, BundleStatus.STORED, before.rows, before.duplicates))
            return
        whole = self.store.add_part(dcu_id, part, self._now_ms())
        if whole is not None:
            self._take_bundle(dcu_id, part, whole)

    def _take_bundle(self, dcu_id: str, part: BundlePart, whole: bytes) -> None:
        try:
            if len(whole) != part.size_bytes or not hmac.compare_digest(hashlib.sha256(whole).digest(), part.sha256):
                raise RemoteProtocolError("size or SHA-256 is not what the parts say")
            bundle = unpack_bundle(whole)
            if (bundle.dcu_id, bundle.bundle_id) != (dcu_id, part.bundle_id):
                raise RemoteProtocolError("the bundle is another concentrator's or another one")
        except RemoteProtocolError as error:
            self.counters.refused_bundles += 1
            self.store.refuse_bundle(dcu_id, part.bundle_id, str(error))
            self._reject(f"bundle {part.bundle_id}", str(error))
            self._send(dcu_id, BundleAck(part.bundle_id, BundleStatus.REFUSED, detail=str(error)[:512]))
            return
        stored = self.store.keep_bundle(dcu_id, bundle, self._now_ms())
        self.counters.duplicate_rows += stored.duplicates
        self._trace(
            "hes.bundle",
            dcu=dcu_id,
            bundle=part.bundle_id,
            size_bytes=len(whole),
            meters=len(bundle.meters),
            rows=stored.added,
            duplicates=stored.duplicates,
        )
        self._send(dcu_id, BundleAck(part.bundle_id, BundleStatus.STORED, stored.added, stored.duplicates))

    # endings

    def _arm(self, record: ProfileRequestRecord) -> None:
        remaining_s = max(0.0, (record.deadline_utc_ms - self._now_ms()) / 1000)
        self._deadlines[record.request_id] = self._timers.call_at(
            self._timers.time() + remaining_s,
            self._finish,
            record.request_id,
            RequestStatus.TIMEOUT.value,
            "not all of the range by the deadline",
        )

    def _finish(self, request_id: str, status: str, detail: str) -> bool:
        if not self.store.complete(request_id, status, detail, self._now_ms()):
            return False
        timer = self._deadlines.pop(request_id, None)
        if timer is not None:
            timer.cancel()
        self._trace("hes.profile_ended", request=request_id, status=status, detail=detail)
        for waiter in self._waiters.pop(request_id, []):
            if not waiter.done():
                waiter.set_result(None)
        self._notify()
        return True

    def _reject(self, what: str, reason: str) -> None:
        self.counters.rejected += 1
        _log.warning("message dropped: %s: %s", what, reason)
        self._trace("hes.rejected_message", what=what, reason=reason)


def _mismatch(record: ProfileRequestRecord | None, dcu_id: str, serial: str) -> str:
    """Why an answer does not belong to its request; empty if it does."""
    if record is None:
        return "no such request"
    return "" if (record.dcu_id, record.serial) == (dcu_id, serial) else "another concentrator or meter was asked"
