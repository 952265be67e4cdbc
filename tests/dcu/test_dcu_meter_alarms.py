"""Alarms of meters at the concentrator: one event each; what is no alarm is left to others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dcu_fakes import START_UTC_S, Bench
from dcu_fakes import bench as bench
from hypothesis import given
from hypothesis import strategies as st
from profile_fakes import ProfileMeter

from dcu.meter_alarms import MeterAlarms
from protocols.dlms.data import octet_string, structure
from protocols.dlms.date_time import DateTime
from protocols.dlms.notification import DataNotification
from protocols.dlms.wrapper import Wpdu
from protocols.meter_alarms import AlarmNotice, MeterAlarm

BOTH = MeterAlarm.MAGNET_DETECTED | MeterAlarm.POWER_FAILED


def notice(alarms: MeterAlarm = BOTH) -> AlarmNotice:
    return AlarmNotice(b"OAM0000000000001", DateTime.from_utc_s(START_UTC_S), alarms)


def push(meter: ProfileMeter, alarms: MeterAlarm = BOTH) -> bytes:
    """A datagram with an alarm, protected as the meter protects."""
    apdu = meter.server.notify(1, DataNotification(1, notice(alarms).to_data()).encode(), channel="root")
    return Wpdu(1, 1, apdu).encode()


@pytest.mark.requirement("UC-IV.3", "HW-6")
def test_an_alarm_is_one_event_at_the_head_end_however_often_its_datagram_comes(bench: Bench) -> None:
    meter = ProfileMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        datagram = push(meter)
        listener = bench.mesh.listener
        assert listener is not None
        for _ in range(3):
            listener.datagram(meter.address, datagram)
        await asyncio.sleep(10.0)

    bench.run(body)
    (event,) = bench.headend.events("meter-alarm")
    assert event.serial == meter.serial
    assert event.eui64 == meter.eui64
    assert dict(event.details) == {
        "alarms": "power_failed magnet_detected",
        "register": f"{int(BOTH):08x}",
        "meter_time": str(notice().time),
    }


class Silent:
    """A head-end and a registry that nobody may ask."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


JUNK = MeterAlarms(Silent(), Silent(), lambda kind, /, **fields: None)  # type: ignore[arg-type]


@given(st.binary(max_size=80))
def test_junk_is_no_alarm(apdu: bytes) -> None:
    assert not JUNK.take(bytes(8), apdu)


def test_another_push_or_a_cut_alarm_is_no_alarm() -> None:
    whole = DataNotification(1, notice().to_data()).encode()
    assert not any(JUNK.take(bytes(8), whole[:size]) for size in range(len(whole)))
    other = DataNotification(1, structure(octet_string(b"OAM"), octet_string(bytes(6)))).encode()
    assert not JUNK.take(bytes(8), other)
