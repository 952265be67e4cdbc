"""Use cases III, IV and VI at the concentrator: parts of a range, pushes and gaps, clocks. Fake meters and mesh."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from dcu_fakes import CONFIG, START_UTC_S, Bench
from dcu_fakes import bench as bench
from profile_fakes import PERIOD_S, ProfileMeter

from dcu.clock_sync import ClockOffset
from dcu.config import CollectionPolicy
from dcu.timekeeping import TimeQuality
from protocols.headend.bulk import (
    BundleAck,
    BundlePart,
    BundleStatus,
    ProfileChunk,
    ProfileEnd,
    ProfileRequest,
    ProfileStatus,
)
from protocols.headend.bundle import unpack_bundle
from protocols.headend.messages import ReadingStatus
from protocols.headend.time_check import ClockQuery, ClockReport, TimeSource, clock_offset_s

DAY_S = 86_400
DAYS = 5


def meter_with_rows(number: int = 1, days: int = DAYS) -> ProfileMeter:
    meter = ProfileMeter(number)
    for index in range(days * DAY_S // PERIOD_S):
        meter.capture(START_UTC_S - days * DAY_S + index * PERIOD_S)
    return meter


def request(bench: Bench, meter: ProfileMeter, identifier: str = "profile-1", deadline_s: float = 3600.0) -> Any:
    return ProfileRequest(
        identifier,
        meter.serial,
        "load",
        ("1-0:99.1.0*255",),
        round((START_UTC_S - DAYS * DAY_S) * 1000),
        round((START_UTC_S - 1) * 1000),
        round((START_UTC_S + bench.loop.time() + deadline_s) * 1000),
    )


def rows_in(bench: Bench) -> list[Any]:
    return [row for chunk in bench.headend.of(ProfileChunk) for row in chunk.table.rows]


def ends(bench: Bench) -> list[ProfileStatus]:
    return [end.status for end in bench.headend.of(ProfileEnd)]


@pytest.mark.requirement("UC-III.1")
def test_a_range_comes_in_bounded_parts_with_scaled_values_in_order(bench: Bench) -> None:
    meter = meter_with_rows()

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.headend.send(request(bench, meter))
        await bench.until(lambda: ends(bench), 300)

    bench.run(body)
    assert ends(bench) == [ProfileStatus.OK]
    rows = rows_in(bench)
    assert [row.captured_utc_ms for row in rows] == [
        round((START_UTC_S - DAYS * DAY_S + index * PERIOD_S) * 1000) for index in range(DAYS * 48)
    ]
    assert [row.values for row in rows[:2]] == [(Decimal(1000),), (Decimal(1001),)]
    chunks = bench.headend.of(ProfileChunk)
    assert all(len(chunk.table.rows) <= 96 for chunk in chunks)
    assert [column.unit for column in chunks[0].table.columns] == ["Wh"]
    assert len(chunks) >= 3


@pytest.mark.requirement("UC-III.1")
def test_a_restart_carries_on_behind_the_last_part(bench: Bench) -> None:
    meter = meter_with_rows()

    async def body() -> None:
        first = bench.start()
        await bench.registered(meter)
        bench.headend.send(request(bench, meter))
        await bench.until(lambda: bench.headend.of(ProfileChunk), 300)
        reads = meter.range_reads
        first.halt()
        bench.start()
        bench.mesh.join(meter)
        await bench.until(lambda: ends(bench), 300)
        assert meter.range_reads - reads < reads + 4

    bench.run(body)
    captured = {row.captured_utc_ms for row in rows_in(bench)}
    assert len(captured) == DAYS * 48
    assert ends(bench) == [ProfileStatus.OK]


def test_a_request_that_comes_twice_is_answered_once(bench: Bench) -> None:
    meter = meter_with_rows(days=1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        for _ in range(2):
            bench.headend.send(request(bench, meter))
        await bench.until(lambda: ends(bench), 300)
        bench.headend.send(request(bench, meter))
        await asyncio.sleep(30)

    bench.run(body)
    assert ends(bench) == [ProfileStatus.OK]
    assert len(rows_in(bench)) == 48


def test_what_cannot_be_read_ends_with_its_reason(bench: Bench) -> None:
    meter = meter_with_rows(days=1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.headend.send(replace(request(bench, meter, "a"), serial="NOBODY"))
        bench.headend.send(replace(request(bench, meter, "b"), candidates=("0-0:98.1.0*255",)))
        await bench.until(lambda: len(ends(bench)) == 2, 300)
        bench.mesh.lose(meter)
        bench.headend.send(request(bench, meter, "c", deadline_s=60.0))
        await bench.until(lambda: len(ends(bench)) == 3, 300)

    bench.run(body)
    assert ends(bench) == [ProfileStatus.UNKNOWN_METER, ProfileStatus.UNDEFINED, ProfileStatus.TIMEOUT]
    assert rows_in(bench) == []


def collecting(bench: Bench) -> None:
    """Midnight is at the start of the bench; a bundle is due an hour later each day."""
    bench.config = replace(CONFIG, collection=CollectionPolicy(bundle_after_s=3600.0, patience_s=300.0))


def acknowledge(bench: Bench) -> None:
    heard, received = bench.headend, bench.headend.received

    def take(topic: str, payload: bytes) -> None:
        received(topic, payload)
        part = heard.heard[-1]
        if isinstance(part, BundlePart) and part.number == part.count:
            heard.send(BundleAck(part.bundle_id, BundleStatus.STORED))

    bench.headend.received = take  # type: ignore[method-assign]


def bundles(bench: Bench) -> list[Any]:
    return [unpack_bundle(part.data) for part in bench.headend.of(BundlePart)]


@pytest.mark.requirement("UC-IV.1")
def test_pushed_rows_are_bundled_and_a_lost_push_is_pulled(bench: Bench) -> None:
    collecting(bench)
    acknowledge(bench)
    pushing, silent = meter_with_rows(1, days=1), meter_with_rows(2, days=1)

    async def body() -> None:
        bench.start()
        await bench.registered(pushing, silent)
        await asyncio.sleep(2 * 3600)
        assert len(bundles(bench)) == 1  # what was there before the concentrator was
        for hour in range(25):
            for meter in (pushing, silent):
                meter.capture(START_UTC_S + hour * 3600)
                meter.capture(START_UTC_S + hour * 3600 + PERIOD_S)
        await asyncio.sleep(22 * 3600 + 3000)
        listener = bench.mesh.listener
        assert listener is not None
        listener.datagram(pushing.address, pushing.push(pushing.rows[-50:-25]))
        listener.datagram(pushing.address, pushing.push(pushing.rows[-25:]))
        await asyncio.sleep(900)

    bench.run(body)
    first, second = bundles(bench)
    assert [sum(len(table.rows) for table in meter.tables) for meter in first.meters] == [48, 48]
    # A pull reaches back an hour behind what is known: three rows come again.
    assert [sum(len(table.rows) for table in meter.tables) for meter in second.meters] == [50, 53]
    assert [meter.pushed for meter in second.meters] == [50, 0]
    for number in range(2):
        captured = {
            row.captured_utc_ms
            for bundle in (first, second)
            for table in bundle.meters[number].tables
            for row in table.rows
        }
        assert len(captured) == 98


def slow_collection(bench: Bench, patience_s: float) -> list[ProfileMeter]:
    """Twelve meters that were never collected; their mesh carries three datagrams a second."""
    policy = CollectionPolicy(bundle_after_s=3600.0, patience_s=patience_s)
    bench.config = replace(CONFIG, collection=policy, parallel_readings=2)
    acknowledge(bench)
    return [meter_with_rows(number, days=1) for number in range(1, 13)]


@pytest.mark.requirement("UC-IV.1")
def test_a_meter_that_waits_for_others_is_not_out_of_reach(bench: Bench) -> None:
    meters = slow_collection(bench, patience_s=25.0)

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        bench.mesh.airtime_s = 0.3
        await bench.until(lambda: bundles(bench), 7200)

    bench.run(body)
    began, ended = (event for event in bench.events if event[0] == "dcu-collection")
    assert (began[1]["meters"], ended[1]["troubled"]) == (12, 0)
    (bundle,) = bundles(bench)
    assert [sum(len(table.rows) for table in meter.tables) for meter in bundle.meters] == [48] * 12
    assert bench.loop.time() > 3600 + 25, "the collection took longer than one meter's patience"


@pytest.mark.requirement("UC-II.1")
def test_an_operator_s_reading_does_not_wait_until_everybody_is_collected(bench: Bench) -> None:
    meters = slow_collection(bench, patience_s=900.0)

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        bench.mesh.airtime_s = 0.3
        await bench.until(lambda: any(kind == "dcu-pull" for kind, _ in bench.events), 7200)
        bench.headend.request("now", meters[-1], 30.0)
        await bench.until(lambda: bench.headend.responses("now"), 60)
        assert bundles(bench) == [], "the collection still goes on"

    bench.run(body)
    assert bench.headend.responses("now")[0].status is ReadingStatus.OK


@pytest.mark.requirement("UC-IV.2")
def test_a_meter_out_of_reach_is_caught_up_with_the_next_day(bench: Bench) -> None:
    collecting(bench)
    acknowledge(bench)
    meter = meter_with_rows(1, days=1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.lose(meter)
        await asyncio.sleep(26 * 3600)
        bench.mesh.join(meter)
        await asyncio.sleep(24 * 3600)

    bench.run(body)
    first, second, third = bundles(bench)
    assert [item.meters[0].trouble for item in (first, second, third)] == ["out of reach", "out of reach", ""]
    assert first.meters[0].tables == ()
    assert sum(len(table.rows) for table in third.meters[0].tables) == 48


@pytest.mark.requirement("UC-IV.2")
def test_a_clock_that_was_ahead_hides_no_row(bench: Bench) -> None:
    collecting(bench)
    acknowledge(bench)
    meter = meter_with_rows(1, days=1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        meter.capture(START_UTC_S + 3 * DAY_S)  # its clock was three days ahead for a moment
        listener = bench.mesh.listener
        assert listener is not None
        listener.datagram(meter.address, meter.push(meter.rows[-1:]))
        await asyncio.sleep(4000)
        for index in range(48):
            meter.capture(START_UTC_S + index * PERIOD_S)
        await asyncio.sleep(26 * 3600)

    bench.run(body)
    first, second = bundles(bench)
    captured = {
        row.captured_utc_ms for bundle in (first, second) for table in bundle.meters[0].tables for row in table.rows
    }
    assert len(captured) == 48 + 1 + 48


@pytest.mark.requirement("UC-IV.2")
def test_a_power_cut_before_the_acknowledgement_loses_nothing(bench: Bench) -> None:
    collecting(bench)
    meter = meter_with_rows(1, days=1)

    async def body() -> None:
        first = bench.start()
        await bench.registered(meter)
        await asyncio.sleep(3700)
        assert len(bundles(bench)) == 1
        first.halt()
        acknowledge(bench)
        bench.start()
        await asyncio.sleep(600)
        assert len(bundles(bench)) == 2

    bench.run(body)
    assert bundles(bench)[0] == bundles(bench)[1]


@pytest.mark.requirement("UC-VI.2")
def test_a_reading_that_finds_drift_sets_every_clock_by_broadcast(bench: Bench) -> None:
    meters = [ProfileMeter(1), ProfileMeter(2), ProfileMeter(3)]

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        for meter, offset_s in zip(meters, (7.0, -400.0, 0.1), strict=True):
            meter.offset_s = offset_s
        bench.headend.request("read-1", meters[0], 60.0)
        await bench.until(lambda: bench.headend.events("clocks-synchronized"), 120)

    bench.run(body)
    assert all(abs(meter.offset_s) < 1.0 for meter in meters)
    assert all(102 in meter.sets for meter in meters)
    (event,) = bench.headend.events("clocks-synchronized")
    assert dict(event.details)["why"] == "drift"


@pytest.mark.requirement("UC-VI.2")
def test_outliers_that_no_broadcast_reached_are_corrected_by_unicast(bench: Bench) -> None:
    deaf, far = ProfileMeter(1), ProfileMeter(2)
    deaf.has_group_setup = far.has_group_setup = False
    deaf.restart()
    far.restart()

    async def body() -> None:
        dcu = bench.start()
        await bench.registered(deaf, far)
        deaf.offset_s, far.offset_s = 30.0, 5000.0
        await dcu.synchronize_clocks()

    bench.run(body)
    assert deaf.shifts == [-30]
    assert far.shifts == []
    assert 1 in far.sets
    assert abs(deaf.offset_s) < 1.0
    assert abs(far.offset_s) < 1.0


@pytest.mark.requirement("UC-VI.4")
def test_a_captured_broadcast_that_is_sent_again_changes_nothing(bench: Bench) -> None:
    meter = ProfileMeter(1)
    captured: list[bytes] = []

    def listen(datagram: bytes) -> bytes:
        if datagram[2:4] == (102).to_bytes(2, "big"):
            captured.append(datagram)
        return datagram

    async def body() -> None:
        dcu = bench.start()
        await bench.registered(meter)
        await dcu.synchronize_clocks()
        bench.mesh.down = listen
        await dcu.synchronize_clocks()
        sets = len(meter.sets)
        await asyncio.sleep(1000)
        assert meter.datagram(captured[0], bench.loop.time()) is None
        assert meter.datagram(captured[0][:-1] + b"\x00", bench.loop.time()) is None
        assert len(meter.sets) == sets

    bench.run(body)
    assert len(captured) == 1
    assert abs(meter.offset_s) < 1.0


@pytest.mark.requirement("UC-VI.1")
@pytest.mark.parametrize(
    ("quality", "may"),
    [
        (TimeQuality(TimeSource.GPS), True),
        (TimeQuality(TimeSource.HOLDOVER, 3600.0), True),
        (TimeQuality(TimeSource.HOLDOVER, 100_000.0), False),
        (TimeQuality(TimeSource.FREE), False),
    ],
)
def test_nobody_is_set_by_a_clock_that_is_not_to_be_relied_on(quality: TimeQuality, may: bool) -> None:
    assert quality.may_set_clocks(86_400.0) is may


def test_drift_is_certain_only_beyond_the_round_trip() -> None:
    assert ClockOffset.measured(105.0, 100.0, 102.0).certainly_beyond(2.0)
    assert not ClockOffset.measured(103.5, 100.0, 102.0).certainly_beyond(2.0)
    assert ClockOffset.measured(97.0, 100.0, 102.0).certainly_beyond(2.0)
    assert ClockOffset.measured(101.0, 100.0, 102.0).middle_s == 0.0


@pytest.mark.requirement("UC-VI.5")
def test_the_concentrator_tells_its_time_and_what_keeps_it(bench: Bench) -> None:
    async def body() -> None:
        bench.start()
        await asyncio.sleep(5)
        bench.headend.send(ClockQuery("q-1", round((START_UTC_S + bench.loop.time()) * 1000)))
        await bench.until(lambda: bench.headend.of(ClockReport), 30)

    bench.run(body)
    (report,) = bench.headend.of(ClockReport)
    offset_s, round_trip_s = clock_offset_s(report, report.sent_utc_ms + 600)
    assert (report.request_id, report.source) == ("q-1", TimeSource.NETWORK)
    assert abs(offset_s) <= round_trip_s / 2
