"""Scapy layers: whatever the codecs build comes apart and together again, and tshark reads the same in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scapy")

import air_frames
from air_frames import CONTEXTS, KEY, NODES, PREFIX, address, encode_datagram, frame, lowpan, udp_packet

from protocols.mesh.checksum import append_fcs
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.ipv6 import Ipv6Packet, address_text, interface_identifier
from protocols.mesh.sixlowpan import iphc
from protocols.mesh.udp import UdpDatagram
from protocols.mesh.wisun import decode_datagram
from twin.air import scapy_layers as layers
from twin.air.capture import CaptureWriter

FRAMES = air_frames.frames()
KEYS = layers.LinkKeys(KEY)
PREFIXES = {0: PREFIX}

EXPECTED: dict[str, tuple[type[Any], ...]] = {
    "udp": (layers.Dot15d4Clear, layers.MPX, layers.IPHC, layers.NhcUDP),
    "udp-clear": (layers.Dot15d4, layers.MPX, layers.IPHC, layers.NhcUDP),
    "udp-rpi": (layers.IPHC, layers.NhcHopByHop, layers.RPI, layers.NhcUDP),
    "udp-srh": (layers.IPHC, layers.NhcRouting, layers.NhcUDP),
    "dio": (layers.ICMPv6, layers.RplDIO, layers.RplDodagConfiguration, layers.RplPrefix, layers.RplOption),
    "dis": (layers.RplDIS,),
    "dao": (layers.NhcHopByHop, layers.RPI, layers.RplDAO, layers.RplTarget, layers.RplTransit),
    "dao-ack": (layers.RplDAOACK,),
    "echo": (layers.Echo,),
    "fragment-0": (layers.Frag1, layers.IPHC, layers.NhcUDP),
    "fragment-1": (layers.FragN,),
    "pa": (layers.WisunUTT, layers.WisunUS, layers.WisunPAN, layers.WisunNETNAME),
    "pc": (layers.WisunBT, layers.WisunBS, layers.WisunPANVER, layers.WisunGTKHASH),
    "eapol": (layers.MPX,),
    "ack": (layers.WisunUTT, layers.WisunRSL),
    "tail": (layers.PayloadIE, layers.PayloadTermination),
}


def rebuilt(psdu: bytes, keys: layers.LinkKeys = KEYS) -> bytes:
    packet = layers.open_frame(psdu, keys)
    packet.clear_cache()
    return layers.seal_frame(packet, keys)


@pytest.mark.parametrize("name", FRAMES)
def test_frame_comes_apart_and_together_as_the_same_bytes(name: str) -> None:
    psdu = FRAMES[name]
    assert rebuilt(psdu) == psdu
    assert rebuilt(psdu, layers.LinkKeys()) == psdu
    packet = layers.open_frame(psdu, KEYS)
    for layer in EXPECTED.get(name, ()):
        assert packet.haslayer(layer), packet.show(dump=True)


def test_no_frame_of_the_codecs_is_left_raw() -> None:
    for name, psdu in FRAMES.items():
        packet = layers.open_frame(psdu, KEYS)
        assert isinstance(packet, layers.Dot15d4), name
        assert not packet.haslayer(layers.Ciphertext), name
        assert packet.fcs is None, name


low_ports, byte_ports, nibble_ports = st.integers(0, 0xEFFF), st.integers(0xF000, 0xF0FF), st.integers(0xF0B0, 0xF0BF)
port_pairs = st.one_of(
    st.tuples(low_ports, low_ports),
    st.tuples(low_ports, byte_ports),
    st.tuples(byte_ports, low_ports),
    st.tuples(nibble_ports, nibble_ports),
)


@settings(max_examples=60, deadline=None)
@given(
    port_pairs,
    st.integers(0, 255),
    st.one_of(st.just(0), st.integers(0, 0xF_FFFF)),
    st.integers(0, 255),
    st.binary(max_size=60),
    st.booleans(),
)
def test_any_udp_packet_round_trips_and_reads_right(
    port_pair: tuple[int, int], traffic_class: int, flow_label: int, hop_limit: int, payload: bytes, secured: bool
) -> None:
    packet = udp_packet(
        payload=payload, ports=port_pair, traffic_class=traffic_class, flow_label=flow_label, hop_limit=hop_limit
    )
    psdu = frame(encode_datagram(lowpan(packet)), secured=secured)
    assert rebuilt(psdu) == psdu
    opened = layers.open_frame(psdu, KEYS)
    assert (opened[layers.NhcUDP].sport, opened[layers.NhcUDP].dport) == port_pair
    assert opened[layers.IPHC].traffic_class == traffic_class
    assert opened[layers.IPHC].hop_limit == hop_limit
    whole = layers.to_ipv6(opened, PREFIXES)
    assert whole is not None
    assert bytes(whole) == packet.encode()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_damaged_frames_are_shown_and_pass_unchanged(name: str, data: st.DataObject) -> None:
    content = bytearray(FRAMES[name][:-4])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    psdu = append_fcs(bytes(content[:end]), 4)
    (emission,) = layers.ScapyPipeline(KEY).process(psdu, channel=0, sender="a", now=0.0)
    assert emission.psdu == psdu
    layers.dissect(psdu).show(dump=True)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_junk_passes_unchanged(junk: bytes, with_fcs: bool) -> None:
    psdu = append_fcs(junk, 4) if with_fcs else junk
    (emission,) = layers.ScapyPipeline(KEY).process(psdu, channel=0, sender="a", now=0.0)
    assert emission.psdu == psdu


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_junk_behind_a_good_link_header_round_trips(junk: bytes) -> None:
    psdu = frame(encode_datagram(junk))
    pipeline = layers.ScapyPipeline(KEY)
    (emission,) = pipeline.process(psdu, channel=0, sender="a", now=0.0)
    assert emission.psdu == psdu


def test_wrong_key_leaves_ciphertext() -> None:
    packet = layers.open_frame(FRAMES["udp"], layers.LinkKeys(bytes(16)))
    assert packet.haslayer(layers.Ciphertext)
    assert not packet.haslayer(layers.MPX)


def test_keys_are_not_shown() -> None:
    assert KEY.hex() not in repr(KEYS) + repr(vars(layers.ScapyPipeline(KEY)).keys())


def test_hand_made_frame_is_understood_by_the_codecs() -> None:
    datagram = udp_packet(payload=b"by hand")
    source, destination = NODES[0].hex(":"), NODES[1].hex(":")
    packet = (
        layers.Dot15d4(
            source=source,
            destination=destination,
            destination_pan=air_frames.PAN,
            sequence=3,
            ack_request=1,
            header_ies=[layers.WisunUTT(ufsi=5)],
        )
        / layers.MPX()
        / layers.from_ipv6(datagram.encode(), source, destination, PREFIXES)
    )
    psdu = bytes(packet)
    header, body_at = MacHeader.decode(psdu[:-4])
    assert (header.source, header.destination, header.sequence, header.ack_request) == (NODES[0], NODES[1], 3, True)
    carried = decode_datagram(psdu[body_at:-4])
    assert carried is not None
    identifiers = interface_identifier(NODES[0]), interface_identifier(NODES[1])
    assert iphc.decompress(carried, *identifiers, CONTEXTS) == datagram


def test_hand_made_secured_frame_opens() -> None:
    packet = layers.Dot15d4Clear(
        source=NODES[0].hex(":"), destination=NODES[1].hex(":"), destination_pan=1, sequence=3, security=1
    )
    packet = packet / layers.MPX() / layers.IPHC(nh=0, next_header=58) / layers.ICMPv6() / layers.RplDIS()
    opened = layers.open_frame(layers.seal_frame(packet, KEYS), KEYS)
    assert opened.haslayer(layers.RplDIS)


def test_segments_of_the_source_route_are_whole_addresses() -> None:
    packet = layers.open_frame(FRAMES["udp-srh"], KEYS)
    addresses = layers.ipv6_addresses(packet, PREFIXES)
    assert addresses is not None
    assert packet[layers.NhcRouting].segments_left == 2
    assert layers.segments(packet, addresses[1]) == [address_text(address(node)) for node in NODES[2:4]]


@pytest.mark.parametrize("name", ["udp", "udp-rpi", "echo", "dao"])
def test_recomputed_checksum_is_the_one_that_was_there(name: str) -> None:
    packet = layers.open_frame(FRAMES[name], KEYS)
    layer = packet.getlayer(layers.NhcUDP) or packet.getlayer(layers.ICMPv6)
    before, layer.checksum = layer.checksum, 0
    layers.recompute_checksum(packet, PREFIXES)
    assert layer.checksum == before


def test_edited_payload_with_new_checksum_is_a_good_datagram() -> None:
    packet = layers.open_frame(FRAMES["udp"], KEYS)
    packet[layers.NhcUDP].payload.load = b"altered reading"
    del packet[layers.MPX].length
    layers.recompute_checksum(packet, PREFIXES)
    whole = layers.to_ipv6(packet, PREFIXES)
    assert whole is not None
    decoded = Ipv6Packet.decode(bytes(whole))
    assert UdpDatagram.decode(decoded.payload, decoded.source, decoded.destination).payload == b"altered reading"


# tshark decides


def tshark(tmp_path: Path, psdus: list[bytes], fields: list[str]) -> list[list[str]]:
    path = tmp_path / "frames.pcap"
    with path.open("wb") as stream:
        writer = CaptureWriter(stream)
        for n, psdu in enumerate(psdus):
            fcs_bytes = layers.dissect(psdu).fcs_bytes
            writer.write(float(n), psdu, rss_dbm=0, channel=0, lqi=255, fcs_bytes=fcs_bytes)
    context = PREFIX.hex(":", 2)
    command = ["tshark", "-r", str(path), "-o", f'uat:ieee802154_keys:"{KEY.hex()}","1","No hash"']
    command += ["-o", f"6lowpan.context0:{context}::/64", "-T", "fields"]
    for name in ("_ws.malformed", *fields):
        command += ["-e", name]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in result.stdout.splitlines()]


needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


@needs_tshark
@pytest.mark.requirement("NET-6")
def test_tshark_reads_the_same_values(tmp_path: Path) -> None:
    checks: dict[str, Callable[[Any], object]] = {
        "wpan.seq_no": lambda p: p.sequence,
        "ipv6.tclass": lambda p: p[layers.IPHC].traffic_class if layers.IPHC in p else None,
        "ipv6.hlim": lambda p: p[layers.IPHC].hop_limit if layers.IPHC in p else None,
        "udp.srcport": lambda p: p[layers.NhcUDP].sport if layers.NhcUDP in p else None,
        "udp.dstport": lambda p: p[layers.NhcUDP].dport if layers.NhcUDP in p else None,
        "ipv6.opt.rpl.sender_rank": lambda p: p[layers.RPI].sender_rank if layers.RPI in p else None,
        "ipv6.routing.segleft": lambda p: p[layers.NhcRouting].segments_left if layers.NhcRouting in p else None,
        "icmpv6.rpl.dio.rank": lambda p: p[layers.RplDIO].rank if layers.RplDIO in p else None,
        "icmpv6.rpl.dao.sequence": lambda p: p[layers.RplDAO].sequence if layers.RplDAO in p else None,
        "wisun.uttie.ufsi": lambda p: p[layers.WisunUTT].ufsi if layers.WisunUTT in p else None,
        "wisun.panie.size": lambda p: p[layers.WisunPAN].pan_size if layers.WisunPAN in p else None,
        "wisun.panverie.version": lambda p: p[layers.WisunPANVER].pan_version if layers.WisunPANVER in p else None,
    }
    names = [name for name in FRAMES if not name.startswith("fragment") and name != "tail"]
    rows = tshark(tmp_path, [FRAMES[name] for name in names], list(checks))
    seen = dict.fromkeys(checks, 0)
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        assert row[0] == "", f"{name}: malformed"
        packet = layers.open_frame(FRAMES[name], KEYS)
        for (field, read), value in zip(checks.items(), row[1:], strict=True):
            if value:
                seen[field] += 1
                assert int(value.split(",")[0], 0) == read(packet), f"{name}: {field}"
    assert all(seen.values()), seen


@needs_tshark
def test_tshark_reads_hand_made_frames(tmp_path: Path) -> None:
    link = {"source": NODES[0].hex(":"), "destination": NODES[1].hex(":"), "destination_pan": 5}
    mpl = layers.MPLOption(s=1, m=1, sequence=9, seed_id="0102")
    head = layers.Dot15d4(sequence=1, **link) / layers.MPX()
    frames = [
        head / layers.IPHC(nh=1) / layers.NhcHopByHop(nh=1, options=[mpl]) / layers.NhcUDP(sport=1, dport=2) / b"x",
        head / layers.IPHC(tf=0, ecn=1, dscp=46, nh=1) / layers.NhcUDP(port_mode=3, sport=0xF0B1, dport=0xF0B2) / b"x",
        head / layers.UncompressedIPv6() / layers.IPv6(traffic_class=0xB9, next_header=17) / layers.UDP(sport=7) / b"x",
    ]
    rows = tshark(
        tmp_path, [bytes(packet) for packet in frames], ["ipv6.opt.mpl.sequence", "ipv6.tclass", "udp.srcport"]
    )
    assert [row[0] for row in rows] == ["", "", ""]
    assert int(rows[0][1], 0) == 9
    assert [int(row[2], 0) for row in rows] == [0, 0xB9, 0xB9]
    assert [row[3] for row in rows] == ["1", str(0xF0B1), "7"]
