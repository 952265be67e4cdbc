"""Frames of every kind that this project sends, as its codecs build them."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.mesh.icmpv6 import Echo, Icmpv6Message
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.ipv6 import ExtensionHeader, Ipv6Packet, interface_identifier, link_local
from protocols.mesh.link_security import LinkCipher
from protocols.mesh.mac_frames import Sealing, build_ack, build_frame
from protocols.mesh.mac_schedule import Timing
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.rpl.messages import Dao, DaoAck, Dio, Dis, DodagConfiguration, PrefixInformation, Transit
from protocols.mesh.sixlowpan import fragmentation, iphc
from protocols.mesh.sixlowpan.addresses import Context, Contexts
from protocols.mesh.udp import UdpDatagram
from protocols.mesh.wisun import (
    MULTIPLEX_KMP,
    BroadcastSchedule,
    FrameType,
    Multiplex,
    PanInformation,
    PayloadElements,
    UnicastSchedule,
    encode_datagram,
)

KEY = bytes(range(16))
PAN = 0x1234
PREFIX = bytes.fromhex("fd00000000000001")
CONTEXTS = Contexts({0: Context.of_prefix(PREFIX)})
NODES = tuple(bytes.fromhex(f"02127401000101{n:02x}") for n in range(1, 8))
ALL_RPL = bytes.fromhex("ff02000000000000000000000000001a")
TIMING = Timing(0x123456, 77, 321)


def address(node: bytes) -> bytes:
    return PREFIX + interface_identifier(node)


def sealed(counter: int) -> Sealing:
    return Sealing(LinkCipher(KEY), 1, counter)


def frame(
    ies: bytes,
    source: bytes = NODES[0],
    destination: bytes | None = NODES[1],
    *,
    kind: FrameType = FrameType.DATA,
    secured: bool = True,
    payload: bytes = b"",
    fcs_bytes: int = 4,
    counter: int = 7,
) -> bytes:
    sealing = sealed(counter) if secured else None
    return build_frame(kind, source, destination, 9, PAN, TIMING, ies, payload, sealing, fcs_bytes)


def lowpan(packet: Ipv6Packet, source: bytes = NODES[0], destination: bytes | None = NODES[1]) -> bytes:
    destination_iid = bytes(8) if destination is None else interface_identifier(destination)
    compressed = iphc.compress(packet, interface_identifier(source), destination_iid, CONTEXTS)
    return compressed.header + compressed.payload


def udp_packet(
    source: bytes = NODES[0],
    destination: bytes = NODES[1],
    payload: bytes = b"reading",
    *,
    ports: tuple[int, int] = (4059, 4059),
    traffic_class: int = 0,
    flow_label: int = 0,
    hop_limit: int = 64,
    extensions: tuple[ExtensionHeader, ...] = (),
) -> Ipv6Packet:
    from_address, to_address = address(source), address(destination)
    message = UdpDatagram(*ports, payload).encode(from_address, to_address)
    return Ipv6Packet(
        from_address, to_address, 17, message, hop_limit, traffic_class, flow_label, extensions=extensions
    )


def icmp_packet(source: bytes, destination: bytes, kind: int, code: int, body: bytes) -> Ipv6Packet:
    message = Icmpv6Message(kind, code, body).encode(source, destination)
    return Ipv6Packet(source, destination, 58, message, 255)


CONFIGURATION = DodagConfiguration(9, 3, 10, 120, 60)
DIO = Dio(
    0,
    240,
    256,
    1,
    address(NODES[0]),
    etx_128=200,
    configuration=CONFIGURATION,
    prefix=PrefixInformation(PREFIX + bytes(8)),
)
DAO = Dao(0, 241, address(NODES[2]), (Transit(address(NODES[1]), 240, 120),))


def rpl_frames() -> Iterator[tuple[str, bytes]]:
    here = link_local(NODES[0])
    dio = icmp_packet(here, ALL_RPL, 155, 1, DIO.encode())
    yield "dio", frame(encode_datagram(lowpan(dio, destination=None)), destination=None)
    dis = icmp_packet(here, ALL_RPL, 155, 0, Dis().encode())
    yield "dis", frame(encode_datagram(lowpan(dis, destination=None)), destination=None)
    dao = icmp_packet(address(NODES[2]), address(NODES[0]), 155, 2, DAO.encode())
    dao = dao.with_extension(RplOption(0, 256, rank_error=True).encode())
    yield "dao", frame(encode_datagram(lowpan(dao, NODES[2], NODES[1])), NODES[2], NODES[1])
    ack = icmp_packet(address(NODES[0]), address(NODES[1]), 155, 3, DaoAck(0, 241, dodag_id=address(NODES[0])).encode())
    yield "dao-ack", frame(encode_datagram(lowpan(ack)))


def udp_frames() -> Iterator[tuple[str, bytes]]:
    yield "udp", frame(encode_datagram(lowpan(udp_packet())))
    yield "udp-clear", frame(encode_datagram(lowpan(udp_packet())), secured=False)
    yield "udp-short-fcs", frame(encode_datagram(lowpan(udp_packet(payload=b"x" * 20))), fcs_bytes=2)
    classed = udp_packet(ports=(0xF0B1, 0xF0B2), traffic_class=0xB9, flow_label=0x12345, hop_limit=63)
    yield "udp-class", frame(encode_datagram(lowpan(classed)))
    yield "udp-class-only", frame(encode_datagram(lowpan(udp_packet(ports=(0xF012, 5), traffic_class=0x2E))))
    yield "udp-flow", frame(encode_datagram(lowpan(udp_packet(ports=(5, 0xF013), flow_label=9, traffic_class=1))))
    upward = udp_packet(NODES[3], NODES[0], extensions=(RplOption(0, 512).encode(),))
    yield "udp-rpi", frame(encode_datagram(lowpan(upward, NODES[3], NODES[2])), NODES[3], NODES[2])
    route = SourceRoute(2, (address(NODES[2]), address(NODES[3]))).encode(address(NODES[1]))
    downward = udp_packet(NODES[0], NODES[1], extensions=(route,))
    yield "udp-srh", frame(encode_datagram(lowpan(downward)))


def frames() -> dict[str, bytes]:
    """Every kind of frame by name; secured ones with `KEY` at index 1."""
    found = dict(udp_frames()) | dict(rpl_frames())
    echo = icmp_packet(address(NODES[0]), address(NODES[1]), 128, 0, Echo(7, 1, b"ping").encode())
    found["echo"] = frame(encode_datagram(lowpan(echo)))
    big = udp_packet(payload=bytes(range(256)) * 2)
    compressed = iphc.compress(big, interface_identifier(NODES[0]), interface_identifier(NODES[1]), CONTEXTS)
    for n, piece in enumerate(fragmentation.fragment(compressed, 0x1234, 80) or ()):
        found[f"fragment-{n}"] = frame(encode_datagram(piece), fcs_bytes=2, counter=100 + n)
    schedule = UnicastSchedule(channel_function=2)
    pa = PayloadElements(schedule, None, PanInformation(12, 300), "village")
    found["pas"] = frame(
        PayloadElements(schedule, network_name="village").encode(), destination=None, kind=FrameType.PAS, secured=False
    )
    found["pa"] = frame(pa.encode(), destination=None, kind=FrameType.PA, secured=False)
    pc = PayloadElements(schedule, BroadcastSchedule(), pan_version=3, gtk_hashes=(bytes(8), *[b"\x55" * 8] * 3))
    found["pc"] = frame(pc.encode(), destination=None, kind=FrameType.PC)
    found["pcs"] = frame(
        PayloadElements(UnicastSchedule(), network_name="village").encode(),
        destination=None,
        kind=FrameType.PCS,
        secured=False,
    )
    eapol = PayloadElements(multiplex=Multiplex(MULTIPLEX_KMP, bytes.fromhex("03000005012a000501"), 1)).encode()
    found["eapol"] = frame(eapol, kind=FrameType.EAPOL, secured=False)
    found["tail"] = frame(encode_datagram(lowpan(udp_packet())), payload=b"behind the elements")
    header, _ = MacHeader.decode(found["udp"][:-4])
    found["ack"] = build_ack(NODES[1], header, TIMING, -80, sealed(55), 4)
    return found
