"""The Type B detector on its own: state between blocks, fail-safe, and the cases that tell it from a simpler one."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from grid.waveforms import WAVEFORMS, LineFrequency, ResidualBatch  # noqa: E402
from meters.firmware.protection.detector import Cause, TypeBDetector  # noqa: E402
from meters.firmware.protection.settings import ProtectionSettings  # noqa: E402
from meters.hardware.leakage_sensor import SENSOR_MODELS, LeakageSensor  # noqa: E402

_ONSET = 803


def _samples(name: str, ma: float, hz: float, phases: int = 16, length_s: float = 0.3, **more: float) -> object:
    batch = ResidualBatch(
        WAVEFORMS[name],
        np.arange(phases) * (2 * np.pi / phases),
        np.full(phases, ma),
        LineFrequency(hz),
        **more,  # type: ignore[arg-type]
    )
    return batch.sample((np.arange(_ONSET + round(length_s * 8000)) - _ONSET) / 8000.0)


def _delays_ms(samples: object, noise_ma: float = 0.0) -> object:
    noise = np.random.default_rng(3).normal(0.0, noise_ma, samples.shape) if noise_ma else 0.0  # type: ignore[attr-defined]
    detector = TypeBDetector(len(samples))  # type: ignore[arg-type]
    detection = detector.process(samples + noise)
    return np.where(detection.tripped, (detection.sample - _ONSET) / 8.0, np.inf)


@given(cuts=st.lists(st.integers(1, 700), min_size=1, max_size=20), phase=st.integers(0, 15))
@settings(max_examples=10, deadline=None)
def test_the_decision_does_not_depend_on_how_samples_are_cut_into_blocks(cuts: list[int], phase: int) -> None:
    samples = _samples("dc-plus-ac", 6.0, 47.3)[phase : phase + 1]  # type: ignore[index]
    whole = TypeBDetector(1).process(samples)
    detector, start = TypeBDetector(1), 0
    for cut in [*cuts, samples.shape[1]]:
        detection = detector.process(samples[:, start : start + cut])
        start += cut
    assert detection.sample.tolist() == whole.sample.tolist()
    assert detection.cause.tolist() == whole.cause.tolist()


def test_channels_do_not_disturb_one_another() -> None:
    quiet, fault = _samples("ac", 15.0, 50.0, 4), _samples("ac", 30.0, 50.0, 4)
    mixed = np.concatenate((quiet, fault))
    detection = TypeBDetector(8).process(mixed)
    assert detection.tripped.tolist() == [False] * 4 + [True] * 4


def test_a_tripped_channel_stays_tripped_until_it_is_reset() -> None:
    detector = TypeBDetector(2)
    detector.process(np.full((2, 800), 8.0))
    assert detector.process(np.zeros((2, 800))).tripped.all()
    detector.reset(0)
    assert detector.process(np.zeros((2, 800))).tripped.tolist() == [False, True]
    detector.reset()
    assert not detector.detection.tripped.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_that_is_not_a_number_trips_that_channel_only(value: float) -> None:
    samples = np.zeros((3, 400))
    samples[1, 100] = value
    samples[2, 100] = value if value != float("inf") else 0.0
    detection = TypeBDetector(3).process(samples)
    if value != value:
        assert detection.tripped.tolist() == [False, True, True]
        assert detection.cause[1] == Cause.SENSOR
        assert detection.sample[1] == 104
    else:
        assert not detection.tripped[0]


def test_a_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="need 2 channels"):
        TypeBDetector(2).process(np.zeros((3, 8)))
    with pytest.raises(ValueError, match="at least one"):
        TypeBDetector(0)


def test_lower_settings_trip_earlier() -> None:
    detector = TypeBDetector(1, ProtectionSettings(dc_threshold_ma=3.0, ac_threshold_ma=15.0))
    assert detector.process(np.full((1, 400), 3.0)).tripped.all()
    assert not TypeBDetector(1).process(np.full((1, 400), 3.0)).tripped.any()


@pytest.mark.requirement("SAF-3")
@pytest.mark.parametrize("hz", [45.0, 50.0, 52.0])
@pytest.mark.parametrize("ac_ma", [0.5, 2.0, 4.0, 5.66, 8.0, 12.0, 20.0])
def test_six_milliamperes_trip_under_any_alternating_current(ac_ma: float, hz: float) -> None:
    delays = _delays_ms(_samples("ac", ac_ma, hz, fault_dc_ma=-6.0, length_s=0.1), noise_ma=0.2)
    assert delays.max() <= 39.0  # type: ignore[attr-defined]


@pytest.mark.requirement("SAF-4")
@pytest.mark.parametrize("hz", [45.0, 47.7, 50.0, 52.0])
@pytest.mark.parametrize("ma", [10.5, -10.5])
def test_the_half_wave_of_0_35_rated_current_holds_though_its_mean_is_above_six_milliamperes(
    ma: float, hz: float
) -> None:
    samples = _samples("half-wave-0", ma, hz, 8, length_s=0.4)
    assert np.isinf(_delays_ms(samples, noise_ma=0.3)).all()
    assert np.isinf(_delays_ms(samples + np.sign(ma) * 2.0, noise_ma=0.3)).all()


@pytest.mark.requirement("SAF-4")
@pytest.mark.parametrize("hz", [45.0, 50.0, 52.0])
def test_an_alternating_current_beginning_over_five_milliamperes_of_direct_current_holds(hz: float) -> None:
    for ac_ma in (5.0, 10.0, 15.0):
        samples = _samples("ac", ac_ma, hz, standing_dc_ma=5.0)
        assert np.isinf(_delays_ms(samples, noise_ma=0.1)).all()


@pytest.mark.requirement("SAF-4")
def test_a_surge_on_standing_leakage_holds() -> None:
    for ma in (3e6, -3e6):
        samples = _samples("surge", ma, 50.0, standing_ac_ma=10.0, standing_dc_ma=2.0)
        assert np.isinf(_delays_ms(samples, noise_ma=0.1)).all()


@pytest.mark.requirement("SAF-2")
@pytest.mark.parametrize("ma_per_s", [0.5, 5.0, 50.0])
def test_a_slow_ramp_of_direct_current_trips_before_the_limit(ma_per_s: float) -> None:
    limit_s = 6.0 / ma_per_s
    samples = _samples("dc", 12.0, 50.0, 2, length_s=limit_s + 0.1, ramp_ma_per_s=ma_per_s)
    delays = _delays_ms(samples, noise_ma=0.1)
    assert delays.max() <= limit_s * 1000.0 + 40.0  # type: ignore[attr-defined]
    assert delays.min() * ma_per_s / 1000.0 > 3.0  # type: ignore[attr-defined]


def test_the_measured_frequency_is_that_of_the_residual_current() -> None:
    for hz in (45.0, 48.3, 52.0):
        detector = TypeBDetector(1)
        detector.process(_samples("ac", 10.0, hz, 1, fault_dc_ma=5.0))
        assert detector.line_hz[0] == pytest.approx(hz, abs=0.3)


def test_type_a_and_type_ac_sensors_are_blind_where_they_should_be() -> None:
    def sees(kind: str, name: str, ma: float) -> bool:
        sensor = LeakageSensor(SENSOR_MODELS[kind], 16, np.random.default_rng(1))
        return bool(TypeBDetector(16).process(sensor.measure(_samples(name, ma, 50.0))).tripped.all())

    assert [sees(kind, "ac", 30.0) for kind in SENSOR_MODELS] == [True, True, True]
    assert [sees(kind, "half-wave-0", 42.0) for kind in SENSOR_MODELS] == [True, True, False]
    assert [sees(kind, "dc", 6.0) for kind in SENSOR_MODELS] == [True, False, False]


def test_an_unplugged_sensor_trips_and_a_plugged_one_lets_go() -> None:
    sensor = LeakageSensor(SENSOR_MODELS["type-b"], 2, np.random.default_rng(1))
    sensor.unplug(1)
    assert TypeBDetector(2).process(sensor.measure(np.zeros((2, 400)))).tripped.tolist() == [False, True]
    sensor.plug(1)
    assert not TypeBDetector(2).process(sensor.measure(np.zeros((2, 400)))).tripped.any()
