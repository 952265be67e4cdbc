"""DLMS/COSEM: the server's time for a request, beside an independent client's time for the same PDUs.

`dlms-cosem` is a client: what can be set side by side is decoding the server's answers and making the requests.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable

from benchmarks import Row
from protocols.dlms.client import AttributeReference, ClientAssociation, ClientConfig, ClientSecurity
from protocols.dlms.data import (
    Readable,
    Tag,
    decode,
    double_long_unsigned,
    encode,
    octet_string,
    structure,
)
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import Mechanism
from protocols.dlms.get import decode_response
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Attribute, Caller, CosemObject, InterfaceClass, full_access
from protocols.dlms.profile import ListedRows, select
from protocols.dlms.reading import associate, drive
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.selective import CaptureObject, RangeDescriptor, Selector
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity

ENERGY, PROFILE = ObisCode.parse("1.0.1.8.0.255"), ObisCode.parse("1.0.99.1.0.255")
CLOCK = CaptureObject(8, ObisCode.parse("0.0.1.0.0.255"), 2)
COLUMNS = (CLOCK, *(CaptureObject(3, ObisCode.parse(f"1.0.{c}.8.0.255"), 2) for c in (1, 2, 3)))
START_S = 1_790_000_000
SERVER_TITLE, CLIENT_TITLE = b"BENCH001", b"BENCHCLI"
KEYS = SymmetricKeys(bytes(range(16)), bytes(range(16, 32)))
READER, MANAGEMENT = 32, 1
METERS = 1000


class FixedChallenges:
    """A key source for measurements only: always the same bytes."""

    def __init__(self, fill: int) -> None:
        self._fill = fill

    def random_bytes(self, size_bytes: int) -> bytes:
        return bytes((self._fill,)) * size_bytes


class Register(CosemObject):
    INTERFACE = InterfaceClass(3, 0, "Register", (Attribute(2, "value", (Tag.DOUBLE_LONG_UNSIGNED,)),))
    __slots__ = ()

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return double_long_unsigned(123_456)


class Profile(CosemObject):
    INTERFACE = InterfaceClass(7, 1, "Profile generic", (Attribute(2, "buffer", selectors=(1, 2)),))
    __slots__ = ()

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return select(ROWS, COLUMNS, selector)


def _row(index: int) -> bytes:
    when = octet_string(DateTime.from_utc_s(START_S + 1800 * index, deviation_min=-180).encode())
    return encode(structure(when, *(double_long_unsigned(index * 100 + column) for column in range(3))))


ROWS = ListedRows([_row(index) for index in range(48)])
_SAMPLE: list[CosemObject] = [Register(ENERGY), Profile(PROFILE)]
ACCESS = full_access(_SAMPLE)


def meter() -> CosemServer:
    """A meter with two objects: what it costs above that is the server's own."""
    security = ServerSecurity(
        SERVER_TITLE,
        KEYS,
        MemoryCounterStore(),
        policy=Policy.AUTHENTICATED_AND_ENCRYPTED,
        client_system_title=CLIENT_TITLE,
    )
    plain = AssociationConfig(READER, Mechanism.NONE, ACCESS, 2, max_receive_pdu_bytes=4096)
    ciphered = AssociationConfig(MANAGEMENT, Mechanism.HIGH_GMAC, ACCESS, 1, ciphered=True)
    objects: list[CosemObject] = [Register(ENERGY), Profile(PROFILE)]
    return CosemServer(objects, [Association(plain), Association(ciphered)], security=security, keys=FixedChallenges(1))


def reader(server: CosemServer, client_sap: int) -> ClientAssociation:
    ciphered = client_sap == MANAGEMENT
    config = ClientConfig(
        client_sap,
        mechanism=Mechanism.HIGH_GMAC if ciphered else Mechanism.NONE,
        ciphered=ciphered,
        max_receive_pdu_bytes=4096,
    )
    security = ClientSecurity(CLIENT_TITLE, KEYS, MemoryCounterStore())
    client = ClientAssociation(config, security=security, keys=FixedChallenges(2))
    drive(associate(client), lambda apdu: server.handle(client_sap, apdu, 0.0) or b"")
    return client


