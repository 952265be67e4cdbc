"""Ordinary drivers for the concentrator's tests: meters with a real COSEM server, a mesh without radio, a head-end.

Everything runs on the virtual loop. Bytes are real from the wrapper up and on MQTT topics.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import dcu.daemon
from dcu.border_router import Reachability, RouterListener
from dcu.config import DcuConfig, DlmsTimeouts, RegistrationPolicy
from dcu.daemon import Dcu
from dcu.storage import MemoryStorage
from dcu.uplink import UplinkListener, Will
from protocols.dlms.data import Data, double_long_unsigned, enumerated, integer, octet_string, structure
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Attribute, Caller, CosemObject, InterfaceClass, full_access
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity
from protocols.dlms.wrapper import Wpdu
from protocols.headend import messages as m
from protocols.headend.topics import Channel, Topic
from protocols.meter_identity import (
    AGREEMENT_PUBLIC_KEY,
    FIRMWARE_VERSION,
    HARDWARE_REVISION,
    LOGICAL_DEVICE_NAME,
    MODEL_NAME,
    SERIAL_NUMBER,
    SIGNING_PUBLIC_KEY,
)
from twin.clock.seeds import SeededKeys
from twin.clock.virtual import VirtualLoop

START_UTC_S = 1_772_323_200.0  # 2026-03-01T00:00:00Z
CLIENT_TITLE = b"OAMDCU01"
ENERGY = m.ObjectReference("1-0:1.8.0*255", 3)
VOLTAGE = m.ObjectReference("1-0:32.7.0*255", 3)
DEMAND = m.ObjectReference("1-0:1.6.0*255", 4)
ABSENT = m.ObjectReference("1-0:99.99.9*255", 3)


class Values(CosemObject):
    """An object whose attributes are given; a callable is asked at each read."""

    __slots__ = ("_attributes",)

    def __init__(self, obis: ObisCode, attributes: dict[int, Data | Callable[[], Data]]) -> None:
        super().__init__(obis)
        self._attributes = attributes

    def read(self, attribute_id: int, selector: Any, caller: Caller) -> Data:
        value = self._attributes.get(attribute_id)
        if value is None:
            raise AccessDenied(DataAccessResult.OBJECT_UNAVAILABLE)
        return value if isinstance(value, Data) else value()


class DataObject(Values):
    INTERFACE = InterfaceClass(1, 0, "Data", (Attribute(2, "value"),))


class Register(Values):
    INTERFACE = InterfaceClass(3, 0, "Register", (Attribute(2, "value"), Attribute(3, "scaler_unit")))


class ExtendedRegister(Values):
    INTERFACE = InterfaceClass(
        4,
        0,
        "Extended register",
        (Attribute(2, "value"), Attribute(3, "scaler_unit"), Attribute(4, "status"), Attribute(5, "capture_time")),
    )


class Clock(Values):
    INTERFACE = InterfaceClass(8, 0, "Clock", (Attribute(2, "time"),))


def scaler_unit(scaler: int, unit: int) -> Data:
    return structure(integer(scaler), enumerated(unit))


class FakeMeter:
    """A meter as far as the concentrator can tell: a COSEM server behind UDP. Verbs: `restart`, and its fields."""

    def __init__(self, number: int, *, key: bytes | None = None) -> None:
        self.eui64 = bytes.fromhex("02127401000000") + bytes((number,))
        self.serial = f"OAM{number:08d}"
        self.title = b"OAM\0\0\0\0" + bytes((number,))
        self.keys = SymmetricKeys(key or bytes((number,)) * 16, bytes((0x80 + number,)) * 16)
        self.address = bytes.fromhex("fd00000000000a41") + self.eui64
        self.energy_wh = 1000 * number
        self.requests = 0
        self.alive = True
        self.loop: VirtualLoop | None = None
        self._store = MemoryCounterStore()
        self._restarts = 0
        self.restart()

    def restart(self) -> None:
        """RAM is lost, and the associations with it."""
        self._restarts += 1
        counter = DataObject(
            ObisCode.parse("0-0:43.1.0*255"), {2: lambda: double_long_unsigned(security.least_client_counter)}
        )
        objects = [*self._objects(), counter]
        management = AssociationConfig(1, Mechanism.HIGH_GMAC, full_access(objects), 1, ciphered=True)
        public = AssociationConfig(16, Mechanism.NONE, full_access([counter]), 2)
        security = ServerSecurity(
            self.title,
            self.keys,
            self._store,
            policy=Policy.AUTHENTICATED_AND_ENCRYPTED,
            client_system_title=CLIENT_TITLE,
        )
        self.server = CosemServer(
            objects,
            [Association(public), Association(management)],
            security=security,
            keys=SeededKeys(self.eui64 + bytes((self._restarts,))),
        )

    def _objects(self) -> list[CosemObject]:
        def text(value: str) -> Data:
            return octet_string(value.encode())

        texts = {
            SERIAL_NUMBER: text(self.serial),
            LOGICAL_DEVICE_NAME: text(f"OAM{self.serial[-13:]:0>13}"),
            MODEL_NAME: text("ihm5000-1p"),
            HARDWARE_REVISION: text("B"),
            FIRMWARE_VERSION: text("1.0.0"),
            SIGNING_PUBLIC_KEY: octet_string(bytes(range(64))),
            AGREEMENT_PUBLIC_KEY: octet_string(b""),
        }
        noon = octet_string(DateTime.from_utc_s(START_UTC_S - 43_200).encode())
        return [
            *(DataObject(obis, {2: value}) for obis, value in texts.items()),
            Register(
                ObisCode.parse(ENERGY.obis), {2: lambda: double_long_unsigned(self.energy_wh), 3: scaler_unit(0, 30)}
            ),
            Register(ObisCode.parse(VOLTAGE.obis), {2: double_long_unsigned(2301), 3: scaler_unit(-1, 35)}),
            ExtendedRegister(
                ObisCode.parse(DEMAND.obis), {2: double_long_unsigned(4321), 3: scaler_unit(-3, 27), 5: noon}
            ),
            Clock(ObisCode.parse("0-0:1.0.0*255"), {2: self._time}),
        ]

    def _time(self) -> Data:
        now_s = self.loop.time() if self.loop is not None else 0.0
        return octet_string(DateTime.from_utc_s(START_UTC_S + now_s).encode())

    def datagram(self, payload: bytes, now_s: float) -> bytes | None:
        """What it answers to a datagram."""
        self.requests += 1
        wpdu = Wpdu.decode(payload)
        answer = self.server.handle(wpdu.source_port, wpdu.apdu, now_s, channel="root")
        return None if answer is None else Wpdu(wpdu.destination_port, wpdu.source_port, answer).encode()

    def credentials(self, *, key: bytes | None = None) -> m.MeterCredentials:
        return m.MeterCredentials(
            serial=self.serial,
            system_title=self.title,
            security_suite=0,
            encryption_key=key or self.keys.encryption,
            authentication_key=self.keys.authentication,
        )


class FakeMesh:
    """Carries datagrams between one concentrator and its meters in `delay_s`. Verbs: `join`, `lose`, the hooks."""

    def __init__(self, loop: VirtualLoop, delay_s: float = 0.3) -> None:
        self._loop = loop
        self.delay_s = delay_s
        self.airtime_s = 0.0
        """How long each datagram holds the air that all share: they wait for each other, in both directions."""
        self._busy_until_s = 0.0
        self._by_address: dict[bytes, FakeMeter] = {}
        self._places: dict[bytes, Reachability] = {}
        self.listener: RouterListener | None = None
        self.down: Callable[[bytes], bytes | None] = lambda datagram: datagram
        """What becomes of a datagram to a meter; None loses it."""
        self.up: Callable[[bytes], bytes | None] = lambda datagram: datagram
        self.sent: list[tuple[float, bytes]] = []

    def join(self, meter: FakeMeter, *, restarted: bool = False) -> None:
        meter.loop = self._loop
        self._by_address[meter.address] = meter
        self._places[meter.eui64] = Reachability(meter.address, 1, self._loop.time())
        assert self.listener is not None
        self.listener.reachable(meter.eui64, restarted)

    def break_route(self, meter: FakeMeter) -> None:
        """A hop on its way does not work, and no other is known; `join` heals it."""
        self._places[meter.eui64] = replace(self._places[meter.eui64], is_broken=True)

    def lose(self, meter: FakeMeter) -> None:
        self._places.pop(meter.eui64, None)
        assert self.listener is not None
        self.listener.lost(meter.eui64, "route expired")

    def router(self, _config: DcuConfig, listener: RouterListener, **_: Any) -> FakeRouter:
        self.listener = listener
        self._places.clear()
        return FakeRouter(self)

    def where(self, eui64: bytes) -> Reachability | None:
        return self._places.get(eui64)

    def send(self, address: bytes, payload: bytes) -> None:
        self.sent.append((self._loop.time(), address))
        datagram = self.down(payload)
        if datagram is not None:
            self._carry(self._arrive, address, datagram)

    def _carry(self, arrive: Callable[[bytes, bytes], None], address: bytes, datagram: bytes) -> None:
        self._busy_until_s = max(self._loop.time(), self._busy_until_s) + self.airtime_s
        self._loop.call_at(self._busy_until_s + self.delay_s, arrive, address, datagram)

    def send_to_all(self, payload: bytes) -> None:
        """By multicast: the hook `down` sees it once for each meter."""
        for address in self._by_address:
            self.send(address, payload)

    def _arrive(self, address: bytes, datagram: bytes) -> None:
        meter = self._by_address.get(address)
        if meter is None or not meter.alive:
            return
        answer = meter.datagram(datagram, self._loop.time())
        answer = None if answer is None else self.up(answer)
        if answer is not None:
            self._carry(self._deliver, address, answer)

    def _deliver(self, address: bytes, datagram: bytes) -> None:
        if self.listener is not None:
            self.listener.datagram(address, datagram)


class FakeRouter:
    """A border router without radio, of the same shape as the real one."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh
        self.counters: Counter[str] = Counter()

    def start(self) -> None: ...

    def stop(self) -> None:
        self._mesh.listener = None

    def where(self, eui64: bytes) -> Reachability | None:
        return self._mesh.where(eui64)

    def send(self, address: bytes, payload: bytes) -> None:
        self._mesh.send(address, payload)

    def send_to_all(self, payload: bytes) -> None:
        self._mesh.send_to_all(payload)

    def flood_s(self) -> float:
        return 0.0

    def mesh_counters(self) -> Counter[str]:
        return Counter()


