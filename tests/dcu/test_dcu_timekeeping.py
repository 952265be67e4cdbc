"""The concentrator's clock: steered by a receiver, in holdover without it, and not led astray by it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from dcu.config import TimePolicy
from dcu.discipline import TRANSITIONS, ClockEvent, ClockState, DisciplinedClock, Leap, TimeSample
from dcu.timekeeper import (
    EVENT_HOLDOVER,
    EVENT_LEAP,
    EVENT_REFUSED,
    EVENT_STEPPED,
    Timekeeper,
)
from protocols.errors import LocalProtocolError
from protocols.headend.time_check import TimeSource

START = 1_772_438_400.0  # 2026-03-02T08:00:00Z
MIDNIGHT = 1_782_864_000  # 2026-07-01T00:00:00Z


class Timers:
    """The least of an event loop: time goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, Entry]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object, *args: object) -> Entry:
        entry = Entry(callback, args)
        self._waiting.append((when, len(self._waiting), entry))
        return entry

    def run_to(self, end: float) -> None:
        while due := sorted((item for item in self._waiting if item[0] <= end), key=lambda item: item[:2]):
            when, _, entry = due[0]
            self._waiting.remove(due[0])
            self.now = max(self.now, when)
            entry.run()
        self.now = end


@dataclass
class Entry:
    callback: object
    args: tuple[object, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            assert callable(self.callback)
            self.callback(*self.args)


@dataclass
class Bench:
    """A keeper on an oscillator that is `ppm` fast, and references that are right unless told otherwise."""

    ppm: float = 20.0
    start: float = START
    policy: TimePolicy = field(default_factory=TimePolicy)
    initial_error_s: float = -3600.0
    timers: Timers = field(default_factory=Timers)
    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    doubts: int = 0
    leap_at: float | None = None

    def __post_init__(self) -> None:
        self.rng = random.Random(7)
        self.keeper = Timekeeper(
            self.policy,
            oscillator_s=self.count,
            initial_utc_s=self.start + self.initial_error_s,
            timers=self.timers,  # type: ignore[arg-type]
            trace=lambda kind, /, **fields: None,
        )
        self.keeper.start(lambda kind, details: self.events.append((kind, details)))
        self.keeper.on_doubt = self.doubted

    def doubted(self) -> None:
        self.doubts += 1

    def count(self) -> float:
        return self.timers.now * (1 + 1e-6 * self.ppm)

    def true_s(self) -> float:
        uniform = self.start + self.timers.now
        return uniform - (self.leap_at is not None and uniform >= self.leap_at)

    def error_s(self) -> float:
        return self.keeper.utc_s() - self.true_s()

    def run(self, seconds: int, source: TimeSource | None = TimeSource.GPS, *, off_s: float = 0.0, jitter: float = 0.0):
        """Second by second, each with a sample of the source."""
        for _ in range(seconds):
            self.timers.run_to(round(self.timers.now) + 1.0)
            if source is not None:
                self.offer(source, off_s=off_s, jitter=jitter)

    def offer(self, source: TimeSource, *, off_s: float = 0.0, jitter: float = 0.0, uncertainty_s: float = 0.001):
        late = abs(self.rng.gauss(0, jitter))
        self.keeper.offer(source, TimeSample(self.count() + late, self.true_s() + off_s, uncertainty_s))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


def test_a_clock_without_reference_sets_nobody() -> None:
    bench = Bench()
    bench.run(10, None)
    assert bench.keeper.state is ClockState.UNSYNCHRONISED
    assert bench.keeper.quality().source is TimeSource.FREE
    assert not bench.keeper.quality().may_set_clocks(86_400)


@pytest.mark.requirement("UC-VI.1")
@pytest.mark.parametrize("ppm", [-100.0, -20.0, 0.0, 20.0, 100.0])
def test_pulses_discipline_phase_and_rate(ppm: float) -> None:
    bench = Bench(ppm=ppm)
    bench.run(900)
    assert bench.keeper.state is ClockState.DISCIPLINED
    assert abs(bench.error_s()) < 20e-6
    assert bench.keeper.frequency_ppm == pytest.approx(-ppm, abs=0.05)
    assert bench.keeper.quality().may_set_clocks(86_400)


@pytest.mark.requirement("UC-VI.1")
def test_jitter_of_the_line_is_averaged_out() -> None:
    bench = Bench()
    bench.run(3600, jitter=0.002)
    assert abs(bench.error_s()) < 0.004
    assert bench.keeper.frequency_ppm == pytest.approx(-20, abs=2.0)


@pytest.mark.requirement("UC-VI.1")
def test_holdover_keeps_the_rate_and_owns_up_to_its_doubt() -> None:
    bench = Bench(ppm=35.0)
    bench.run(1200)
    before = bench.keeper.quality().uncertainty_s
    bench.run(3600, None)
    quality = bench.keeper.quality()
    assert quality.source is TimeSource.HOLDOVER
    assert quality.holdover_s == pytest.approx(3600, abs=2)
    assert abs(bench.error_s()) < 0.001, "35 ppm for an hour would be 126 ms"
    assert before < quality.uncertainty_s
    assert abs(bench.error_s()) <= quality.uncertainty_s
    bench.run(2 * 86_400, None)
    assert bench.keeper.quality().uncertainty_s > quality.uncertainty_s
    assert not bench.keeper.quality().may_set_clocks(86_400)
    assert EVENT_HOLDOVER in bench.kinds()


@pytest.mark.requirement("UC-VI.1")
def test_the_clock_recovers_without_a_jump_when_pulses_return() -> None:
    bench = Bench()
    bench.run(600)
    bench.run(7200, None)
    steps = bench.keeper.counters["steps"]
    bench.run(600)
    assert bench.keeper.state is ClockState.DISCIPLINED
    assert abs(bench.error_s()) < 100e-6
    assert bench.keeper.counters["steps"] == steps


@pytest.mark.parametrize("off_s", [5.0, -5.0, 1.0, 0.4])
def test_a_spoofed_receiver_is_not_followed(off_s: float) -> None:
    bench = Bench()
    bench.run(600)
    bench.run(900, off_s=off_s)
    assert abs(bench.error_s()) < 0.01
    assert bench.keeper.quality().source is TimeSource.HOLDOVER
    assert EVENT_REFUSED in bench.kinds()
    assert bench.doubts >= 1
    bench.run(30)
    assert bench.keeper.quality().source is TimeSource.GPS, "it is believed again when it is right again"


def test_the_next_source_takes_over_from_a_spoofed_receiver() -> None:
    bench = Bench()
    bench.run(600)
    for _ in range(60):
        bench.run(1, off_s=3.0)
        bench.offer(TimeSource.PTP)
    assert bench.keeper.quality().source is TimeSource.PTP
    assert abs(bench.error_s()) < 0.001


def test_two_references_that_agree_move_a_clock_that_is_wrong() -> None:
    bench = Bench()
    bench.run(600, off_s=7.0)
    assert bench.error_s() == pytest.approx(7.0, abs=0.01)
    bench.offer(TimeSource.NETWORK, uncertainty_s=0.4)
    assert bench.error_s() == pytest.approx(7.0, abs=0.01), "one alone does not"
    bench.offer(TimeSource.PTP)
    assert abs(bench.error_s()) < 0.5
    assert bench.kinds().count(EVENT_STEPPED) == 2


def test_the_headend_s_time_is_followed_only_while_there_is_nothing_better() -> None:
    bench = Bench(ppm=5.0)
    bench.run(1, None)
    bench.offer(TimeSource.NETWORK, off_s=0.2, uncertainty_s=0.3)
    assert bench.keeper.quality().source is TimeSource.NETWORK
    assert bench.keeper.quality().may_set_clocks(86_400)
    bench.run(900)
    assert bench.keeper.quality().source is TimeSource.GPS
    bench.offer(TimeSource.NETWORK, off_s=0.3, uncertainty_s=0.3)
    assert abs(bench.error_s()) < 0.01


def test_the_loss_of_pulses_is_noticed_though_the_head_end_had_told_the_time_first() -> None:
    bench = Bench(ppm=5.0)
    bench.run(1, None)
    bench.offer(TimeSource.NETWORK, uncertainty_s=0.3)
    bench.run(300)
    bench.run(60, None)
    assert bench.keeper.quality().source is TimeSource.HOLDOVER
    bench.offer(TimeSource.NETWORK, uncertainty_s=0.3)
    assert bench.keeper.quality().source is TimeSource.HOLDOVER, "it still knows the time better"
    bench.run(13 * 3600, None)
    bench.offer(TimeSource.NETWORK, uncertainty_s=0.3)
    assert bench.keeper.quality().source is TimeSource.NETWORK


def test_receiver_is_preferred_to_ptp_and_left_for_it_when_silent() -> None:
    bench = Bench()
    bench.run(120)
    bench.run(60, TimeSource.PTP)
    assert bench.keeper.quality().source is TimeSource.PTP
    bench.run(10)
    assert bench.keeper.quality().source is TimeSource.GPS


@pytest.mark.requirement("UC-VI.3")
@pytest.mark.parametrize("announced", [True, False])
def test_a_leap_second_is_inserted(announced: bool) -> None:
    bench = Bench(start=MIDNIGHT - 900.0, leap_at=float(MIDNIGHT))
    bench.run(600)
    if announced:
        bench.keeper.announce_leap(MIDNIGHT, 1)
    bench.run(299)
    assert abs(bench.error_s()) < 0.001
    bench.timers.run_to(900.5)
    if announced:
        assert abs(bench.error_s()) < 0.001, "in the inserted second itself"
    bench.timers.now = 900.0
    bench.offer(TimeSource.GPS)
    bench.run(60)
    assert abs(bench.error_s()) < 0.001
    assert [details["state"] for kind, details in bench.events if kind == EVENT_LEAP] == [
        "announced" if announced else "observed"
    ]
    assert EVENT_REFUSED not in bench.kinds()


def test_an_announced_leap_second_comes_in_holdover_too() -> None:
    bench = Bench(start=MIDNIGHT - 900.0, leap_at=float(MIDNIGHT), ppm=0.0)
    bench.run(600)
    bench.keeper.announce_leap(MIDNIGHT, 1)
    bench.run(900, None)
    assert abs(bench.error_s()) < 0.001


def test_a_second_off_in_the_middle_of_a_month_is_no_leap_second() -> None:
    bench = Bench(start=MIDNIGHT - 3 * 86_400 - 600.0)
    bench.run(600)
    bench.run(30, off_s=-1.0)
    assert abs(bench.error_s()) < 0.01
    assert EVENT_LEAP not in bench.kinds()


@pytest.mark.parametrize("at_utc_s", [MIDNIGHT + 86_400, MIDNIGHT - 86_400, MIDNIGHT - 3600])
def test_an_announcement_of_another_moment_is_ignored(at_utc_s: int) -> None:
    bench = Bench(start=MIDNIGHT - 900.0)
    bench.run(120)
    bench.keeper.announce_leap(at_utc_s, 1)
    assert EVENT_LEAP not in bench.kinds()


def test_a_left_out_second_is_left_out() -> None:
    clock = DisciplinedClock(0.0, MIDNIGHT - 10.0, holdover_ppm=1.0)
    clock.step_to(TimeSample(0.0, MIDNIGHT - 10.0, 0.001))
    clock.announce(Leap(MIDNIGHT, -1), 0.0)
    assert clock.utc_s(8.5) == MIDNIGHT - 1.5
    assert clock.utc_s(9.0) == MIDNIGHT


def test_the_clock_s_table_is_complete_but_for_what_cannot_be() -> None:
    missing = {(state, event) for state in ClockState for event in ClockEvent} - set(TRANSITIONS)
    assert missing == {
        (ClockState.UNSYNCHRONISED, ClockEvent.SETTLE),
        (ClockState.UNSYNCHRONISED, ClockEvent.LOSE),
        (ClockState.HOLDOVER, ClockEvent.SETTLE),
        (ClockState.HOLDOVER, ClockEvent.LOSE),
    }
    clock = DisciplinedClock(0.0, START, holdover_ppm=1.0)
    with pytest.raises(LocalProtocolError):
        clock.lose()