def microseconds(action: Callable[[bytes], object], inputs: Iterable[bytes]) -> float:
    """Mean time for one input, the best of five passes through parts of them."""
    todo = list(inputs)
    part = max(1, len(todo) // 5)
    best = float("inf")
    for start in range(0, part * 5, part):
        chunk = todo[start : start + part]
        if not chunk:
            break
        begin = time.perf_counter()
        for item in chunk:
            action(item)
        best = min(best, (time.perf_counter() - begin) / len(chunk))
    return best * 1e6


def requests(server: CosemServer, client: ClientAssociation, reference: AttributeReference, count: int) -> list[bytes]:
    """Requests that are each answered once."""
    found = []
    for _ in range(count):
        found.append(client.get(reference))
        client.abandon_request()
    return found


def server_rows() -> list[Row]:
    server = meter()
    plain, ciphered = reader(server, READER), reader(server, MANAGEMENT)
    register = AttributeReference(3, ENERGY, 2)
    buffer = AttributeReference(7, PROFILE, 2)
    start, end = (octet_string(DateTime.from_utc_s(START_S + s, deviation_min=0).encode()) for s in (0, 86_400))
    by_range = AttributeReference(7, PROFILE, 2, RangeDescriptor(CLOCK, start, end))
    cases = (
        ("dlms: plain GET, server", READER, plain, register, 20_000, "aim: 5 us"),
        ("dlms: ciphered GET, server", MANAGEMENT, ciphered, register, 10_000, "aim: 25 us; suite 0, glo-"),
        ("dlms: profile 48 x 4, server", READER, plain, buffer, 2_000, "aim: 100 us; rows kept encoded"),
        ("dlms: profile 48 x 4 by range, server", READER, plain, by_range, 2_000, "every row's time is looked at"),
        ("dlms: profile 48 x 4 ciphered, server", MANAGEMENT, ciphered, buffer, 2_000, "suite 0, glo-"),
    )
    return [
        Row(name, microseconds(lambda apdu, sap=sap: server.handle(sap, apdu, 0.0), todo), "us", note)  # type: ignore[misc]
        for name, sap, client, reference, count, note in cases
        for todo in (requests(server, client, reference, count),)
    ]


def client_rows() -> list[Row]:
    """Decoding the same answers with our client's codec and with dlms-cosem's."""
    server = meter()
    plain = reader(server, READER)
    answers = {}
    for name, reference in (("GET", AttributeReference(3, ENERGY, 2)), ("profile", AttributeReference(7, PROFILE, 2))):
        answer = server.handle(READER, plain.get(reference), 0.0)
        plain.abandon_request()
        answers[name] = answer or b""
    rows = [
        Row("dlms: decode answer of GET", microseconds(decode_response, [answers["GET"]] * 10_000), "us", "ours"),
        Row("dlms: decode answer of profile", microseconds(decode_response, [answers["profile"]] * 500), "us", "ours"),
    ]
    try:
        from dlms_cosem.protocol import xdlms
        from dlms_cosem.utils import parse_as_dlms_data
    except ImportError:
        return rows

    def theirs(apdu: bytes) -> object:
        return parse_as_dlms_data(xdlms.GetResponseFactory.from_bytes(apdu).data)

    note = "dlms-cosem 21.3.2, the same bytes"
    rows.append(Row("dlms-cosem: decode answer of GET", microseconds(theirs, [answers["GET"]] * 5_000), "us", note))
    rows.append(
        Row("dlms-cosem: decode answer of profile", microseconds(theirs, [answers["profile"]] * 200), "us", note)
    )
    assert theirs(answers["GET"]) == decode(answers["GET"][4:]).plain()
    return rows


def fleet_rows() -> list[Row]:
    """1,000 meters in one process, each with an open association, answering in turn."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    servers = [meter() for _ in range(METERS)]
    for server in servers:
        reader(server, READER)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    apdu = reader(servers[0], READER).get(AttributeReference(3, ENERGY, 2))
    begin = time.perf_counter()
    for server in servers:
        server.handle(READER, apdu, 0.0)
    elapsed = time.perf_counter() - begin
    return [
        Row("dlms: 1,000 meters in turn, a plain GET", elapsed / METERS * 1e6, "us", "one association open each"),
        Row("dlms: memory of a server", (after - before) / METERS, "bytes", "with two objects; aim: 64 KiB a meter"),
    ]


def run() -> list[Row]:
    return server_rows() + client_rows() + fleet_rows()