@dataclass
class FakeHeadend:
    """Knows meters by its shipment file, acknowledges, and keeps what it hears. Also the broker: at least once."""

    loop: VirtualLoop
    delay_s: float = 0.6
    shipment: dict[bytes, m.MeterCredentials] = field(default_factory=dict)
    heard: list[m.Message] = field(default_factory=list)
    answers_credentials: bool = True
    acknowledges: bool = True
    is_reachable: bool = True
    uplink: FakeUplink | None = None
    rows: dict[str, m.Registration] = field(default_factory=dict)
    status: m.DcuStatus | None = None

    def known(self, *meters: FakeMeter) -> None:
        for meter in meters:
            self.shipment[meter.eui64] = meter.credentials()

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def events(self, kind: str) -> list[m.Event]:
        return [event for event in self.of(m.Event) if event.kind == kind]

    def responses(self, request_id: str) -> list[m.ReadingResponse]:
        return [response for response in self.of(m.ReadingResponse) if response.request_id == request_id]

    def received(self, topic: str, payload: bytes) -> None:
        message = m.decode_message(payload, Topic.decode(topic).channel)
        if isinstance(message, m.DcuStatus):
            self.status = message
        self.heard.append(message)
        if isinstance(message, m.CredentialsRequest) and self.answers_credentials:
            found = self.shipment.get(message.eui64)
            status = m.CredentialsStatus.GRANTED if found else m.CredentialsStatus.UNKNOWN
            self.send(m.Credentials(message.id, message.eui64, status, found))
        if isinstance(message, m.Registration) and self.acknowledges:
            status = m.RegistrationStatus.UPDATED if message.serial in self.rows else m.RegistrationStatus.REGISTERED
            self.rows[message.serial] = message
            self.send(m.RegistrationAck(message.id, message.eui64, status))

    def send(self, message: m.Message) -> None:
        topic = Topic("dcu-1", m.channel_of(message)).encode()
        self.loop.call_later(self.delay_s, self._deliver, topic, m.encode_message(message))

    def _deliver(self, topic: str, payload: bytes) -> None:
        if self.uplink is not None:
            self.uplink.deliver(topic, payload)

    def request(self, request_id: str, meter: FakeMeter, deadline_s: float, *objects: m.ObjectReference) -> None:
        """Ask for a reading, due `deadline_s` from now."""
        self.send(self.reading_request(request_id, meter, deadline_s, *objects))

    def reading_request(
        self, request_id: str, meter: FakeMeter, deadline_s: float, *objects: m.ObjectReference
    ) -> m.ReadingRequest:
        deadline_utc_ms = round((START_UTC_S + self.loop.time() + deadline_s) * 1000)
        return m.ReadingRequest(request_id, meter.serial, objects or (ENERGY, VOLTAGE), deadline_utc_ms)


