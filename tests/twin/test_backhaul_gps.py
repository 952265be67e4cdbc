"""The emulated receiver on the concentrator's driver: marks and sentences, fixes, and what an attacker does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcu.discipline import TimeSample
from dcu.gps import GpsDriver, GpsState
from protocols.errors import BadInputError
from protocols.nmea import LeapSeconds, Rmc, Zda, decode
from twin.backhaul.gps import Fix, GpsReceiver
from twin.backhaul.oscillator import Oscillator
from twin.clock.clocks import VirtualClock
from twin.clock.leaps import LeapSecond
from twin.clock.leaps import LeapSeconds as WorldLeaps

START = datetime(2026, 6, 30, 23, 58, 30, 250_000, tzinfo=UTC)
MIDNIGHT = 1_782_864_000


class Bench:
    def __init__(self, start: datetime = START) -> None:
        self.clock = VirtualClock(start)
        self.receiver = GpsReceiver(self.clock, random.Random(1), jitter_s=0.0)
        self.samples: list[tuple[float, TimeSample]] = []
        self.states: list[GpsState] = []
        self.listeners: list[Callable[[bytes], None]] = []
        self.feed: Callable[[bytes], None] = lambda _: None
        self.driver = GpsDriver(self, oscillator_s=self.clock.now, on_sample=self.sampled, on_state=self.states.append)

    # the line, with a wire tap

    def write(self, data: bytes) -> None:
        self.receiver.line.write(data)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self.feed = callback
        self.receiver.line.on_data(self._tapped)

    def _tapped(self, data: bytes) -> None:
        for listener in self.listeners:
            listener(data)
        self.feed(data)

    def sampled(self, sample: TimeSample) -> None:
        self.samples.append((self.clock.uniform_s(), sample))

    def play(self, script: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self.driver.start()
            self.receiver.power_on()
            await script()
            self.receiver.power_off()
            self.driver.stop()

        self.clock.run(main())

    def errors_s(self) -> list[float]:
        """Each sample's time minus the true one at its mark."""
        start = self.clock.uniform_s() - self.clock.now()
        return [sample.utc_s - self.clock.leaps.utc_s(start + sample.at_s) for _, sample in self.samples]


def test_every_second_is_named_once_there_is_a_fix() -> None:
    bench = Bench(datetime(2026, 3, 2, 8, 0, 0, 700_000, tzinfo=UTC))
    bench.play(lambda: asyncio.sleep(90.0))
    assert bench.states == [GpsState.NO_FIX, GpsState.FIX]
    assert 58 <= len(bench.samples) <= 61
    assert max(map(abs, bench.errors_s())) < 1e-6
    assert bench.driver.leap_s == 18


@pytest.mark.parametrize("cause", ["lose_fix", "unplug_antenna"])
def test_without_sky_or_antenna_there_are_no_marks(cause: str) -> None:
    bench = Bench(datetime(2026, 3, 2, tzinfo=UTC))

    async def script() -> None:
        await asyncio.sleep(60.0)
        getattr(bench.receiver, cause)()
        await asyncio.sleep(2.0)
        before = len(bench.samples)
        await asyncio.sleep(60.0)
        assert len(bench.samples) == before
        bench.receiver.regain_fix()
        bench.receiver.plug_antenna()
        await asyncio.sleep(60.0)
        assert len(bench.samples) > before
        assert bench.receiver.fix is Fix.FIX

    bench.play(script)
    expected = [GpsState.NO_FIX] if cause == "lose_fix" else [GpsState.NO_FIX, GpsState.ANTENNA]
    assert bench.states == [GpsState.NO_FIX, GpsState.FIX, *expected, GpsState.FIX]


def test_a_spoofed_signal_moves_marks_and_sentences() -> None:
    bench = Bench(datetime(2026, 3, 2, tzinfo=UTC))

    async def script() -> None:
        await asyncio.sleep(60.0)
        bench.samples.clear()
        bench.receiver.spoof(7.25)
        await asyncio.sleep(30.0)

    bench.play(script)
    assert bench.errors_s()[2:] == pytest.approx([7.25] * len(bench.errors_s()[2:]), abs=1e-6)


def test_a_wrong_leap_moves_the_names_and_not_the_marks() -> None:
    bench = Bench(datetime(2026, 3, 2, tzinfo=UTC))

    async def script() -> None:
        await asyncio.sleep(60.0)
        bench.samples.clear()
        bench.receiver.mistake_leap(1)
        await asyncio.sleep(10.0)

    bench.play(script)
    assert bench.errors_s()[1:] == pytest.approx([-1.0] * len(bench.errors_s()[1:]), abs=1e-6)
    assert bench.driver.leap_s == 19


