"""Hypothesis strategies and a tshark oracle for the mesh's formats."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from protocols.mesh.ipv6 import ExtensionHeader, Ipv6Packet, Protocol, interface_identifier
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.udp import UdpDatagram

PREFIX = bytes.fromhex("fd00000000000001")
LINK_A, LINK_B = bytes.fromhex("0212740000000001"), bytes.fromhex("0212740000000002")
IID_A, IID_B = interface_identifier(LINK_A), interface_identifier(LINK_B)

TSHARK = shutil.which("tshark")

short_iid = st.binary(min_size=2, max_size=2).map(lambda b: b"\x00\x00\x00\xff\xfe\x00" + b)
iids = st.one_of(st.sampled_from([IID_A, IID_B]), short_iid, st.binary(min_size=8, max_size=8))
prefixes = st.one_of(
    st.just(PREFIX), st.just(bytes.fromhex("fe80000000000000")), st.just(bytes.fromhex("20010db800000001"))
)
unicast = st.builds(lambda prefix, iid: prefix + iid, prefixes, iids)
multicast = st.one_of(
    st.builds(lambda g: b"\xff\x02" + bytes(13) + bytes((g,)), st.integers(0, 255)),
    st.builds(lambda s, g: bytes((0xFF, s)) + bytes(11) + g, st.integers(0, 255), st.binary(min_size=3, max_size=3)),
    st.builds(lambda s, g: bytes((0xFF, s)) + bytes(9) + g, st.integers(0, 255), st.binary(min_size=5, max_size=5)),
    st.builds(
        lambda h, g: b"\xff" + h + b"\x40" + PREFIX + g,
        st.binary(min_size=2, max_size=2),
        st.binary(min_size=4, max_size=4),
    ),
    st.builds(lambda b: b"\xff" + b, st.binary(min_size=15, max_size=15)),
)
ports = st.one_of(st.integers(0xF0B0, 0xF0BF), st.integers(0xF000, 0xF0FF), st.integers(1, 0xFFFF))
u16 = st.integers(0, 0xFFFF)


@st.composite
def rpl_options(draw: st.DrawFn) -> RplOption:
    return RplOption(
        draw(st.integers(0, 255)), draw(u16), draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    )


@st.composite
def source_routes(draw: st.DrawFn) -> SourceRoute:
    addresses = tuple(draw(st.lists(unicast, min_size=1, max_size=6)))
    return SourceRoute(draw(st.integers(0, len(addresses))), addresses)


@st.composite
def packets(draw: st.DrawFn, *, max_payload: int = 80) -> Ipv6Packet:
    """Packets as a mesh sees them: UDP, ICMPv6 or unknown, with extension headers, tunnelled or not."""
    source = draw(st.one_of(unicast, st.just(bytes(16))))
    destination = draw(st.one_of(unicast, multicast))
    extensions: list[ExtensionHeader] = []
    if draw(st.booleans()):
        extensions.append(draw(rpl_options()).encode())
    if draw(st.booleans()):
        body = draw(st.binary(min_size=0, max_size=14))
        option = bytes((0x1E, len(body))) + body
        missing = (6 - len(option)) % 8
        option += b"\x00" if missing == 1 else bytes((1, missing - 2)) + bytes(missing - 2) if missing else b""
        extensions.append(ExtensionHeader(Protocol.DESTINATION_OPTIONS, option))
    if draw(st.booleans()):
        route = draw(source_routes())
        extensions.append(replace(route, segments_left=0).encode(destination))
    data = draw(st.binary(max_size=max_payload))
    kind = draw(st.sampled_from(["udp", "icmp", "other", "tunnel"]))
    if kind == "udp":
        protocol: int = Protocol.UDP
        data = UdpDatagram(draw(ports), draw(ports), data).encode(source, destination)
    elif kind == "icmp":
        protocol = Protocol.ICMPV6
    elif kind == "tunnel":
        protocol = Protocol.IPV6
        inner_source, inner_destination = draw(unicast), draw(unicast)
        udp = UdpDatagram(draw(ports), draw(ports), data).encode(inner_source, inner_destination)
        data = Ipv6Packet(inner_source, inner_destination, Protocol.UDP, udp).encode()
    else:
        protocol = draw(st.sampled_from([Protocol.NO_NEXT_HEADER, 132, 255]))
    return Ipv6Packet(
        source=source,
        destination=destination,
        protocol=protocol,
        payload=data,
        hop_limit=draw(st.one_of(st.sampled_from([1, 64, 255]), st.integers(0, 255))),
        traffic_class=draw(st.one_of(st.just(0), st.integers(0, 255))),
        flow_label=draw(st.one_of(st.just(0), st.integers(0, 0xF_FFFF))),
        extensions=tuple(extensions),
    )


def dissect(folder: Path, frames: Sequence[tuple[bytes, bytes | None, bytes]], *arguments: str) -> str:
    """tshark's answer about 802.15.4 data frames (2006 format, no FCS) with these 6LoWPAN payloads.

    `frames` are sender, receiver (None: broadcast) and payload.
    """
    assert TSHARK is not None
    path = folder / "frames.pcap"
    with path.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 230))
        for index, (source, destination, payload) in enumerate(frames):
            control = 0xC841 if destination is None else 0xCC41
            to = b"\xff\xff" if destination is None else destination[::-1]
            psdu = struct.pack("<HBH", control, index & 0xFF, 0x1234) + to + source[::-1] + payload
            stream.write(struct.pack("<IIII", index, 0, len(psdu), len(psdu)) + psdu)
    command = [TSHARK, "-r", str(path), "-o", "6lowpan.context0:fd00:0:0:1::/64", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def decompressed(text: str) -> list[bytes]:
    """The last byte dump of each frame in the answer to `-x`: what tshark made of the 6LoWPAN payload."""
    dumps: list[bytes] = []
    for frame in re.split(r"(?m)^(?=Frame \(\d+ bytes\):)", text):
        sections = re.split(r"(?m)^[^\n:]*\(\d+ bytes\):\n", frame)
        if len(sections) < 2:
            continue
        lines = re.findall(r"(?m)^[0-9a-f]{4,}  ((?:[0-9a-f]{2} ?)+) ", sections[-1])
        dumps.append(bytes.fromhex("".join(lines)))
    return dumps
