"""What a case works with: associations by our client, and raw APDUs where it must send what is wrong."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from meters.keys import MeterKeys
from protocols.dlms import reading
from protocols.dlms.acse import Aare
from protocols.dlms.action import MethodOutcome, MethodReference
from protocols.dlms.client import Associated, ClientAssociation, ClientConfig, Refused, Send
from protocols.dlms.client_events import ActionDone, Event, NotificationReceived, RequestFailed, SetDone
from protocols.dlms.client_security import ClientSecurity
from protocols.dlms.data import Data
from protocols.dlms.enums import DataAccessResult, Mechanism
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.object_list import ObjectListElement
from protocols.dlms.reading import Flow
from protocols.dlms.security.counters import CounterStore, MemoryCounterStore
from protocols.dlms.security.keys import Suite, SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource
from twin.conformance.bench import CLIENT_SYSTEM_TITLE, MeterBench
from twin.conformance.links import Link
from twin.conformance.needs import Need, SkipCase
from twin.conformance.serial import LineOpener, SerialLine
from twin.conformance.targets import Saps

T = TypeVar("T")

INVOCATION_COUNTER = ObisCode.parse("0-0:43.1.0*255")
_MOST_STEPS = 100_000


class Role(enum.StrEnum):
    """The three associations of a meter, as every meter of this system has them."""

    PUBLIC = "public"
    READER = "reader"
    MANAGEMENT = "management"


class _SharedSend:
    """Our sending counter goes on over all associations; what the meter's counter has come to is kept by each."""

    def __init__(self, shared: CounterStore) -> None:
        self._shared = shared
        self._own = MemoryCounterStore()

    def load(self, name: str) -> int | None:
        return (self._shared if name.startswith("send") else self._own).load(name)

    def save(self, name: str, value: int) -> None:
        (self._shared if name.startswith("send") else self._own).save(name, value)


class NoAnswerError(RemoteProtocolError):
    """The target stays silent where an answer is due."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is known about the target beside its keys."""

    name: str
    saps: Saps
    is_protected: bool = True
    """Whether the management association is known to be ciphered; of a stranger's it is taken for granted."""


