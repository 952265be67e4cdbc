"""The tables of the leakage protection, end to end: grid, sensor, detector, relay."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from dataclasses import replace

from grid.faults import FAULT_TABLE
from grid.waveforms import LineFrequency
from meters.hardware.leakage_sensor import SENSOR_MODELS
from meters.hardware.relay import RELAY_MODELS
from twin.conformance.verdicts import Verdict
from twin.protection.bench import run_shot
from twin.protection.shots import Shot, ShotResult

_MUST_TRIP = [(row.waveform, row.trip_ma) for row in FAULT_TABLE if row.trip_ma is not None]
_MUST_HOLD = [(row.waveform, row.hold_ma) for row in FAULT_TABLE if row.hold_ma is not None]
_SIGNED = [(name, sign * ma) for name, ma in _MUST_TRIP for sign in (1, -1)]


def _fire(waveform: str, ma: float, hz: float, phases: int = 8, **more: object) -> list[ShotResult]:
    return run_shot(Shot(waveform, waveform, ma, frequency=LineFrequency(hz), phases=phases, **more))  # type: ignore[arg-type]


def _failures(results: list[ShotResult]) -> list[str]:
    return [f"{r.phase_deg:.1f} deg: {r.reason}" for r in results if r.verdict is not Verdict.PASS]


@pytest.mark.requirement("SAF-1")
@pytest.mark.parametrize("hz", [45.0, 48.5, 50.0, 52.0])
def test_30_ma_ac_isolates_within_40_ms_at_every_phase(hz: float) -> None:
    results = _fire("ac", 30.0, hz, 64)
    assert _failures(results) == []
    assert all(result.isolate_ms is not None and result.isolate_ms <= 40.0 for result in results)


@pytest.mark.requirement("SAF-2")
@pytest.mark.parametrize("ma", [6.0, -6.0])
def test_6_ma_smooth_dc_isolates_within_40_ms(ma: float) -> None:
    results = _fire("dc", ma, 50.0, 64)
    assert _failures(results) == []
    assert all(result.isolate_ms is not None and result.isolate_ms <= 40.0 for result in results)


@pytest.mark.requirement("SAF-3")
@pytest.mark.parametrize(("waveform", "ma"), _SIGNED)
def test_every_row_that_must_trip_is_isolated_within_40_ms(waveform: str, ma: float) -> None:
    for hz in (45.0, 52.0):
        assert _failures(_fire(waveform, ma, hz, duration_s=0.2)) == []


@pytest.mark.requirement("SAF-4")
@pytest.mark.parametrize(("waveform", "ma"), _MUST_HOLD)
def test_no_row_that_must_not_trip_does(waveform: str, ma: float) -> None:
    for hz in (45.0, 50.0, 52.0):
        results = _fire(waveform, ma, hz, duration_s=0.3)
        assert _failures(results) == []
        assert not any(result.tripped for result in results)


@pytest.mark.requirement("SAF-4")
def test_standing_leakage_and_a_drifting_frequency_do_not_trip() -> None:
    drifting = LineFrequency(45.0, 5.0)
    shot = Shot("standing", "ac", 10.0, frequency=drifting, phases=8, standing_ac_ma=5.0, duration_s=2.0)
    assert not any(result.tripped for result in run_shot(shot))
    mixed = replace(shot, standing_ac_ma=0.0, direct_ma=2.0)
    assert not any(result.tripped for result in run_shot(mixed))


@pytest.mark.requirement("SAF-9")
@pytest.mark.parametrize("kind", ["type-a", "type-ac"])
def test_sensors_of_type_a_and_ac_fail_saf_2_by_name(kind: str) -> None:
    results = _fire("dc", 6.0, 50.0, sensor=SENSOR_MODELS[kind])
    assert all(result.verdict is Verdict.FAIL and result.reason == "did not trip, and must" for result in results)
    assert _failures(_fire("ac", 30.0, 50.0, sensor=SENSOR_MODELS[kind])) == []


def test_relays_that_cannot_comply_fail_by_name_with_the_figure() -> None:
    contactor = _fire("dc-plus-ac", 6.0, 50.0, relay=RELAY_MODELS["contactor"])
    assert all(result.verdict is Verdict.FAIL and "the limit is 40 ms" in result.reason for result in contactor)
    held = _fire("dc", 60.0, 50.0, relay=RELAY_MODELS["thyristor"], load=_no_load())
    assert all(result.isolate_ms is None and result.reason.startswith("NOT ISOLATED") for result in held)
    assert all(result.tripped for result in held)


def _no_load() -> object:
    from grid.loads import Load

    return Load(0.0)


def test_the_same_seed_gives_the_same_result() -> None:
    first, second = (_fire("half-wave-135", 42.0, 46.3) for _ in range(2))
    assert [result.to_json() for result in first] == [result.to_json() for result in second]


@pytest.mark.soak
@pytest.mark.requirement("SAF-3")
@pytest.mark.parametrize(("waveform", "ma"), _SIGNED)
@pytest.mark.parametrize("hz", [45.0, 45.7, 46.4, 47.1, 48.0, 49.0, 50.0, 50.6, 51.3, 52.0])
@pytest.mark.parametrize("noise_ma", [0.05, 0.5])
def test_full_table_of_what_must_trip(waveform: str, ma: float, hz: float, noise_ma: float) -> None:
    sensor = replace(SENSOR_MODELS["type-b"], noise_ma=noise_ma)
    assert _failures(_fire(waveform, ma, hz, 64, sensor=sensor, duration_s=0.2)) == []


@pytest.mark.soak
@pytest.mark.requirement("SAF-4")
@pytest.mark.parametrize(("waveform", "ma"), [(name, sign * ma) for name, ma in _MUST_HOLD for sign in (1, -1)])
@pytest.mark.parametrize("hz", [45.0, 46.4, 48.0, 50.0, 51.3, 52.0])
@pytest.mark.parametrize("noise_ma", [0.05, 0.5])
def test_full_table_of_what_must_not_trip(waveform: str, ma: float, hz: float, noise_ma: float) -> None:
    sensor = replace(SENSOR_MODELS["type-b"], noise_ma=noise_ma)
    assert _failures(_fire(waveform, ma, hz, 64, sensor=sensor, duration_s=5.0)) == []


@pytest.mark.soak
@pytest.mark.requirement("SAF-3")
@pytest.mark.parametrize("hz", [45.0, 46.4, 48.0, 50.0, 51.3, 52.0])
@pytest.mark.parametrize("direct_ma", [6.0, -6.0])
def test_full_sweep_of_smooth_dc_under_alternating_current(direct_ma: float, hz: float) -> None:
    for step in range(1, 100):
        ac_ma = step * 0.25
        assert _failures(_fire("ac", ac_ma, hz, 64, direct_ma=direct_ma, duration_s=0.1)) == [], ac_ma
