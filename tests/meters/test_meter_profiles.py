"""Profiles and event logs: what is captured, what marks it, how it is found, and that it stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from meter_bench import START, Bench, Client, constant

from meters.models.library import load_model
from protocols.dlms.data import integer, long, octet_string
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor

CLOCK = CaptureObject(8, ObisCode.parse("0-0:1.0.0*255"), 2)
LOAD = (7, "1-0:99.1.0*255")
DAILY = (7, "1-0:99.2.0*255")
BILLING = (7, "0-0:98.1.0*255")
STANDARD_LOG = (7, "0-0:99.98.0*255")
FRAUD_LOG = (7, "0-0:99.98.1*255")
HOUR_S = 3600.0
NOT_VALID, CLOCK_INVALID, ADJUSTED, POWER_UP, POWER_DOWN = 0x04, 0x02, 0x20, 0x40, 0x80


def when(raw: bytes) -> datetime:
    return DateTime.decode(raw).to_datetime().astimezone(UTC)


def times(rows: list[Any]) -> list[datetime]:
    return [when(row[0]) for row in rows]


def between(start: datetime, end: datetime, *columns: CaptureObject) -> RangeDescriptor:
    limits = (octet_string(DateTime.from_utc_s(moment.timestamp()).encode()) for moment in (start, end))
    return RangeDescriptor(CLOCK, *limits, columns)


def codes(client: Client, log: tuple[int, str]) -> list[int]:
    return [row[1] for row in client.get(*log)]


@pytest.fixture
def bench() -> Bench:
    return Bench(load=constant(600.0))


@pytest.mark.requirement("UC-III.1")
def test_load_profile_has_a_row_for_every_half_hour(bench: Bench) -> None:
    bench.run(10 * HOUR_S + 5)
    rows = bench.client("reader").get(*LOAD)
    assert times(rows) == [START + timedelta(minutes=30 * step) for step in range(1, 21)]
    assert [row[2] for row in rows] == pytest.approx([300 * step for step in range(1, 21)], abs=1)
    assert all(row[5] == 2300 and row[6] == 261 for row in rows)
    assert [row[1] for row in rows] == [POWER_UP | NOT_VALID] + [0] * 19


@pytest.mark.requirement("UC-III.1")
def test_rows_are_found_by_range_with_columns(bench: Bench) -> None:
    bench.run(10 * HOUR_S)
    reader = bench.client("reader")
    start, end = START + timedelta(hours=2), START + timedelta(hours=4)
    assert times(reader.get(*LOAD, selector=between(start, end))) == [
        start + timedelta(minutes=30 * step) for step in range(5)
    ]
    energy = CaptureObject(3, ObisCode.parse("1-0:1.8.0*255"), 2)
    assert reader.get(*LOAD, selector=between(start, start, energy)) == [[pytest.approx(1200, abs=1)]]
    assert reader.get(*LOAD, selector=between(end + timedelta(days=9), end + timedelta(days=10))) == []
    strange = CaptureObject(3, ObisCode.parse("1-0:9.9.9*255"), 2)
    assert reader.read(*LOAD, selector=between(start, end, strange)) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    open_ended = RangeDescriptor(CLOCK, octet_string(DateTime().encode()), octet_string(DateTime().encode()))
    assert len(reader.get(*LOAD, selector=open_ended)) == reader.get(*LOAD, 7)


def test_rows_are_found_by_entry(bench: Bench) -> None:
    bench.run(5 * HOUR_S)
    reader = bench.client("reader")
    everything = reader.get(*LOAD)
    assert reader.get(*LOAD, selector=EntryDescriptor(3, 5)) == everything[2:5]
    assert reader.get(*LOAD, selector=EntryDescriptor(8, 0, 1, 2)) == [row[:2] for row in everything[7:]]
    assert reader.get(*LOAD, selector=EntryDescriptor(90, 95)) == []
    assert reader.read(*LOAD, selector=EntryDescriptor(0, 5)) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    assert reader.read(*LOAD, selector=EntryDescriptor(1, 5, 1, 99)) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


def test_profile_describes_itself(bench: Bench) -> None:
    reader = bench.client("reader")
    columns = reader.get(*LOAD, 3)
    assert [column[0] for column in columns[:3]] == [8, 1, 3]
    assert reader.get(*LOAD, 4) == 1800
    assert reader.get(*LOAD, 5) == 1
    assert reader.get(*LOAD, 6) == columns[0]
    assert reader.get(*LOAD, 8) == 2880
    assert len(Bench("ihm5000-3p").client("reader").get(*LOAD, 3)) == len(columns) + 4


@pytest.mark.requirement("UC-III.2")
def test_power_failure_leaves_a_gap_and_marks_the_row_behind_it(bench: Bench) -> None:
    bench.run(2 * HOUR_S + 60)
    bench.meter.power.cut()
    bench.run(3 * HOUR_S)
    bench.meter.power_on()
    bench.run(2 * HOUR_S)
    rows = bench.client("reader").get(*LOAD)
    gaps = [later - earlier for earlier, later in zip(times(rows), times(rows)[1:], strict=False)]
    assert gaps.count(timedelta(minutes=30)) == len(gaps) - 1
    assert rows[4][1] == POWER_UP | NOT_VALID
    assert rows[3][1] == rows[5][1] == 0
    assert codes(bench.client("reader"), STANDARD_LOG) == [2, 1, 2]


@pytest.mark.requirement("UC-III.2")
def test_clock_change_is_marked_and_logged_with_both_times(bench: Bench) -> None:
    bench.run(HOUR_S + 60)
    management = bench.client("management")
    assert management.call(8, "0-0:1.0.0*255", 6, long(-600)) is ActionResult.SUCCESS
    bench.run(HOUR_S)
    rows = management.get(*LOAD)
    assert [row[1] & (ADJUSTED | NOT_VALID) for row in rows[2:4]] == [ADJUSTED | NOT_VALID, 0]
    log = management.get(*STANDARD_LOG)
    assert [row[1] for row in log[-2:]] == [4, 5]
    old, new = times(log[-2:])
    assert old - new == timedelta(minutes=10)
    assert management.get(1, "0-0:96.11.0*255") == 5


@pytest.mark.requirement("HW-6")
def test_rows_under_a_lost_clock_say_so(bench: Bench) -> None:
    bench.meter.rtc.kill_cell()
    bench.meter.power_off()
    bench.meter.power_on()
    bench.run(HOUR_S)
    rows = bench.client("reader").get(*LOAD)
    assert all(row[1] & CLOCK_INVALID for row in rows)
    assert times(rows)[0].year == 2000
    assert 6 in codes(bench.client("reader"), STANDARD_LOG)


def test_daily_and_monthly_rows_are_captured_at_local_midnight(bench: Bench) -> None:
    bench.run(35 * 24 * HOUR_S)
    reader = bench.client("reader")
    midnight = datetime(2026, 3, 2, 21, tzinfo=UTC)
    assert times(reader.get(*DAILY)) == [midnight + timedelta(days=day) for day in range(35)]
    billing = reader.get(*BILLING)
    assert times(billing) == [datetime(2026, 3, 31, 21, tzinfo=UTC)]
    assert billing[0][2] == pytest.approx(600 * 24 * 29.5, abs=2)


@pytest.mark.requirement("UC-IV.2")
def test_rows_survive_power_cuts_and_old_ones_make_room(bench: Bench) -> None:
    bench.run(70 * 24 * HOUR_S)
    before = bench.client("reader").get(*LOAD)
    assert len(before) == 2880
    bench.meter.power_off()
    bench.meter.power_on()
    reader = bench.client("reader")
    assert reader.get(*LOAD) == before
    day = datetime(2026, 5, 1, tzinfo=UTC)
    assert len(reader.get(*LOAD, selector=between(day, day + timedelta(days=1)))) == 49


def test_profile_and_log_are_reset_by_management_alone(bench: Bench) -> None:
    bench.run(HOUR_S)
    reader, management = bench.client("reader"), bench.client("management")
    assert reader.call(*LOAD, 1, integer(0)) is ActionResult.READ_WRITE_DENIED
    assert management.call(*LOAD, 1, integer(0)) is ActionResult.SUCCESS
    assert reader.get(*LOAD) == []
    assert management.call(*LOAD, 2, integer(0)) is ActionResult.SUCCESS
    assert len(reader.get(*LOAD)) == 1
    assert management.call(*STANDARD_LOG, 1, integer(0)) is ActionResult.SUCCESS
    assert codes(reader, STANDARD_LOG) == [255]


@pytest.mark.requirement("SEC-4")
def test_attempts_to_get_in_are_logged_once_a_minute(bench: Bench) -> None:
    for _ in range(3):
        bench.client("reader", secret=b"guess")
    bench.run(61)
    bench.client("reader", secret=b"guess")
    assert codes(bench.client("management"), FRAUD_LOG) == [46, 46]
    bench.client("management", store=MemoryCounterStore())
    assert codes(bench.client("management"), FRAUD_LOG)[-1] == 50


def test_a_power_cut_without_warning_is_noted_at_the_last_sign_of_life(bench: Bench) -> None:
    bench.run(2 * HOUR_S + 100)
    bench.meter.power_off()
    bench.run(HOUR_S)
    bench.meter.power_on()
    log = bench.client("reader").get(*STANDARD_LOG)
    assert [row[1] for row in log] == [2, 1, 2]
    assert abs(times(log)[1] - (START + timedelta(hours=2))) < timedelta(seconds=2)


@pytest.mark.requirement("MKT-1")
@pytest.mark.parametrize(
    ("companion", "log", "power_down"),
    [
        ("idis-like", "0-0:99.98.0*255", 1),
        ("dsmr-like", "1-0:99.97.0*255", 1),
        ("india-like", "0-0:99.98.2*255", 101),
    ],
)
def test_a_companion_profile_says_what_logs_mean(companion: str, log: str, power_down: int) -> None:
    model = load_model("ihm5000-3p").model_copy(update={"companion": companion})
    bench = Bench(model)
    bench.run(HOUR_S)
    bench.meter.power.cut()
    bench.run(1)
    bench.meter.power_on()
    reader = bench.client("reader")
    assert codes(reader, (7, log))[1] == power_down
    assert len(reader.get(*LOAD)) in (2, 4)


def test_a_hundred_objects_and_more_all_answer() -> None:
    for name in ("ihm5000-1p", "ihm5000-3p"):
        listed = Bench(name).client("management").get(15, "0-0:40.0.0*255")
        assert len(listed) >= 100


def test_local_times_without_deviation_are_the_meters(bench: Bench) -> None:
    bench.run(4 * HOUR_S)
    start = DateTime(Date(2026, 3, 2), Time(13, 0, 0, 0))
    end = DateTime(Date(2026, 3, 2), Time(14, 0, 0, 0))
    selector = RangeDescriptor(CLOCK, octet_string(start.encode()), octet_string(end.encode()))
    rows = bench.client("reader").get(*LOAD, selector=selector)
    assert times(rows) == [START + timedelta(minutes=minutes) for minutes in (60, 90, 120)]