class FakeUplink:
    """An MQTT client and its broker in one. Verbs: `connect`, `disconnect`. What is in flight is sent again."""

    def __init__(self, headend: FakeHeadend) -> None:
        self._headend = headend
        self._listener: UplinkListener | None = None
        self._in_flight: dict[int, tuple[str, bytes]] = {}
        self._next_id = 1
        self._connected = False
        self.filters: list[str] = []
        headend.uplink = self

    def start(self, listener: UplinkListener, will: Will | None = None) -> None:
        self._listener = listener
        if self._headend.is_reachable:
            self._headend.loop.call_later(1.0, self.connect)

    def stop(self) -> None:
        for topic, payload in self._in_flight.values():
            self._headend.received(topic, payload)
        self.abort()

    def abort(self) -> None:
        self._listener = None
        self._connected = False
        if self._headend.uplink is self:
            self._headend.uplink = None

    @property
    def is_connected(self) -> bool:
        return self._connected

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        self.filters.append(topic_filter)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        message_id = self._next_id
        self._next_id += 1
        self._in_flight[message_id] = (topic, payload)
        self._carry(message_id)
        return message_id

    def connect(self) -> None:
        if self._listener is None or self._connected:
            return
        self._connected = True
        self._headend.uplink = self
        self._listener.connected(False)
        for message_id in list(self._in_flight):
            self._carry(message_id)

    def disconnect(self) -> None:
        self._connected = False
        if self._listener is not None:
            self._listener.disconnected("broker gone")

    def deliver(self, topic: str, payload: bytes) -> None:
        if self._listener is not None and self._connected and topic in self.filters:
            self._listener.message(topic, payload)

    def _carry(self, message_id: int) -> None:
        if self._connected:
            self._headend.loop.call_later(self._headend.delay_s, self._arrive, message_id)

    def _arrive(self, message_id: int) -> None:
        if not self._connected or message_id not in self._in_flight or self._listener is None:
            return
        self._headend.received(*self._in_flight.pop(message_id))
        self._listener.confirmed(message_id)


