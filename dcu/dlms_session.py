"""The concentrator's management association with one meter, over datagrams that the mesh may lose."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from dcu.config import DlmsTimeouts
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.identity import ClientKeys, MeterTrust
from dcu.readings import ReadingOutcome, ReadingPlan, Result, text_of
from dcu.registry import MeterIdentity
from protocols.dlms.acse import AARE
from protocols.dlms.action import MethodReference
from protocols.dlms.client import (
    ActionDone,
    Associated,
    AttributeReference,
    ClientAssociation,
    ClientConfig,
    ClientSecurity,
    ClientState,
    Event,
    GetDone,
    NotificationReceived,
    Refused,
    RequestFailed,
    Send,
    SetDone,
)
from protocols.dlms.data import Data, Tag
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, Mechanism, ServiceError
from protocols.dlms.exception import EXCEPTION_RESPONSE, ExceptionResponse
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.agreement import encode_public_key
from protocols.dlms.security.counters import CounterStore
from protocols.dlms.security.keys import Suite, SymmetricKeys
from protocols.dlms.units import ScalerUnit
from protocols.dlms.wrapper import Wpdu
from protocols.errors import RemoteProtocolError
from protocols.headend.messages import KeyPurpose, MeterCredentials, ObjectReference
from protocols.meter_identity import (
    AGREEMENT_PUBLIC_KEY,
    FIRMWARE_VERSION,
    HARDWARE_REVISION,
    LOGICAL_DEVICE_NAME,
    MANAGEMENT_SAP,
    MODEL_NAME,
    PUBLIC_SAP,
    SERIAL_NUMBER,
    SIGNING_PUBLIC_KEY,
)
from protocols.ports import KeySource, Trace

_LOG = logging.getLogger(__name__)

_CLASS_DATA = 1
INVOCATION_COUNTER = ObisCode.parse("0-0:43.1.0*255")
"""Class 1: the least invocation counter that the meter still accepts; the public client may read it."""
_LIST_LENGTH = 16
"""References in one GET-Request-With-List: its answer stays within one PDU of 1,024 bytes."""
_POINT_BYTES = 64
_MAX_CATCH_UP = 1 << 24
_OPENING = (ClientState.ASSOCIATING, ClientState.AUTHENTICATING)
_IDENTITY = (
    SERIAL_NUMBER,
    LOGICAL_DEVICE_NAME,
    MODEL_NAME,
    HARDWARE_REVISION,
    FIRMWARE_VERSION,
    SIGNING_PUBLIC_KEY,
    AGREEMENT_PUBLIC_KEY,
)


class MeterSession:
    """One association at a time, opened when needed and reused; requests of several callers wait for each other.

    Requests are repeated (a ciphered one under a fresh invocation counter) when no answer comes. Answers that cannot
    be verified are counted and ignored: the right one may still come.
    """

    def __init__(
        self,
        eui64: bytes,
        credentials: MeterCredentials,
        *,
        timeouts: DlmsTimeouts,
        system_title: bytes,
        counters: CounterStore,
        key_source: KeySource,
        send: Callable[[bytes], None],
        has_route: Callable[[], bool] = lambda: True,
        trace: Trace,
        on_notification: Callable[[bytes], None] = lambda apdu: None,
        client_keys: ClientKeys | None = None,
    ) -> None:
        """`send` takes one datagram; `has_route` says whether it has a way now; `on_notification` takes a
        DataNotification that came unasked, protection taken off. `client_keys` proves this side under suite 1.

        Raises MeterRefusedError for a security suite that is not supported."""
        self._name = eui64.hex()
        self._credentials = credentials
        self._timeouts = timeouts
        self._send_datagram = send
        self._has_route = has_route
        self._on_notification = on_notification
        self._trace = trace
        self._lock = asyncio.Lock()
        self._events: asyncio.Queue[tuple[ClientAssociation, Event] | None] = asyncio.Queue()
        self._is_closed = False
        self._unanswered = 0
        self._units: dict[tuple[int, bytes], ScalerUnit] = {}
        self._lists_allowed = False
        self.counters: Counter[str] = Counter()
        self._trust = _trust(credentials, client_keys)
        self._security = _security(system_title, credentials, counters, client_keys, self._trust)
        mechanism = Mechanism.HIGH_GMAC if self._trust is None else Mechanism.HIGH_ECDSA
        self._client = ClientAssociation(
            ClientConfig(client_sap=MANAGEMENT_SAP, mechanism=mechanism, ciphered=True),
            security=self._security,
            keys=key_source,
            trace=trace,
        )
        self._public = ClientAssociation(ClientConfig(client_sap=PUBLIC_SAP), keys=key_source, trace=trace)

    # from the mesh

    def receive(self, datagram: bytes) -> None:
        """A datagram from the meter. Never raises on anything that a peer may send."""
        try:
            wpdu = Wpdu.decode(datagram)
            client = self._client_of(wpdu)
            if client is self._client and self._is_late(wpdu.apdu):
                self.counters["late"] += 1
                return
            events = client.receive(wpdu.apdu)
        except RemoteProtocolError as error:
            self.counters["unverifiable"] += 1
            _LOG.warning("meter %s: an answer was dropped: %s", self._name, error)
            self._trace("dcu-answer-dropped", eui64=self._name, error=str(error))
            return
        for event in events:
            if isinstance(event, NotificationReceived):
                self.counters["notifications"] += 1
                self._on_notification(event.apdu)
                continue
            if isinstance(event, Send):
                self._send(client, event.apdu)
            elif isinstance(event, Associated) and client is self._client:
                self._associated(event)
            self._events.put_nowait((client, event))

    def _is_late(self, apdu: bytes) -> bool:
        """Whether it is an exception that answers a request from before the association that is being opened.

        It has no invoke id: only that such a request is unanswered tells it from a refusal.
        """
        is_owed, is_exception = self._unanswered > 0, apdu[:1] == bytes((EXCEPTION_RESPONSE,))
        if apdu[:1] != bytes((AARE,)):
            self._unanswered = max(self._unanswered - 1, 0)
        return is_owed and is_exception and self._client.state in _OPENING

    def _client_of(self, wpdu: Wpdu) -> ClientAssociation:
        for client in (self._client, self._public):
            if (wpdu.source_port, wpdu.destination_port) == (client.config.server_sap, client.config.client_sap):
                return client
        raise RemoteProtocolError(f"WPDU from port {wpdu.source_port} to port {wpdu.destination_port}")

    # what callers want

    async def identify(self) -> MeterIdentity:
        """Associate anew, and read what registration needs. Raises NoAnswerError, MeterRefusedError."""
        async with self._lock:
            await self._associate()
            references = [AttributeReference(_CLASS_DATA, obis, 2) for obis in _IDENTITY]
            results = dict(zip(_IDENTITY, await self._get(references), strict=True))
        serial = self._text(results, SERIAL_NUMBER)
        if serial != self._credentials.serial:
            raise MeterRefusedError("inconsistent", f"serial number {serial!r} is not that of its credentials")
        public_keys = _public_keys(results)
        return MeterIdentity(
            serial=serial,
            system_title=self._credentials.system_title,
            logical_device_name=self._text(results, LOGICAL_DEVICE_NAME),
            model=self._text(results, MODEL_NAME),
            hardware_revision=self._text(results, HARDWARE_REVISION),
            firmware_version=self._text(results, FIRMWARE_VERSION),
            security_suite=self._credentials.security_suite,
            authentication_mechanism=self._client.config.mechanism,
            public_keys=public_keys,
            signing_certificate_pem=self._certified(dict(public_keys)),
        )

    def _certified(self, public_keys: dict[str, bytes]) -> str | None:
        """The certificate under which the meter proved itself. Raises MeterRefusedError if it shows another key."""
        if self._trust is None:
            return None
        certificate = self._trust.certificate
        if certificate is None:
            raise MeterRefusedError("certificate", "its certificate has just expired")
        if public_keys.get(KeyPurpose.SIGNING.value) != encode_public_key(certificate.public_key):
            raise MeterRefusedError("inconsistent", "the meter shows another public key than its certificate")
        return certificate.pem()

    async def read(self, objects: Sequence[ObjectReference]) -> ReadingOutcome:
        """Read objects, associating first if need be. Raises NoAnswerError, MeterRefusedError, ValueError."""
        async with self._lock:
            plan = ReadingPlan(objects, self._units)
            if self._client.state is not ClientState.ASSOCIATED:
                await self._associate()
                plan = ReadingPlan(objects, self._units)
            outcome = plan.finish(await self._get(plan.references))
            self._units = plan.units
            return outcome

    async def get(self, references: Sequence[AttributeReference]) -> list[Result]:
        """Attributes in order, associating first if need be. Raises NoAnswerError, MeterRefusedError."""
        async with self._lock:
            if self._client.state is not ClientState.ASSOCIATED:
                await self._associate()
            return await self._get(references)

    async def open(self) -> None:
        """Associate if need be: what follows then takes one exchange. Raises NoAnswerError, MeterRefusedError."""
        async with self._lock:
            if self._client.state is not ClientState.ASSOCIATED:
                await self._associate()

    async def set_once(self, reference: AttributeReference, value: Data) -> bool:
        """Write an attribute, sent once: for what must not be done late or twice. Whether the meter did it."""
        event = await self._once(lambda: self._client.set(reference, value))
        return isinstance(event, SetDone) and event.results == (DataAccessResult.SUCCESS,)

    async def invoke_once(self, reference: MethodReference, argument: Data) -> bool:
        """Invoke a method, sent once. Whether the meter did it. Raises NoAnswerError, MeterRefusedError."""
        return await self.action_once(reference, argument) is ActionResult.SUCCESS

    async def action_once(self, reference: MethodReference, argument: Data) -> ActionResult | None:
        """Invoke a method, sent once: the meter's result, None where it answered something else. Raises NoAnswerError,
        MeterRefusedError."""
        event = await self._once(lambda: self._client.action(reference, argument))
        return event.outcomes[0].result if isinstance(event, ActionDone) else None

    async def invoke(self, reference: MethodReference, argument: Data) -> ActionResult | None:
        """Invoke a method, repeated when no answer comes: for what may be done twice. The meter's result, None where it
        answered something else. Raises NoAnswerError, MeterRefusedError."""
        async with self._lock:
            if self._client.state is not ClientState.ASSOCIATED:
                await self._associate()
            try:
                event = await self._exchange(self._client, self._client.action(reference, argument))
            except BaseException:
                self._abandon()
                raise
        return event.outcomes[0].result if isinstance(event, ActionDone) else None

    async def _once(self, request: Callable[[], bytes]) -> Event:
        async with self._lock:
            if self._client.state is not ClientState.ASSOCIATED:
                await self._associate()
            try:
                return await self._exchange(self._client, request(), attempts=1)
            except BaseException:
                self._abandon()
                raise

    def close(self) -> None:
        """Use the association no more: whoever waits in it gets NoAnswerError. The meter's side ends with its next."""
        self._is_closed = True
        self._events.put_nowait(None)

    # association

    async def _associate(self) -> None:
        """Raises NoAnswerError, MeterRefusedError."""
        event = await self._open()
        if not isinstance(event, Associated) and not self._objection:
            # An exception may be the late answer to a request of an association before this one.
            is_exception = not isinstance(event, Refused) or event.diagnostic is None
            if await self._catch_up() or is_exception:
                event = await self._open()
        if isinstance(event, Associated):
            return
        self._abandon()
        self.counters["refusals"] += 1
        if self._objection:
            raise MeterRefusedError("certificate", self._objection)
        raise MeterRefusedError("authentication", _reason(event))

    def _associated(self, event: Associated) -> None:
        """The association stands, whether or not somebody still waits for it."""
        self._unanswered = 0
        self._lists_allowed = bool(event.conformance & Conformance.MULTIPLE_REFERENCES)
        self.counters["associations"] += 1
        self._trace("dcu-associated", eui64=self._name)

    @property
    def _objection(self) -> str:
        """Why the meter's certificate was not believed in this attempt; empty if it was, or none was looked at."""
        return "" if self._trust is None else self._trust.refusal

    async def _open(self) -> Event:
        """One attempt at the association: how it ended.

        An attempt whose caller has gone is continued: the answers to it may still come, and a new one would take them
        for its own, whose challenge they do not fit.
        """
        unverifiable = self.counters["unverifiable"]
        if self._client.state in _OPENING:
            apdu = self._client.repeat()
        else:
            self._abandon()
            if self._trust is not None:
                self._trust.begin()
            apdu = self._client.associate()
        try:
            return await self._exchange(self._client, apdu)
        except NoAnswerError as error:
            self._abandon()
            if self.counters["unverifiable"] > unverifiable:
                raise MeterRefusedError("unverifiable", "answers came, but none could be verified") from error
            raise

    async def _catch_up(self) -> bool:
        """Whether the meter expected a higher invocation counter than ours, which has been raised to it.

        A meter that lost its power skips ahead in what it accepts. Its counter is public, and nobody vouches for it:
        one attempt may raise ours by a bounded step only, so that forged answers cannot use it up.
        """
        self._public.abandon()
        try:
            event = await self._exchange(self._public, self._public.associate())
            if isinstance(event, Associated):
                reference = AttributeReference(_CLASS_DATA, INVOCATION_COUNTER, 2)
                event = await self._exchange(self._public, self._public.get(reference))
        except NoAnswerError:
            return False
        finally:
            self._public.abandon()
        expected = _unsigned(event)
        present = self._security.send.value
        if expected is None or not present < expected <= present + _MAX_CATCH_UP:
            return False
        self._security.send.advance_to(expected)
        self.counters["counters_raised"] += 1
        self._trace("dcu-counter-raised", eui64=self._name, previous=present, value=expected)
        return True

    def _abandon(self) -> None:
        self._client.abandon()
        self._units.clear()

    # requests

    async def _get(self, references: Sequence[AttributeReference]) -> list[Result]:
        """Results in order. A meter that has forgotten the association gets a new one, once."""
        step = _LIST_LENGTH if self._lists_allowed else 1
        results: list[Result] = []
        may_reassociate = True
        while len(results) < len(references):
            batch = references[len(results) : len(results) + step]
            try:
                event = await self._exchange(self._client, self._client.get(*batch))
            except NoAnswerError:
                # This side cannot know what the meter still holds of the association.
                self._abandon()
                raise
            except asyncio.CancelledError:
                # The caller has no more time. An answer that is late names another request.
                if self._client.state is ClientState.AWAITING:
                    self._client.abandon_request()
                raise
            if isinstance(event, GetDone) and len(event.results) == len(batch):
                results.extend(event.results)
                continue
            if not may_reassociate:
                self._abandon()
                if _came_late(event):
                    raise NoAnswerError("requests of ours reached the meter late, behind newer ones")
                raise MeterRefusedError("rejected", _reason(event))
            may_reassociate = False
            self.counters["reassociations"] += 1
            await self._associate()
        return results

    async def _exchange(self, client: ClientAssociation, apdu: bytes, attempts: int | None = None) -> Event:
        """Send, and wait for what it leads to; repeat when nothing comes. Raises NoAnswerError."""
        if self._is_closed:
            raise NoAnswerError("the session was closed")
        while not self._events.empty():
            # What came for a caller that did not wait for it any more.
            self._events.get_nowait()
        self._send(client, apdu)
        wait_s = self._timeouts.response_s
        attempts = self._timeouts.attempts if attempts is None else attempts
        for attempt in range(attempts):
            if attempt:
                if client.state is ClientState.IDLE:
                    raise NoAnswerError("the association was closed while a request was out")
                if not self._has_route():
                    raise NoAnswerError("no answer, and the mesh has no route to the meter now")
                self.counters["repetitions"] += 1
                self._send(client, client.repeat())
                wait_s *= self._timeouts.growth
            event = await self._next_event(client, wait_s)
            if event is not None:
                return event
        self.counters["unanswered"] += 1
        raise NoAnswerError(f"no answer after {attempts} attempts")

    async def _next_event(self, client: ClientAssociation, wait_s: float) -> Event | None:
        """The next event that ends an exchange; every step on the way to it starts the wait anew."""
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    arrived = await self._events.get()
            except TimeoutError:
                return None
            if arrived is None:
                raise NoAnswerError("the session was closed")
            source, event = arrived
            if source is not client:
                continue
            if not isinstance(event, Send):
                return event

    def _send(self, client: ClientAssociation, apdu: bytes) -> None:
        self._unanswered += client is self._client and client.state is ClientState.AWAITING
        self._send_datagram(Wpdu(client.config.client_sap, client.config.server_sap, apdu).encode())

    def _text(self, results: dict[ObisCode, Result], obis: ObisCode) -> str:
        answer = results[obis]
        if not isinstance(answer, Data):
            raise MeterRefusedError("inconsistent", f"object {obis} cannot be read: {answer.name}")
        return text_of(answer)[:64]


