"""The guest as a node of the virtual loop: conservative, and met no more often than it has something to say or hear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep_guest import WAKES_LATE_NS, ScriptedGuest

from twin.backhaul.oscillator import Oscillator
from twin.clock.virtual import VirtualLoop, VirtualTimeError
from twin.errors import RigError
from twin.rigs.lockstep.console import ConsoleLog
from twin.rigs.lockstep.emulator import EmulatorOptions
from twin.rigs.lockstep.node import LATE_NS, LONGEST_GRANT_S, NS_PER_S, GuestNode, Phase
from twin.rigs.lockstep.protocol import ENTROPY_BYTES, VERSION, Channel, Event, Record

OPTIONS = cast(EmulatorOptions, None)


@dataclass
class Bench:
    """A loop with a guest on it, and what came of it. The guest's clock and the loop's begin together."""

    guest: ScriptedGuest
    folder: Path
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    outputs: list[tuple[float, bytes]] = field(default_factory=list)
    failures: list[RigError] = field(default_factory=list)
    crystal_ppm: float = 0.0

    def __post_init__(self) -> None:
        self.console = ConsoleLog(self.folder / "console.log")
        self.node = GuestNode(
            self.loop,
            self.console,
            on_record=lambda record: self.outputs.append((self.loop.time(), record.data)),
            on_failure=self.failures.append,
            start=lambda options: self.guest,
            crystal=Oscillator(self.loop.time, ppm=self.crystal_ppm),
        )

    def run(self, until_s: float, *, powered: bool = True) -> None:
        if powered:
            self.node.power_on(OPTIONS, bytes(ENTROPY_BYTES), 0)
        self.loop.run_until_complete(self._wait(until_s))
        self.console.close(self.loop.time())

    async def _wait(self, until_s: float) -> None:
        await asyncio.sleep(until_s - self.loop.time())

    def send_at(self, at_s: float, data: bytes) -> None:
        self.loop.call_at(at_s, self.node.send, Record(Channel.RADIO, Event.DATA, 0, data))


def test_guest_with_a_fast_crystal_speaks_early_and_hears_late_by_its_own_clock(tmp_path: Path) -> None:
    guest = ScriptedGuest(reacts_ns=11, speaks={100_000_000_000: b"own;"})
    bench = Bench(guest, tmp_path, crystal_ppm=50.0)
    bench.send_at(200.0, b"in;")
    bench.run(300.0)
    (spoke_s, _), (reacted_s, _) = bench.outputs
    assert spoke_s == pytest.approx(100 / 1.00005, abs=1e-8)
    assert reacted_s == pytest.approx(200.0, abs=200e-6)  # it wakes late, as the real one does
    assert not bench.failures


TIMES_MS = st.lists(st.integers(1, 2_000), max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(TIMES_MS, TIMES_MS, st.integers(0, 400), st.lists(st.integers(0, 2_000), max_size=40))
def test_nothing_arrives_in_the_past_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    inputs_ms: list[int],
    speaks_ms: list[int],
    reacts_ms: int,
    others_ms: list[int],
) -> None:
    speaks = {ms * 1_000_000 + 7: b"own %d;" % ms for ms in speaks_ms}
    guest = ScriptedGuest(reacts_ns=reacts_ms * 1_000_000 + 11, speaks=speaks)
    bench = Bench(guest, tmp_path_factory.mktemp("bench"))
    for ms in inputs_ms:
        bench.send_at(ms / 1000, b"in %d;" % ms)
    for ms in others_ms:  # what the rest of the run does
        bench.loop.call_at(ms / 1000, lambda: None)
    bench.run(4.0)
    assert [data for *_, data in guest.heard] == [b"in %d;" % ms for ms in sorted(inputs_ms)]
    for (due_ns, came_ns, _), ms in zip(guest.heard, sorted(inputs_ms), strict=True):
        assert due_ns == ms * 1_000_000
        assert due_ns <= came_ns <= due_ns + 2 * WAKES_LATE_NS
    said = b"".join(data for _, data in bench.outputs)
    assert sorted(said.split(b";")[:-1]) == sorted(
        [b"own %d" % ms for ms in speaks_ms] + [b"in %d" % ms for ms in inputs_ms]
    )
    for at_s, data in bench.outputs:
        for part in data.split(b";")[:-1]:
            if part.startswith(b"own"):
                assert at_s == pytest.approx(int(part[4:]) / 1000, abs=2 * WAKES_LATE_NS / NS_PER_S)
    assert bench.node.tally.late_deliveries == 0
    assert bench.node.tally.disagreements == 0
    assert bench.node.tally.latest_ns < LATE_NS


@settings(max_examples=30, deadline=None)
@given(TIMES_MS, TIMES_MS)
def test_same_script_same_instants(
    tmp_path_factory: pytest.TempPathFactory, inputs_ms: list[int], speaks_ms: list[int]
) -> None:
    def once() -> tuple[list[tuple[float, bytes]], list[Any]]:
        guest = ScriptedGuest(speaks={ms * 1_000_000: b"%d" % ms for ms in speaks_ms})
        bench = Bench(guest, tmp_path_factory.mktemp("bench"))
        for ms in inputs_ms:
            bench.send_at(ms / 1000, b"x")
        bench.run(3.0)
        return bench.outputs, list(guest.grants)

    assert once() == once()


def test_what_the_rest_of_the_run_does_costs_no_rendezvous_while_the_guest_is_quiet(tmp_path: Path) -> None:
    guest = ScriptedGuest(speaks={20 * NS_PER_S: b"tick"})
    bench = Bench(guest, tmp_path)
    for number in range(10_000):
        bench.loop.call_at(number / 1000, lambda: None)
    bench.run(30.0)
    assert bench.outputs == [(20.0, b"tick")]
    assert len(guest.grants) < 5


def test_a_grant_is_never_longer_than_two_minutes(tmp_path: Path) -> None:
    guest = ScriptedGuest()
    bench = Bench(guest, tmp_path)
    bench.send_at(1.0, b"x")
    bench.run(1000.0)
    assert guest.grants
    for grant in guest.grants:
        assert grant.until_ns - grant.deliver_ns <= 2 * LONGEST_GRANT_S * NS_PER_S + WAKES_LATE_NS


def test_bytes_that_come_while_the_guest_boots_are_lost_as_on_a_wire(tmp_path: Path) -> None:
    guest = ScriptedGuest(boots_at_ns=14 * NS_PER_S)
    bench = Bench(guest, tmp_path)
    bench.send_at(5.0, b"too early")
    bench.send_at(15.0, b"in time")
    bench.run(20.0)
    assert [data for *_, data in guest.heard] == [b"in time"]


def test_more_than_one_message_holds_is_delivered_whole(tmp_path: Path) -> None:
    guest = ScriptedGuest(reacts_ns=10**15)
    bench = Bench(guest, tmp_path)
    data = bytes(range(256)) * 1000
    bench.send_at(1.0, data)
    bench.run(2.0)
    assert b"".join(part for *_, part in guest.heard) == data
    assert {due for due, *_ in guest.heard} == {NS_PER_S}


def test_power_cut_brings_the_guest_to_the_instant_and_ends_it(tmp_path: Path) -> None:
    guest = ScriptedGuest(speaks={9 * NS_PER_S: b"never said"})
    bench = Bench(guest, tmp_path)
    bench.loop.call_at(5.0, bench.node.cut_power)
    bench.run(20.0)
    assert bench.node.phase is Phase.OFF
    assert bench.outputs == []
    assert bench.failures == []


def test_the_guest_s_seconds_count_from_the_instant_at_which_a_snapshot_goes_on(tmp_path: Path) -> None:
    bench = Bench(ScriptedGuest(boots_at_ns=600 * NS_PER_S, speaks={}), tmp_path)
    bench.node.power_on(OPTIONS, bytes(ENTROPY_BYTES), 600 * NS_PER_S)
    bench.loop.call_at(5.0, bench.node.cut_power)
    bench.run(20.0, powered=False)
    assert bench.node.tally.guest_s == pytest.approx(5.0, abs=1e-3)


def test_a_paused_guest_s_time_stands_still(tmp_path: Path) -> None:
    guest = ScriptedGuest(speaks={8 * NS_PER_S: b"said"})
    bench = Bench(guest, tmp_path)
    bench.loop.call_at(2.0, bench.node.pause)
    bench.loop.call_at(7.0, bench.node.resume)
    bench.run(20.0)
    assert [data for _, data in bench.outputs] == [b"said"]
    assert bench.outputs[0][0] == pytest.approx(13.0, abs=1e-3)


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        (ScriptedGuest(speaks={NS_PER_S: b"x"}, ends_at_ns=NS_PER_S), "ended by itself"),
        (ScriptedGuest(speaks={NS_PER_S: b"x"}, hangs_at_ns=NS_PER_S), "it hangs"),
        (ScriptedGuest(speaks={NS_PER_S: b"x"}, hangs_at_ns=NS_PER_S, hangs_idly=True), "it hangs"),
        (ScriptedGuest(version=VERSION + 1), f"version {VERSION + 1}, not {VERSION}"),
    ],
    ids=["powers off", "hangs", "hangs idly", "another agent"],
)
def test_a_guest_that_fails_is_off_and_said_to_be(tmp_path: Path, guest: ScriptedGuest, said: str) -> None:
    bench = Bench(guest, tmp_path)
    bench.run(20.0)
    assert bench.node.phase is Phase.OFF
    assert [said in str(error) for error in bench.failures] == [True]


def test_a_guest_that_the_host_leaves_no_time_is_waited_for(tmp_path: Path) -> None:
    guest = ScriptedGuest(speaks={NS_PER_S: b"late, but right"}, starved=5)
    bench = Bench(guest, tmp_path)
    bench.run(2.0)
    assert bench.outputs == [(1.0, b"late, but right")]
    assert bench.failures == []


@pytest.mark.parametrize("lost", [0, 1])
def test_a_byte_that_is_lost_in_the_guest_is_noticed(tmp_path: Path, lost: int) -> None:
    bench = Bench(ScriptedGuest(loses_bytes=lost), tmp_path)
    bench.send_at(1.0, b"five!")
    bench.run(5.0)
    assert (bench.node.tally.disagreements > 0) is bool(lost)


def test_two_nodes_cannot_keep_step_with_one_loop(tmp_path: Path) -> None:
    bench = Bench(ScriptedGuest(), tmp_path)
    bench.node.power_on(OPTIONS, bytes(ENTROPY_BYTES), 0)
    other = Bench(ScriptedGuest(), tmp_path, loop=bench.loop)
    with pytest.raises(VirtualTimeError, match="another node"):
        other.node.power_on(OPTIONS, bytes(ENTROPY_BYTES), 0)
    bench.run(0.1, powered=False)
    other.console.close(0.1)
