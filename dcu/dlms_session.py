"""The concentrator's management association with one meter, over datagrams that the mesh may lose."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from dcu.config import DlmsTimeouts
from dcu.counters import StoredCounters
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.readings import ReadingOutcome, ReadingPlan, Result, text_of
from dcu.registry import MeterIdentity
from protocols.dlms.client import (
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
)
from protocols.dlms.data import Data
from protocols.dlms.enums import Conformance, DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
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
    SERIAL_NUMBER,
    SERVER_SAP,
    SIGNING_PUBLIC_KEY,
)
from protocols.ports import KeySource, Trace

_LOG = logging.getLogger(__name__)

_CLASS_DATA = 1
_LIST_LENGTH = 16
"""References in one GET-Request-With-List: its answer stays within one PDU of 1,024 bytes."""
_POINT_BYTES = 64
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
        counters: StoredCounters,
        key_source: KeySource,
        send: Callable[[bytes], None],
        trace: Trace,
    ) -> None:
        """`send` takes one datagram. Raises MeterRefusedError for a security suite that is not supported."""
        if credentials.security_suite != Suite.SUITE_0:
            raise MeterRefusedError("unsupported", f"security suite {credentials.security_suite} is not supported")
        self._name = eui64.hex()
        self._credentials = credentials
        self._timeouts = timeouts
        self._send_datagram = send
        self._trace = trace
        self._lock = asyncio.Lock()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._units: dict[tuple[int, bytes], ScalerUnit] = {}
        self._lists_allowed = False
        self.counters: Counter[str] = Counter()
        keys = SymmetricKeys(credentials.encryption_key, credentials.authentication_key)
        self._client = ClientAssociation(
            ClientConfig(client_sap=MANAGEMENT_SAP, mechanism=Mechanism.HIGH_GMAC, ciphered=True),
            security=ClientSecurity(system_title, keys, counters, server_system_title=credentials.system_title),
            keys=key_source,
            trace=trace,
        )

    # from the mesh

    def receive(self, datagram: bytes) -> None:
        """A datagram from the meter. Never raises on anything that a peer may send."""
        try:
            wpdu = Wpdu.decode(datagram)
            if (wpdu.source_port, wpdu.destination_port) != (SERVER_SAP, MANAGEMENT_SAP):
                raise RemoteProtocolError(f"WPDU from port {wpdu.source_port} to port {wpdu.destination_port}")
            events = self._client.receive(wpdu.apdu)
        except RemoteProtocolError as error:
            self.counters["unverifiable"] += 1
            _LOG.warning("meter %s: an answer was dropped: %s", self._name, error)
            self._trace("dcu-answer-dropped", eui64=self._name, error=str(error))
            return
        for event in events:
            if isinstance(event, NotificationReceived):
                self.counters["notifications"] += 1
            else:
                self._events.put_nowait(event)

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
        return MeterIdentity(
            serial=serial,
            system_title=self._credentials.system_title,
            logical_device_name=self._text(results, LOGICAL_DEVICE_NAME),
            model=self._text(results, MODEL_NAME),
            hardware_revision=self._text(results, HARDWARE_REVISION),
            firmware_version=self._text(results, FIRMWARE_VERSION),
            security_suite=self._credentials.security_suite,
            authentication_mechanism=Mechanism.HIGH_GMAC,
            public_keys=_public_keys(results),
        )

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

    def close(self) -> None:
        """Forget the association. The meter ends its own side when the next one comes."""
        self._abandon()

    # association

    async def _associate(self) -> None:
        self._abandon()
        unverifiable = self.counters["unverifiable"]
        try:
            event = await self._exchange(self._client.associate())
        except NoAnswerError as error:
            self._abandon()
            if self.counters["unverifiable"] > unverifiable:
                raise MeterRefusedError("unverifiable", "answers came, but none could be verified") from error
            raise
        if isinstance(event, Associated):
            self._lists_allowed = bool(event.conformance & Conformance.MULTIPLE_REFERENCES)
            self.counters["associations"] += 1
            self._trace("dcu-associated", eui64=self._name)
            return
        self._abandon()
        self.counters["refusals"] += 1
        reason = event.reason if isinstance(event, Refused | RequestFailed) else f"answered with {event!r}"
        raise MeterRefusedError("authentication", reason)

    def _abandon(self) -> None:
        self._client.abandon()
        self._units.clear()
        while not self._events.empty():
            self._events.get_nowait()

    # requests

    async def _get(self, references: Sequence[AttributeReference]) -> list[Result]:
        """Results in order. A meter that has forgotten the association gets a new one, once."""
        step = _LIST_LENGTH if self._lists_allowed else 1
        results: list[Result] = []
        may_reassociate = True
        while len(results) < len(references):
            batch = references[len(results) : len(results) + step]
            try:
                event = await self._exchange(self._client.get(*batch))
            except BaseException:
                # Unanswered or cancelled: this side cannot know what the meter still holds of the association.
                self._abandon()
                raise
            if isinstance(event, GetDone) and len(event.results) == len(batch):
                results.extend(event.results)
                continue
            reason = event.reason if isinstance(event, Refused | RequestFailed) else f"answered with {event!r}"
            if not may_reassociate:
                self._abandon()
                raise MeterRefusedError("rejected", reason)
            may_reassociate = False
            self.counters["reassociations"] += 1
            await self._associate()
        return results

    async def _exchange(self, apdu: bytes) -> Event:
        """Send, and wait for what it leads to; repeat when nothing comes. Raises NoAnswerError."""
        self._send(apdu)
        wait_s = self._timeouts.response_s
        for attempt in range(self._timeouts.attempts):
            if attempt:
                self.counters["repetitions"] += 1
                self._send(self._client.repeat())
                wait_s *= self._timeouts.growth
            event = await self._next_event(wait_s)
            if event is not None:
                return event
        self.counters["unanswered"] += 1
        raise NoAnswerError(f"no answer after {self._timeouts.attempts} attempts")

    async def _next_event(self, wait_s: float) -> Event | None:
        """The next event that ends an exchange; every step on the way to it starts the wait anew."""
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    event = await self._events.get()
            except TimeoutError:
                return None
            if not isinstance(event, Send):
                return event
            self._send(event.apdu)

    def _send(self, apdu: bytes) -> None:
        self._send_datagram(Wpdu(MANAGEMENT_SAP, SERVER_SAP, apdu).encode())

    def _text(self, results: dict[ObisCode, Result], obis: ObisCode) -> str:
        answer = results[obis]
        if not isinstance(answer, Data):
            raise MeterRefusedError("inconsistent", f"object {obis} cannot be read: {answer.name}")
        return text_of(answer)[:64]


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