class NoRadio:
    def write(self, data: bytes) -> None: ...

    def on_data(self, callback: Callable[[bytes], None]) -> None: ...


CONFIG = DcuConfig(
    dcu_id="dcu-1",
    eui64=bytes.fromhex("0212740100000100"),
    system_title=CLIENT_TITLE,
    link_key=b"group key 16 byt",
    timers_profile="bench",
    dlms=DlmsTimeouts(response_s=2.0, attempts=3),
    registration=RegistrationPolicy(
        credentials_timeout_s=5.0, ack_timeout_s=5.0, retry_first_s=4.0, retry_max_s=60.0, parallel=2
    ),
)


class Bench:
    """One concentrator with mesh and head-end, on a virtual loop."""

    def __init__(self, config: DcuConfig = CONFIG) -> None:
        self.config = config
        self.loop = VirtualLoop()
        self.mesh = FakeMesh(self.loop)
        self.headend = FakeHeadend(self.loop)
        self.storage = MemoryStorage()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.uplink: FakeUplink | None = None
        self.dcu: Dcu | None = None
        self._starts = 0

    def trace(self, kind: str, /, **fields: Any) -> None:
        self.events.append((kind, fields))

    def start(self) -> Dcu:
        """Power on: a new daemon over the storage that the last one left."""
        self._starts += 1
        self.uplink = FakeUplink(self.headend)
        self.dcu = Dcu(
            self.config,
            loop=self.loop,
            radio=NoRadio(),
            uplink=self.uplink,
            storage=self.storage,
            key_source=SeededKeys(b"dcu" + bytes((self._starts,))),
            rng=random.Random(self._starts),
            utc_s=lambda: START_UTC_S + self.loop.time(),
            trace=self.trace,
        )
        self.dcu.start()
        return self.dcu

    def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test's coroutine; nothing may have failed unseen afterwards."""
        try:
            self.loop.run_until_complete(body())
            assert self.loop.unhandled == []
            assert [fields for kind, fields in self.events if kind == "dcu-task-failed"] == []
        finally:
            self.loop.close()

    async def until(self, condition: Callable[[], object], within_s: float) -> None:
        """Wait in virtual time; fails with what was heard when the time is over."""
        end_s = self.loop.time() + within_s
        while not condition():
            assert self.loop.time() < end_s, [type(item).__name__ for item in self.headend.heard]
            await asyncio.sleep(0.1)

    async def registered(self, *meters: FakeMeter, within_s: float = 60.0) -> None:
        """Join them, known to the head-end, and wait until they are registered."""
        self.headend.known(*meters)
        for meter in meters:
            self.mesh.join(meter)
        await self.until(lambda: all(self.state(meter) == "registered" for meter in meters), within_s)

    def state(self, meter: FakeMeter) -> str | None:
        assert self.dcu is not None
        found = self.dcu.registry.find(meter.eui64)
        return None if found is None else found.state.value


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(dcu.daemon, "BorderRouter", made.mesh.router)
    return made


__all__ = ["ABSENT", "DEMAND", "ENERGY", "VOLTAGE", "Bench", "Channel", "FakeMeter", "bench"]