class Tester:
    """One case's hands. Links are opened through it, and closed when the case is over.

    `keys` are what the client side knows, None for a stranger that gave none. `bench` has the verbs of a meter of
    ours, None for a stranger's. `counters` go on over all associations of one meter.
    """

    def __init__(
        self,
        facts: TargetFacts,
        keys: MeterKeys | None,
        open_link: Callable[[], Awaitable[Link]],
        key_source: KeySource,
        *,
        open_line: LineOpener | None = None,
        transcribe: Callable[[Link], Link] = lambda link: link,
        bench: MeterBench | None = None,
        counters: CounterStore | None = None,
        may_change: bool = True,
    ) -> None:
        self.facts = facts
        self.keys = keys
        self.bench = bench
        self.may_change = may_change
        self.key_source = key_source
        self.asymmetric = None if bench is None or bench.certified is None else bench.certified.client
        """The tester's own key pairs, where the meter trusts them."""
        self._open_link = open_link
        self._open_line = open_line
        self._transcribe = transcribe
        self._lines: list[SerialLine] = []
        self._counters = counters or MemoryCounterStore()
        self._links: list[Link] = []
        self.symmetric = (
            SymmetricKeys(keys.encryption_key, keys.authentication_key, keys.broadcast_key, keys.master_key)
            if keys is not None
            else None
        )

    async def open_link(self) -> Link:
        """A new channel. Raises RigError if the target cannot be reached."""
        link = await self._open_link()
        self._links.append(link)
        return link

    @property
    def has_line(self) -> bool:
        return self._open_line is not None

    async def open_mesh_link(self) -> Link:
        """A channel over the mesh, once the meter has joined it. Raises SkipCase where there is none, RigError."""
        if self.bench is None or self.bench.mesh is None:
            raise SkipCase(f"needs {Need.MESH}")
        link = self._transcribe(await self.bench.mesh.open_link())
        self._links.append(link)
        return link

    def open_line(self) -> SerialLine:
        """The serial line itself, for frames. Raises SkipCase where the target has none, RigError."""
        if self._open_line is None:
            raise SkipCase(f"needs {Need.HDLC}")
        self._lines.append(self._open_line())
        return self._lines[-1]

    async def close(self) -> None:
        for link in self._links:
            await link.close()
        self._links.clear()
        for line in self._lines:
            line.close()
        self._lines.clear()

    def sap(self, role: Role) -> int:
        return int(getattr(self.facts.saps, role.value))

    # associations

    def config(self, role: Role, **changes: object) -> ClientConfig:
        """How our client comes in under `role`. Raises SkipCase if the secrets for it were not given."""
        settings: dict[str, object] = {"client_sap": self.sap(role), "server_sap": self.facts.saps.server}
        if role is Role.READER:
            if self.keys is None or not self.keys.reader_secret:
                raise SkipCase("needs the reader's secret (--keys)")
            settings |= {"mechanism": Mechanism.LOW, "secret": self.keys.reader_secret}
        elif role is Role.MANAGEMENT:
            if self.keys is None:
                raise SkipCase("needs the meter's keys (--keys)")
            mechanism = Mechanism.HIGH_ECDSA if self.keys.suite else Mechanism.HIGH_GMAC
            settings |= {"mechanism": mechanism, "ciphered": True}
        return ClientConfig(**(settings | changes))  # type: ignore[arg-type]

    def security(
        self, changes: Mapping[str, bytes] | None = None, *, asymmetric: AsymmetricKeys | None = None
    ) -> ClientSecurity:
        """Our end of the security context; `changes` replace fields of SymmetricKeys."""
        if self.keys is None or self.symmetric is None:
            raise SkipCase("needs the meter's keys (--keys)")
        title = self.keys.client_system_title or CLIENT_SYSTEM_TITLE
        keys = replace(self.symmetric, **(changes or {}))
        store = _SharedSend(self._counters)
        suite = Suite(self.keys.suite)
        return ClientSecurity(title, keys, store, suite=suite, reserve=1, asymmetric=asymmetric or self.asymmetric)

    async def dialogue(
        self, role: Role, *, security: ClientSecurity | None = None, link: Link | None = None, **changes: object
    ) -> Dialogue:
        """A client that is not yet associated, on a link of its own unless `link` is given."""
        config = self.config(role, **changes)
        if security is None and (config.ciphered or config.mechanism.is_high):
            await self.catch_up()
            security = self.security()
        client = ClientAssociation(config, security=security, keys=self.key_source)
        return Dialogue(link or await self.open_link(), client, security)

    async def associate(self, role: Role, **changes: object) -> Dialogue:
        """An open association. Raises ServiceRefused if the target refuses it."""
        dialogue = await self.dialogue(role, **changes)  # type: ignore[arg-type]
        await dialogue.associate()
        return dialogue

    async def catch_up(self) -> None:
        """Bring our invocation counter up to what the meter asks for, which everyone may read.

        A meter that does not show it is taken at our own count.
        """
        least = await self.least_counter()
        if least is not None and least > (self._counters.load("send") or 1):
            self._counters.save("send", least)

    async def least_counter(self) -> int | None:
        """The least invocation counter that the meter accepts, read by the public client; None if it is not shown."""
        dialogue = await self.dialogue(Role.PUBLIC)
        try:
            await dialogue.associate()
            value = await dialogue.value(1, INVOCATION_COUNTER)
        except reading.ServiceRefused:
            return None
        finally:
            await dialogue.link.close()
        return int(value.value) if isinstance(value.value, int) else None

    async def object_list(self, dialogue: Dialogue) -> tuple[ObjectListElement, ...]:
        return await dialogue.run(reading.discover(dialogue.client))


