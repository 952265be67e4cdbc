"""A small meter and clients for tests of protocols.dlms: ordinary objects, and APDUs carried by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from protocols.dlms.client import ClientAssociation, ClientConfig, ClientSecurity, Event, Send
from protocols.dlms.data import (
    ArrayStream,
    Data,
    Readable,
    Tag,
    array,
    date_time,
    double_long_unsigned,
    encode,
    octet_string,
    structure,
    unsigned,
)
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import (
    Access,
    AccessDenied,
    Attribute,
    Caller,
    CosemObject,
    InterfaceClass,
    Method,
    ObjectAccess,
    full_access,
)
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.selective import Selector
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity
from protocols.dlms.units import ScalerUnit, Unit

PUBLIC, READER, MANAGEMENT, BROADCASTER = 16, 32, 1, 102
METER_TITLE = bytes.fromhex("4D4D4D0000BC614E")
CLIENT_TITLE = bytes.fromhex("4D4D4D0000000001")
KEYS = SymmetricKeys(
    encryption=bytes(range(16)), authentication=bytes(range(0xD0, 0xE0)), broadcast=bytes(range(0x30, 0x40))
)
SECRET = b"reader-secret"
NAME = ObisCode.parse("0.0.42.0.0.255")
ENERGY = ObisCode.parse("1.0.1.8.0.255")
NOTE = ObisCode.parse("0.0.96.1.10.255")
LOG = ObisCode.parse("0.0.96.1.11.255")
MANY = ObisCode.parse("1.0.99.1.0.255")

DATA = InterfaceClass(1, 0, "Data", (Attribute(2, "value", (Tag.OCTET_STRING,)),))
REGISTER = InterfaceClass(
    3,
    0,
    "Register",
    (Attribute(2, "value", (Tag.DOUBLE_LONG_UNSIGNED,)), Attribute(3, "scaler_unit")),
    (Method(1, "reset"),),
)
TABLE = InterfaceClass(7, 1, "Profile generic", (Attribute(2, "buffer", selectors=(1, 2)), Attribute(7, "in use")))


class CountedKeys:
    """A key source that repeats."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._drawn = 0

    def random_bytes(self, size_bytes: int) -> bytes:
        self._drawn += 1
        digest = b""
        while len(digest) < size_bytes:
            digest += hashlib.sha256(f"{self._name}/{self._drawn}/{len(digest)}".encode()).digest()
        return digest[:size_bytes]


class TextObject(CosemObject):
    INTERFACE = DATA
    __slots__ = ("content",)

    def __init__(self, obis: ObisCode, content: bytes) -> None:
        super().__init__(obis)
        self.content = content

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return octet_string(self.content)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if value.value == b"unwritable":
            raise AccessDenied(DataAccessResult.HARDWARE_FAULT)
        self.content = value.value


class EnergyObject(CosemObject):
    INTERFACE = REGISTER
    __slots__ = ("value",)

    def __init__(self, obis: ObisCode, value: int) -> None:
        super().__init__(obis)
        self.value = value

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 2:
            return double_long_unsigned(self.value)
        return ScalerUnit(0, Unit.WATT_HOUR).to_data()

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        self.value = value.value

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        """Gives its argument back, so that long answers can be asked for."""
        if argument.tag == Tag.BOOLEAN:
            raise AccessDenied(ActionResult.TEMPORARY_FAILURE)
        return None if argument.tag == Tag.INTEGER else argument


class TableObject(CosemObject):
    """Rows of time, energy and status, made when they are read."""

    INTERFACE = TABLE
    __slots__ = ("made", "rows", "selected")

    def __init__(self, obis: ObisCode, rows: int) -> None:
        super().__init__(obis)
        self.rows = rows
        self.made = 0
        self.selected: Callable[[Selector], None] | None = None

    def row(self, index: int) -> Data:
        instant = DateTime.from_utc_s(1_790_000_000 + 900 * index)
        return structure(date_time(instant), double_long_unsigned(index), unsigned(index % 256))

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if selector is not None and self.selected is not None:
            self.selected(selector)
        return ArrayStream(self.rows, self._rows())

    def _rows(self) -> Iterator[bytes]:
        for index in range(self.rows):
            self.made += 1
            yield encode(self.row(index))

    def whole(self) -> Data:
        return array(self.row(index) for index in range(self.rows))


