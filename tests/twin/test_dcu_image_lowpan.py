"""Our 6LoWPAN codec against an independent one: the 802.15.4 and 6LoWPAN stack of the guest's own kernel.

The kernel's simulated radio (mac802154_hwsim) is bridged over a serial line of the guest. What our codec compresses and
fragments, the kernel must understand and answer; what the kernel compresses and fragments, ours must read to the byte.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dcu_guest import Guest, guest_in

from protocols.mesh.checksum import append_fcs, has_valid_fcs
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ieee802154 import MacFrameType, MacHeader
from protocols.mesh.ipv6 import Ipv6Packet, Protocol, link_local
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.sixlowpan.fragmentation import is_fragment
from protocols.mesh.sixlowpan.iphc import is_iphc
from protocols.mesh.udp import UdpDatagram

PAN = 0x0A41
EUI64 = bytes.fromhex("0249484d00000077")
UDP_PORT = 0xF0B1
_MHR_BYTES, _FCS_BYTES, _PSDU_BYTES = 21, 2, 127
_PROGRAM = Path(__file__).with_name("guest_programs") / "lowpan.py"
_PATIENCE_S = 60.0


class KernelPeer:
    """The kernel behind the line. Every frame that it sends is decoded, whatever it is for."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._line = guest.machine.line("gps")
        self._rest = b""
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._sequence = 0
        self.counters: Counter[str] = Counter()
        self.adapter = LowpanAdapter(
            EUI64,
            random.Random(1),
            self.counters,
            capacity_bytes=_PSDU_BYTES - _MHR_BYTES - _FCS_BYTES,
            reassembly_timeout_s=_PATIENCE_S,
        )
        self.payloads: list[bytes] = []
        """6LoWPAN payloads of the kernel's frames, in order."""
        self.eui64 = b""
        self._line.on_data(self._received)

    def _received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.put_nowait(line.strip())

    def begin(self) -> None:
        for module in ("mac802154_hwsim", "ieee802154_6lowpan", "nhc_udp", "nhc_fragment", "nhc_ipv6"):
            self._guest.shell(f"modprobe {module}")
        self._guest.put("/tmp/lowpan.py", _PROGRAM.read_bytes())
        arguments = f"/dev/ttymxc3 {PAN:x} {EUI64.hex()} {UDP_PORT}"
        self._guest.shell(f"(python3 /tmp/lowpan.py {arguments} > /tmp/lowpan.log 2>&1 &)")
        self.eui64 = bytes.fromhex(self._guest.run(self._ready()).decode())

    async def _ready(self) -> bytes:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    line = await self._lines.get()
                    if line.startswith(b"ready "):
                        return line.removeprefix(b"ready ")
                    self._decode(line)  # the kernel looks for others with its address, and for routers
        except TimeoutError:
            log = await self._guest.machine.console.run("cat /tmp/lowpan.log")
            raise AssertionError(f"the guest's bridge does not begin: {log}") from None

    def send(self, packet: Ipv6Packet) -> list[bytes]:
        """Frames of ours; gives their 6LoWPAN payloads."""
        payloads = self.adapter.to_frames(packet, self.eui64)
        for payload in payloads:
            self._sequence = (self._sequence + 1) & 0xFF
            header = MacHeader(
                MacFrameType.DATA, self._sequence, self.eui64, EUI64, PAN, pan_id_compression=True, version=1
            )
            frame = header.encode() + payload
            assert len(frame) + _FCS_BYTES <= _PSDU_BYTES
            self._line.write(frame.hex().encode() + b"\n")
        return payloads

    def answer(self, protocol: int) -> Ipv6Packet:
        """The kernel's next packet of that protocol for us."""

        async def wait() -> Ipv6Packet:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    packet = self._decode(await self._lines.get())
                    if packet is not None and packet.protocol == protocol and packet.destination == link_local(EUI64):
                        return packet

        return self._guest.run(wait())

    def _decode(self, line: bytes) -> Ipv6Packet | None:
        psdu = bytes.fromhex(line.decode())
        assert has_valid_fcs(psdu, _FCS_BYTES)
        assert append_fcs(psdu[:-_FCS_BYTES], _FCS_BYTES) == psdu
        header, start = MacHeader.decode(psdu[:-_FCS_BYTES])
        assert header.encode() == psdu[:start]
        assert header.destination_pan == PAN or header.destination_pan == 0xFFFF
        assert header.source is not None
        payload = psdu[start:-_FCS_BYTES]
        self.payloads.append(payload)
        destination = header.destination if header.destination == EUI64 else None
        return self.adapter.from_frame(payload, header.source, destination, 0.0)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelPeer]:
    with guest_in(tmp_path_factory.mktemp("guest")) as guest:
        guest.from_snapshot()
        kernel = KernelPeer(guest)
        kernel.begin()
        yield kernel


