"""Tariffs and supply control: calendars run scripts, scripts act on objects, thresholds act on the supply."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_bench import Bench, Client, constant

from meters.firmware.calendar import Action, Calendar, Day, Season, SpecialDay, Week, matches
from meters.firmware.supply_control import TRANSITIONS, ControlState, Trigger
from protocols.dlms.data import (
    array,
    decode,
    double_long_unsigned,
    encode,
    enumerated,
    integer,
    long_unsigned,
    octet_string,
    structure,
)
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.errors import RemoteProtocolError

HOUR_S = 3600.0
CHECK_S = 0.2
"""How long the leakage check before a closing takes at most."""
TABLE = ObisCode.parse("0-0:10.0.100*255")
CALENDAR = (20, "0-0:13.0.0*255")
ACTIVATION = (6, "0-0:14.0.0*255")
DISCONNECT = (70, "0-0:96.3.10*255")
LIMITER = (71, "0-0:17.0.0*255")


def rates(client: Client) -> list[int]:
    return [client.get(3, f"1-0:1.8.{rate}*255") for rate in range(1, 5)]


@pytest.fixture
def bench() -> Bench:
    """Monday, 12:00 local time, 1 kW."""
    return Bench(load=constant(1000.0))


# tariffs


def test_calendar_switches_the_registers_that_count(bench: Bench) -> None:
    reader = bench.client("reader")
    assert reader.get(1, "0-0:96.14.0*255") == 2
    bench.run(24 * HOUR_S)
    assert rates(reader) == pytest.approx([8000, 12000, 4000, 0], abs=2)
    assert sum(rates(reader)) == pytest.approx(reader.get(3, "1-0:1.8.0*255"), abs=4)
    bench.run(5 * 24 * HOUR_S)
    assert rates(reader)[1] == pytest.approx(5 * 12000 - 6000, abs=3)


def test_rate_survives_a_restart_and_energy_stays_with_it(bench: Bench) -> None:
    bench.run(7 * HOUR_S)
    before = rates(bench.client("reader"))
    bench.meter.power.cut()
    bench.run(1)
    bench.meter.power_on()
    reader = bench.client("reader")
    assert rates(reader) == pytest.approx(before, abs=1)
    assert reader.get(1, "0-0:96.14.0*255") == 3


def test_special_day_takes_the_place_of_the_calendars(bench: Bench) -> None:
    management = bench.client("management")
    tuesday = SpecialDay(1, Date(month=3, day=3), 2)
    assert management.call(11, "0-0:11.0.0*255", 1, tuesday.to_data()) is ActionResult.SUCCESS
    assert management.get(11, "0-0:11.0.0*255") == [[1, Date(month=3, day=3).encode(), 2]]
    bench.run(20 * HOUR_S)
    assert bench.client("reader").get(1, "0-0:96.14.0*255") == 1
    assert management.call(11, "0-0:11.0.0*255", 2, long_unsigned(1)) is ActionResult.SUCCESS
    bench.run(24 * HOUR_S)
    assert bench.client("reader").get(1, "0-0:96.14.0*255") == 2


def test_passive_calendar_is_programmed_and_takes_over_at_its_time(bench: Bench) -> None:
    management = bench.client("management")
    day = Day(7, (Action(Time(0, 0, 0, 0), TABLE, 4),))
    week = Week(b"W", (7,) * 7)
    season = Season(b"S", DateTime(Date(month=1, day=1), Time(0, 0, 0, 0)), b"W")
    assert management.set(*CALENDAR, 6, octet_string(b"FLAT")) is DataAccessResult.SUCCESS
    assert management.set(*CALENDAR, 7, array((season.to_data(),))) is DataAccessResult.SUCCESS
    assert management.set(*CALENDAR, 8, array((week.to_data(),))) is DataAccessResult.SUCCESS
    assert management.set(*CALENDAR, 9, array((day.to_data(),))) is DataAccessResult.SUCCESS
    assert management.set(*CALENDAR, 5, array((day.to_data(),))) is DataAccessResult.READ_WRITE_DENIED
    assert management.set(*CALENDAR, 9, array((integer(3),))) is DataAccessResult.TYPE_UNMATCHED
    at = DateTime.from_utc_s(bench.clock.utc_s() + 1000)
    assert management.set(*CALENDAR, 10, octet_string(at.encode())) is DataAccessResult.SUCCESS
    bench.run(999)
    assert management.get(*CALENDAR) == b"STANDARD"
    bench.run(2)
    assert management.get(*CALENDAR) == b"FLAT"
    assert management.get(1, "0-0:96.14.0*255") == 4
    bench.meter.power_off()
    bench.meter.power_on()
    assert bench.client("management").get(*CALENDAR) == b"FLAT"
    assert [row[1] for row in bench.client("reader").get(7, "0-0:99.98.0*255")].count(19) == 4


def test_mask_can_be_set_by_hand_and_only_to_one_that_is_there(bench: Bench) -> None:
    management = bench.client("management")
    assert management.set(*ACTIVATION, 4, octet_string(b"RATE4")) is DataAccessResult.SUCCESS
    assert management.set(*ACTIVATION, 4, octet_string(b"RATE9")) is DataAccessResult.OTHER_REASON
    assert management.get(*ACTIVATION, 4) == b"RATE4"
    assigned, masks = management.get(*ACTIVATION), management.get(*ACTIVATION, 3)
    assert [name for name, _ in masks] == [b"RATE1", b"RATE2", b"RATE3", b"RATE4"]
    assert sorted(index for _, indices in masks for index in indices) == list(range(1, len(assigned) + 1))


def test_billing_period_ends_by_schedule_and_demand_begins_anew(bench: Bench) -> None:
    bench.run(HOUR_S)
    bench.meter.metrology.set_source(constant(100.0))
    month_end = datetime(2026, 3, 31, 21, tzinfo=UTC).timestamp()
    bench.run(month_end - bench.clock.utc_s() + 10)
    reader = bench.client("reader")
    (row,) = reader.get(7, "0-0:98.1.0*255")
    assert row[-2] == 1000
    assert reader.get(4, "1-0:1.6.0*255") == 0


def test_schedule_runs_its_script_at_the_time_that_was_written(bench: Bench) -> None:
    management = bench.client("management")
    noon = octet_string(Time(12, 30, 0, 0).encode())
    today = octet_string(Date(2026, 3, 2).encode())
    assert management.set(22, "0-0:15.0.1*255", 4, array((structure(noon, today),))) is DataAccessResult.SUCCESS
    bench.run(1799)
    assert management.get(*DISCONNECT) is True
    bench.run(2)
    assert management.get(*DISCONNECT) is False


# supply control


def test_remote_disconnect_stops_the_flow_and_is_logged(bench: Bench) -> None:
    management = bench.client("management")
    assert management.call(*DISCONNECT, 1, integer(0)) is ActionResult.SUCCESS
    assert (management.get(*DISCONNECT), management.get(*DISCONNECT, 3)) == (False, 0)
    energy_wh = management.get(3, "1-0:1.8.0*255")
    bench.run(HOUR_S)
    assert management.get(3, "1-0:1.8.0*255") == energy_wh
    assert management.get(3, "1-0:32.7.0*255") == 2300
    bench.meter.power_off()
    bench.meter.power_on()
    management = bench.client("management")
    assert management.get(*DISCONNECT) is False
    assert management.call(*DISCONNECT, 2, integer(0)) is ActionResult.SUCCESS
    assert management.get(*DISCONNECT) is False
    bench.run(CHECK_S)
    assert management.get(*DISCONNECT) is True
    assert [row[1] for row in management.get(7, "0-0:99.98.2*255")] == [62, 63]
    assert bench.client("reader").call(*DISCONNECT, 1, integer(0)) is ActionResult.READ_WRITE_DENIED


def test_in_mode_3_the_customer_reconnects_by_the_button(bench: Bench) -> None:
    management = bench.client("management")
    disconnector = bench.meter.disconnector
    assert disconnector is not None
    assert management.set(*DISCONNECT, 4, enumerated(3)) is DataAccessResult.SUCCESS
    assert management.set(*DISCONNECT, 4, enumerated(9)) is DataAccessResult.OTHER_REASON
    disconnector.press_button()
    assert disconnector.is_closed()
    management.call(*DISCONNECT, 1, integer(0))
    management.call(*DISCONNECT, 2, integer(0))
    assert (management.get(*DISCONNECT), management.get(*DISCONNECT, 3)) == (False, 2)
    disconnector.press_button()
    bench.run(CHECK_S)
    assert disconnector.is_closed()


def test_welded_contacts_are_told(bench: Bench) -> None:
    management = bench.client("management")
    assert bench.meter.disconnector is not None
    bench.meter.disconnector.weld()
    assert management.call(*DISCONNECT, 1, integer(0)) is ActionResult.OTHER_REASON
    assert (management.get(*DISCONNECT), management.get(*DISCONNECT, 3)) == (True, 0)
    assert [row[1] for row in management.get(7, "0-0:99.98.2*255")] == [62, 68]


def test_every_transition_of_every_mode_is_between_known_states() -> None:
    for mode, table in TRANSITIONS.items():
        assert 0 <= mode <= 6
        for (state, trigger), after in table.items():
            assert isinstance(state, ControlState)
            assert isinstance(trigger, Trigger)
            assert after is not state


def test_limiter_opens_after_its_time_above_the_threshold(bench: Bench) -> None:
    management = bench.client("management")
    assert management.set(*LIMITER, 6, double_long_unsigned(30)) is DataAccessResult.SUCCESS
    assert management.set(*LIMITER, 4, double_long_unsigned(2000)) is DataAccessResult.SUCCESS
    bench.run(HOUR_S)
    assert management.get(*DISCONNECT) is True
    bench.meter.metrology.set_source(constant(2500.0))
    bench.run(20)
    bench.meter.metrology.set_source(constant(500.0))
    bench.run(60)
    assert management.get(*DISCONNECT) is True
    bench.meter.metrology.set_source(constant(2500.0))
    bench.run(28)
    assert management.get(*DISCONNECT) is True
    bench.run(5)
    assert management.get(*DISCONNECT) is False
    assert management.get(*DISCONNECT, 3) == 2
    assert [row[1] for row in management.get(7, "0-0:99.98.2*255")][:2] == [65, 64]


def test_register_monitor_changes_the_rate_while_power_is_high(bench: Bench) -> None:
    management = bench.client("management")
    assert management.set(21, "0-0:16.1.0*255", 2, array((double_long_unsigned(3000),))) is DataAccessResult.SUCCESS
    bench.meter.metrology.set_source(constant(4000.0))
    bench.run(3)
    assert management.get(1, "0-0:96.14.0*255") == 4
    bench.meter.metrology.set_source(constant(400.0))
    bench.run(3)
    assert management.get(1, "0-0:96.14.0*255") == 1
    assert management.set(21, "0-0:16.1.0*255", 2, array(())) is DataAccessResult.SUCCESS


# calendar, alone

times = st.builds(Time, st.integers(0, 23), st.integers(0, 59), st.just(0), st.just(0))
actions = st.builds(Action, times, st.just(TABLE), st.integers(1, 9))
days = st.lists(st.builds(Day, st.integers(0, 3), st.lists(actions, max_size=4).map(tuple)), max_size=4).map(tuple)
weeks = st.builds(Week, st.just(b"W"), st.tuples(*[st.integers(0, 3)] * 7)).map(lambda week: (week,))
seasons = st.lists(
    st.builds(
        lambda month, day: Season(b"S", DateTime(Date(month=month, day=day), Time(0, 0, 0, 0)), b"W"),
        st.integers(1, 12),
        st.integers(1, 28),
    ),
    max_size=3,
).map(tuple)
calendars = st.builds(Calendar, st.binary(max_size=8), seasons, weeks, days)


@settings(max_examples=60)
@given(calendars)
def test_calendar_survives_its_encoding(calendar: Calendar) -> None:
    assert Calendar.decode(calendar.encode()) == calendar
    raw = calendar.encode()
    with pytest.raises(RemoteProtocolError):
        Calendar.decode(raw[:-1])


@settings(max_examples=60)
@given(calendars, st.integers(0, 3 * 365 * 86_400))
def test_nothing_changes_before_the_next_change(calendar: Calendar, seconds: int) -> None:
    local = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    following = calendar.next_change(local)
    assert local < following <= local + timedelta(days=1)
    assert calendar.action_at(following - timedelta(seconds=1)) == calendar.action_at(local)


@pytest.mark.parametrize(
    ("pattern", "day", "fits"),
    [
        (Date(), "2026-03-02", True),
        (Date(2026, 3, 2, 1), "2026-03-02", True),
        (Date(2026, 3, 2, 2), "2026-03-02", False),
        (Date(month=12, day=25), "2031-12-25", True),
        (Date(day=0xFE), "2028-02-29", True),
        (Date(day=0xFE), "2028-02-28", False),
        (Date(day=0xFD), "2028-02-28", True),
    ],
)
def test_dates_with_wildcards_fit(pattern: Date, day: str, fits: bool) -> None:
    assert matches(pattern, datetime.fromisoformat(day).date()) is fits


@given(st.binary(max_size=40))
def test_junk_is_no_calendar(raw: bytes) -> None:
    try:
        calendar = Calendar.decode(raw)
    except RemoteProtocolError:
        return
    assert decode(encode(decode(raw))) == decode(calendar.encode())
