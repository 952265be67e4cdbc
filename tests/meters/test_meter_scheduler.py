"""Work at round times of the meter's clock: none left out at a start, none done twice by a timer that comes early."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from meters.firmware.scheduler import RtcScheduler
from meters.hardware.rtc import Crystal, Rtc
from twin.clock.clocks import VirtualClock

START = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
PERIOD_S = 900


class Bench:
    def __init__(self, *, early_s: float, ppm: float = 0.0) -> None:
        self.clock = VirtualClock(START - timedelta(seconds=60))
        self.rtc = Rtc(self.clock, Crystal(offset_ppm=ppm))
        self.moments: list[float] = []
        self.run(60.0 - early_s)
        self.scheduler = RtcScheduler(self.clock.loop, self.rtc, self._guard)

    @staticmethod
    def _guard(work: Callable[[], None]) -> None:
        work()

    def run(self, seconds: float) -> None:
        loop = self.clock.loop
        loop.call_later(seconds, loop.stop)
        loop.run_forever()


@pytest.mark.parametrize("early_s", [0.5, 0.0009, 0.0001])
def test_a_moment_just_after_the_start_is_not_left_out(early_s: float) -> None:
    bench = Bench(early_s=early_s)
    bench.scheduler.every(PERIOD_S, bench.moments.append)
    bench.run(1.0)
    assert bench.moments == [START.timestamp()]


def test_a_moment_just_after_the_clock_was_set_is_not_left_out() -> None:
    bench = Bench(early_s=30.0)
    bench.scheduler.every(PERIOD_S, bench.moments.append)
    bench.rtc.set(START.timestamp() - 0.0005)
    bench.run(1.0)
    assert bench.moments == [START.timestamp()]


@settings(max_examples=50, deadline=None)
@given(st.floats(-200.0, 200.0), st.floats(0.0, 0.0009), st.booleans())
def test_each_moment_comes_once_whatever_the_crystal_and_whoever_looks_again(
    ppm: float, early_s: float, looks: bool
) -> None:
    bench = Bench(early_s=early_s, ppm=ppm)

    def work(due_s: float) -> None:
        bench.moments.append(due_s)
        if looks:
            bench.scheduler.clock_changed()

    bench.scheduler.every(PERIOD_S, work)
    bench.run(4 * PERIOD_S + 10.0)
    first_s = math.floor(bench.moments[0])
    assert bench.moments == [first_s + n * PERIOD_S for n in range(len(bench.moments))]
    assert len(bench.moments) in (4, 5)