def _sizes(payloads: list[bytes]) -> int:
    """How many of them are fragments; all others must be compressed."""
    fragments = [payload for payload in payloads if is_fragment(payload[0])]
    assert all(is_iphc(payload[0]) for payload in payloads if not is_fragment(payload[0]))
    return len(fragments)


@pytest.mark.requirement("NET-4", "NET-6", "OSI-3")
@pytest.mark.parametrize("size_bytes", [0, 1, 56, 80, 93, 94, 300, 1232])
def test_kernel_answers_the_echo_that_our_codec_built(peer: KernelPeer, size_bytes: int) -> None:
    source, destination = link_local(EUI64), link_local(peer.eui64)
    body = struct.pack(">HH", 0x4F41, size_bytes) + random.Random(size_bytes).randbytes(size_bytes)
    request = Icmpv6Message(Icmpv6Type.ECHO_REQUEST, 0, body)
    seen = len(peer.payloads)
    sent = peer.send(Ipv6Packet(source, destination, Protocol.ICMPV6, request.encode(source, destination)))
    while True:
        packet = peer.answer(Protocol.ICMPV6)
        reply = Icmpv6Message.decode(packet.payload, packet.source, packet.destination)
        if reply.type == Icmpv6Type.ECHO_REPLY:
            break
    assert packet.source == destination
    assert reply.body == body
    assert (_sizes(sent) > 1) == (size_bytes > 93)
    if not 80 < size_bytes < 120:  # the kernel begins to fragment a few bytes earlier
        assert (_sizes(peer.payloads[seen:]) > 1) == (size_bytes > 93)


@pytest.mark.requirement("NET-4", "NET-6")
@pytest.mark.parametrize("source_port", [0xF0B2, 0xF012, 4059])
@pytest.mark.parametrize("size_bytes", [0, 7, 120, 700, 1232])
def test_kernel_sends_back_datagrams_with_every_form_of_ports(
    peer: KernelPeer, source_port: int, size_bytes: int
) -> None:
    source, destination = link_local(EUI64), link_local(peer.eui64)
    payload = random.Random(size_bytes).randbytes(size_bytes)
    datagram = UdpDatagram(source_port, UDP_PORT, payload)
    seen = len(peer.payloads)
    sent = peer.send(Ipv6Packet(source, destination, Protocol.UDP, datagram.encode(source, destination)))
    packet = peer.answer(Protocol.UDP)
    assert UdpDatagram.decode(packet.payload, packet.source, packet.destination) == UdpDatagram(
        UDP_PORT, source_port, payload
    )
    assert (_sizes(sent) > 1) == (_sizes(peer.payloads[seen:]) > 1) == (size_bytes >= 120)


@pytest.mark.requirement("NET-4", "NET-6")
def test_kernel_drops_what_is_wrong_and_answers_on(peer: KernelPeer) -> None:
    source, destination = link_local(EUI64), link_local(peer.eui64)
    right = UdpDatagram(0xF0B2, UDP_PORT, b"right").encode(source, destination)
    wrong = right[:6] + bytes((right[6] ^ 0xFF,)) + right[7:]
    peer.send(Ipv6Packet(source, destination, Protocol.UDP, wrong))
    peer.send(Ipv6Packet(source, destination, Protocol.UDP, right))
    packet = peer.answer(Protocol.UDP)
    assert UdpDatagram.decode(packet.payload, packet.source, packet.destination).payload == b"right"


def test_every_frame_of_the_kernel_was_understood(peer: KernelPeer) -> None:
    """Its neighbour discovery and multicast reports among them; nothing was given up or left unfinished."""
    assert len(peer.payloads) > 30
    assert not peer.counters, peer.counters
    assert peer.adapter.next_deadline() is None
