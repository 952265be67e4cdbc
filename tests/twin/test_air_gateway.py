"""Ways into the air from outside: ZEP as other tools read it, `twin air` as a process with peers on sockets."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.mesh.checksum import append_fcs
from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.rcp.codes import Status
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import (
    Configure,
    HostMessage,
    RadioMessage,
    Ready,
    Received,
    Reset,
    Transmit,
    TransmitDone,
    decode_radio_message,
)
from twin.air.capture import read_capture
from twin.air.gateway.zep import HEADER_BYTES, ZEP_PORT, ZepData, ntp_time
from twin.air.gateway.zep_radio import ZepRadio
from twin.air.medium import Medium
from twin.air.obstacles import Position
from twin.air.propagation import UnitDisc
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop
from twin.rigs.provisioning import meter_eui64

WAIT_S = 20.0
SHORT_A, SHORT_B = b"\x0a\x00", b"\x0b\x00"
frames = st.builds(
    ZepData,
    psdu=st.binary(min_size=1, max_size=127),
    channel=st.integers(0, 255),
    device=st.integers(0, 0xFFFF),
    lqi=st.integers(0, 255),
    ntp_time=st.integers(0, 2**64 - 1),
    sequence=st.integers(0, 2**32 - 1),
    crc_mode=st.integers(0, 255),
)


def data_frame(destination: bytes, source: bytes, sequence: int, payload: bytes, *, ack: bool = True) -> bytes:
    """A frame of version 1 with short addresses, as small firmware sends it. Addresses in the order of the air."""
    control = 0x9841 | (0x20 if ack else 0)
    head = control.to_bytes(2, "little") + bytes((sequence,)) + b"\x34\x12" + destination + source
    return append_fcs(head + payload, 2)


# ZEP


@given(frames)
def test_zep_survives_the_way_there_and_back(frame: ZepData) -> None:
    assert ZepData.decode(frame.encode()) == frame


@given(frames, st.integers(0, 200))
def test_cut_off_zep_is_the_peers_fault(frame: ZepData, size: int) -> None:
    data = frame.encode()
    if size < len(data):
        with pytest.raises(RemoteProtocolError):
            ZepData.decode(data[:size])


@given(st.binary(max_size=200))
def test_junk_is_no_zep_and_nobodys_bug(data: bytes) -> None:
    try:
        frame = ZepData.decode(data)
    except RemoteProtocolError:
        return
    assert len(frame.encode()) == HEADER_BYTES + len(frame.psdu)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is the judge")
@pytest.mark.requirement("NET-6")
def test_tshark_reads_the_same_zep(tmp_path: Path) -> None:
    frame = ZepData(data_frame(SHORT_B, SHORT_A, 5, b"\x00not 6LoWPAN"), 26, 0x1234, 200, ntp_time(1_767_225_600.0), 77)
    udp = struct.pack(">HHHH", ZEP_PORT, ZEP_PORT, 8 + len(frame.encode()), 0) + frame.encode()
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1") + udp
    path = tmp_path / "zep.pcap"
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + struct.pack("<IIII", 0, 0, len(ip), len(ip)) + ip
    )
    names = ("zep.version", "zep.channel_id", "zep.device_id", "zep.lqi", "zep.seqno", "zep.time", "wpan.seq_no")
    command = ["tshark", "-r", str(path), "-T", "fields", "-t", "u"]
    for name in (*names, "wpan.fcs_ok", "_ws.malformed"):
        command += ["-e", name]
    fields = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n").split("\t")
    assert fields[:2] == ["2", "26"]
    assert int(fields[2], 0) == 0x1234
    # Wireshark shows the LQI only where the frame has it in place of the FCS.
    assert fields[4] == "77"
    assert "2026" in fields[5]
    assert fields[6:] == ["5", "1", ""]


# the transceiver of a third party's firmware


class Peers:
    """Two pieces of firmware on an ideal air."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        seeds = Seeds(1)
        self.medium = Medium(self.loop, seeds.stream("medium"), UnitDisc(100.0), lambda size: (size + 6) * 8 / 250_000)
        self.heard: dict[str, list[bytes]] = {"a": [], "b": []}
        self.on_air: list[bytes] = []
        self.medium.on_air.append(lambda transmission: self.on_air.append(transmission.psdu))
        self.radios = {}
        for index, name in enumerate(self.heard):
            station = self.medium.attach(name, bytes((index,)) * 8, Position(10.0 * index, 0.0))
            note = self.heard[name].append
            self.radios[name] = ZepRadio(
                station, self.loop, seeds.stream(name), lambda psdu, channel, lqi, note=note: note(psdu)
            )
        self.radios["b"].send(data_frame(b"\xff\xff", SHORT_B, 1, b"here I am", ack=False), 11)
        self.radios["a"].send(data_frame(b"\xff\xff", SHORT_A, 1, b"and I", ack=False), 11)
        self.run(1.0)
        self.on_air.clear()
        for heard in self.heard.values():
            heard.clear()

    def run(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()


def test_a_frame_for_the_peer_is_acknowledged_in_its_name() -> None:
    peers = Peers()
    frame = data_frame(SHORT_B, SHORT_A, 42, b"ping")
    peers.radios["a"].send(frame, 11)
    peers.run(1.0)
    ack = append_fcs(b"\x02\x00\x2a", 2)
    assert peers.heard == {"b": [frame], "a": [ack]}
    assert peers.on_air == [frame, ack]


def test_what_asks_for_no_acknowledgement_or_is_for_others_gets_none() -> None:
    peers = Peers()
    for frame in (data_frame(SHORT_B, SHORT_A, 1, b"x", ack=False), data_frame(b"\x0c\x00", SHORT_A, 2, b"x")):
        peers.radios["a"].send(frame, 11)
    peers.run(1.0)
    assert len(peers.on_air) == 2
    assert peers.heard["a"] == []


def test_firmware_hears_only_its_own_channel() -> None:
    peers = Peers()
    peers.radios["a"].send(data_frame(SHORT_B, SHORT_A, 1, b"elsewhere"), 12)
    peers.run(1.0)
    assert peers.heard["b"] == []


def test_both_may_send_at_once_and_nothing_is_lost() -> None:
    peers = Peers()
    for number in range(10):
        peers.radios["a"].send(data_frame(SHORT_B, SHORT_A, number, b"from a", ack=False), 11)
        peers.radios["b"].send(data_frame(SHORT_A, SHORT_B, number, b"from b", ack=False), 11)
    peers.run(2.0)
    sent = [sum(radio.counters[name] for radio in peers.radios.values()) for name in ("sent", "channel_access_failure")]
    assert sum(sent) == 22
    assert peers.loop.unhandled == []


# the process


class Host:
    """A meter's host on a socket: sends RCP, waits for what is asked of it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", port))
        self.decoder = FrameDecoder()
        self.messages: list[RadioMessage] = []

    def send(self, message: HostMessage) -> None:
        self.socket.send(encode_frame(message.encode()))

    def wait_for(self, kind: type[Any]) -> Any:
        while True:
            for message in self.messages:
                if isinstance(message, kind):
                    self.messages.remove(message)
                    return message
            self.messages += [decode_radio_message(frame) for frame in self.decoder.feed(self.socket.recv(8192))]


@pytest.fixture
def air(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Path, subprocess.Popen[str]]]:
    path = tmp_path / "air.pcap"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "twin", "air", "--listen", "udp://127.0.0.1:0", "--zep", "udp://127.0.0.1:0"),
            *("--scenario", "village", "--pcap", str(path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    yield json.loads(line), path, process
    if process.poll() is None:
        process.kill()
    process.communicate()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@pytest.mark.requirement("VEND-1")
def test_hosts_and_firmware_talk_through_the_process(
    air: tuple[dict[str, Any], Path, subprocess.Popen[str]],
) -> None:
    said, path, process = air
    with contextlib.ExitStack() as stack:
        talk(said, stack)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, errors
    assert len(list(read_capture(path))) >= 3, "a datagram, its acknowledgement, a greeting"


def talk(said: dict[str, Any], stack: contextlib.ExitStack) -> None:
    hosts = [Host(port_of(said["listening"])) for _ in range(2)]
    for host in hosts:
        stack.callback(host.socket.close)
    names = meter_eui64(2), meter_eui64(4)  # B at 300 m, D at 150 m
    for host, eui64 in zip(hosts, names, strict=True):
        host.send(Reset())
        host.wait_for(Ready)
        host.send(Configure(eui64, 0x1234, plan=3))
    payload = encode_datagram(b"a datagram")
    hosts[0].send(Transmit(7, FrameType.DATA, names[1], 0, payload))
    received = hosts[1].wait_for(Received)
    assert (received.source, received.payload_ies) == (names[0], payload)
    assert hosts[0].wait_for(TransmitDone).status is Status.OK
    firmware = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for peer in firmware:
        stack.callback(peer.close)
        peer.settimeout(WAIT_S)
        peer.connect(("127.0.0.1", port_of(said["zep"])))
    firmware[0].send(b"junk")
    firmware[0].send(ZepData(data_frame(b"\xff\xff", SHORT_A, 1, b"hello", ack=False), 3).encode())
    firmware[1].send(ZepData(data_frame(b"\xff\xff", SHORT_B, 2, b"hello", ack=False), 3).encode())
    assert b"hello" in ZepData.decode(firmware[0].recv(256)).psdu


def test_a_wrong_address_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twin", "air", "--listen", "tcp://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "udp://HOST:PORT" in done.stderr
