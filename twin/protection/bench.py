"""Fires shots: grid → sensor → detector → relay, sample by sample at 8 kHz, in simulated time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from grid.faults import Expectation, expectation, fault_row
from grid.loads import line_currents_a
from grid.waveforms import SAMPLE_RATE_HZ, WAVEFORMS, ResidualBatch
from meters.firmware.protection.detector import TICK_SAMPLES, Detection, TypeBDetector
from meters.hardware.leakage_sensor import LeakageSensor
from meters.hardware.relay_opening import Opening, open_relay
from protocols.errors import BadInputError
from protocols.leakage_protection import Cause
from twin.conformance.verdicts import Verdict
from twin.protection.sample_files import Recording
from twin.protection.shots import Capture, FaultState, Shot, ShotKind, ShotResult, judge

Samples = npt.NDArray[np.float64]

_BLOCK_SAMPLES = 4000
_OPENING_S = 0.3
"""How far the poles' currents are followed after a trip. No zero within this is never: 13 cycles have passed."""
_CAPTURE_BEFORE_S, _CAPTURE_AFTER_S = 0.06, 0.1


class Source(Protocol):
    """Residual current in mA (channels x times) at times in seconds from the onset."""

    def sample(self, time_s: Samples) -> Samples: ...


@dataclass(frozen=True, slots=True)
class SequenceSource:
    """States one after the other from time 0 on; before the first and after the last, only standing current."""

    healthy: ResidualBatch
    states: tuple[tuple[float, float, ResidualBatch], ...]
    """(start, end, waveform with time 0 at the start)"""

    def sample(self, time_s: Samples) -> Samples:
        out = self.healthy.sample(time_s)
        for start_s, end_s, batch in self.states:
            inside = (time_s >= start_s - 5e-7) & (time_s < end_s - 5e-7)
            if inside.any():
                out[:, inside] += batch.sample(time_s[inside] - start_s)
        return out


def phases_rad(shot: Shot) -> Samples:
    """Onset phases, evenly spaced over a cycle."""
    return np.asarray(np.radians(shot.first_phase_deg) + np.arange(shot.phases) * (2.0 * np.pi / shot.phases))


def make_source(shot: Shot, phases: Samples) -> Source:
    """The residual current of a shot at these onset phases."""
    base = ResidualBatch(
        WAVEFORMS[shot.waveform], phases, np.full(len(phases), float(shot.ma)), shot.frequency,
        fault_dc_ma=shot.direct_ma, standing_ac_ma=shot.standing_ac_ma, standing_dc_ma=shot.standing_dc_ma,
        ramp_ma_per_s=shot.ramp_ma_per_s,
    )  # fmt: skip
    if not shot.sequence:
        return base
    healthy = replace(base, ma=np.zeros(len(phases)), fault_dc_ma=0.0)
    states, start_s = [], 0.0
    for state in shot.sequence:
        states.append((start_s, start_s + state.duration_s, _state_batch(base, state, phases, start_s)))
        start_s += state.duration_s
    return SequenceSource(healthy, tuple(states))


def _state_batch(base: ResidualBatch, state: FaultState, phases: Samples, start_s: float) -> ResidualBatch:
    turned = phases + float(base.frequency.angle(np.array([start_s]))[0])
    return ResidualBatch(
        WAVEFORMS[state.waveform], turned, np.full(len(phases), state.ma), base.frequency, fault_dc_ma=state.direct_ma
    )


@dataclass(frozen=True, slots=True)
class _Timeline:
    """Sampling instants of the channels. Channel by channel they lie differently against the detector's ticks."""

    onset_sample: npt.NDArray[np.int64]

    def times_s(self, channel: int, first: int, count: int) -> Samples:
        """Seconds from the channel's onset of `count` samples from number `first` on."""
        return np.asarray((np.arange(first, first + count) - self.onset_sample[channel]) / SAMPLE_RATE_HZ)


def run_shot(shot: Shot, *, captures: int = 0) -> list[ShotResult]:
    """Fire `shot` at each of its phases; keep samples around the trip of the first `captures` of them."""
    phases = phases_rad(shot)
    before = round(shot.pre_fault_s * SAMPLE_RATE_HZ / TICK_SAMPLES) * TICK_SAMPLES
    timeline = _Timeline(before + np.arange(shot.phases, dtype=np.int64) % TICK_SAMPLES)
    total = before + TICK_SAMPLES + int(np.ceil(_duration_s(shot) * SAMPLE_RATE_HZ))
    detection = _detect(shot, phases, timeline, total)
    return [_finish(shot, phases, timeline, detection, channel, channel < captures) for channel in range(shot.phases)]


def _duration_s(shot: Shot) -> float:
    if shot.sequence:
        return sum(state.duration_s for state in shot.sequence) + 0.05
    if shot.ramp_ma_per_s is not None:
        return abs(shot.ma) / shot.ramp_ma_per_s + shot.duration_s
    return shot.duration_s


