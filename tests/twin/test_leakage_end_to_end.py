"""Leakage trips and the operator's reconnection, with every layer between the meter's sensor and the REST interface."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("scipy")

from protocols.leakage_protection import SafetyState
from protocols.trip_record import TripRecord
from twin.hes.trips import samples_ma
from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]


@pytest.fixture
def small(twin_rig: MakeRig) -> SyncRig:
    rig = twin_rig("refusals", seed=5)
    rig.registered()
    return rig


def _record(rig: SyncRig, name: str, number: int) -> TripRecord:
    protection = rig.rig.meter(name).meter.protection
    assert protection is not None
    record = protection.trip(number)
    assert record is not None
    return record


@pytest.mark.requirement("SAF-7")
def test_a_trip_reaches_the_head_end_with_its_waveform_and_is_told_once(small: SyncRig) -> None:
    meter, hes = small.rig.meter("good"), small.rig.hes
    fault = meter.leakage.apply("half-wave-0", 42.0)
    assert small.until(lambda: bool(hes.trips(meter.serial)), timeout_s=60.0)
    isolation = meter.leakage.isolation(fault)
    assert isolation.isolate_ms is not None
    assert isolation.isolate_ms <= 40.0
    (row,) = hes.trips()
    record = _record(small, "good", 1)
    assert (row.serial, row.number, row.line, row.cause) == (meter.serial, 1, 1, record.cause.text)
    assert (row.time_utc_ms, row.trip_index) == (record.time_ms, record.trip_index)
    assert samples_ma(row) == pytest.approx(record.samples_ma)
    events = hes.events(kind="leakage-trip")
    assert [event.serial for event in events] == [meter.serial]
    document = small.run(hes.api.get(f"/api/trips/{row.trip_id}")).json()
    assert document["samples_ma"][: record.trip_index] == pytest.approx(record.samples_ma[: record.trip_index])
    assert small.run(hes.api.get("/api/trips/99")).status_code == 404
    # Taken over: the meter is silent about it from now on, over a restart, too.
    meter.power_off()
    small.wait(5.0)
    meter.power_on()
    small.wait(900.0)
    assert len(hes.trips()) == 1
    assert small.rig.unhandled == []


@pytest.mark.requirement("SAF-7")
def test_a_trip_while_nobody_can_hear_it_is_told_when_they_can(small: SyncRig) -> None:
    meter, hes = small.rig.meter("good"), small.rig.hes
    assert small.rig.backhaul is not None
    small.rig.backhaul.cut()
    small.rig.dcu.cut_power()
    meter.leakage.apply("dc", 6.0)
    small.wait(30.0)
    assert not hes.trips()
    small.rig.backhaul.restore()
    small.rig.dcu.start()
    assert small.until(lambda: bool(hes.trips(meter.serial)), timeout_s=7200.0)
    assert len(hes.trips()) == 1


@pytest.mark.requirement("SAF-6")
def test_an_operators_close_is_refused_with_the_reason_while_the_leak_lasts_and_undone_when_it_returns(
    small: SyncRig,
) -> None:
    meter, hes = small.rig.meter("good"), small.rig.hes
    meter.leakage.apply("ac", 30.0)
    small.wait(1.0)
    refused = small.run(hes.reconnect(meter.serial))
    assert (refused.status, refused.connected, refused.reason) == ("refused", False, "leakage-persists")
    assert refused.detail == "the leakage persists"
    meter.leakage.clear()
    closed = small.run(hes.reconnect(meter.serial))
    assert (closed.status, closed.connected, closed.reason) == ("ok", True, "")
    fault = meter.leakage.apply("half-wave-135", -42.0)
    small.wait(1.0)
    isolation = meter.leakage.isolation(fault)
    assert isolation.isolate_ms is not None
    assert isolation.isolate_ms <= 40.0
    protection = meter.meter.protection
    assert protection is not None
    assert protection.state(1).state is SafetyState.TRIPPED
    assert small.until(lambda: len(hes.trips(meter.serial)) == 2, timeout_s=120.0)


def test_a_lock_out_is_told_to_the_operator_by_its_name(small: SyncRig) -> None:
    meter, hes = small.rig.meter("good"), small.rig.hes
    for _ in range(3):
        meter.leakage.apply("ac", 60.0)
        small.wait(1.0)
        meter.leakage.clear()
        last = small.run(hes.reconnect(meter.serial))
        small.wait(1.0)
    assert (last.status, last.reason) == ("refused", "locked-out")
