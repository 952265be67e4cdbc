"""Real MACs beside the air: RCP bytes on one side, other people's decoders on the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.rcp.codes import Status
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import (
    Configure,
    HostMessage,
    RadioMessage,
    Ready,
    Received,
    SetKey,
    Transmit,
    TransmitDone,
    decode_radio_message,
)
from twin.air.air import Air, write_keys
from twin.air.capture import read_capture
from twin.air.obstacles import Position
from twin.air.pipeline import FramePipeline
from twin.air.propagation import Propagation, UnitDisc
from twin.clock.seeds import Seeds
from twin.clock.virtual import StalledError, VirtualLoop

KEY = bytes(range(16))
PAN = 0x1234
DATAGRAM = encode_datagram(bytes.fromhex("7a333a8000000000000000") + bytes(20))


class Host:
    """The host of one radio, in RCP messages."""

    def __init__(self, bench: Bench, name: str, x_m: float, *, key: bytes = KEY, max_psdu_bytes: int = 2047) -> None:
        self.eui64 = name.encode().rjust(8, b"\x02")
        self.messages: list[RadioMessage] = []
        self._key, self._max_psdu_bytes = key, max_psdu_bytes
        self._counter = 0
        self._decoder = FrameDecoder()
        self._link = bench.air.add_radio(name, self.eui64, Position(x_m, 0)).host
        self._link.on_data(self._take)

    def _take(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = decode_radio_message(frame)
            self.messages.append(message)
            if isinstance(message, Ready):
                self._counter += 1000
                self.tell(Configure(self.eui64, PAN, self._max_psdu_bytes))
                self.tell(SetKey(1, self._key, self._counter))

    def tell(self, message: HostMessage) -> None:
        self._link.write(encode_frame(message.encode()))

    def send(self, to: Host | None, handle: int = 1, ies: bytes = DATAGRAM) -> None:
        self.tell(Transmit(handle, FrameType.DATA, None if to is None else to.eui64, 1, ies))

    @property
    def received(self) -> list[Received]:
        return [message for message in self.messages if isinstance(message, Received)]

    @property
    def done(self) -> list[TransmitDone]:
        return [message for message in self.messages if isinstance(message, TransmitDone)]


class Bench:
    def __init__(
        self, seed: int = 1, *, propagation: Propagation | None = None, pipeline: FramePipeline | None = None
    ) -> None:
        self.loop = VirtualLoop()
        self.air = Air(self.loop, Seeds(seed), propagation=propagation, pipeline=pipeline)

    def run(self) -> None:
        with pytest.raises(StalledError):
            self.loop.run_forever()
        assert self.loop.unhandled == []


@pytest.mark.requirement("OSI-2")
def test_unicast_is_acknowledged_over_the_air() -> None:
    bench = Bench()
    a, b = Host(bench, "a", 0), Host(bench, "b", 250)
    bench.loop.call_at(1.0, a.send, b)
    bench.run()
    (done,) = a.done
    assert (done.status, done.attempts) == (Status.OK, 1)
    (received,) = b.received
    assert (received.source, received.payload_ies) == (a.eui64, DATAGRAM)
    assert -109 <= received.rss_dbm <= -90
    assert done.ack_rsl_dbm == received.rss_dbm


def test_lossy_link_is_bridged_by_retries() -> None:
    bench = Bench()
    a, b = Host(bench, "a", 0), Host(bench, "b", 100)
    bench.air.set_loss("a", "b", 0.3)
    for n in range(50):
        bench.loop.call_at(1.0 + n, a.send, b, n)
    bench.run()
    statuses = [done.status for done in a.done]
    assert len(statuses) == 50
    assert statuses.count(Status.OK) >= 40
    assert len(b.received) >= statuses.count(Status.OK)
    assert max(done.attempts for done in a.done) > 1


def test_node_beyond_the_range_gets_no_acknowledgement() -> None:
    bench = Bench()
    a, b = Host(bench, "a", 0), Host(bench, "b", 401)
    bench.loop.call_at(1.0, a.send, b)
    bench.run()
    assert [done.status for done in a.done] == [Status.NO_ACK]
    assert b.received == []


def test_revived_radio_is_configured_again_by_its_host_and_works() -> None:
    bench = Bench()
    a, b = Host(bench, "a", 0), Host(bench, "b", 100)
    bench.loop.call_at(1.0, bench.air.kill, "b")
    bench.loop.call_at(2.0, a.send, b, 1)
    bench.loop.call_at(5.0, bench.air.revive, "b")
    bench.loop.call_at(6.0, a.send, b, 2)
    bench.run()
    assert [(done.handle, done.status) for done in a.done] == [(1, Status.NO_ACK), (2, Status.OK)]
    assert len(b.received) == 1


def test_carrier_sense_lets_neighbours_that_send_at_once_get_through() -> None:
    bench = Bench(propagation=UnitDisc(150.0))
    sink = Host(bench, "sink", 0)
    crowd = [Host(bench, f"n{n}", 1.0 + n) for n in range(3)]
    for n in range(20):
        for node in crowd:
            bench.loop.call_at(1.0 + n, node.send, sink, n)
    bench.run()
    results = [done for node in crowd for done in node.done]
    assert len(results) == 60
    assert sum(done.status is Status.OK for done in results) >= 57
    assert len(sink.received) >= 57


def test_frame_under_another_key_is_refused_and_counted() -> None:
    bench = Bench()
    a, b = Host(bench, "a", 0, key=bytes(16)), Host(bench, "b", 100)
    bench.loop.call_at(1.0, a.send, b)
    bench.run()
    assert b.received == []
    mac = bench.air.radio("b").mac
    assert sum(mac.counters.values()) > 0  # type: ignore[attr-defined]


@pytest.mark.requirement("NET-6")
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("max_psdu_bytes", [127, 2047])
def test_tshark_decrypts_and_dissects_the_capture(tmp_path: Path, max_psdu_bytes: int) -> None:
    bench = Bench()
    a = Host(bench, "a", 0, max_psdu_bytes=max_psdu_bytes)
    b = Host(bench, "b", 100, max_psdu_bytes=max_psdu_bytes)
    path = tmp_path / "air.pcap"
    bench.air.capture_to(path, start_utc_s=1_700_000_000.0, observer="a")
    bench.loop.call_at(1.0, a.send, b)
    bench.loop.call_at(2.0, b.send, None)
    bench.run()
    bench.air.close()
    write_keys(tmp_path / "keys.json", KEY)
    key = json.loads((tmp_path / "keys.json").read_text())["group_key"]
    command = ["tshark", "-r", str(path), "-o", f'uat:ieee802154_keys:"{key}","1","No hash"', "-T", "fields"]
    fields = ["wpan.fcs_ok", "_ws.malformed", "wpan.mic", "6lowpan.pattern", "icmpv6.type", "wpan-tap.rss"]
    for field in fields:
        command += ["-e", field]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(rows) == 3
    assert [row[1] for row in rows] == ["", "", ""]
    assert [row[4] for row in (rows[0], rows[2])] == ["128", "128"]
    assert rows[0][5] == "0"
    assert -90 < float(rows[1][5]) < -60
    assert len(list(read_capture(path))) == 3