def _detect(shot: Shot, phases: Samples, timeline: _Timeline, total: int) -> Detection:
    sensor = LeakageSensor(shot.sensor, shot.phases, np.random.default_rng(shot.seed))
    detector = TypeBDetector(shot.phases, shot.settings)
    groups = [np.arange(k, shot.phases, TICK_SAMPLES) for k in range(min(TICK_SAMPLES, shot.phases))]
    sources = [make_source(shot, phases[group]) for group in groups]
    for first in range(0, total, _BLOCK_SAMPLES):
        count = min(_BLOCK_SAMPLES, total - first)
        residual, load = np.empty((shot.phases, count)), np.empty((shot.phases, count))
        for group, source in zip(groups, sources, strict=True):
            times_s = timeline.times_s(int(group[0]), first, count)
            residual[group] = source.sample(times_s)
            load[group] = shot.load.sample(times_s, shot.frequency, phases[group])
        detection = detector.process(sensor.measure(residual, load))
        if detection.tripped.all():
            break
    return detection


def _finish(
    shot: Shot, phases: Samples, timeline: _Timeline, detection: Detection, channel: int, keep: bool
) -> ShotResult:
    direct_ma = shot.direct_ma + shot.standing_dc_ma
    expected = shot.expected or _expectation(shot, direct_ma)
    phase_deg = float(np.degrees(phases[channel]) % 360.0)
    onset, decided = int(timeline.onset_sample[channel]), int(detection.sample[channel])
    source = make_source(shot, phases[channel : channel + 1])
    if decided < 0:
        verdict, reason = judge(expected, False, None, shot.limit_ms, "")
        capture = _capture(shot, phases, source, channel, 0.0, None) if keep else None
        return ShotResult(shot, phase_deg, False, None, None, "", expected, verdict, reason, capture=capture)
    detect_s = (decided - onset) / SAMPLE_RATE_HZ
    opening = _open(shot, phases, source, channel, detect_s)
    origin_s = _limit_reached_s(shot)
    isolate_ms = None if opening.zero_s is None else (opening.zero_s - origin_s) * 1000.0
    verdict, reason = judge(expected, True, isolate_ms, shot.limit_ms, opening.reason)
    level = None if shot.ramp_ma_per_s is None else min(shot.ramp_ma_per_s * detect_s, abs(shot.ma))
    return ShotResult(
        shot, phase_deg, True, (detect_s - origin_s) * 1000.0, isolate_ms,
        Cause(int(detection.cause[channel])).name.lower(), expected, verdict, reason, level,
        _capture(shot, phases, source, channel, detect_s, opening.zero_s) if keep else None,
    )  # fmt: skip


def _expectation(shot: Shot, direct_ma: float) -> Expectation:
    if shot.sequence:
        wanted = [expectation(state.waveform, state.ma, state.direct_ma) for state in shot.sequence]
        if Expectation.TRIP in wanted:
            return Expectation.TRIP
        return Expectation.FREE if Expectation.FREE in wanted else Expectation.HOLD
    return expectation(shot.waveform, shot.ma, direct_ma)


def _limit_reached_s(shot: Shot) -> float:
    """When the fault is one that must trip, in seconds from its first sample."""
    if shot.sequence:
        start_s = 0.0
        for state in shot.sequence:
            if expectation(state.waveform, state.ma, state.direct_ma) is Expectation.TRIP:
                return start_s
            start_s += state.duration_s
        return 0.0
    trip_ma = fault_row(shot.waveform).trip_ma
    if shot.ramp_ma_per_s is None or trip_ma is None:
        return 0.0
    return min(trip_ma, abs(shot.ma)) / shot.ramp_ma_per_s


def _poles(shot: Shot, phases: Samples, source: Source, channel: int, times_s: Samples) -> dict[str, Samples]:
    load = shot.load.sample(times_s, shot.frequency, phases[channel : channel + 1])
    phase_a, neutral_a = line_currents_a(load, source.sample(times_s))
    return {"L": phase_a[0], "N": neutral_a[0]}


