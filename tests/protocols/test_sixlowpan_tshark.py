"""tshark reads what the stack writes: the same IPv6 bytes, no malformed frame, fields by name."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_strategies import IID_A, IID_B, LINK_A, LINK_B, PREFIX, TSHARK, decompressed, dissect, packets

from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import (
    ALL_MPL_FORWARDERS,
    ALL_RPL_NODES,
    LINK_MPL_FORWARDERS,
    Ipv6Packet,
    Protocol,
    link_local,
)
from protocols.mesh.mpl.messages import MplControl, MplOption, SeedInfo
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.rpl.messages import (
    Dao,
    DaoAck,
    Dio,
    Dis,
    DodagConfiguration,
    PrefixInformation,
    RplCode,
    Transit,
)
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.udp import UdpDatagram

pytestmark = [
    pytest.mark.skipif(TSHARK is None, reason="tshark is not installed"),
    pytest.mark.requirement("NET-6"),
]

ADDRESS_A, ADDRESS_B = PREFIX + IID_A, PREFIX + IID_B
CONFIGURATION = DodagConfiguration(15, 2, 0, 120, 60)


def adapter(capacity_bytes: int = 1900) -> LowpanAdapter:
    made = LowpanAdapter(LINK_A, random.Random(1), Counter(), capacity_bytes=capacity_bytes, reassembly_timeout_s=10.0)
    made.set_prefix(PREFIX)
    return made


def collected(strategy: st.SearchStrategy[Ipv6Packet], count: int) -> list[Ipv6Packet]:
    """Examples of a strategy for one run of tshark over all of them."""
    found: list[Ipv6Packet] = []

    @settings(max_examples=count, database=None, derandomize=True)
    @given(strategy)
    def collect(packet: Ipv6Packet) -> None:
        found.append(packet)

    collect()
    return found


def test_every_compressed_packet_is_decompressed_to_the_same_bytes(tmp_path: Path) -> None:
    # What follows "no next header" means nothing (RFC 8200, 4.7), and tshark leaves it away.
    samples = collected(packets().filter(lambda p: p.protocol != Protocol.NO_NEXT_HEADER or not p.payload), 300)
    frames = [(LINK_A, LINK_B, adapter().to_frames(packet, LINK_B)[0]) for packet in samples]
    answers = decompressed(dissect(tmp_path, frames, "-x"))
    assert len(answers) == len(samples)
    different = [(packet, answer) for packet, answer in zip(samples, answers, strict=True) if packet.encode() != answer]
    assert not different


def test_fragments_are_reassembled_to_the_same_bytes(tmp_path: Path) -> None:
    payload = random.Random(2).randbytes(1000)
    udp = UdpDatagram(4059, 4059, payload).encode(ADDRESS_A, ADDRESS_B)
    packet = Ipv6Packet(ADDRESS_A, ADDRESS_B, Protocol.UDP, udp)
    frames = [(LINK_A, LINK_B, frame) for frame in adapter(80).to_frames(packet, LINK_B)]
    assert len(frames) > 10
    arguments = ("-T", "fields", "-e", "6lowpan.reassembled.length", "-e", "udp.checksum.status", "-e", "data.data")
    fields = dissect(tmp_path, frames, "-o", "udp.check_checksum:TRUE", *arguments).splitlines()[-1].split("\t")
    assert fields[0] == str(packet.size_bytes)
    assert payload.hex() in fields[2]


def one(tmp_path: Path, packet: Ipv6Packet, link: bytes | None, *names: str) -> list[str]:
    """Values of the named fields of one packet; also checks that tshark finds nothing wrong."""
    frames = [(LINK_A, link, frame) for frame in adapter().to_frames(packet, link)]
    wrong = dissect(tmp_path, frames, "-Y", "_ws.malformed || _ws.expert.severity >= 6291456")
    assert not wrong, wrong
    arguments = [argument for name in names for argument in ("-e", name)]
    return (
        dissect(tmp_path, frames, "-o", "udp.check_checksum:TRUE", "-T", "fields", *arguments).rstrip("\n").split("\t")
    )


def rpl(code: RplCode, body: bytes, source: bytes, destination: bytes) -> Ipv6Packet:
    payload = Icmpv6Message(Icmpv6Type.RPL_CONTROL, code, body).encode(source, destination)
    return Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=255)


def test_dio_is_read_field_by_field(tmp_path: Path) -> None:
    dio = Dio(0, 5, 256, 3, ADDRESS_A, etx_128=160, configuration=CONFIGURATION, prefix=PrefixInformation(ADDRESS_A))
    packet = rpl(RplCode.DIO, dio.encode(), link_local(LINK_A), ALL_RPL_NODES)
    names = {
        "icmpv6.checksum.status": "1",
        "icmpv6.rpl.dio.version": "5",
        "icmpv6.rpl.dio.rank": "256",
        "icmpv6.rpl.dio.dtsn": "3",
        "icmpv6.rpl.dio.flag.g": "1",
        "icmpv6.rpl.dio.flag.mop": "0x01",
        "icmpv6.rpl.dio.dagid": "fd00::1:12:7400:0:1",
        "icmpv6.rpl.opt.metric.type": "7",
        "icmpv6.rpl.opt.metric.etx.object.etx": "160",
        "icmpv6.rpl.opt.config.interval_min": "15",
        "icmpv6.rpl.opt.config.interval_double": "2",
        "icmpv6.rpl.opt.config.min_hop_rank_inc": "128",
        "icmpv6.rpl.opt.config.ocp": "1",
        "icmpv6.rpl.opt.config.def_lifetime": "120",
        "icmpv6.rpl.opt.config.lifetime_unit": "60",
        "icmpv6.rpl.opt.prefix.length": "64",
        "icmpv6.rpl.opt.prefix": "fd00::1:12:7400:0:1",
    }
    assert dict(zip(names, one(tmp_path, packet, None, *names), strict=True)) == names


def test_dao_and_its_acknowledgement_are_read_field_by_field(tmp_path: Path) -> None:
    transits = (Transit(ADDRESS_B, 240, 120, 0x80), Transit(PREFIX + bytes(7) + b"\x09", 240, 120, 0x20))
    dao = Dao(0, 17, ADDRESS_A, transits)
    names = {
        "icmpv6.rpl.dao.sequence": "17",
        "icmpv6.rpl.dao.flag.k": "1",
        "icmpv6.rpl.opt.target.prefix_length": "128",
        "icmpv6.rpl.opt.target.prefix": "fd00::1:12:7400:0:1",
        "icmpv6.rpl.opt.transit.pathseq": "240,240",
        "icmpv6.rpl.opt.transit.pathlifetime": "120,120",
        "icmpv6.rpl.opt.transit.pathctl": "128,32",
        "icmpv6.rpl.opt.transit.parent": "fd00::1:12:7400:0:2,fd00:0:0:1::9",
        "ipv6.opt.rpl.sender_rank": "0x0002",
        "ipv6.opt.rpl.flag.o": "0",
    }
    packet = rpl(RplCode.DAO, dao.encode(), ADDRESS_A, ADDRESS_B).with_extension(RplOption(0, 2).encode())
    assert dict(zip(names, one(tmp_path, packet, LINK_B, *names), strict=True)) == names
    ack = rpl(RplCode.DAO_ACK, DaoAck(0, 17).encode(), ADDRESS_B, ADDRESS_A)
    fields = one(tmp_path, ack, LINK_B, "icmpv6.rpl.daoack.sequence", "icmpv6.rpl.daoack.status")
    assert fields == ["17", "0"]


def test_dis_is_read(tmp_path: Path) -> None:
    packet = rpl(RplCode.DIS, Dis().encode(), link_local(LINK_A), ALL_RPL_NODES)
    assert one(tmp_path, packet, None, "icmpv6.type", "icmpv6.code") == ["155", "0"]


def test_source_routes_are_read_with_their_addresses(tmp_path: Path) -> None:
    hops = tuple(PREFIX + bytes(7) + bytes((number,)) for number in (3, 4, 5))
    udp = UdpDatagram(4059, 4059, b"down").encode(ADDRESS_A, hops[-1])
    packet = Ipv6Packet(ADDRESS_A, ADDRESS_B, Protocol.UDP, udp)
    packet = packet.with_extension(SourceRoute(3, hops).encode(ADDRESS_B))
    names = {
        "ipv6.routing.type": "3",
        "ipv6.routing.segleft": "3",
        "ipv6.routing.rpl.cmprI": "9",
        "ipv6.routing.rpl.full_address": "fd00:0:0:1::3,fd00:0:0:1::4,fd00:0:0:1::5",
        "udp.checksum.status": "1",
        "udp.dstport": "4059",
    }
    assert dict(zip(names, one(tmp_path, packet, LINK_B, *names), strict=True)) == names


def test_the_mpl_option_is_read_by_name(tmp_path: Path) -> None:
    udp = UdpDatagram(4059, 4059, b"to all").encode(ADDRESS_A, ALL_MPL_FORWARDERS)
    plain = Ipv6Packet(ADDRESS_A, ALL_MPL_FORWARDERS, Protocol.UDP, udp)
    packet = plain.with_extension(MplOption(bytes(range(8)), 200, is_largest=True).encode())
    names = {
        "ipv6.opt.mpl.flag.s": "2",
        "ipv6.opt.mpl.flag.m": "1",
        "ipv6.opt.mpl.sequence": "0xc8",
        "ipv6.opt.mpl.seed_id": "0001020304050607",
        "udp.checksum.status": "1",
    }
    assert dict(zip(names, one(tmp_path, packet, None, *names), strict=True)) == names


def test_mpl_control_messages_are_read_with_their_sequences(tmp_path: Path) -> None:
    control = MplControl((SeedInfo(bytes(range(8)), 250, frozenset({250, 251, 3, 9})), SeedInfo(b"\x01" * 8, 7)))
    source = link_local(LINK_A)
    body = Icmpv6Message(Icmpv6Type.MPL_CONTROL, 0, control.encode()).encode(source, LINK_MPL_FORWARDERS)
    packet = Ipv6Packet(source, LINK_MPL_FORWARDERS, Protocol.ICMPV6, body, hop_limit=255)
    names = {
        "icmpv6.checksum.status": "1",
        "icmpv6.mpl.seed_info.min_sequence": "250,7",
        "icmpv6.mpl.seed_info.bm_len": "2,0",
        "icmpv6.mpl.seed_info.s": "2,2",
        "icmpv6.mpl.seed_info.sequence": "250,251,3,9",
    }
    assert dict(zip(names, one(tmp_path, packet, None, *names), strict=True)) == names