class Dialogue:
    """A client, the link it lives on, and its end of the security context."""

    def __init__(self, link: Link, client: ClientAssociation, security: ClientSecurity | None) -> None:
        self.link = link
        self.client = client
        self.opening = b""
        """The AARQ that opened it, once it was sent."""
        self._security = security

    @property
    def security(self) -> ClientSecurity:
        """Raises SkipCase where there is none."""
        if self._security is None:
            raise SkipCase("needs the meter's keys (--keys)")
        return self._security

    # raw

    async def raw(self, apdu: bytes) -> bytes | None:
        """Send these bytes as they are; the answer's, or None for silence."""
        return await self.link.exchange(self.client.config.client_sap, self.client.config.server_sap, apdu)

    async def must_answer(self, apdu: bytes) -> bytes:
        """Raises NoAnswerError for silence."""
        answer = await self.raw(apdu)
        if answer is None:
            raise NoAnswerError("no answer")
        return answer

    async def aare(self, aarq: bytes) -> Aare | None:
        """The AARE to an AARQ of our own making; None if the answer is none (silence, or another refusal)."""
        answer = await self.raw(aarq)
        return Aare.decode(answer) if answer is not None and answer[:1] == b"\x61" else None

    # by the client

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow of `protocols.dlms.reading`. Raises ServiceRefused, RemoteProtocolError, NoAnswerError."""
        try:
            apdu = next(flow)
            for _ in range(_MOST_STEPS):
                apdu = flow.send(await self.must_answer(apdu))
        except StopIteration as done:
            result: T = done.value
            return result
        raise RemoteProtocolError(f"no end after {_MOST_STEPS} APDUs")

    async def associate(self) -> Associated:
        """Raises ServiceRefused."""
        self.opening = self.client.associate()
        return _expect(await self.converse(self.opening), Associated)

    async def try_to_associate(self) -> str:
        """ "accepted", or why not, in words."""
        try:
            await self.associate()
        except reading.ServiceRefused as refused:
            return f"refused: {refused}"
        return "accepted"

    async def get(self, *references: AttributeReference) -> tuple[Data | DataAccessResult, ...]:
        return await self.run(reading.read(self.client, references))

    async def value(self, class_id: int, obis: ObisCode, attribute_id: int = 2) -> Data:
        """Raises ServiceRefused."""
        return await self.run(reading.read_value(self.client, AttributeReference(class_id, obis, attribute_id)))

    async def set(self, reference: AttributeReference, value: Data) -> DataAccessResult:
        """Raises ServiceRefused if the whole request failed."""
        event = await self.converse(self.client.set(reference, value))
        return _expect(event, SetDone).results[0]

    async def set_many(self, writes: Sequence[tuple[AttributeReference, Data]]) -> tuple[DataAccessResult, ...]:
        event = await self.converse(self.client.set_many(writes))
        return _expect(event, SetDone).results

    async def action(self, reference: MethodReference, argument: Data | None = None) -> MethodOutcome:
        """Raises ServiceRefused if the whole request failed."""
        event = await self.converse(self.client.action(reference, argument))
        return _expect(event, ActionDone).outcomes[0]

    async def release(self) -> None:
        await self.run(reading.release(self.client))

    async def converse(self, apdu: bytes) -> Event:
        """Send `apdu` of the client and what follows from it; the event that ends it. Raises ServiceRefused."""
        waiting = apdu
        for _ in range(_MOST_STEPS):
            answer = await self.must_answer(waiting)
            for event in self.client.receive(answer):
                match event:
                    case Send(apdu=following):
                        waiting = following
                    case RequestFailed(reason=reason) | Refused(reason=reason):
                        raise reading.ServiceRefused(reason)
                    case NotificationReceived():
                        continue
                    case _:
                        return event
        raise RemoteProtocolError(f"no end after {_MOST_STEPS} APDUs")


def _expect(event: Event, kind: type[T]) -> T:
    if not isinstance(event, kind):
        raise RemoteProtocolError(f"{type(event).__name__} where {kind.__name__} is due")
    return event
