"""LOWPAN_IPHC and NHC: both directions, every truncation, junk, the RFC's modes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_strategies import IID_A, IID_B, PREFIX, packets

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import ALL_RPL_NODES, Ipv6Packet, Protocol
from protocols.mesh.sixlowpan.addresses import Context, Contexts
from protocols.mesh.sixlowpan.iphc import compress, decompress
from protocols.mesh.udp import UdpDatagram

CONTEXTS = Contexts({0: Context.of_prefix(PREFIX), 5: Context.of_prefix(bytes.fromhex("20010db800000001"))})
LINK_LOCAL = bytes.fromhex("fe80000000000000")


def squeezed(packet: Ipv6Packet) -> bytes:
    compressed = compress(packet, IID_A, IID_B, CONTEXTS)
    assert compressed.covered_bytes + len(compressed.payload) == packet.size_bytes
    return compressed.header + compressed.payload


@given(packets())
def test_packets_come_back_as_they_were(packet: Ipv6Packet) -> None:
    assert decompress(squeezed(packet), IID_A, IID_B, CONTEXTS).encode() == packet.encode()


@given(packets(), st.data())
@settings(max_examples=60)
def test_truncated_headers_are_refused_or_differ(packet: Ipv6Packet, data: st.DataObject) -> None:
    whole = squeezed(packet)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        got = decompress(whole[:cut], IID_A, IID_B, CONTEXTS)
    except RemoteProtocolError:
        return
    assert got.encode() != packet.encode()


@given(st.binary(max_size=120), st.one_of(st.none(), st.integers(0, 2047)))
def test_junk_raises_nothing_but_remote_protocol_error(junk: bytes, size: int | None) -> None:
    for data in (junk, bytes((0x60 | junk[0] & 0x1F,)) + junk[1:] if junk else b""):
        try:
            decompress(data, IID_A, IID_B, CONTEXTS, size)
        except RemoteProtocolError:
            continue


def udp_packet(source: bytes, destination: bytes, ports: tuple[int, int] = (4059, 4059), **fields: int) -> Ipv6Packet:
    return Ipv6Packet(
        source, destination, Protocol.UDP, UdpDatagram(*ports, b"x").encode(source, destination), **fields
    )


@pytest.mark.requirement("NET-4")
@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        # RFC 6282: 011 TF NH HLIM | CID SAC SAM M DAC DAM
        (udp_packet(PREFIX + IID_A, PREFIX + IID_B), "7e77"),
        (udp_packet(LINK_LOCAL + IID_A, LINK_LOCAL + IID_B, hop_limit=255), "7f33"),
        (udp_packet(LINK_LOCAL + IID_A, ALL_RPL_NODES, hop_limit=1), "7d3b1a"),
        (udp_packet(bytes(16), ALL_RPL_NODES), "7e4b1a"),
        (udp_packet(PREFIX + IID_A, PREFIX + bytes.fromhex("000000fffe001234")), "7e761234"),
        (udp_packet(PREFIX + IID_B, PREFIX + IID_B), "7e57" + IID_B.hex()),
        (udp_packet(PREFIX + IID_A, bytes.fromhex("20010db800000001") + IID_B), "7ef705"),
        (udp_packet(PREFIX + IID_A, PREFIX + IID_B, hop_limit=63), "7c773f"),
        # Traffic class 0xb9 is DSCP 46, ECN 1: ECN goes first.
        (udp_packet(PREFIX + IID_A, PREFIX + IID_B, traffic_class=0xB9), "76776e"),
        (udp_packet(PREFIX + IID_A, PREFIX + IID_B, traffic_class=1, flow_label=0x12345), "6e77412345"),
        (udp_packet(PREFIX + IID_A, PREFIX + IID_B, traffic_class=0xB9, flow_label=0x12345), "66776e012345"),
        (udp_packet(PREFIX + IID_A, bytes.fromhex("ff0e0000000000000000001122334455")), "7e790e1122334455"),
        (udp_packet(PREFIX + IID_A, bytes.fromhex("ff0e0000000000000000000000334455")), "7e7a0e334455"),
        (udp_packet(PREFIX + IID_A, b"\xff\x3e\x00\x40" + PREFIX + b"abcd"), "7e7c3e0061626364"),
    ],
)
def test_base_header_is_as_the_rfc_says(packet: Ipv6Packet, expected: str) -> None:
    assert squeezed(packet).hex().startswith(expected)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((0xF0B1, 0xF0B2), "f312"),
        ((0xF0B1, 0x1234), "f2b11234"),
        ((0x1234, 0xF0B1), "f11234b1"),
        ((0x1234, 0x5678), "f012345678"),
    ],
)
def test_udp_ports_are_compressed_as_the_rfc_says(ports: tuple[int, int], expected: str) -> None:
    assert squeezed(udp_packet(PREFIX + IID_A, PREFIX + IID_B, ports))[2:].hex().startswith(expected)


def test_an_elided_udp_checksum_is_computed() -> None:
    packet = udp_packet(PREFIX + IID_A, PREFIX + IID_B, (0xF0B1, 0xF0B2))
    data = squeezed(packet)
    elided = data[:2] + bytes((data[2] | 4,)) + data[3:4] + data[6:]
    assert decompress(elided, IID_A, IID_B, CONTEXTS) == packet


def test_an_unknown_context_is_refused() -> None:
    data = squeezed(udp_packet(PREFIX + IID_A, PREFIX + IID_B))
    with pytest.raises(RemoteProtocolError, match="context"):
        decompress(data, IID_A, IID_B, Contexts())


def test_an_odd_context_gives_its_own_bits_first() -> None:
    context = Context(bytes.fromhex("fd0000000000000180") + bytes(7), 65)
    packet = udp_packet(PREFIX + b"\x80" + IID_A[1:], PREFIX + IID_B)
    contexts = Contexts({1: context})
    compressed = compress(packet, IID_A, IID_B, contexts)
    assert decompress(compressed.header + compressed.payload, IID_A, IID_B, contexts) == packet


def test_a_context_with_bits_beyond_its_length_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        Context(b"\xff" * 16, 64)


@pytest.mark.parametrize("dispatch", [0x00, 0x40, 0x42, 0x50, 0x80, 0xFF])
def test_other_dispatches_are_refused(dispatch: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decompress(bytes((dispatch,)) + bytes(60), IID_A, IID_B, CONTEXTS)
