"""Covers, magnet, neutral, currents and voltages: the bench does it, the meter notes it and raises alarms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meter_bench import Bench, constant

from meters.firmware.alarms import Alarms
from meters.firmware.line_watch import PERSISTENCE_S
from meters.meter import Meter
from protocols.dlms.data import Data, Tag, double_long_unsigned, structure, unsigned
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import DataAccessResult
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.meter_alarms import (
    ALARM_DESCRIPTOR,
    ALARM_FILTER,
    ALARM_PUSH,
    ALARM_REGISTER,
    ALL_ALARMS,
    AlarmNotice,
    MeterAlarm,
    is_alarm,
)

Verb = Callable[[Meter], None]


def events(bench: Bench) -> list[str]:
    return [str(fields["event"]) for kind, fields in bench.traced if kind == "meter.event"]


def log_codes(bench: Bench, obis: str = "0-0:99.98.1*255") -> list[int]:
    rows = bench.client("reader").get(7, obis)
    return [row[1] for row in rows]


def alarms_of(bench: Bench) -> MeterAlarm:
    return MeterAlarm(bench.client("reader").get(1, str(ALARM_REGISTER)))


@pytest.mark.requirement("HW-6", "UC-IV.3")
@pytest.mark.parametrize(
    ("begin", "end", "names", "codes", "alarm"),
    [
        (
            lambda m: m.enclosure.open_meter_cover(),
            lambda m: m.enclosure.close_meter_cover(),
            ("meter_cover_opened", "meter_cover_closed"),
            [44, 45],
            MeterAlarm.METER_COVER_OPENED,
        ),
        (
            lambda m: m.enclosure.open_terminal_cover(),
            lambda m: m.enclosure.close_terminal_cover(),
            ("terminal_cover_opened", "terminal_cover_closed"),
            [40, 41],
            MeterAlarm.TERMINAL_COVER_OPENED,
        ),
        (
            lambda m: m.enclosure.apply_magnet(),
            lambda m: m.enclosure.remove_magnet(),
            ("magnet_detected", "magnet_gone"),
            [42, 43],
            MeterAlarm.MAGNET_DETECTED,
        ),
        (
            lambda m: m.metrology.lose_neutral(),
            lambda m: m.metrology.lose_neutral(False),
            ("neutral_lost", "neutral_back"),
            [89],
            MeterAlarm.NEUTRAL_LOST,
        ),
        (
            lambda m: m.metrology.reverse_current(),
            lambda m: m.metrology.reverse_current(False),
            ("current_reversed", "current_normal"),
            [91],
            MeterAlarm.CURRENT_REVERSED,
        ),
    ],
)
def test_tampering_is_an_event_a_row_in_the_fraud_log_and_an_alarm(
    begin: Verb, end: Verb, names: tuple[str, str], codes: list[int], alarm: MeterAlarm
) -> None:
    bench = Bench()
    begin(bench.meter)
    bench.run(20)
    end(bench.meter)
    bench.run(20)
    assert [name for name in events(bench) if name in names] == list(names)
    assert log_codes(bench) == codes
    assert alarms_of(bench) == alarm


@pytest.mark.requirement("HW-6")
def test_a_cover_that_was_opened_without_supply_is_noted_at_the_start_and_only_once() -> None:
    bench = Bench()
    bench.meter.power_off()
    bench.meter.enclosure.open_meter_cover()
    bench.meter.power_on()
    bench.meter.power_off()
    bench.meter.power_on()
    assert events(bench).count("meter_cover_opened") == 1
    assert alarms_of(bench) == MeterAlarm.METER_COVER_OPENED


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_power_cut_at_any_write_of_a_tamper_event_never_loses_it(progress: float) -> None:
    """Every flash operation between the opened cover and the end of what the firmware does then."""
    whole = Bench()
    before = whole.meter.flash.operations
    whole.meter.enclosure.open_meter_cover()
    cuts = whole.meter.flash.operations - before
    assert cuts >= 3
    for cut in range(cuts):
        bench = Bench()
        bench.meter.flash.fail_power_at(bench.meter.flash.operations + cut, progress)
        bench.meter.enclosure.open_meter_cover()
        assert not bench.meter.running
        bench.meter.power_on()
        codes = log_codes(bench)
        assert codes.count(44) in (1, 2), (cut, codes)
        assert alarms_of(bench) & MeterAlarm.METER_COVER_OPENED or codes.count(44) == 1


def _set(bench: Bench, *voltages_v: float | None) -> None:
    for phase, voltage_v in enumerate(voltages_v, 1):
        bench.meter.metrology.set_voltage(phase, voltage_v)


@pytest.mark.parametrize(
    ("voltage_v", "event", "alarm"),
    [
        (200.0, "voltage_sag_l1", MeterAlarm.VOLTAGE_SAG),
        (260.0, "voltage_swell_l1", MeterAlarm.VOLTAGE_SWELL),
        (20.0, "voltage_missing_l1", MeterAlarm.VOLTAGE_MISSING),
    ],
)
def test_a_voltage_outside_of_its_limits_counts_when_it_lasts(voltage_v: float, event: str, alarm: MeterAlarm) -> None:
    bench = Bench()
    _set(bench, voltage_v)
    bench.run(PERSISTENCE_S - 1)
    _set(bench, None)
    bench.run(60)
    assert not [name for name in events(bench) if name.startswith("voltage")]
    _set(bench, voltage_v)
    bench.run(PERSISTENCE_S + 1)
    assert event in events(bench)
    _set(bench, None)
    bench.run(PERSISTENCE_S + 1)
    assert [name for name in events(bench) if name.startswith("voltage")] == [event, "voltage_normal_l1"]
    assert alarms_of(bench) == alarm


@pytest.mark.parametrize(("voltage_v", "counts"), [(207.1, False), (206.9, True), (252.9, False), (253.1, True)])
def test_the_limits_of_voltage_are_ninety_and_hundred_and_ten_percent(voltage_v: float, counts: bool) -> None:
    bench = Bench()
    _set(bench, voltage_v)
    bench.run(60)
    assert any(name.startswith("voltage") for name in events(bench)) is counts


def test_phases_are_told_apart_and_imbalance_is_noted() -> None:
    bench = Bench("ihm5000-3p", constant(1000.0, 1000.0, 1000.0))
    _set(bench, 230.0, 190.0, 230.0)
    bench.run(20)
    _set(bench, None, None, None)
    bench.run(20)
    noted = [name for name in events(bench) if name.startswith("voltage")]
    assert noted == ["voltage_sag_l2", "voltage_unbalanced", "voltage_normal_l2", "voltage_balanced"]


def test_a_slow_change_without_a_signal_of_the_chip_is_found_within_a_quarter_of_an_hour() -> None:
    class Sinking:
        def segment_at(self, utc_s: float):  # type: ignore[no-untyped-def]
            return constant(1000.0, u_v=230.0 if utc_s < low_from_s else 190.0).segment_at(utc_s)

    low_from_s = Bench().clock.utc_s() + 100
    bench = Bench(load=Sinking())
    bench.run(1100)
    assert "voltage_sag_l1" in events(bench)


def test_a_phase_that_is_not_there_or_a_negative_voltage_is_refused() -> None:
    metrology = Bench().meter.metrology
    for phase, voltage_v in ((0, 230.0), (2, 230.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(LocalProtocolError, match="phase"):
            metrology.set_voltage(phase, voltage_v)


def test_registers_are_cleared_and_filtered_over_dlms_and_survive() -> None:
    bench = Bench()
    client = bench.client("management")
    bench.meter.enclosure.open_meter_cover()
    bench.meter.enclosure.apply_magnet()
    both = MeterAlarm.METER_COVER_OPENED | MeterAlarm.MAGNET_DETECTED
    assert client.get(1, str(ALARM_FILTER)) == int(ALL_ALARMS)
    more = double_long_unsigned(int(both | MeterAlarm.NEUTRAL_LOST))
    assert client.set(1, str(ALARM_REGISTER), 2, more) is DataAccessResult.OTHER_REASON
    assert client.set(1, str(ALARM_REGISTER), 2, unsigned(0)) is DataAccessResult.TYPE_UNMATCHED
    kept = double_long_unsigned(int(MeterAlarm.MAGNET_DETECTED))
    assert client.set(1, str(ALARM_REGISTER), 2, kept) is DataAccessResult.SUCCESS
    no_cover = double_long_unsigned(int(ALL_ALARMS & ~MeterAlarm.METER_COVER_OPENED))
    assert client.set(1, str(ALARM_FILTER), 2, no_cover) is DataAccessResult.SUCCESS
    bench.meter.power_off()
    bench.meter.power_on()
    bench.meter.enclosure.close_meter_cover()
    bench.meter.enclosure.open_meter_cover()
    assert alarms_of(bench) == MeterAlarm.MAGNET_DETECTED
    assert "alarm_register_cleared" in events(bench)


def test_the_same_alarm_is_sent_once_a_minute() -> None:
    bench = Bench()
    firmware = bench.meter.firmware
    assert firmware is not None
    alarms: Alarms = firmware.services.alarms
    begun: list[bool] = []
    alarms.send = begun.append
    for _ in range(20):
        bench.meter.enclosure.apply_magnet()
        bench.meter.enclosure.remove_magnet()
        bench.run(6.5)
    assert begun == [False] * 2
    assert events(bench).count("magnet_detected") == 20


@pytest.mark.requirement("HW-6")
def test_the_last_gasp_is_begun_once_for_each_failure_of_mains_and_not_for_a_cut_without_warning() -> None:
    bench = Bench()
    begun: list[tuple[float, bool]] = []

    def attach() -> None:
        firmware = bench.meter.firmware
        assert firmware is not None
        firmware.services.alarms.send = lambda is_last: begun.append((bench.clock.loop.time(), is_last))

    attach()
    bench.meter.power.set_mains(40.0)  # a brown-out
    bench.run(0.2)
    bench.meter.power.set_mains(30.0)
    bench.run(5)
    assert begun == [(0.0, True)]
    bench.meter.power_on()
    attach()
    bench.run(10)
    bench.meter.power.cut()
    bench.run(1)
    assert [is_last for _, is_last in begun] == [True, True]
    bench.meter.power_on()
    attach()
    bench.meter.power.cut_at_once()
    assert len(begun) == 2


notices = st.builds(
    AlarmNotice,
    st.binary(max_size=16),
    st.integers(0, 2**31).map(DateTime.from_utc_s),
    st.integers(0, 2**32 - 1).map(MeterAlarm),
)


@given(notices)
def test_the_push_of_an_alarm_round_trips(notice: AlarmNotice) -> None:
    body = notice.to_data()
    assert is_alarm(body)
    assert AlarmNotice.from_data(body) == notice
    assert len(notice.alarms.names) == int(notice.alarms).bit_count()


@given(notices, st.integers(0, 3))
def test_another_shape_is_no_alarm(notice: AlarmNotice, missing: int) -> None:
    parts = list(notice.to_data().value)
    other = structure(*parts[:missing], *parts[missing + 1 :])
    for body in (
        other,
        Data(Tag.NULL, None),
        structure(*parts[:3], unsigned(1)),
        structure(parts[0], parts[0], *parts[2:]),
    ):
        if notice.logical_device_name != bytes(ALARM_PUSH):
            assert not is_alarm(body)
            with pytest.raises(RemoteProtocolError):
                AlarmNotice.from_data(body)


def test_every_alarm_has_a_name_and_events_lead_to_it() -> None:
    assert MeterAlarm(0).names == ()
    assert MeterAlarm(1 << 31 | 1).names == ("power_failed", "bit-31")
    assert ALL_ALARMS.names == tuple(item.name.lower() for item in MeterAlarm if item.name)
    assert str(ALARM_DESCRIPTOR) == "0-0:97.98.20*255"
