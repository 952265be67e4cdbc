"""What the head-end does: lets meters register, asks concentrators for readings, judges what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocols.errors import BadInputError, RemoteProtocolError
from protocols.firmware.file import TrustedKeys
from protocols.headend.bulk import BundlePart, ProfileChunk, ProfileEnd
from protocols.headend.firmware import FirmwareFetch, FirmwareReport
from protocols.headend.messages import (
    Credentials,
    CredentialsRequest,
    CredentialsStatus,
    DcuState,
    DcuStatus,
    Event,
    EventKind,
    Message,
    ObjectReference,
    ReadingRequest,
    ReadingResponse,
    Registration,
    RegistrationAck,
    RegistrationStatus,
    channel_of,
    decode_message,
    encode_message,
)
from protocols.headend.quantities import BY_NAME, ON_DEMAND
from protocols.headend.shapes import utc_text
from protocols.headend.supply import SupplyResponse
from protocols.headend.time_check import ClockReport, TimeRequest
from protocols.headend.topics import TO_HEADEND, Topic
from protocols.headend.trips import TripReport
from protocols.ports import Cancellable, Timers, Trace
from twin.hes.clocks import ClockService
from twin.hes.firmware import FirmwareService
from twin.hes.profiles import ProfileService
from twin.hes.shedding import SheddingService
from twin.hes.store import Store
from twin.hes.supply import SupplyService
from twin.hes.tables import MeterState, Request, RequestStatus
from twin.hes.trips import TripService

_log = logging.getLogger(__name__)

SOURCE = "hes"
MIN_TIMEOUT_S = 1.0
MAX_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. Of the operator's patience, `uplink_margin_s` is kept for the answer's way back."""

    timeout_s: float = 60.0
    uplink_margin_s: float = 2.0


@dataclass(slots=True)
class Counters:
    """What the head-end refused or ignored, by reason."""

    rejected_messages: int = 0
    late_responses: int = 0
    repeated_messages: int = 0


