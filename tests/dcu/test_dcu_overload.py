"""More is asked for than the air carries, callers give up, routes break: what was begun must not be in vain."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from dcu_fakes import Bench, FakeMeter, bench

from dcu.config import DlmsTimeouts
from protocols.dlms.enums import ServiceError, StateError
from protocols.dlms.exception import ExceptionResponse
from protocols.dlms.wrapper import Wpdu
from protocols.headend import messages as m

GLO_GET_RESPONSE = 204

__all__ = ["bench"]


def answered(bench: Bench, status: m.ReadingStatus) -> int:
    return sum(response.status is status for response in bench.headend.of(m.ReadingResponse))


def test_requests_that_are_repeated_at_their_deadlines_do_not_starve_each_other(bench: Bench) -> None:
    """Fifteen meters, each asked again whenever its ten seconds are over, over a mesh that carries about four in them.

    First come, first served alone would end with a queue whose head is always about to expire, and nobody read.
    """
    bench.config = replace(bench.config, dlms=DlmsTimeouts())
    meters = [FakeMeter(number) for number in range(1, 16)]

    async def read(meter: FakeMeter) -> None:
        for turn in range(20):
            name = f"{meter.serial}-{turn}"
            bench.headend.request(name, meter, 10)
            await bench.until(lambda name=name: bench.headend.responses(name), 15)  # type: ignore[misc]
            if bench.headend.responses(name)[0].status is m.ReadingStatus.OK:
                return

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        for meter in meters:
            meter.restart()
        bench.mesh.airtime_s = 0.3
        await asyncio.gather(*(read(meter) for meter in meters))
        assert answered(bench, m.ReadingStatus.OK) == len(meters)
        assert answered(bench, m.ReadingStatus.REFUSED) == 0

    bench.run(body)


def test_a_turn_that_comes_too_late_sends_nothing(bench: Bench) -> None:
    slow, late = FakeMeter(1), FakeMeter(2)
    bench.config = replace(bench.config, parallel_readings=1)

    async def body() -> None:
        bench.start()
        await bench.registered(slow, late)
        slow.alive = False
        bench.headend.request("slow", slow, 6.0)
        bench.headend.request("late", late, 6.5)
        await bench.until(lambda: bench.headend.responses("late"), 15)
        assert "other meters were asked before it" in bench.headend.responses("late")[0].detail
        assert bench.headend.responses("late")[0].status is m.ReadingStatus.TIMEOUT
        assert late.address not in [address for sent_s, address in bench.mesh.sent if sent_s > bench.loop.time() - 7.0]

    bench.run(body)


def test_an_association_that_was_broken_off_is_continued_by_the_next_caller(bench: Bench) -> None:
    """Its answers are late: a new association would take them for its own, and prove itself with a wrong challenge."""
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        meter.alive = False
        bench.headend.request("silent", meter, 11.0)
        await bench.until(lambda: bench.headend.responses("silent"), 15)
        meter.alive = True
        before = started.counters()["dlms"]
        bench.mesh.delay_s = 1.8
        for number in range(4):
            bench.headend.request(f"r{number}", meter, 3.0)
            await asyncio.sleep(2.3)
        bench.headend.request("last", meter, 30)
        await bench.until(lambda: bench.headend.responses("last"), 40)
        assert bench.headend.responses("last")[0].status is m.ReadingStatus.OK
        after = started.counters()["dlms"]
        assert after["associations"] == before["associations"] + 1
        causes = [fields["cause"] for kind, fields in bench.events if kind == "dlms.client"]
        assert "REFUSED" not in causes

    bench.run(body)


@pytest.mark.requirement("NET-2")
def test_a_meter_without_a_route_is_waited_for_without_holding_a_place_on_the_air(bench: Bench) -> None:
    broken, whole = FakeMeter(1), FakeMeter(2)
    bench.config = replace(bench.config, parallel_readings=1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(broken, whole)
        registrations = started.counters()["registration"]["registered"]
        bench.mesh.break_route(broken)
        sent = len(bench.mesh.sent)
        bench.headend.request("broken", broken, 60)
        bench.headend.request("whole", whole, 60)
        await bench.until(lambda: bench.headend.responses("whole"), 10)
        assert bench.headend.responses("whole")[0].status is m.ReadingStatus.OK
        assert not bench.headend.responses("broken")
        assert broken.address not in [address for _, address in bench.mesh.sent[sent:]]
        bench.mesh.join(broken)
        await bench.until(lambda: bench.headend.responses("broken"), 10)
        assert bench.headend.responses("broken")[0].status is m.ReadingStatus.OK
        assert started.counters()["registration"]["registered"] == registrations

    bench.run(body)


def test_the_operator_is_told_that_the_route_is_broken(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.break_route(meter)
        bench.headend.request("r", meter, 5)
        await bench.until(lambda: bench.headend.responses("r"), 15)
        (response,) = bench.headend.responses("r")
        assert response.status is m.ReadingStatus.TIMEOUT
        assert "no route" in response.detail

    bench.run(body)


@pytest.mark.requirement("UC-II.1")
def test_a_meter_that_got_old_copies_of_requests_is_not_refused(bench: Bench) -> None:
    """A mesh that doubles requests delivers some behind newer ones; the meter's exceptions name no request."""
    meter, left = FakeMeter(1), 2
    exception = ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, ServiceError.INVOCATION_COUNTER_ERROR, 99).encode()

    def objects(datagram: bytes) -> bytes:
        nonlocal left
        wpdu = Wpdu.decode(datagram)
        if wpdu.apdu[0] != GLO_GET_RESPONSE or not left:
            return datagram
        left -= 1
        return Wpdu(wpdu.source_port, wpdu.destination_port, exception).encode()

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.up = objects
        bench.headend.request("read", meter, 120.0)
        await bench.until(lambda: bench.headend.responses("read"), 150)

    bench.run(body)
    assert left == 0
    assert bench.headend.responses("read")[0].status is m.ReadingStatus.OK
    assert bench.state(meter) == "registered"
    assert bench.headend.events("meter-refused") == []
