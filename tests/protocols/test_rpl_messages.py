"""RPL messages, the RPL option and the source routing header: both directions, truncation, junk, RFC bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_strategies import PREFIX, rpl_options, source_routes, unicast

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import ExtensionHeader, Protocol
from protocols.mesh.rpl import lollipop
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.rpl.messages import (
    Dao,
    DaoAck,
    Dio,
    Dis,
    DodagConfiguration,
    PrefixInformation,
    Transit,
)

u8, u16, u32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
addresses = st.binary(min_size=16, max_size=16)
configurations = st.builds(DodagConfiguration, u8, u8, u8, u8, u16, u16, st.integers(1, 0xFFFF), u16, st.integers(0, 7))
prefixes = st.builds(PrefixInformation, addresses, st.integers(0, 128), st.booleans(), st.booleans(), u32, u32)
dios = st.builds(
    Dio,
    instance_id=u8,
    version=u8,
    rank=u16,
    dtsn=u8,
    dodag_id=addresses,
    grounded=st.booleans(),
    mode_of_operation=st.integers(0, 7),
    preference=st.integers(0, 7),
    etx_128=st.one_of(st.none(), u16),
    configuration=st.one_of(st.none(), configurations),
    prefix=st.one_of(st.none(), prefixes),
)
transits = st.lists(st.builds(Transit, addresses, u8, u8, u8), min_size=1, max_size=4).map(tuple)
daos = st.builds(Dao, u8, u8, addresses, transits, st.booleans(), st.one_of(st.none(), addresses))
acks = st.builds(DaoAck, u8, u8, u8, st.one_of(st.none(), addresses))
messages = st.one_of(st.just(Dis()), dios, daos, acks)
DECODERS: list[Callable[[bytes], object]] = [Dis.decode, Dio.decode, Dao.decode, DaoAck.decode]


@given(messages)
def test_messages_come_back_as_they_were(message: Dis | Dio | Dao | DaoAck) -> None:
    assert type(message).decode(message.encode()) == message


@given(messages)
def test_truncated_messages_are_refused_or_lack_an_option(message: Dis | Dio | Dao | DaoAck) -> None:
    whole = message.encode()
    for size in range(len(whole)):
        try:
            got = type(message).decode(whole[:size])
        except RemoteProtocolError:
            continue
        assert got != message


@given(st.binary(max_size=100))
def test_junk_raises_nothing_but_remote_protocol_error(junk: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(junk)
        except RemoteProtocolError:
            continue


def test_padding_and_unknown_options_are_skipped() -> None:
    dio = Dio(0, 1, 256, 2, bytes(16), etx_128=128)
    padded = dio.encode() + b"\x00" + b"\x01\x02\x00\x00" + b"\xee\x03abc"
    assert Dio.decode(padded) == dio


def test_dio_has_the_layout_of_the_rfc() -> None:
    dio = Dio(1, 2, 0x0304, 5, bytes(range(16)), etx_128=0x0140, configuration=DodagConfiguration(12, 8, 10, 60, 600))
    assert dio.encode() == (
        bytes.fromhex("01 02 0304 88 05 00 00") + bytes(range(16))
        + bytes.fromhex("02 06 07 0000 02 0140")
        + bytes.fromhex("04 0e 07 08 0c 0a 0800 0080 0001 00 3c 0258")
    )  # fmt: skip


def test_dao_has_the_layout_of_the_rfc() -> None:
    dao = Dao(1, 9, bytes(range(16)), (Transit(bytes(16), 240, 30, 0x80),))
    assert dao.encode() == (
        bytes.fromhex("01 80 00 09 05 12 00 80") + bytes(range(16)) + bytes.fromhex("06 14 00 80 f0 1e") + bytes(16)
    )


@pytest.mark.parametrize("damage", ["two targets", "no target", "no parent", "short target"])
def test_daos_that_cannot_be_used_are_refused(damage: str) -> None:
    target = bytes((5, 18, 0, 128)) + bytes(16)
    transit = Transit(bytes(16), 1, 1).encode()
    body = {
        "two targets": target + target + transit,
        "no target": transit,
        "no parent": target,
        "short target": bytes((5, 10, 0, 64)) + bytes(8) + transit,
    }[damage]
    with pytest.raises(RemoteProtocolError):
        Dao.decode(bytes(4) + body)


def test_a_dao_without_parents_is_not_made() -> None:
    with pytest.raises(LocalProtocolError):
        Dao(0, 0, bytes(16), ()).encode()


@given(rpl_options())
def test_rpl_options_come_back(option: RplOption) -> None:
    assert RplOption.decode(option.encode()) == option


def test_rpl_option_has_the_layout_of_the_rfc() -> None:
    assert RplOption(7, 0x0102, down=True, forwarding_error=True).encode().encode(17).hex() == "11006304a0070102"


@given(rpl_options(), rpl_options(), st.binary(max_size=5))
def test_an_option_is_overwritten_in_its_place(first: RplOption, second: RplOption, other: bytes) -> None:
    unknown = bytes((0x1E, len(other))) + other
    body = unknown + first.encode().body
    body += bytes(-(len(body) + 2) % 8)
    header = ExtensionHeader(Protocol.HOP_BY_HOP, body)
    written = second.write_into(header)
    assert RplOption.decode(written) == second
    assert first.write_into(written) == header


def test_an_option_that_must_be_known_stops_the_packet() -> None:
    with pytest.raises(RemoteProtocolError):
        RplOption.decode(ExtensionHeader(Protocol.HOP_BY_HOP, bytes.fromhex("c20400000000")))


@given(source_routes(), unicast)
def test_source_routes_come_back(route: SourceRoute, destination: bytes) -> None:
    assert SourceRoute.decode(route.encode(destination), destination) == route


@given(st.integers(0, 10).map(lambda n: 8 * n + 6).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
def test_junk_in_headers_raises_nothing_but_remote_protocol_error(body: bytes) -> None:
    for attempt in (body, b"\x03" + body[1:]):
        for decode in (lambda h: SourceRoute.decode(h, bytes(16)), RplOption.decode):
            try:
                decode(ExtensionHeader(Protocol.ROUTING, attempt))
            except RemoteProtocolError:
                continue


def test_source_route_has_the_layout_of_the_rfc() -> None:
    hops = tuple(PREFIX + bytes(6) + n.to_bytes(2, "big") for n in (0x0102, 0x0203))
    header = SourceRoute(2, hops).encode(PREFIX + bytes(6) + b"\x09\x09")
    # CmprI 14, CmprE 14, pad 4: two bytes of each address are left.
    assert header.encode(17).hex() == "11010302ee4000000102020300000000"


def test_a_source_route_visits_its_hops_in_order() -> None:
    first, *hops = (PREFIX + bytes((n,)) * 8 for n in (1, 2, 3, 4))
    route, destination, seen = SourceRoute(3, tuple(hops)), first, [first]
    while route.segments_left:
        route, destination = route.advance(destination)
        seen.append(destination)
    assert seen == [first, *hops]
    assert route.addresses == (first, *hops[:-1])


@pytest.mark.parametrize(
    ("a", "b", "newer"),
    [
        # RFC 6550, 7.2: 240 and 5 are 21 apart, so that 240 is a restart; 250 and 5 are 11 apart.
        (240, 5, True),
        (5, 240, False),
        (250, 5, False),
        (5, 250, True),
        (241, 240, True),
        (240, 241, False),
        (0, 127, True),
        (127, 0, False),
        (16, 0, True),
        (17, 0, False),
        (7, 7, False),
    ],
)
def test_lollipop_counters_compare_as_the_rfc_says(a: int, b: int, newer: bool) -> None:
    assert lollipop.is_newer(a, b) is newer


@given(u8)
def test_a_lollipop_counter_is_newer_than_the_one_before(value: int) -> None:
    following = lollipop.increment(value)
    assert lollipop.is_newer(following, value)
    assert not lollipop.is_newer(value, following)