@pytest.mark.requirement("UC-VI.3")
def test_the_receiver_counts_to_60_in_a_leap_second() -> None:
    bench = Bench()
    bench.clock.leaps.insert(LeapSecond(MIDNIGHT))
    lines: list[bytes] = []

    async def script() -> None:
        await asyncio.sleep(95.0)

    bench.listeners.append(lambda data: lines.extend(data.replace(b"\x01", b"").split(b"\r\n")))
    bench.play(script)
    named = [
        found.time.encode()[:6] for line in lines if line and isinstance(found := decode(line), Zda) and found.time
    ]
    place = named.index("235960")
    assert named[place - 1 : place + 2] == ["235959", "235960", "000000"]
    assert max(map(abs, bench.errors_s())) < 1e-6
    leaps = [found.leap_s for line in lines if line and isinstance(found := decode(line), LeapSeconds)]
    assert (leaps[0], leaps[-1]) == (18, 19)


def test_sentences_that_do_not_belong_to_the_mark_give_no_sample() -> None:
    bench = Bench(datetime(2026, 3, 2, tzinfo=UTC))
    taken: list[bytes] = []
    bench.listeners.append(taken.append)
    bench.play(lambda: asyncio.sleep(40.0))
    marks = [index for index, data in enumerate(taken) if data == b"\x01"]
    sentences = taken[marks[-1] + 1]
    rmc, gga, zda, _ = sentences.split(b"\r\n")[:4]
    assert isinstance(decode(rmc), Rmc)
    bench.driver.start()
    feed, samples = bench.feed, bench.samples
    cases = {
        "without a mark": sentences,
        "without RMC": b"\x01" + b"\r\n".join((gga, zda, b"")),
        "without GGA": b"\x01" + b"\r\n".join((rmc, zda, b"")),
        "RMC of another second": b"\x01" + b"\r\n".join((taken[marks[-2] + 1].split(b"\r\n")[0], gga, zda, b"")),
        "a flipped bit": b"\x01" + b"\r\n".join((rmc, gga, zda[:12] + bytes((zda[12] ^ 1,)) + zda[13:], b"")),
    }
    samples.clear()
    for name, data in cases.items():
        feed(data)
        assert not samples, name
    feed(b"\x01" + sentences)
    assert len(samples) == 1, "and with everything there it is one"


def test_an_oscillator_counts_without_jumps() -> None:
    now = [0.0]
    oscillator = Oscillator(lambda: now[0], ppm=50.0, swing_ppm=2.0)
    now[0] = 43_200.0
    half_day = oscillator.read_s()
    assert half_day - 43_200.0 == pytest.approx(43_200 * 50e-6 + 2e-6 * 86_400 / 3.14159265, rel=1e-3)
    oscillator.retune(-10.0)
    assert oscillator.read_s() == pytest.approx(half_day, abs=1e-9)
    now[0] = 86_400.0
    assert oscillator.read_s() - half_day < 43_200.0


@given(st.floats(-100, 100), st.floats(0, 5), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_moment_is_found_again_by_its_count(ppm: float, swing_ppm: float, began_s: float, after_s: float) -> None:
    oscillator = Oscillator(lambda: began_s, ppm=ppm, swing_ppm=swing_ppm)
    at_s = began_s + after_s
    assert oscillator.when_s(oscillator.count_s(at_s)) == pytest.approx(at_s, abs=1e-8, rel=1e-15)


def test_leap_seconds_of_the_world() -> None:
    leaps = WorldLeaps()
    leaps.insert(LeapSecond(MIDNIGHT))
    assert leaps.utc_s(MIDNIGHT - 0.5) == MIDNIGHT - 0.5
    assert leaps.utc_s(MIDNIGHT + 0.5) == MIDNIGHT - 0.5
    assert leaps.is_inserted(MIDNIGHT + 0.5)
    assert leaps.utc_s(MIDNIGHT + 1.5) == MIDNIGHT + 0.5
    leaps.insert(LeapSecond(MIDNIGHT + 86_400, -1))
    assert leaps.utc_s(MIDNIGHT + 86_400 - 0.5 + 1) == MIDNIGHT + 86_400 + 0.5
    assert leaps.count(MIDNIGHT + 2 * 86_400) == 0
    for wrong in (LeapSecond(MIDNIGHT), LeapSecond(MIDNIGHT + 90_000), LeapSecond(MIDNIGHT + 3 * 86_400, 2)):
        with pytest.raises(BadInputError):
            leaps.insert(wrong)
