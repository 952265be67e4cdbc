"""The network behind the guest's interface: IPv4 packets, and a grandmaster that the daemon's PTP slave finds there."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import images.agent.build
from dcu.discipline import TimeSample
from dcu.ptp import PtpSlave
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.udp import UdpDatagram
from twin.backhaul.ptp import Grandmaster, PtpLine
from twin.clock.clocks import VirtualClock
from twin.rigs.lockstep.network import GRANDMASTER, HEADER_BYTES, PROTOCOL_UDP, Ipv4Packet, NetworkChannel
from twin.rigs.lockstep.protocol import Channel, Event, Record

GUEST = "10.0.4.15"
HERE, THERE = (ipaddress.IPv4Address(text).packed for text in (GUEST, GRANDMASTER))
SLAVE = bytes(range(8))
EVENT_PORT, GENERAL_PORT = 319, 320
DELAY_S = 0.002
ADDRESSES = st.binary(min_size=4, max_size=4)
PACKETS = st.builds(Ipv4Packet, ADDRESSES, ADDRESSES, st.integers(0, 255), st.binary(max_size=60))


class Guest:
    """The guest's end: an IP stack as small as can be, under the slave's two ports. Keeps the packets that it is sent.

    A datagram counts as heard at the port that it was sent to: `heard` says which, message by message.
    """

    def __init__(self, destination: bytes = THERE, *, has_grandmaster: bool = True) -> None:
        self.clock = VirtualClock(datetime(2026, 3, 2, 8, tzinfo=UTC))
        self.master = Grandmaster(self.clock)
        line = PtpLine(self.clock, self.master, random.Random(1), delay_s=DELAY_S, jitter_s=0.0)
        self.channel = NetworkChannel(line if has_grandmaster else None, self._received)
        self.packets: list[bytes] = []
        self.heard: list[tuple[int, int]] = []
        self.samples: list[TimeSample] = []
        self._destination = destination
        self._slave: Callable[[bytes], None] = lambda data: None

    def send(self, data: bytes, *, is_event: bool) -> None:
        port = EVENT_PORT if is_event else GENERAL_PORT
        datagram = UdpDatagram(port, port, data).encode(HERE, self._destination)
        packet = Ipv4Packet(HERE, self._destination, PROTOCOL_UDP, datagram).encode()
        self.channel.received(Record(Channel.NETWORK, Event.DATA, 0, packet))

    def on_datagram(self, callback: Callable[[bytes], None]) -> None:
        self._slave = callback

    def _received(self, record: Record) -> None:
        assert (record.channel, record.event) == (Channel.NETWORK, Event.DATA)
        self.packets.append(record.data)
        packet = Ipv4Packet.decode(record.data)
        assert (packet.source, packet.destination) == (THERE, HERE)
        datagram = UdpDatagram.decode(packet.payload, packet.source, packet.destination)
        self.heard.append((datagram.payload[0] & 0xF, datagram.destination_port))
        self._slave(datagram.payload)

    def follow(self, seconds: float) -> Guest:
        """Let a slave ask for service, and follow it."""
        slave = PtpSlave(
            self, SLAVE, timers=self.clock.timers, oscillator_s=self.clock.now, on_sample=self.samples.append,
            on_leap=lambda at, step: None,
        )  # fmt: skip

        async def main() -> None:
            slave.start()
            await asyncio.sleep(seconds)
            slave.stop()
            self.master.stop()

        self.clock.run(main())
        return self


@given(PACKETS)
def test_every_packet_comes_back_as_it_was(packet: Ipv4Packet) -> None:
    assert Ipv4Packet.decode(packet.encode()) == packet


@given(PACKETS, st.integers(0, HEADER_BYTES * 8 - 1))
def test_truncations_bytes_too_many_and_flipped_bits_of_the_header_are_refused(packet: Ipv4Packet, bit: int) -> None:
    whole = packet.encode()
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"\0", bytes(flipped)):
        with pytest.raises(RemoteProtocolError):
            Ipv4Packet.decode(data)


@given(st.binary(max_size=80))
def test_junk_raises_nothing_else_and_is_not_answered(junk: bytes) -> None:
    guest = Guest()
    for data in (junk, Ipv4Packet(HERE, THERE, PROTOCOL_UDP, junk).encode(), Ipv4Packet(HERE, THERE, 1, junk).encode()):
        guest.channel.received(Record(Channel.NETWORK, Event.DATA, 0, data))
    guest.clock.run(asyncio.sleep(1.0))
    assert guest.packets == []


def test_a_fragment_is_refused_and_a_packet_that_is_too_long_is_not_made() -> None:
    head = bytearray(Ipv4Packet(HERE, THERE, PROTOCOL_UDP, b"half").encode())
    head[6] |= 0x20
    head[10:12] = b"\0\0"
    head[10:12] = (0xFFFF - int.from_bytes(head[:HEADER_BYTES], "big") % 0xFFFF).to_bytes(2, "big")
    with pytest.raises(RemoteProtocolError, match="fragment"):
        Ipv4Packet.decode(bytes(head))
    with pytest.raises(LocalProtocolError, match="65536 bytes"):
        Ipv4Packet(HERE, THERE, PROTOCOL_UDP, bytes(0x10000 - HEADER_BYTES)).encode()


@pytest.mark.requirement("UC-VI.1")
def test_the_daemon_s_slave_finds_the_grandmaster_behind_the_interface() -> None:
    guest = Guest().follow(30.0)
    assert len(guest.samples) >= 25
    zero_s = guest.clock.utc_s() - guest.clock.now()
    assert max(abs(sample.utc_s - sample.at_s - zero_s) for sample in guest.samples) < 1e-6
    ports = {kind: {port for found, port in guest.heard if found == kind} for kind, _ in guest.heard}
    # Sync; Follow_Up, Delay_Resp, Announce, Signaling: IEEE 1588's event and general ports.
    assert ports == {0x0: {319}, 0x8: {320}, 0x9: {320}, 0xB: {320}, 0xC: {320}}


def test_nobody_else_answers_on_that_network_and_without_a_grandmaster_nobody_at_all() -> None:
    assert Guest(ipaddress.IPv4Address("10.0.4.3").packed).follow(30.0).packets == []
    assert Guest(has_grandmaster=False).follow(30.0).packets == []


def test_the_agent_s_interface_is_on_the_grandmaster_s_network() -> None:
    text = (images.agent.build.SOURCES / "network.c").read_text(encoding="utf-8")
    address, mask = (re.search(rf'#define {name} "(.*)"', text) for name in ("ADDRESS", "NETWORK_MASK"))
    assert address is not None
    assert mask is not None
    interface = ipaddress.IPv4Interface(f"{address[1]}/{mask[1]}")
    assert str(interface.ip) == GUEST
    assert ipaddress.IPv4Address(GRANDMASTER) in interface.network


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: nobody else looked at our bytes")
def test_tshark_finds_addresses_ports_and_both_checksums_right(tmp_path: Path) -> None:
    packet = Guest().follow(1.0).packets[0]
    capture = tmp_path / "network.pcap"
    record = struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + record)
    names = ("ip.src", "ip.dst", "ip.checksum.status", "udp.srcport", "udp.dstport", "udp.checksum.status")
    options = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "json")
    fields = [word for name in (*names, "ptp.v2.messagetype") for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(capture), *options, *fields], capture_output=True, text=True, check=True, timeout=60
    )
    (found,) = json.loads(done.stdout)
    layers = found["_source"]["layers"]
    assert [layers[name][0] for name in names] == [GRANDMASTER, GUEST, "1", "320", "320", "1"]
    assert int(layers["ptp.v2.messagetype"][0], 0) == 0xB  # Announce
