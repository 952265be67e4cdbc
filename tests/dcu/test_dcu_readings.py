"""Use case II at the concentrator: on-demand readings, deadlines, duplicates, healing; the uplink that goes away."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from dcu_fakes import ABSENT, DEMAND, ENERGY, START_UTC_S, VOLTAGE, Bench, FakeMeter, bench

from dcu.storage import StorageError
from protocols.headend import messages as m
from protocols.headend.topics import Channel, Topic

__all__ = ["bench"]


@pytest.mark.requirement("UC-II.1")
def test_a_reading_has_values_with_scaler_unit_and_the_meters_time(bench: Bench) -> None:
    meter = FakeMeter(7)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.headend.request("r1", meter, 30, ENERGY, VOLTAGE, DEMAND, ABSENT)
        await bench.until(lambda: bench.headend.responses("r1"), 30)
        (response,) = bench.headend.responses("r1")
        assert response.status is m.ReadingStatus.OK
        assert response.serial == meter.serial
        assert [(value.obis, value.value, value.unit) for value in response.values] == [
            (ENERGY.obis, Decimal(7000), "Wh"),
            (VOLTAGE.obis, Decimal("230.1"), "V"),
            (DEMAND.obis, Decimal("4.321"), "W"),
        ]
        assert response.values[2].capture_time_utc_ms == round((START_UTC_S - 43_200) * 1000)
        assert response.missing == (m.MissingValue(ABSENT.obis, m.MissingReason.UNDEFINED),)
        assert response.meter_time_utc_ms is not None
        assert abs(response.meter_time_utc_ms - response.completed_utc_ms) < 2000
        assert response.attempts == 1

    bench.run(body)


def test_the_association_is_reused_and_units_are_not_asked_again(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        for number in range(5):
            bench.headend.request(f"r{number}", meter, 30)
            await bench.until(lambda number=number: bench.headend.responses(f"r{number}"), 30)  # type: ignore[misc]
        assert started.counters()["dlms"]["associations"] == 1
        before = meter.requests
        bench.headend.request("again", meter, 30)
        await bench.until(lambda: bench.headend.responses("again"), 30)
        assert meter.requests == before + 1

    bench.run(body)


def test_requests_to_many_meters_run_side_by_side_and_in_order_for_each(bench: Bench) -> None:
    meters = [FakeMeter(number) for number in range(1, 9)]

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        begin_s = bench.loop.time()
        for meter in meters:
            for turn in range(2):
                bench.headend.request(f"{meter.serial}-{turn}", meter, 60)
        await bench.until(lambda: len(bench.headend.of(m.ReadingResponse)) == 16, 60)
        assert bench.loop.time() - begin_s < 8.0
        order = [response.request_id for response in bench.headend.of(m.ReadingResponse)]
        for meter in meters:
            assert order.index(f"{meter.serial}-0") < order.index(f"{meter.serial}-1")

    bench.run(body)


@pytest.mark.requirement("UC-II.2")
def test_an_unreachable_meter_times_out_at_the_deadline_and_is_left_alone_after_it(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        meter.alive = False
        asked_s = bench.loop.time()
        bench.headend.request("r1", meter, 25)
        await bench.until(lambda: bench.headend.responses("r1"), 60)
        (response,) = bench.headend.responses("r1")
        assert response.status is m.ReadingStatus.TIMEOUT
        assert response.completed_utc_ms == pytest.approx((START_UTC_S + asked_s + 25) * 1000, abs=50)
        assert "no answer" in response.detail
        assert response.attempts >= 1
        sent = len(bench.mesh.sent)
        assert sent > 3  # it was tried again before the deadline
        meter.alive = True
        await asyncio.sleep(600)
        assert len(bench.mesh.sent) == sent
        assert len(bench.headend.responses("r1")) == 1

    bench.run(body)


@pytest.mark.requirement("UC-II.2")
def test_a_meter_that_left_the_mesh_times_out_with_that_reason(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.lose(meter)
        sent = len(bench.mesh.sent)
        bench.headend.request("r1", meter, 20)
        await bench.until(lambda: bench.headend.responses("r1"), 60)
        (response,) = bench.headend.responses("r1")
        assert response.status is m.ReadingStatus.TIMEOUT
        assert "lost" in response.detail
        assert len(bench.mesh.sent) == sent

    bench.run(body)


def test_a_request_that_came_after_its_deadline_is_not_tried(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        sent = len(bench.mesh.sent)
        bench.headend.request("late", meter, 0.1)  # the link alone takes 0.6 s
        await bench.until(lambda: bench.headend.responses("late"), 10)
        assert bench.headend.responses("late")[0].status is m.ReadingStatus.TIMEOUT
        assert len(bench.mesh.sent) == sent

    bench.run(body)


@pytest.mark.requirement("NET-2")
def test_a_reading_succeeds_when_the_route_heals_before_the_deadline(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        meter.alive = False
        bench.headend.request("silent", meter, 60)
        await asyncio.sleep(15)
        meter.alive = True
        await bench.until(lambda: bench.headend.responses("silent"), 60)
        assert bench.headend.responses("silent")[0].status is m.ReadingStatus.OK
        assert bench.headend.responses("silent")[0].attempts > 1
        bench.mesh.lose(meter)
        bench.headend.request("lost", meter, 60)
        await asyncio.sleep(15)
        bench.mesh.join(meter)
        await bench.until(lambda: bench.headend.responses("lost"), 20)
        assert bench.headend.responses("lost")[0].status is m.ReadingStatus.OK

    bench.run(body)


@pytest.mark.requirement("UC-II.1")
def test_a_meter_that_has_proved_itself_is_read_before_the_headend_has_acknowledged(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        first = bench.start()
        await bench.registered(meter)
        first.halt()
        bench.headend.acknowledges = False
        bench.start()
        bench.mesh.join(meter, restarted=False)
        await asyncio.sleep(2)
        bench.headend.request("r1", meter, 30)
        await bench.until(lambda: bench.headend.responses("r1"), 20)
        assert bench.state(meter) == "announced"
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.OK

    bench.run(body)


@pytest.mark.requirement("UC-I.4")
def test_a_meter_that_registers_anew_in_the_middle_of_a_reading_is_read_afterwards(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        for number, wait_s in enumerate((0.7, 1.0, 3.0, 5.5)):
            meter.alive = False
            bench.headend.request(f"r{number}", meter, 60)
            await asyncio.sleep(wait_s)
            bench.mesh.lose(meter)
            meter.restart()
            meter.alive = True
            bench.mesh.join(meter, restarted=True)
            await bench.until(lambda number=number: bench.headend.responses(f"r{number}"), 60)  # type: ignore[misc]
            assert bench.headend.responses(f"r{number}")[0].status is m.ReadingStatus.OK
        assert len(bench.headend.rows) == 1

    bench.run(body)


def test_a_meter_that_restarted_unnoticed_is_associated_again_within_the_reading(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        meter.restart()
        bench.headend.request("r1", meter, 60)
        await bench.until(lambda: bench.headend.responses("r1"), 60)
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.OK
        assert started.counters()["dlms"]["associations"] == 2

    bench.run(body)


def test_a_request_that_is_delivered_twice_is_answered_once(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        request = bench.headend.reading_request("r1", meter, 30)
        bench.headend.send(request)
        bench.headend.send(request)
        await bench.until(lambda: bench.headend.responses("r1"), 30)
        bench.headend.send(request)
        await asyncio.sleep(60)
        assert len(bench.headend.responses("r1")) == 1
        assert meter.energy_wh == 1000

    bench.run(body)


def test_an_unknown_meter_is_answered_at_once(bench: Bench) -> None:
    async def body() -> None:
        bench.start()
        await asyncio.sleep(3)
        bench.headend.request("r1", FakeMeter(9), 30)
        await bench.until(lambda: bench.headend.responses("r1"), 3)
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.UNKNOWN_METER

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_a_meter_whose_keys_changed_is_refused_in_the_reading_and_registers_anew(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        meter.keys = FakeMeter(2).keys
        meter.restart()
        bench.headend.request("r1", meter, 60)
        await bench.until(lambda: bench.headend.responses("r1"), 90)
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.REFUSED
        assert bench.headend.events("meter-refused")
        bench.headend.known(meter)
        await bench.until(lambda: bench.state(meter) == "registered", 200)

    bench.run(body)


def test_malformed_messages_are_counted_and_change_nothing(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        assert bench.uplink is not None
        topic = Topic("dcu-1", Channel.REQUEST).encode()
        good = m.encode_message(bench.headend.reading_request("r1", meter, 30))
        for end in range(len(good)):
            bench.uplink.deliver(topic, good[:end])
        bench.uplink.deliver(topic, b"\xff\xfe")
        bench.uplink.deliver(Topic("dcu-1", Channel.CREDENTIALS).encode(), good)
        assert started.counters()["headend"]["malformed"] == len(good) + 2
        bench.uplink.deliver(topic, good)
        await bench.until(lambda: bench.headend.responses("r1"), 30)

    bench.run(body)


def test_a_broker_that_goes_away_loses_no_reading_and_doubles_none(bench: Bench) -> None:
    meters = [FakeMeter(number) for number in range(1, 5)]

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        for meter in meters:
            bench.headend.request(f"r-{meter.serial}", meter, 60)
        await asyncio.sleep(0.7)  # the requests are there, the answers are not
        assert bench.uplink is not None
        bench.uplink.disconnect()
        await asyncio.sleep(86_400)
        assert bench.headend.of(m.ReadingResponse) == []
        bench.uplink.connect()
        await bench.until(lambda: len(bench.headend.of(m.ReadingResponse)) == 4, 30)
        await asyncio.sleep(60)
        responses = bench.headend.of(m.ReadingResponse)
        assert sorted(response.request_id for response in responses) == [f"r-{meter.serial}" for meter in meters]
        assert {response.status for response in responses} == {m.ReadingStatus.OK}

    bench.run(body)


def test_answers_that_waited_for_the_broker_survive_a_power_cut_of_the_concentrator(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        first = bench.start()
        await bench.registered(meter)
        bench.headend.request("r1", meter, 60)
        await asyncio.sleep(0.7)
        assert bench.uplink is not None
        bench.uplink.disconnect()
        await asyncio.sleep(30)
        first.halt()
        await asyncio.sleep(10)
        bench.start()
        await bench.until(lambda: bench.headend.responses("r1"), 30)
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.OK

    bench.run(body)


def test_an_orderly_stop_answers_what_runs_and_says_offline(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        assert bench.headend.status is not None
        assert bench.headend.status.state is m.DcuState.ONLINE
        meter.alive = False
        bench.headend.request("r1", meter, 600)
        await asyncio.sleep(5)
        await started.stop()
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.ERROR
        assert bench.headend.status.state is m.DcuState.OFFLINE
        assert bench.headend.status.clean

    bench.run(body)


def test_a_halted_concentrator_does_nothing_more(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        await bench.registered(meter)
        meter.alive = False
        bench.headend.request("r1", meter, 30)
        await asyncio.sleep(3)
        sent, written = len(bench.mesh.sent), bench.storage.bytes_written
        started.halt()
        await asyncio.sleep(600)
        assert len(bench.mesh.sent) == sent
        assert bench.storage.bytes_written == written
        assert bench.headend.responses("r1") == []

    bench.run(body)


def test_a_full_storage_costs_no_reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = FakeMeter(1)

    def refuse(name: str, data: bytes) -> None:
        raise StorageError("no space left")

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        with monkeypatch.context() as patch:
            patch.setattr(bench.storage, "write", refuse)
            patch.setattr(bench.storage, "append", refuse)
            for number in range(5):
                bench.headend.request(f"r{number}", meter, 30)
                await bench.until(lambda number=number: bench.headend.responses(f"r{number}"), 40)  # type: ignore[misc]
                assert bench.headend.responses(f"r{number}")[0].status is m.ReadingStatus.OK
        assert any(kind == "dcu-storage-error" for kind, _ in bench.events)

    bench.run(body)


def test_without_a_counter_that_can_be_stored_nothing_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = FakeMeter(1)

    def refuse(name: str, data: bytes) -> None:
        raise StorageError("no space left")

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        monkeypatch.setattr(bench.storage, "write", refuse)
        for number in range(400):
            sent = len(bench.mesh.sent)
            bench.headend.request(f"r{number}", meter, 20)
            await bench.until(lambda number=number: bench.headend.responses(f"r{number}"), 40)  # type: ignore[misc]
            (response,) = bench.headend.responses(f"r{number}")
            if response.status is not m.ReadingStatus.OK:
                break
        # What was reserved ahead is used up; beyond it a restart would use the same numbers again.
        assert number > 50
        assert response.status is m.ReadingStatus.TIMEOUT
        assert "no space left" in response.detail
        assert len(bench.mesh.sent) == sent

    bench.run(body)


@pytest.mark.requirement("SEC-1")
def test_invocation_counters_never_repeat_over_restarts(bench: Bench) -> None:
    meter = FakeMeter(1)
    ciphered: list[bytes] = []

    async def body() -> None:
        bench.mesh.down = lambda datagram: ciphered.append(datagram) or datagram  # type: ignore[func-returns-value]
        for turn in range(3):
            started = bench.start()
            bench.headend.known(meter)
            bench.mesh.join(meter)
            await bench.until(lambda: bench.state(meter) == "registered", 60)
            bench.headend.request(f"r{turn}", meter, 30)
            await bench.until(lambda turn=turn: bench.headend.responses(f"r{turn}"), 30)  # type: ignore[misc]
            started.halt()

    bench.run(body)
    # glo-GET-Request and glo-ACTION-Request: tag, length, security control, invocation counter.
    counters = [datagram[11:15] for datagram in ciphered if datagram[8] in (0xC8, 0xCB) and datagram[9] < 0x80]
    assert len(counters) > 6
    assert len(set(counters)) == len(counters)
