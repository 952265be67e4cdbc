"""LOWPAN_IPHC header compression (RFC 6282, 3) with next-header compression (4)."""

from __future__ import annotations

from typing import NamedTuple

from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError
from protocols.mesh.ipv6 import HEADER_BYTES, ExtensionHeader, Ipv6Packet, Protocol, is_multicast
from protocols.mesh.sixlowpan import nhc
from protocols.mesh.sixlowpan.addresses import (
    CompressedAddress,
    Contexts,
    compress_multicast,
    compress_unicast,
    decompress_multicast,
    decompress_unicast,
)

SPEC = "RFC 6282"
DISPATCH_IPV6 = 0x41
"""Uncompressed IPv6 follows (RFC 4944, 5.1)."""

_DISPATCH = 0x60
_DISPATCH_MASK = 0xE0
_HOP_LIMIT_MODE = {1: 1, 64: 2, 255: 3}
_HOP_LIMITS = (0, 1, 64, 255)
_MAX_NESTING = 4


def is_iphc(dispatch: int) -> bool:
    return dispatch & _DISPATCH_MASK == _DISPATCH


class Compressed(NamedTuple):
    """A compressed datagram: `header` stands for the first `covered_bytes` of it, `payload` follows as it is."""

    header: bytes
    payload: bytes
    covered_bytes: int


def compress(packet: Ipv6Packet, source_iid: bytes, destination_iid: bytes, contexts: Contexts) -> Compressed:
    """The shortest form of `packet`.

    The interface identifiers are those of the link-layer addresses of this hop (`ipv6.interface_identifier`), or
    those of the outer header's addresses for an IPv6 packet within another.
    """
    tail, payload = _compress_tail(packet, contexts)
    covered = packet.size_bytes - len(payload)
    next_header = _first_protocol(packet)
    compressed_next = bool(tail)
    traffic_flow, inline_flow = _compress_traffic_and_flow(packet.traffic_class, packet.flow_label)
    hop_mode = _HOP_LIMIT_MODE.get(packet.hop_limit, 0)
    source = compress_unicast(packet.source, source_iid, contexts, is_source=True)
    multicast = is_multicast(packet.destination)
    if multicast:
        destination = compress_multicast(packet.destination, contexts)
    else:
        destination = compress_unicast(packet.destination, destination_iid, contexts, is_source=False)
    header = _encode_base(traffic_flow, compressed_next, hop_mode, source, destination, multicast=multicast)
    header += inline_flow
    if not compressed_next:
        header += bytes((next_header,))
    if not hop_mode:
        header += bytes((packet.hop_limit,))
    return Compressed(header + source.inline + destination.inline + tail, payload, covered)


def _encode_base(
    traffic_flow: int,
    compressed_next: bool,
    hop_mode: int,
    source: CompressedAddress,
    destination: CompressedAddress,
    *,
    multicast: bool,
) -> bytes:
    with_contexts = bool(source.context or destination.context)
    first = _DISPATCH | traffic_flow << 3 | compressed_next << 2 | hop_mode
    second = with_contexts << 7 | source.stateful << 6 | source.mode << 4
    second |= multicast << 3 | destination.stateful << 2 | destination.mode
    if with_contexts:
        return bytes((first, second, source.context << 4 | destination.context))
    return bytes((first, second))


def _compress_traffic_and_flow(traffic_class: int, flow_label: int) -> tuple[int, bytes]:
    """TF and its bytes. The class goes out as ECN, then DSCP: rotated against the IPv6 header (RFC 6282, 3.1.1)."""
    if not traffic_class and not flow_label:
        return 3, b""
    rotated = (traffic_class & 3) << 6 | traffic_class >> 2
    if not flow_label:
        return 2, bytes((rotated,))
    if not traffic_class >> 2:
        return 1, ((traffic_class & 3) << 22 | flow_label).to_bytes(3, "big")
    return 0, (rotated << 24 | flow_label).to_bytes(4, "big")


