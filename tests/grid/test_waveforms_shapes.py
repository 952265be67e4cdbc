"""Residual waveforms, loads and the table of currents."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")

from grid.faults import CONFLICTS, FAULT_TABLE, Expectation, expectation  # noqa: E402
from grid.loads import Load, line_currents_a, residual_from_poles_ma  # noqa: E402
from grid.waveforms import (  # noqa: E402
    SAMPLE_RATE_HZ,
    WAVEFORMS,
    LineFrequency,
    Rating,
    ResidualBatch,
    half_wave_mean,
)

_IMPULSES = {"surge", "ring-wave", "switch-on", "inrush"}
_FINE_S = np.arange(0.0, 0.2, 1.0 / 64000.0)


def _one(name: str, ma: float = 1.0, phase_deg: float = 0.0, **more: float) -> ResidualBatch:
    return ResidualBatch(WAVEFORMS[name], np.radians([phase_deg]), np.array([ma]), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in WAVEFORMS if name not in _IMPULSES])
def test_a_rating_of_one_has_an_rms_or_a_mean_of_one(name: str) -> None:
    samples = _one(name).sample(_FINE_S)[0]
    if WAVEFORMS[name].rating is Rating.MEAN:
        assert samples.mean() == pytest.approx(1.0, rel=1e-3)
    else:
        alone = samples - 12.0 / 42.0 if name.endswith("-plus-dc") else samples
        assert np.sqrt((alone**2).mean()) == pytest.approx(1.0, rel=2e-3)


@pytest.mark.parametrize(("delay_deg", "mean"), [(0, 0.6366), (90, 0.4502), (135, 0.3095)])
def test_half_waves_have_their_means_and_conduct_only_after_the_delay_angle(delay_deg: int, mean: float) -> None:
    samples = _one(f"half-wave-{delay_deg}").sample(_FINE_S)[0]
    assert half_wave_mean(float(delay_deg)) == pytest.approx(mean, abs=1e-3)
    assert samples.mean() == pytest.approx(mean, abs=2e-3)
    conducting = np.count_nonzero(samples) / len(samples)
    assert conducting == pytest.approx((180 - delay_deg) / 360, abs=2e-3)
    assert samples.min() >= -1e-9


def test_a_half_wave_that_must_hold_carries_more_than_six_milliamperes_of_direct_current() -> None:
    assert 10.5 * half_wave_mean(0.0) == pytest.approx(6.68, abs=0.01)


@pytest.mark.parametrize(("pulses", "ripple"), [("two", 0.0), ("three", 0.5), ("six", 0.866)])
def test_rectified_currents_never_fall_below_the_floor_of_their_pulse_number(pulses: str, ripple: float) -> None:
    samples = _one(f"{pulses}-pulse").sample(_FINE_S)[0]
    assert samples.min() / samples.max() == pytest.approx(ripple, abs=5e-3)


@pytest.mark.parametrize("name", ["surge", "ring-wave", "switch-on"])
def test_impulses_are_over_within_two_milliseconds(name: str) -> None:
    times_s = np.arange(-40, 400) / SAMPLE_RATE_HZ
    samples = _one(name, 1000.0, 10.0).sample(times_s)[0]
    assert np.abs(samples).max() == pytest.approx(1000.0, rel=0.1)
    assert np.all(samples[times_s < 0.0] == 0.0)
    assert np.abs(samples[times_s > 2e-3]).max() < 2.0


def test_blocks_join_without_a_seam_whatever_their_length() -> None:
    times_s = np.arange(-100, 3000) / SAMPLE_RATE_HZ
    for name in WAVEFORMS:
        batch = _one(name, 10.0, 33.0, standing_ac_ma=2.0, frequency=LineFrequency(45.0, 3.0))  # type: ignore[arg-type]
        whole = batch.sample(times_s)
        parts = [batch.sample(times_s[start : start + 173]) for start in range(0, len(times_s), 173)]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-9, err_msg=name)


def test_a_drifting_frequency_turns_the_angle_by_its_integral_and_stops_at_the_bound() -> None:
    frequency = LineFrequency(45.0, 7.0)
    times_s = np.linspace(0.0, 3.0, 300001)
    slope_hz = np.gradient(frequency.angle(times_s), times_s) / (2.0 * np.pi)
    np.testing.assert_allclose(slope_hz[1:-1], np.minimum(45.0 + 7.0 * times_s, 52.0)[1:-1], atol=1e-3)


def test_phase_and_neutral_sum_to_the_residual_current() -> None:
    times_s = np.arange(800) / SAMPLE_RATE_HZ
    phases = np.radians([0.0, 77.0])
    residual = ResidualBatch(WAVEFORMS["ac"], phases, np.array([30.0, 15.0])).sample(times_s)
    load = Load(16.0, 30.0, {3: 0.2, 5: 0.1}, inrush_factor=8.0).sample(times_s, LineFrequency(), phases)
    np.testing.assert_allclose(residual_from_poles_ma(*line_currents_a(load, residual)), residual, atol=1e-9)
    assert np.abs(load).max() > 16.0 * np.sqrt(2.0) * 4


def test_every_waveform_has_a_row_in_the_table() -> None:
    assert {row.waveform for row in FAULT_TABLE} == set(WAVEFORMS)


@pytest.mark.parametrize(
    ("waveform", "ma", "direct_ma", "wanted"),
    [
        ("ac", 30.0, 0.0, Expectation.TRIP),
        ("ac", 15.0, 0.0, Expectation.HOLD),
        ("ac", 20.0, 0.0, Expectation.FREE),
        ("ac", 10.0, 6.0, Expectation.TRIP),
        ("ac", 10.0, 2.0, Expectation.HOLD),
        ("ac", 10.0, 5.0, Expectation.FREE),
        ("dc", -6.0, 0.0, Expectation.TRIP),
        ("dc", -3.0, 0.0, Expectation.HOLD),
        ("half-wave-0", -10.5, 0.0, Expectation.HOLD),
        ("half-wave-135", 42.0, 0.0, Expectation.TRIP),
        ("surge", 3e6, 0.0, Expectation.HOLD),
        ("inrush", 300.0, 0.0, Expectation.TRIP),
    ],
)
def test_the_table_says_what_must_trip(waveform: str, ma: float, direct_ma: float, wanted: Expectation) -> None:
    assert expectation(waveform, ma, direct_ma) is wanted


def test_every_conflict_names_its_decision() -> None:
    assert len(CONFLICTS) >= 6
    assert all(conflict.title and conflict.conflict and conflict.decision for conflict in CONFLICTS)