class Meter:
    """Objects, associations and the server, with everything that a test may want to reach."""

    def __init__(
        self,
        *,
        policy: Policy = Policy.AUTHENTICATED_AND_ENCRYPTED,
        mechanism: Mechanism = Mechanism.HIGH_GMAC,
        rows: int = 200,
        store: MemoryCounterStore | None = None,
        max_receive_pdu_bytes: int = 1024,
    ) -> None:
        self.name = TextObject(NAME, b"OPA0000000000001")
        self.energy = EnergyObject(ENERGY, 123_456)
        self.note = TextObject(NOTE, b"note")
        self.table = TableObject(MANY, rows)
        objects: list[CosemObject] = [self.name, self.energy, self.note, self.table]
        everything = full_access(objects)
        read_only = ObjectAccess({1: Access.READ, 2: Access.READ, 3: Access.READ})
        self.store = MemoryCounterStore() if store is None else store
        self.security = ServerSecurity(
            METER_TITLE, replace(KEYS), self.store, policy=policy, client_system_title=CLIENT_TITLE
        )
        self.management = Association(
            AssociationConfig(
                MANAGEMENT,
                mechanism,
                everything,
                instance=1,
                ciphered=True,
                max_receive_pdu_bytes=max_receive_pdu_bytes,
            ),
            secret=b"shared secret of mechanism 6",
        )
        reader_rights = {self.energy.key: read_only, self.name.key: read_only, self.table.key: read_only}
        self.events: list[object] = []
        self.server = CosemServer(
            objects,
            [
                Association(AssociationConfig(PUBLIC, Mechanism.NONE, {self.name.key: read_only}, instance=2)),
                Association(AssociationConfig(READER, Mechanism.LOW, reader_rights, instance=3), secret=SECRET),
                self.management,
                Association(
                    AssociationConfig(
                        BROADCASTER, Mechanism.NONE, everything, instance=4, ciphered=True, pre_established=True
                    )
                ),
            ],
            security=self.security,
            keys=CountedKeys("meter"),
            on_security_event=self.events.append,
        )


def client(
    client_sap: int = MANAGEMENT, *, store: MemoryCounterStore | None = None, **changes: object
) -> ClientAssociation:
    settings: dict[str, object] = {
        PUBLIC: {"mechanism": Mechanism.NONE},
        READER: {"mechanism": Mechanism.LOW, "secret": SECRET},
        MANAGEMENT: {"mechanism": Mechanism.HIGH_GMAC, "ciphered": True},
    }[client_sap] | changes
    keys = settings.pop("symmetric_keys", KEYS)
    security = ClientSecurity(CLIENT_TITLE, keys, MemoryCounterStore() if store is None else store)  # type: ignore[arg-type]
    config = ClientConfig(client_sap, **settings)  # type: ignore[arg-type]
    return ClientAssociation(config, security=security, keys=CountedKeys(f"client {client_sap}"))


def carry(meter: Meter, association: ClientAssociation, apdu: bytes, *, now: float = 0.0) -> list[Event]:
    """Carry APDUs to and fro until the client has nothing more to send; its events without the sending."""
    events: list[Event] = []
    waiting = [apdu]
    while waiting:
        answer = meter.server.handle(association.config.client_sap, waiting.pop(0), now)
        if answer is None:
            continue
        for event in association.receive(answer):
            if isinstance(event, Send):
                waiting.append(event.apdu)
            else:
                events.append(event)
    return events


def associated(meter: Meter, client_sap: int = MANAGEMENT, **changes: object) -> ClientAssociation:
    association = client(client_sap, **changes)  # type: ignore[arg-type]
    carry(meter, association, association.associate())
    return association
