"""The concentrator's PTP slave and the emulated grandmaster, in memory and over real UDP ports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from dcu.discipline import TimeSample
from dcu.ptp import PtpSlave
from dcu.ptp_link import UdpPtpPort
from protocols.ptp import Announce, Flags, Header, PortIdentity, Timestamp, decode, encode
from twin.backhaul.ptp import Grandmaster, PtpLine, UdpGrandmaster
from twin.clock.clocks import RealClock, VirtualClock
from twin.clock.leaps import LeapSecond

MIDNIGHT = 1_782_864_000
SLAVE = bytes(range(8))


class Bench:
    def __init__(self, start: datetime = datetime(2026, 3, 2, 8, tzinfo=UTC), delay_s: float = 0.002) -> None:
        self.clock = VirtualClock(start)
        self.master = Grandmaster(self.clock)
        self.line = PtpLine(self.clock, self.master, random.Random(1), delay_s=delay_s, jitter_s=0.0)
        self.samples: list[tuple[float, TimeSample]] = []
        self.leaps: list[tuple[int, int]] = []
        self.slave = PtpSlave(
            self.line,
            SLAVE,
            timers=self.clock.timers,
            oscillator_s=self.clock.now,
            on_sample=lambda sample: self.samples.append((self.clock.utc_s() - self.clock.now(), sample)),
            on_leap=lambda at, step: self.leaps.append((at, step)),
        )

    def play(self, script: Callable[[], Awaitable[None]]) -> Bench:
        async def main() -> None:
            self.slave.start()
            await script()
            self.slave.stop()
            self.master.stop()

        self.clock.run(main())
        return self

    def errors_s(self) -> list[float]:
        return [sample.utc_s - sample.at_s - zero_s for zero_s, sample in self.samples]


@pytest.mark.requirement("UC-VI.1")
def test_the_delay_of_the_way_is_measured_and_taken_off() -> None:
    bench = Bench(delay_s=0.125).play(lambda: asyncio.sleep(30))
    assert len(bench.samples) >= 28
    assert bench.slave.delay_s == pytest.approx(0.125, abs=1e-6)
    assert max(map(abs, bench.errors_s())) < 1e-6
    assert all(sample.uncertainty_s == pytest.approx(0.0626, abs=1e-4) for _, sample in bench.samples)


def test_service_is_renewed_before_it_ends() -> None:
    bench = Bench().play(lambda: asyncio.sleep(3600))
    assert len(bench.samples) > 3590


def test_service_ends_with_the_slave() -> None:
    bench = Bench()

    async def script() -> None:
        await asyncio.sleep(20)
        bench.slave.stop()
        seen: list[bytes] = []
        bench.line.on_datagram(seen.append)
        await asyncio.sleep(400)
        seen.clear()
        await asyncio.sleep(100)
        assert not seen, "a grant has its end"

    bench.play(script)


def test_a_master_that_falls_silent_is_asked_again_until_it_speaks() -> None:
    bench = Bench()

    async def script() -> None:
        await asyncio.sleep(20)
        bench.master.fall_silent()
        await asyncio.sleep(5)
        before = len(bench.samples)
        await asyncio.sleep(1000)
        assert len(bench.samples) == before
        bench.master.speak()
        await asyncio.sleep(150)
        assert len(bench.samples) > before + 20

    bench.play(script)


def test_a_master_without_reference_is_not_believed() -> None:
    bench = Bench()

    async def script() -> None:
        await asyncio.sleep(20)
        assert bench.slave.has_master
        bench.master.lose_reference()
        await asyncio.sleep(2)
        before = len(bench.samples)
        await asyncio.sleep(20)
        assert len(bench.samples) == before
        assert not bench.slave.has_master

    bench.play(script)


def test_a_misleading_master_is_told_from_its_time_only() -> None:
    bench = Bench()

    async def script() -> None:
        bench.master.mislead(2.5)
        await asyncio.sleep(20)

    bench.play(script)
    assert bench.errors_s() == pytest.approx([2.5] * len(bench.samples), abs=1e-6)


@pytest.mark.requirement("UC-VI.3")
def test_a_leap_second_is_announced_and_counted() -> None:
    bench = Bench(datetime(2026, 6, 30, 23, 58, 30, tzinfo=UTC))
    bench.clock.leaps.insert(LeapSecond(MIDNIGHT))
    bench.play(lambda: asyncio.sleep(180))
    assert set(bench.leaps) == {(MIDNIGHT, 1)}
    late = [abs(error) for error, (_, sample) in zip(bench.errors_s(), bench.samples, strict=True) if sample.at_s > 95]
    assert max(late) < 1e-6


def test_messages_of_others_and_noise_change_nothing() -> None:
    bench = Bench()
    stranger = Header(PortIdentity(b"stranger", 1), 1, Flags.PTP_TIMESCALE | Flags.UTC_OFFSET_VALID, domain=3)

    async def script() -> None:
        await asyncio.sleep(10)
        for data in (b"", b"\x00" * 44, encode(Announce(stranger, 12, b"stranger")), bytes(range(200))):
            bench.line.deliver(data)
            bench.master.received(data, lambda _data, _is_event: None)
        await asyncio.sleep(10)

    bench.play(script)
    assert max(map(abs, bench.errors_s())) < 1e-6
    assert bench.slave.counters["malformed"] == 3
    assert bench.slave.counters["other_domain"] == 1


def test_over_real_udp_ports_the_slave_finds_the_master_s_time() -> None:
    clock = RealClock()
    found: list[float] = []

    async def main() -> None:
        master = Grandmaster(clock)
        server = UdpGrandmaster(master, clock.loop)
        await server.start()
        port = UdpPtpPort("127.0.0.1", server.ports, clock.loop, local=(0, 0))
        done = clock.loop.create_future()

        def sampled(sample: TimeSample) -> None:
            found.append(sample.utc_s - (sample.at_s + clock.utc_s() - clock.now()))
            if len(found) == 2 and not done.done():
                done.set_result(None)

        slave = PtpSlave(
            port, SLAVE, timers=clock.loop, oscillator_s=clock.now, on_sample=sampled, on_leap=lambda at, step: None
        )
        slave.start()
        try:
            async with asyncio.timeout(60):
                await done
        finally:
            slave.stop()
            port.close()
            server.stop()
            await asyncio.sleep(0)

    clock.run(main())
    # Both clocks are the same one here; how long the machine kept a datagram is what is left.
    assert min(map(abs, found)) < 0.5


def test_ports_that_are_taken_are_an_error() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = UdpPtpPort("127.0.0.1", (9, 9), loop, local=(0, 0))
        taken = first.local_ports
        with pytest.raises(OSError, match="in use"):
            UdpPtpPort("127.0.0.1", (9, 9), loop, local=taken)
        first.close()

    asyncio.run(main())


def test_a_time_stamp_keeps_its_nanoseconds() -> None:
    header = Header(PortIdentity(SLAVE, 1), 1)
    message = decode(encode(Announce(header, 37, SLAVE)))
    assert isinstance(message, Announce)
    assert Timestamp(1_782_864_037_123_456_789).tai_s == pytest.approx(1_782_864_037.1234567)