def _open(shot: Shot, phases: Samples, source: Source, channel: int, detect_s: float) -> Opening:
    """Zero time in seconds from the fault's first sample."""
    times_s = detect_s + np.arange(round(_OPENING_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    poles = _poles(shot, phases, source, channel, times_s)
    opening = open_relay(shot.relay, poles, 0.0, SAMPLE_RATE_HZ, shot.welded)
    return opening if opening.zero_s is None else Opening(detect_s + opening.zero_s)


def _capture(
    shot: Shot, phases: Samples, source: Source, channel: int, detect_s: float, zero_s: float | None
) -> Capture:
    before = round(_CAPTURE_BEFORE_S * SAMPLE_RATE_HZ)
    first_s = (round(max(detect_s - 0.04, 0.0) * SAMPLE_RATE_HZ) - before) / SAMPLE_RATE_HZ
    count = before + round((_CAPTURE_AFTER_S + 0.04) * SAMPLE_RATE_HZ)
    times_s = first_s + np.arange(count) / SAMPLE_RATE_HZ
    poles = _poles(shot, phases, source, channel, times_s)
    closed = np.ones(count, dtype=bool) if zero_s is None else times_s < zero_s
    residual = np.where(closed, source.sample(times_s)[0], 0.0)
    sensor = LeakageSensor(shot.sensor, 1, np.random.default_rng(shot.seed))
    load_a = np.where(closed, -poles["N"], 0.0)
    measured = sensor.measure(residual[None], load_a[None])[0]
    phase_a, neutral_a = (np.where(closed, current, 0.0) for current in poles.values())
    return Capture(first_s, float(SAMPLE_RATE_HZ), residual, measured, phase_a, neutral_a, closed)


def pulse_ramp(shot: Shot, steps_ma: list[float], *, captures: int = 0) -> list[ShotResult]:
    """Fire pulses of growing current, each at a rested detector, and judge each of them by the table."""
    results = []
    for ma in steps_ma:
        results += run_shot(replace(shot, ma=ma, kind=ShotKind.PULSE_RAMP), captures=captures)
    return results


def frequency_sweep(shot: Shot, frequencies_hz: list[float], *, captures: int = 0) -> list[ShotResult]:
    """Fire the shot at each line frequency."""
    results = []
    for hz in frequencies_hz:
        at = replace(shot, frequency=replace(shot.frequency, hz=hz), kind=ShotKind.FREQUENCY_SWEEP)
        results += run_shot(at, captures=captures)
    return results


def run_recording(recording: Recording, shot: Shot, onset_ms: float | None, expected: Expectation | None) -> ShotResult:
    """Feed a recorded residual current through sensor, detector and relay.

    `shot` says which sensor, relay, load and settings. The 40 ms are judged only where the fault's onset is known,
    from `onset_ms` or the record's own trigger; a trip before it fails, unless nothing is said about the onset.
    """
    samples = recording.residual_ma
    known_ms = onset_ms if onset_ms is not None else (recording.trigger_s * 1000.0 if recording.trigger_s else None)
    onset_s = (known_ms or 0.0) / 1000.0
    if not 0.0 <= onset_s < len(samples) / SAMPLE_RATE_HZ:
        raise BadInputError(
            f"the onset at {onset_s * 1000.0:g} ms lies outside the {len(samples) / 8.0:g} ms of samples",
            file=recording.name, key="--onset-ms",
        )  # fmt: skip
    source = _RecordedSource(samples, onset_s)
    wanted = expected or Expectation.FREE
    detection = _detect_recording(shot, source)
    phases = np.radians(np.array([shot.first_phase_deg]))
    decided = int(detection.sample[0])
    if decided < 0:
        verdict, reason = judge(wanted, False, None, shot.limit_ms, "")
        capture = _capture(shot, phases, source, 0, 0.0, None)
        return ShotResult(shot, shot.first_phase_deg, False, None, None, "", wanted, verdict, reason, capture=capture)
    detect_s = decided / SAMPLE_RATE_HZ - onset_s
    opening = _open(shot, phases, source, 0, detect_s)
    isolate_ms = None if opening.zero_s is None else opening.zero_s * 1000.0
    if wanted is Expectation.FREE and known_ms is not None:
        verdict, reason = judge(Expectation.TRIP, True, isolate_ms, shot.limit_ms, opening.reason)
    else:
        verdict, reason = judge(wanted, True, isolate_ms, shot.limit_ms, opening.reason)
    if known_ms is not None and detect_s < 0.0:
        verdict, reason = Verdict.FAIL, f"tripped {-detect_s * 1000.0:.1f} ms before the fault began"
    return ShotResult(
        shot, shot.first_phase_deg, True, detect_s * 1000.0, isolate_ms, Cause(int(detection.cause[0])).name.lower(),
        wanted, verdict, reason, capture=_capture(shot, phases, source, 0, detect_s, opening.zero_s),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _RecordedSource:
    """Samples whose number 0 is `onset_s` before the onset. Before the first and after the last there is none."""

    samples: Samples
    onset_s: float

    def sample(self, time_s: Samples) -> Samples:
        index = np.rint((time_s + self.onset_s) * SAMPLE_RATE_HZ).astype(np.int64)
        inside = (index >= 0) & (index < len(self.samples))
        return np.where(inside, self.samples[np.clip(index, 0, len(self.samples) - 1)], 0.0)[None, :]


def _detect_recording(shot: Shot, source: _RecordedSource) -> Detection:
    sensor = LeakageSensor(shot.sensor, 1, np.random.default_rng(shot.seed))
    detector = TypeBDetector(1, shot.settings)
    phases = np.radians(np.array([shot.first_phase_deg]))
    for first in range(0, len(source.samples), _BLOCK_SAMPLES):
        block = source.samples[None, first : first + _BLOCK_SAMPLES]
        times_s = (first + np.arange(block.shape[1])) / SAMPLE_RATE_HZ - source.onset_s
        load = shot.load.sample(times_s, shot.frequency, phases)
        detector.process(sensor.measure(block, load))
    return detector.detection