def _decompress_traffic_and_flow(reader: Reader, mode: int) -> tuple[int, int]:
    if mode == 3:
        return 0, 0
    if mode == 2:
        rotated = reader.u8()
        return (rotated & 0x3F) << 2 | rotated >> 6, 0
    if mode == 1:
        word = reader.u24()
        return word >> 22, word & 0xF_FFFF
    word = reader.u32()
    rotated = word >> 24
    return (rotated & 0x3F) << 2 | rotated >> 6, word & 0xF_FFFF


def _first_protocol(packet: Ipv6Packet) -> int:
    return packet.extensions[0].protocol if packet.extensions else packet.protocol


def _compress_tail(packet: Ipv6Packet, contexts: Contexts) -> tuple[bytes, bytes]:
    """NHC bytes of all headers after the IPv6 header, and the payload that follows them uncompressed.

    No NHC bytes mean that the first next header is carried in line. A chain can be compressed from its front only.
    """
    upper, payload = _compress_upper(packet, contexts)
    extensions = packet.extensions
    if not extensions:
        return upper, payload
    front = 0
    while front < len(extensions) and nhc.can_compress(extensions[front]):
        front += 1
    protocols = [*(extension.protocol for extension in extensions), packet.protocol]
    if front < len(extensions):
        kept = extensions[front:]
        upper = b""
        payload = b"".join(e.encode(following) for e, following in zip(kept, protocols[front + 1 :], strict=True))
        payload += packet.payload
    tail = b""
    for index in range(front):
        is_last = index == front - 1
        following_compressed = bool(upper) if is_last else True
        tail += nhc.compress_extension(extensions[index], None if following_compressed else protocols[index + 1])
    return tail + upper, payload


def _compress_upper(packet: Ipv6Packet, contexts: Contexts) -> tuple[bytes, bytes]:
    payload = packet.payload
    if packet.protocol == Protocol.UDP and len(payload) >= nhc.UDP_HEADER_BYTES:
        if int.from_bytes(payload[4:6], "big") == len(payload):
            return nhc.compress_udp_header(payload), payload[nhc.UDP_HEADER_BYTES :]
        return b"", payload
    if packet.protocol == Protocol.IPV6:
        try:
            inner = Ipv6Packet.decode(payload)
        except RemoteProtocolError:
            return b"", payload
        compressed = compress(inner, packet.source[8:], packet.destination[8:], contexts)
        return bytes((0xE0 | nhc.EID_IPV6 << 1,)) + compressed.header, compressed.payload
    return b"", payload


def decompress(
    data: bytes, source_iid: bytes, destination_iid: bytes, contexts: Contexts, datagram_bytes: int | None = None
) -> Ipv6Packet:
    """The packet that `data` (IPHC, or 0x41 and plain IPv6) stands for.

    `datagram_bytes` is the size of the whole datagram when `data` is its first fragment; the packet's payload is then
    its beginning. Raises RemoteProtocolError.
    """
    if not data:
        raise RemoteProtocolError("an empty 6LoWPAN payload", offset=0, spec=SPEC)
    if data[0] == DISPATCH_IPV6:
        return Ipv6Packet.decode(data[1:])
    reader = Reader(data, spec=SPEC)
    return _decompress_packet(reader, source_iid, destination_iid, contexts, datagram_bytes, 0)


def _decompress_packet(
    reader: Reader, source_iid: bytes, destination_iid: bytes, contexts: Contexts, size: int | None, depth: int
) -> Ipv6Packet:
    first, second = reader.u8(), reader.u8()
    if not is_iphc(first):
        raise reader.error(f"dispatch 0x{first:02x} is not known")
    context_ids = reader.u8() if second & 0x80 else 0
    traffic_class, flow_label = _decompress_traffic_and_flow(reader, first >> 3 & 3)
    next_header = None if first & 4 else reader.u8()
    hop_limit = _HOP_LIMITS[first & 3] or reader.u8()
    source = decompress_unicast(
        reader,
        stateful=bool(second & 0x40),
        mode=second >> 4 & 3,
        derived_iid=source_iid,
        context=contexts.get(context_ids >> 4),
        is_source=True,
    )
    stateful, mode, context = bool(second & 4), second & 3, contexts.get(context_ids & 15)
    if second & 8:
        destination = decompress_multicast(reader, stateful=stateful, mode=mode, context=context)
    else:
        destination = decompress_unicast(
            reader,
            stateful=stateful,
            mode=mode,
            derived_iid=destination_iid,
            context=context,
            is_source=False,
        )
    extensions, protocol, payload = _decompress_chain(reader, next_header, source, destination, contexts, size, depth)
    packet = Ipv6Packet(
        source=source,
        destination=destination,
        protocol=protocol,
        payload=payload,
        hop_limit=hop_limit,
        traffic_class=traffic_class,
        flow_label=flow_label,
        extensions=extensions,
    )
    if size is not None and packet.size_bytes > size:
        raise reader.error(f"a first fragment of {packet.size_bytes} bytes in a datagram of {size}")
    return packet


