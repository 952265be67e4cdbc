"""Frames a second of the bytes codec, beside Scapy's layers doing the same work in the same run.

The frame is a UDP datagram of 32 bytes between two neighbours: 6LoWPAN in an MPX element, Wi-SUN timing, FCS.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import Row
from protocols.mesh.checksum import has_valid_fcs
from protocols.mesh.ieee802154 import MacHeader, split_body
from protocols.mesh.ipv6 import Ipv6Packet, interface_identifier
from protocols.mesh.link_security import LinkCipher
from protocols.mesh.mac_frames import Sealing, build_frame
from protocols.mesh.mac_schedule import Timing
from protocols.mesh.sixlowpan import iphc
from protocols.mesh.sixlowpan.addresses import Context, Contexts
from protocols.mesh.udp import UdpDatagram
from protocols.mesh.wisun import FrameType, HeaderElements, decode_datagram, encode_datagram
from twin.air import scapy_layers as layers

KEY = bytes(range(16))
SOURCE, DESTINATION = bytes.fromhex("0212740100010101"), bytes.fromhex("0212740100010102")
IDENTIFIERS = interface_identifier(SOURCE), interface_identifier(DESTINATION)
PREFIX = bytes.fromhex("fd00000000000001")
CONTEXTS = Contexts({0: Context.of_prefix(PREFIX)})
ADDRESSES = PREFIX + IDENTIFIERS[0], PREFIX + IDENTIFIERS[1]
PAYLOAD = bytes(range(32))
TIMING = Timing(1234, 5, 6)
SEALING = Sealing(LinkCipher(KEY), 1, 77)
LINK_KEYS = layers.LinkKeys(KEY)


def build(sealing: Sealing | None = None) -> bytes:
    """From a UDP payload to a PSDU."""
    message = UdpDatagram(4059, 4059, PAYLOAD).encode(*ADDRESSES)
    compressed = iphc.compress(Ipv6Packet(*ADDRESSES, 17, message), *IDENTIFIERS, CONTEXTS)
    elements = encode_datagram(compressed.header + compressed.payload)
    return build_frame(FrameType.DATA, SOURCE, DESTINATION, 9, 1, TIMING, elements, b"", sealing, 4)


def dissect(psdu: bytes) -> bytes:
    """From a PSDU in clear to its UDP payload, everything checked."""
    if not has_valid_fcs(psdu, 4):
        raise ValueError("FCS")
    header, body_at = MacHeader.decode(psdu[:-4])
    HeaderElements.decode(header.header_ies)
    elements, _ = split_body(header, psdu[body_at:-4])
    packet = iphc.decompress(decode_datagram(elements) or b"", *IDENTIFIERS, CONTEXTS)
    return UdpDatagram.decode(packet.payload, packet.source, packet.destination).payload


def scapy_build() -> bytes:
    """The same PSDU from Scapy's layers."""
    packet = (
        layers.Dot15d4(
            pan_id_compression=1,
            ack_request=1,
            source="02:12:74:01:00:01:01:01",
            destination="02:12:74:01:00:01:01:02",
            sequence=9,
            header_ies=[layers.WisunUTT(ufsi=1234), layers.WisunBT(broadcast_slot=5, broadcast_offset_ms=6)],
        )
        / layers.MPX()
        / layers.IPHC(tf=3, nh=1, hlim=2, sac=1, sam=3, dac=1, dam=3)
        / layers.NhcUDP(sport=4059, dport=4059, checksum=CHECKSUM)
        / PAYLOAD
    )
    return bytes(packet)


PSDU = build()
SEALED = build(SEALING)
CHECKSUM = layers.dissect(PSDU)[layers.NhcUDP].checksum


def rate(work: Callable[[], object], seconds: float = 0.5) -> float:
    """Calls a second, the best of three stretches."""
    best = 0.0
    for _ in range(3):
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds / 3:
            for _ in range(20):
                work()
            count += 20
        best = max(best, count / elapsed)
    return best


def run() -> list[Row]:
    if scapy_build() != PSDU or dissect(PSDU) != PAYLOAD:
        raise RuntimeError("the two codecs do not build the same frame")
    built, taken = rate(build), rate(lambda: dissect(PSDU))
    scapy_built, scapy_taken = rate(scapy_build), rate(lambda: layers.dissect(PSDU))
    pipeline = layers.ScapyPipeline(KEY)
    passed = rate(lambda: pipeline.process(SEALED, channel=0, sender="a", now=0.0))
    size = f"{len(PSDU)}-byte PSDU"
    return [
        Row("bytes codec builds", built, "frames/s", f"UDP payload to {size}"),
        Row("Scapy layers build", scapy_built, "frames/s", "the same frame"),
        Row("building, bytes over Scapy", built / scapy_built, "times"),
        Row("bytes codec dissects", taken, "frames/s", f"{size} to UDP payload, checksums verified"),
        Row("Scapy layers dissect", scapy_taken, "frames/s", "the same frame, checksums not verified"),
        Row("dissecting, bytes over Scapy", taken / scapy_taken, "times"),
        Row("bytes codec builds, encrypted", rate(lambda: build(SEALING)), "frames/s", "AES-CCM, level 6"),
        Row("--air scapy, one frame", passed, "frames/s", "decrypt, dissect, rebuild, encrypt"),
    ]