class HesService:
    """The head-end without its transports. `publish(topic, payload)` is the broker connection's.

    Every callback runs on the loop of the run. Messages can come twice: each is acted on once, and answered each time.
    """

    def __init__(
        self,
        store: Store,
        *,
        timers: Timers,
        utc_s: Callable[[], float],
        publish: Callable[[str, bytes], object],
        rng: random.Random,
        trace: Trace,
        settings: Settings | None = None,
        firmware_keys: TrustedKeys | None = None,
    ) -> None:
        """`firmware_keys` are those whose firmware is accepted; None: nobody's."""
        self.store = store
        self.counters = Counters()
        self.settings = settings or Settings()
        self._timers = timers
        self._utc_s = utc_s
        self._publish = publish
        self._trace = trace
        # A fresh prefix for each start: a concentrator that remembers ids must not take a new request for an old one.
        self._prefix = f"{rng.getrandbits(32):08x}"
        self._event_count = 0
        self._deadlines: dict[str, Cancellable] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._changed: list[asyncio.Future[None]] = []
        self.profiles = ProfileService(
            store.profiles,
            timers=timers,
            now_ms=self.now_ms,
            send=self._send,
            meter_of=store.meter,
            notify=self._notify,
            prefix=self._prefix,
            trace=trace,
            uplink_margin_s=self.settings.uplink_margin_s,
        )
        self.supply = SupplyService(
            store.supply,
            timers=timers,
            now_ms=self.now_ms,
            send=self._send,
            meter_of=store.meter,
            notify=self._notify,
            prefix=self._prefix,
            trace=trace,
            uplink_margin_s=self.settings.uplink_margin_s,
        )
        self.shedding = SheddingService(
            store.shedding,
            self.supply,
            timers=timers,
            now_ms=self.now_ms,
            is_known=lambda serial: store.meter(serial) is not None,
            notify=self._notify,
            changed=self.changed,
            prefix=self._prefix,
            trace=trace,
        )
        self.firmware = FirmwareService(
            store.firmware,
            keys=firmware_keys or TrustedKeys(),
            now_ms=self.now_ms,
            send=self._send,
            meters=store.meters,
            notify=self._notify,
            prefix=self._prefix,
            trace=trace,
        )
        self.trips = TripService(
            store.trips,
            now_ms=self.now_ms,
            add_event=lambda event: store.add_event(SOURCE, event, self.now_ms()),
            trace=trace,
        )
        self.clocks = ClockService(
            store,
            timers=timers,
            now_ms=self.now_ms,
            send=self._send,
            add_event=lambda event: store.add_event(SOURCE, event, self.now_ms()),
            prefix=self._prefix,
            trace=trace,
        )
        for request in store.pending_requests():
            self._arm(request)

    def now_ms(self) -> int:
        return round(self._utc_s() * 1000)

    def now_text(self) -> str:
        return utc_text(self.now_ms())

    def stop(self) -> None:
        """Forget the deadlines; pending requests stay pending in the database and are taken up at the next start."""
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()
        self.profiles.stop()
        self.shedding.stop()
        self.supply.stop()
        self.clocks.stop()

    # from the concentrators

    def handle(self, topic_text: str, payload: bytes) -> None:
        """One MQTT message. What is not ours or not allowed is counted, traced and dropped."""
        try:
            topic = Topic.decode(topic_text)
            if topic.channel not in TO_HEADEND:
                raise RemoteProtocolError("topic does not lead to the head-end", spec="openami/v1")
            message = decode_message(payload, topic.channel)
        except RemoteProtocolError as error:
            self._reject(topic_text, str(error))
            return
        self._act(topic.dcu_id, message)
        self._notify()

    def _act(self, dcu_id: str, message: Message) -> None:
        match message:
            case CredentialsRequest():
                self._give_credentials(dcu_id, message)
            case Registration():
                self._register(dcu_id, message)
            case ReadingResponse():
                self._take_response(dcu_id, message)
            case Event():
                self._take_event(dcu_id, message)
            case ProfileChunk():
                self.profiles.take_chunk(dcu_id, message)
            case ProfileEnd():
                self.profiles.take_end(dcu_id, message)
            case BundlePart():
                self.profiles.take_part(dcu_id, message)
            case FirmwareFetch():
                self._judge(message, self.firmware.take_fetch(dcu_id, message))
            case FirmwareReport():
                self._judge(message, self.firmware.take_report(dcu_id, message))
            case ClockReport():
                self.counters.late_responses += not self.clocks.take(dcu_id, message)
            case TimeRequest():
                self._send(dcu_id, self.clocks.time_for(message))
            case TripReport():
                self.trips.take(dcu_id, message)
            case SupplyResponse():
                self.supply.take(dcu_id, message)
            case DcuStatus():
                if self.store.set_status(dcu_id, message, self.now_ms()):
                    self._trace("hes.dcu_status", dcu=dcu_id, state=message.state.value)

    def _judge(self, message: FirmwareFetch | FirmwareReport, reason: str) -> None:
        """Reject the message if there is a reason."""
        if reason:
            self._reject(f"{message.TYPE} of {message.campaign_id}", reason)

    def _give_credentials(self, dcu_id: str, message: CredentialsRequest) -> None:
        shipment = self.store.shipment(message.eui64)
        if shipment is None:
            status, meter = CredentialsStatus.UNKNOWN, None
            reason = "no shipment announced this EUI-64"
        elif shipment.revoked:
            status, meter, reason = CredentialsStatus.REVOKED, None, "the meter is revoked"
        else:
            status, meter, reason = CredentialsStatus.GRANTED, self.store.credentials(shipment, dcu_id), ""
        self._trace("hes.credentials", dcu=dcu_id, eui64=message.eui64, status=status.value)
        if reason:
            serial = None if shipment is None else shipment.serial
            self._refusal(dcu_id, message.id, EventKind.METER_UNKNOWN, serial, message.eui64, reason)
        self._send(dcu_id, Credentials(message.id, message.eui64, status, meter))

    def _register(self, dcu_id: str, message: Registration) -> None:
        judgement = self.store.register(dcu_id, message, self.now_ms())
        if judgement.is_repeat:
            self.counters.repeated_messages += 1
        else:
            self._trace(
                "hes.registration",
                dcu=dcu_id,
                serial=message.serial,
                eui64=message.eui64,
                status=judgement.status.value,
                detail=judgement.detail,
            )
        if judgement.status is RegistrationStatus.REFUSED:
            self._refusal(dcu_id, message.id, EventKind.METER_REFUSED, message.serial, message.eui64, judgement.detail)
        self._send(dcu_id, RegistrationAck(message.id, message.eui64, judgement.status, judgement.detail))

    def _refusal(
        self, dcu_id: str, cause_id: str, kind: EventKind, serial: str | None, eui64: bytes, reason: str
    ) -> None:
        """Log a refusal, once for each message that caused it."""
        details = (("dcu", dcu_id), ("reason", reason))
        event = Event(f"refusal.{dcu_id}.{cause_id}"[:64], kind, self.now_ms(), serial, eui64, details)
        if self.store.add_event(SOURCE, event, self.now_ms()):
            _log.warning("refused meter %s (EUI-64 %s): %s", serial or "unknown", eui64.hex(), reason)
            self._trace("hes.refusal", dcu=dcu_id, serial=serial, eui64=eui64, reason=reason)

    def _take_event(self, dcu_id: str, message: Event) -> None:
        if not self.store.add_event(dcu_id, message, self.now_ms()):
            self.counters.repeated_messages += 1
            return
        self._trace("hes.event", dcu=dcu_id, event=message.kind, serial=message.serial, eui64=message.eui64)

    def _take_response(self, dcu_id: str, message: ReadingResponse) -> None:
        request = self.store.request(message.request_id)
        reason = _mismatch(request, dcu_id, message)
        if reason:
            self._reject(f"response to {message.request_id}", reason)
            return
        if not self.store.complete_with(message, self.now_ms()):
            self._late(request, message)
            return
        self._end(message.request_id, message.status.value, message.detail, len(message.values))

    def _late(self, request: Request | None, message: ReadingResponse) -> None:
        """An answer to a request that has ended: a repetition, or one after the operator's deadline."""
        if request is not None and request.status == message.status.value:
            self.counters.repeated_messages += 1
            return
        self.counters.late_responses += 1
        self._trace("hes.late_response", request=message.request_id, status=message.status.value)

    # for the operator

    def request_reading(
        self, serial: str, quantities: Sequence[str] | None = None, timeout_s: float | None = None
    ) -> Request:
        """Ask for a reading. A meter that has never registered, or is revoked, ends the request at once.

        Raises BadInputError for a quantity that there is not, and for a time-out out of range.
        """
        objects = _objects(quantities)
        timeout_s = self.settings.timeout_s if timeout_s is None else timeout_s
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            raise BadInputError(f"must be {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}", key="timeout_s")
        meter, sequence, now_ms = self.store.meter(serial), self.store.next_sequence(), self.now_ms()
        request = Request(
            request_id=f"read-{self._prefix}-{sequence}",
            sequence=sequence,
            serial=serial,
            dcu_id="" if meter is None else meter.dcu_id,
            objects=json.dumps([[item.obis, item.class_id] for item in objects]),
            status=RequestStatus.PENDING.value,
            created_utc_ms=now_ms,
            deadline_utc_ms=now_ms + round(timeout_s * 1000),
        )
        self.store.add_request(request)
        self._trace("hes.request", request=request.request_id, serial=serial, dcu=request.dcu_id, objects=len(objects))
        if meter is None:
            self._finish(
                request.request_id, RequestStatus.UNKNOWN_METER, "no meter of this serial number is registered"
            )
        elif meter.state == MeterState.REVOKED:
            self._finish(request.request_id, RequestStatus.REFUSED, "the meter is revoked")
        else:
            margin_ms = round(min(self.settings.uplink_margin_s, timeout_s / 4) * 1000)
            self._arm(request)
            deadline_ms = request.deadline_utc_ms - margin_ms
            self._send(request.dcu_id, ReadingRequest(request.request_id, serial, objects, deadline_ms))
        return self.store.request(request.request_id) or request

    async def wait(self, request_id: str) -> Request:
        """The request when it has ended, by its deadline at the latest. Raises KeyError for an unknown id."""
        request = self.store.request(request_id)
        if request is None:
            raise KeyError(request_id)
        if request.status == RequestStatus.PENDING:
            ended = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(request_id, []).append(ended)
            await ended
            request = self.store.request(request_id) or request
        return request

    async def changed(self) -> None:
        """Return after the next message or ended request."""
        future = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        await future

    def revoke(self, serial: str, reason: str) -> bool:
        """Take a meter's permission away and tell its concentrator; False if no shipment has this serial number."""
        meter = self.store.meter(serial)
        shipment = self.store.revoke(serial)
        if shipment is None:
            return False
        eui64 = bytes.fromhex(shipment.eui64)
        self._event_count += 1
        event_id = f"revocation-{self._prefix}-{self._event_count}"
        details = (("reason", reason),)
        self.store.add_event(
            SOURCE, Event(event_id, "meter-revoked", self.now_ms(), serial, eui64, details), self.now_ms()
        )
        self._trace("hes.revocation", serial=serial, eui64=eui64)
        if meter is not None:
            self._send(meter.dcu_id, Credentials(event_id, eui64, CredentialsStatus.REVOKED))
        self._notify()
        return True

    # endings

    def _arm(self, request: Request) -> None:
        remaining_s = max(0.0, request.deadline_utc_ms / 1000 - self._utc_s())
        self._deadlines[request.request_id] = self._timers.call_at(
            self._timers.time() + remaining_s, self._deadline, request.request_id
        )

    def _deadline(self, request_id: str) -> None:
        request = self.store.request(request_id)
        dcu = None if request is None else self.store.dcu(request.dcu_id)
        if dcu is not None and dcu.state == DcuState.OFFLINE:
            detail = f"concentrator {dcu.dcu_id} is off line since {utc_text(dcu.changed_utc_ms)}"
        else:
            detail = "no answer from the concentrator before the deadline"
        self._finish(request_id, RequestStatus.TIMEOUT, detail)

    def _finish(self, request_id: str, status: RequestStatus, detail: str) -> None:
        if self.store.complete(request_id, status, detail, self.now_ms()):
            self._end(request_id, status.value, detail, 0)

    def _end(self, request_id: str, status: str, detail: str, values: int) -> None:
        timer = self._deadlines.pop(request_id, None)
        if timer is not None:
            timer.cancel()
        self._trace("hes.request_ended", request=request_id, status=status, detail=detail, values=values)
        for waiter in self._waiters.pop(request_id, []):
            if not waiter.done():
                waiter.set_result(None)
        self._notify()

    def _notify(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _reject(self, what: str, reason: str) -> None:
        self.counters.rejected_messages += 1
        _log.warning("message dropped: %s: %s", what, reason)
        self._trace("hes.rejected_message", what=what, reason=reason)

    def _send(self, dcu_id: str, message: Message) -> None:
        self._publish(Topic(dcu_id, channel_of(message)).encode(), encode_message(message))


def _objects(quantities: Sequence[str] | None) -> tuple[ObjectReference, ...]:
    names = dict.fromkeys(ON_DEMAND if quantities is None else quantities)
    unknown = [name for name in names if name not in BY_NAME]
    if unknown or not names:
        raise BadInputError(
            f"no quantity {unknown[0]!r}; there are {', '.join(BY_NAME)}" if unknown else "name at least one",
            key="quantities",
        )
    return tuple(ObjectReference(BY_NAME[name].obis, BY_NAME[name].class_id) for name in names)


def _mismatch(request: Request | None, dcu_id: str, message: ReadingResponse) -> str:
    """Why a response does not belong to its request; empty if it does."""
    if request is None:
        return "no such request"
    if (request.dcu_id, request.serial) != (dcu_id, message.serial):
        return "another concentrator or meter was asked"
    asked = {obis for obis, _ in json.loads(request.objects)}
    given = [item.obis for item in message.values] + [item.obis for item in message.missing]
    if len(set(given)) != len(given) or not set(given) <= asked:
        return "objects are not those that were asked for"
    return ""
