"""The air as scenarios use it: names, verbs, pipeline, capture, serial lines."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from protocols.errors import BadInputError
from protocols.mesh.mac import Phy
from protocols.ports import Timers, Trace
from twin.air.air import Air, AirSettings, write_keys
from twin.air.capture import read_capture
from twin.air.obstacles import Position
from twin.air.pipeline import Emission, FramePipeline
from twin.air.propagation import UnitDisc
from twin.air.radio import SerialEnd
from twin.clock.seeds import Seeds
from twin.clock.virtual import StalledError, VirtualLoop

FRAME = bytes(range(100))


class EchoMac:
    """A MAC without protocol: what the host writes goes on the air, what is heard goes to the host."""

    def __init__(
        self, timers: Timers, phy: Phy, rng: random.Random, write_host: Callable[[bytes], None], *, trace: Trace | None
    ) -> None:
        self._phy = phy
        self._write_host = write_host
        self.on = False

    def power_on(self) -> None:
        self.on = True
        self._write_host(b"ready")

    def power_off(self) -> None:
        self.on = False

    def host_data(self, data: bytes) -> None:
        self._phy.transmit(data, 0)

    def listening_channel(self, now: float) -> int | None:
        return 0 if self.on else None

    def receive(self, psdu: bytes, rss_dbm: float, channel: int, lqi: int, start_s: float) -> None:
        self._write_host(psdu)

    def transmit_done(self) -> None:
        self._write_host(b"done")


class AirBench:
    def __init__(self, seed: int = 1, *, pipeline: FramePipeline | None = None, ideal: bool = False) -> None:
        self.loop = VirtualLoop()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.air = Air(
            self.loop,
            Seeds(seed),
            propagation=UnitDisc(150.0) if ideal else None,
            pipeline=pipeline,
            mac_factory=EchoMac,
            trace=self._trace,
        )
        self.heard: dict[str, list[bytes]] = {}

    def _trace(self, kind: str, /, **fields: object) -> None:
        self.events.append((kind, fields))

    def add(self, name: str, x_m: float, y_m: float = 0.0) -> None:
        radio = self.air.add_radio(name, name.encode().rjust(8, b"\0"), Position(x_m, y_m))
        self.heard[name] = []
        radio.host.on_data(self.heard[name].append)

    def send_at(self, when: float, name: str, psdu: bytes = FRAME) -> None:
        self.loop.call_at(when, self.air.radio(name).host.write, psdu)

    def at(self, when: float, verb: Callable[..., object], *args: object) -> None:
        self.loop.call_at(when, verb, *args)

    def run(self) -> None:
        with pytest.raises(StalledError):
            self.loop.run_forever()
        assert self.loop.unhandled == []


@pytest.fixture
def bench() -> AirBench:
    bench = AirBench(ideal=True)
    bench.add("a", 0)
    bench.add("b", 100)
    return bench


def test_bytes_go_from_host_over_serial_and_air_to_the_other_host(bench: AirBench) -> None:
    bench.send_at(1.0, "a")
    bench.run()
    assert bench.heard == {"a": [b"ready", b"done"], "b": [b"ready", FRAME]}


def test_killed_radio_is_silent_and_a_revived_one_says_ready(bench: AirBench) -> None:
    bench.at(0.5, bench.air.kill, "b")
    bench.send_at(1.0, "a")
    bench.send_at(1.5, "b")
    bench.at(2.0, bench.air.revive, "b")
    bench.send_at(3.0, "a")
    bench.run()
    assert bench.heard["b"] == [b"ready", b"ready", FRAME]
    assert bench.heard["a"] == [b"ready", b"done", b"done"]
    assert [kind for kind, _ in bench.events] == ["air-kill", "air-revive"]


def test_kill_and_revive_twice_are_harmless(bench: AirBench) -> None:
    for when, verb in ((1.0, bench.air.kill), (1.1, bench.air.kill), (1.2, bench.air.revive), (1.3, bench.air.revive)):
        bench.at(when, verb, "b")
    bench.run()
    assert bench.heard["b"] == [b"ready", b"ready"]


def test_loss_verb_is_both_ways_unless_told_otherwise(bench: AirBench) -> None:
    bench.air.set_loss("a", "b", 1.0, both_ways=False)
    bench.send_at(1.0, "a")
    bench.send_at(2.0, "b")
    bench.at(3.0, bench.air.set_loss, "a", "b", 1.0)
    bench.send_at(4.0, "b")
    bench.run()
    assert bench.heard["b"] == [b"ready", b"done", b"done"]
    assert bench.heard["a"] == [b"ready", b"done", FRAME]


@pytest.mark.requirement("NET-1")
def test_wood_between_two_nodes_shortens_their_link() -> None:
    bench = AirBench()
    bench.add("a", 0)
    bench.add("b", 300)
    bench.add("c", 150, 150)
    before = {(link.sender, link.receiver): link for link in bench.air.links()}
    assert before["a", "b"].expected_delivery > 0.9
    bench.air.add_vegetation([(100, -50), (200, -50), (200, 50), (100, 50)], 30.0)
    after = {(link.sender, link.receiver): link for link in bench.air.links()}
    assert ("a", "b") not in after
    assert after["a", "c"].expected_delivery == before["a", "c"].expected_delivery


def test_ridge_weakens_the_links_across_it() -> None:
    bench = AirBench()
    bench.add("a", 0)
    bench.add("b", 100)
    rss_before = bench.air.links()[0].rss_dbm
    bench.air.add_terrain([(50, -10), (50, 10)], 7.0)
    assert bench.air.links()[0].rss_dbm == pytest.approx(rss_before - 7.0)


def test_jam_verb_ends_by_itself(bench: AirBench) -> None:
    bench.at(1.0, bench.air.jam, 0, 30.0, Position(90, 0), 1.0)
    bench.send_at(1.5, "a")
    bench.send_at(2.5, "a")
    bench.run()
    assert bench.heard["b"] == [b"ready", FRAME]
    assert bench.air.statistics().nodes[1].lost == {"jammed": 1}


def test_moved_node_loses_its_link(bench: AirBench) -> None:
    bench.at(1.0, bench.air.move, "b", Position(500, 0))
    bench.send_at(2.0, "a")
    bench.run()
    assert bench.heard["b"] == [b"ready"]


class Scripted:
    """A pipeline that answers with what it was given."""

    def __init__(self, *emissions: Emission) -> None:
        self.emissions = emissions
        self.seen: list[tuple[str, int, bytes]] = []

    def process(self, psdu: bytes, *, channel: int, sender: str, now: float) -> Sequence[Emission]:
        self.seen.append((sender, channel, psdu))
        return self.emissions


@pytest.mark.parametrize(
    ("emissions", "expected"),
    [
        ((), []),
        ((Emission(b"x" * 50),), [b"x" * 50]),
        ((Emission(FRAME), Emission(FRAME)), [FRAME, FRAME]),
        ((Emission(FRAME, 0.5),), [FRAME]),
    ],
)
def test_pipeline_drops_edits_duplicates_and_delays(emissions: tuple[Emission, ...], expected: list[bytes]) -> None:
    pipeline = Scripted(*emissions)
    bench = AirBench(ideal=True, pipeline=pipeline)
    bench.add("a", 0)
    bench.add("b", 100)
    bench.send_at(1.0, "a")
    bench.run()
    assert bench.heard["b"] == [b"ready", *expected]
    assert bench.heard["a"] == [b"ready", b"done"]
    assert pipeline.seen == [("a", 0, FRAME)]


def test_capture_has_every_transmission_once_injected_ones_too(bench: AirBench, tmp_path: Path) -> None:
    bench.add("c", 50)
    path = tmp_path / "air.pcap"
    bench.air.capture_to(path, start_utc_s=1_700_000_000.0, observer="b")
    bench.send_at(1.0, "a")
    bench.at(2.0, bench.air.inject, FRAME[::-1], Position(60, 0), 3)
    bench.at(3.0, bench.air.inject, FRAME, "b", 0)
    bench.run()
    bench.air.close()
    frames = list(read_capture(path))
    assert [frame.time_ns for frame in frames] == [1_700_000_000_000_000_000 + n * 1_000_000_000 for n in (1, 2, 3)]
    assert [frame.psdu for frame in frames] == [FRAME, FRAME[::-1], FRAME]
    assert [frame.channel for frame in frames] == [0, 3, 0]
    assert [frame.rss_dbm for frame in frames] == [-60.0, -60.0, 0.0]
    assert {frame.fcs_bytes for frame in frames} == {4}


def test_one_seed_leaves_the_same_capture_and_report(tmp_path: Path) -> None:
    def run(seed: int, path: Path) -> tuple[bytes, object]:
        bench = AirBench(seed)
        for n in range(6):
            bench.add(f"n{n}", 150.0 * n)
        bench.air.capture_to(path, observer="n0")
        for n in range(100):
            bench.send_at(1.0 + n * 0.5, f"n{n % 6}")
        bench.run()
        bench.air.close()
        return path.read_bytes(), bench.air.statistics()

    first, second, other = (run(seed, tmp_path / f"{n}.pcap") for n, seed in enumerate((1, 1, 2)))
    assert first == second
    assert first[1] != other[1]


def test_statistics_name_nodes_links_and_the_duty_cycle_limit() -> None:
    loop = VirtualLoop()
    air = Air(
        loop, Seeds(1), settings=AirSettings(duty_cycle_limit=0.000_01), propagation=UnitDisc(150), mac_factory=EchoMac
    )
    for name, x_m in (("a", 0), ("b", 100)):
        air.add_radio(name, name.encode() * 8, Position(x_m, 0))
    for n in range(5):
        loop.call_at(float(n), air.radio("a").host.write, FRAME)
    with pytest.raises(StalledError):
        loop.run_forever()
    report = air.statistics()
    assert (report.transmissions, report.receptions) == (5, 5)
    sender, receiver = report.nodes
    assert (sender.sent, sender.sent_bytes, receiver.received) == (5, 500, 5)
    assert sender.airtime_s == pytest.approx(5 * (8 + 2 + 2 + 100) * 8 / 50_000)
    assert sender.over_duty_limit
    assert not receiver.over_duty_limit
    assert [(link.sender, link.receiver, link.received) for link in report.links] == [("a", "b", 5), ("b", "a", 0)]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda air: air.kill("nobody"), "no radio named 'nobody'; there are: a, b"),
        (lambda air: air.add_radio("a", bytes(8), Position(0, 0)), "a radio named 'a' already"),
        (lambda air: air.add_radio("c", b"a".rjust(8, b"\0"), Position(0, 0)), "has the EUI-64 of 'a'"),
        (lambda air: air.set_loss("a", "b", 1.5), "between 0 and 1"),
        (lambda air: air.set_attenuation("a", "b", -3.0), "0 dB or more"),
        (lambda air: air.add_vegetation([(0, 0), (1, 1)], 3.0), "three corners"),
        (lambda air: air.add_terrain([(0, 0), (1, 1)], -3.0), "cannot amplify"),
    ],
)
def test_bad_input_is_named(bench: AirBench, call: Callable[[Air], object], match: str) -> None:
    with pytest.raises(BadInputError, match=match):
        call(bench.air)


def test_unknown_plan_is_named() -> None:
    with pytest.raises(BadInputError, match="plan: 99 is not one of 1, 3, 5"):
        Air(VirtualLoop(), Seeds(1), settings=AirSettings(plan=99))


def test_keys_file_has_the_group_key_in_hex(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", bytes(range(16)))
    assert json.loads((tmp_path / "keys.json").read_text()) == {"group_key": bytes(range(16)).hex()}


def test_serial_line_keeps_order_and_takes_its_time() -> None:
    loop = VirtualLoop()
    near, far = SerialEnd.pair(loop, 115_200)
    got: list[tuple[float, bytes]] = []
    far.on_data(lambda data: got.append((loop.time(), data)))
    near.write(bytes(1152))
    near.write(b"x")
    assert got == []
    with pytest.raises(StalledError):
        loop.run_forever()
    assert [when for when, _ in got] == [pytest.approx(0.1), pytest.approx(0.1 + 10 / 115_200)]
    assert math.isclose(sum(len(data) for _, data in got), 1153)
