"""IPv6, UDP and ICMPv6: both directions, checksums, truncation, junk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_strategies import packets

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.icmpv6 import Echo, ErrorBody, Icmpv6Message
from protocols.mesh.ipv6 import (
    ExtensionHeader,
    Ipv6Packet,
    Protocol,
    address_bytes,
    address_text,
    checksum_is_right,
    eui64_of,
    interface_identifier,
    link_local,
    upper_layer_checksum,
)
from protocols.mesh.udp import UdpDatagram

addresses = st.binary(min_size=16, max_size=16)
ports = st.integers(0, 0xFFFF)


@given(packets())
def test_packets_come_back_as_they_were(packet: Ipv6Packet) -> None:
    assert Ipv6Packet.decode(packet.encode()) == packet


@given(packets(), st.data())
def test_truncated_packets_are_refused(packet: Ipv6Packet, data: st.DataObject) -> None:
    whole = packet.encode()
    with pytest.raises(RemoteProtocolError):
        Ipv6Packet.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(RemoteProtocolError):
        Ipv6Packet.decode(whole + b"\x00")


@given(st.binary(max_size=120), st.integers(0, 255))
def test_junk_raises_nothing_but_remote_protocol_error(junk: bytes, protocol: int) -> None:
    framed = Ipv6Packet(bytes(16), bytes(16), protocol, junk).encode()
    for data in (junk, framed):
        for decode in (
            Ipv6Packet.decode,
            lambda d: UdpDatagram.decode(d, bytes(16), bytes(16)),
            lambda d: Icmpv6Message.decode(d, bytes(16), bytes(16)),
            Echo.decode,
            ErrorBody.decode,
        ):
            try:
                decode(data)
            except RemoteProtocolError:
                continue


def reference_checksum(data: bytes) -> int:
    """RFC 1071 word by word."""
    total = 0
    for index in range(0, len(data), 2):
        total += int.from_bytes(data[index : index + 2].ljust(2, b"\x00"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(addresses, addresses, st.integers(0, 255), st.binary(max_size=80))
def test_the_checksum_is_the_one_of_rfc_1071(source: bytes, destination: bytes, protocol: int, message: bytes) -> None:
    pseudo = source + destination + len(message).to_bytes(4, "big") + bytes(3) + bytes((protocol,))
    expected = reference_checksum(pseudo + message)
    # Zero has two representations in one's complement; all-zero input is the one case where they differ.
    assert upper_layer_checksum(source, destination, protocol, message) % 0xFFFF == expected % 0xFFFF


@given(addresses, addresses, ports, ports, st.binary(max_size=60))
def test_udp_comes_back_and_any_flipped_bit_is_noticed(
    source: bytes, destination: bytes, source_port: int, destination_port: int, payload: bytes
) -> None:
    datagram = UdpDatagram(source_port, destination_port, payload)
    data = datagram.encode(source, destination)
    assert UdpDatagram.decode(data, source, destination) == datagram
    for bit in range(0, len(data) * 8, 7):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            UdpDatagram.decode(bytes(flipped), source, destination)


def test_a_udp_checksum_of_zero_goes_out_as_its_twin() -> None:
    for port in range(0x10000):
        data = UdpDatagram(port, 0, b"").encode(bytes(15) + b"\x01", bytes(15) + b"\x02")
        assert data[6:8] != b"\x00\x00"


def test_udp_without_a_checksum_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="checksum"):
        UdpDatagram.decode(bytes.fromhex("0fdb0fdb00080000"), bytes(16), bytes(16))


@pytest.mark.parametrize(
    "datagram", [UdpDatagram(-1, 1, b""), UdpDatagram(1, 65536, b""), UdpDatagram(1, 1, bytes(65528))]
)
def test_udp_that_does_not_fit_is_not_made(datagram: UdpDatagram) -> None:
    with pytest.raises(LocalProtocolError):
        datagram.encode(bytes(16), bytes(16))


@given(addresses, addresses, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
def test_icmpv6_comes_back(source: bytes, destination: bytes, kind: int, code: int, body: bytes) -> None:
    message = Icmpv6Message(kind, code, body)
    data = message.encode(source, destination)
    assert checksum_is_right(source, destination, Protocol.ICMPV6, data)
    assert Icmpv6Message.decode(data, source, destination) == message


@given(ports, ports, st.binary(max_size=60))
def test_echo_comes_back(identifier: int, sequence: int, payload: bytes) -> None:
    echo = Echo(identifier, sequence, payload)
    assert Echo.decode(echo.encode()) == echo


def test_an_error_quotes_no_more_than_the_minimum_mtu_allows() -> None:
    assert len(ErrorBody(0, bytes(2000)).encode()) + 44 == 1280


def test_hop_by_hop_options_must_be_first() -> None:
    options = ExtensionHeader(Protocol.DESTINATION_OPTIONS, bytes((1, 4, 0, 0, 0, 0)))
    late = ExtensionHeader(Protocol.HOP_BY_HOP, bytes((1, 4, 0, 0, 0, 0)))
    packet = Ipv6Packet(bytes(16), bytes(16), Protocol.NO_NEXT_HEADER, b"", extensions=(options, late))
    with pytest.raises(RemoteProtocolError, match="first"):
        Ipv6Packet.decode(packet.encode())


def test_addresses_come_from_eui_64s_and_back() -> None:
    eui64 = bytes.fromhex("0212740001000101")
    assert address_text(link_local(eui64)) == "fe80::12:7400:100:101"
    assert eui64_of(address_bytes("fe80::12:7400:100:101")) == eui64
    assert interface_identifier(b"\x12\x34").hex() == "000000fffe001234"
    with pytest.raises(LocalProtocolError):
        interface_identifier(b"123")