def _decompress_chain(
    reader: Reader,
    next_header: int | None,
    source: bytes,
    destination: bytes,
    contexts: Contexts,
    size: int | None,
    depth: int,
) -> tuple[tuple[ExtensionHeader, ...], int, bytes]:
    """Extension headers, upper protocol, and the upper layer's bytes."""
    extensions: tuple[ExtensionHeader, ...] = ()
    while next_header is None and nhc.is_extension(reader.peek()):
        if reader.peek() >> 1 & 7 == nhc.EID_IPV6:
            payload = _decompress_inner(reader, source, destination, contexts, _rest_size(size, extensions), depth)
            return extensions, Protocol.IPV6, payload
        extension, next_header = nhc.decompress_extension(reader)
        extensions = (*extensions, extension)
    if next_header is not None and size is not None:
        return extensions, next_header, reader.rest()
    if next_header is not None:
        # Headers carried in line may go on with the chain: read them as IPv6 does.
        return _inline_rest(extensions, next_header, reader)
    fields = nhc.decompress_udp_header(reader)
    payload = reader.rest()
    rest = _rest_size(size, extensions)
    if rest is not None and (rest < nhc.UDP_HEADER_BYTES + len(payload) or fields.checksum is None):
        raise reader.error("a first fragment is larger than its datagram, or has no checksum to carry")
    size_bytes = nhc.UDP_HEADER_BYTES + len(payload) if rest is None else rest
    if size_bytes > 0xFFFF:
        raise reader.error(f"a UDP datagram of {size_bytes} bytes")
    return extensions, Protocol.UDP, fields.build(payload, size_bytes, source, _final(destination, extensions))


def _final(destination: bytes, extensions: tuple[ExtensionHeader, ...]) -> bytes:
    """The destination that the checksum covers: the last address of a routing header with segments left."""
    for extension in extensions:
        if extension.protocol == Protocol.ROUTING and extension.body[0] == 3 and extension.body[1]:
            elided = extension.body[2] & 0x0F
            end = len(extension.body) - (extension.body[3] >> 4)
            return destination[:elided] + extension.body[end - (16 - elided) : end]
    return destination


def _rest_size(size: int | None, extensions: tuple[ExtensionHeader, ...]) -> int | None:
    if size is None:
        return None
    return size - HEADER_BYTES - sum(extension.size_bytes for extension in extensions)


def _inline_rest(
    extensions: tuple[ExtensionHeader, ...], next_header: int, reader: Reader
) -> tuple[tuple[ExtensionHeader, ...], int, bytes]:
    probe = Ipv6Packet(bytes(16), bytes(16), next_header, reader.rest())
    whole = Ipv6Packet.decode(probe.encode())
    return (*extensions, *whole.extensions), whole.protocol, whole.payload


def _decompress_inner(
    reader: Reader, source: bytes, destination: bytes, contexts: Contexts, size: int | None, depth: int
) -> bytes:
    """The bytes of an IPv6 packet compressed within another."""
    nhc_byte = reader.u8()
    if nhc_byte & 1 or depth >= _MAX_NESTING:
        raise reader.error("a tunnelled header with the NH bit set, or nested too deep")
    inner = _decompress_packet(reader, source[8:], destination[8:], contexts, size, depth + 1)
    return inner.encode(size)