def _trust(credentials: MeterCredentials, client_keys: ClientKeys | None) -> MeterTrust | None:
    """What is believed of the meter's certificates; None under suite 0. Raises MeterRefusedError for other suites."""
    suite = credentials.security_suite
    if suite == Suite.SUITE_0:
        return None
    if suite != Suite.SUITE_1:
        raise MeterRefusedError("unsupported", f"security suite {suite} is not supported")
    if client_keys is None:
        raise MeterRefusedError("unsupported", "security suite 1 needs a certificate of the concentrator's own")
    return client_keys.trust(credentials)


def _security(
    system_title: bytes,
    credentials: MeterCredentials,
    counters: CounterStore,
    client_keys: ClientKeys | None,
    trust: MeterTrust | None,
) -> ClientSecurity:
    return ClientSecurity(
        system_title,
        SymmetricKeys(credentials.encryption_key, credentials.authentication_key),
        counters,
        suite=Suite(credentials.security_suite),
        server_system_title=credentials.system_title,
        asymmetric=None if client_keys is None or trust is None else client_keys.towards(trust),
    )


def _reason(event: Event) -> str:
    return event.reason if isinstance(event, Refused | RequestFailed) else f"answered with {type(event).__name__}"


def _came_late(event: Event) -> bool:
    """Whether the meter had seen a newer invocation counter: a mesh may double a request and deliver its copy late.

    The exception names no request and nobody vouches for it, so it is no reason to give the meter up.
    """
    response = event.response if isinstance(event, RequestFailed) else None
    return isinstance(response, ExceptionResponse) and response.service_error is ServiceError.INVOCATION_COUNTER_ERROR


def _unsigned(event: Event) -> int | None:
    """The number that a GET of one attribute brought."""
    if not isinstance(event, GetDone) or len(event.results) != 1:
        return None
    answer = event.results[0]
    if isinstance(answer, Data) and answer.tag == Tag.DOUBLE_LONG_UNSIGNED and isinstance(answer.value, int):
        return answer.value
    return None


def _public_keys(results: dict[ObisCode, Result]) -> tuple[tuple[str, bytes], ...]:
    """Those of the two keys that the meter has."""
    found: list[tuple[str, bytes]] = []
    for purpose, obis in ((KeyPurpose.SIGNING, SIGNING_PUBLIC_KEY), (KeyPurpose.AGREEMENT, AGREEMENT_PUBLIC_KEY)):
        answer = results[obis]
        if isinstance(answer, DataAccessResult):
            continue
        if isinstance(answer.value, bytes) and len(answer.value) == _POINT_BYTES:
            found.append((purpose.value, answer.value))
    return tuple(found)
