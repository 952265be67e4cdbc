"""The protection core of a meter: every tenant line's sensor, safety logic and relay.

It needs nothing but its own hardware: application, mesh, concentrator and head-end may all be dead. Samples are
handed over in blocks, and everything is decided from them and from the moment of their last sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from meters.firmware.protection.components import NEEDED_SAMPLES, components
from meters.firmware.protection.detector import SAMPLE_RATE_HZ, Cause, TypeBDetector
from meters.firmware.protection.monitor import SensorMonitor
from meters.firmware.protection.record import TripRecord
from meters.firmware.protection.safety import Action, Outcome, SafetyEvent, SafetyLogic, SafetyMemory, SafetyState
from meters.firmware.protection.settings import ProtectionSettings
from meters.hardware.leakage_test_path import LeakageTestPath, Polarity
from meters.hardware.relay import Relay

Samples = npt.NDArray[np.float64]

_BEFORE_SAMPLES, _AFTER_SAMPLES = 480, 320
_CHECK_S = 0.1
_REARM_S = 0.1
"""How long after opening a residual current may still be dying away."""
_REFUSE_SHARE = 0.5
_LINE_V = 230.0
_HALF_WAVE_MEAN = 0.45
"""Mean of a half-wave over the RMS value of the whole sine."""
_TEST_MA = 1.0
_TEST_S = 0.05
_TEST_TOLERANCE_MA = 0.4

_CLOSED = frozenset({SafetyState.CLOSED, SafetyState.WATCHING})


class TripStore(Protocol):
    """Where records and states go: flash, through the meter's storage. Never waited for by a trip."""

    def append_trip(self, record: bytes) -> bool:
        """Keep a record; False if there is no room or no flash."""
        ...

    def save_safety(self, line: int, memory: bytes) -> bool: ...


class TestWinding(Protocol):
    """The sensor's own test winding."""

    test_ma: Samples


@dataclass(frozen=True, slots=True)
class LineEvent:
    """Something that happened to a line, at `at_s` on the clock that `process` is called with."""

    line: int
    at_s: float
    outcome: Outcome


@dataclass(slots=True)
class _Line:
    """What the unit remembers of one line between blocks."""

    safety: SafetyLogic
    relay: Relay
    opened_s: float = float("-inf")
    check_s: float | None = None
    record_trip_at: int | None = None
    record_cause: Cause = Cause.NONE
    test_until_s: float | None = None
    level_before_ma: float = 0.0
    lost_records: int = 0
    records: list[TripRecord] = field(default_factory=list)


class ProtectionUnit:
    """Protection of several lines. Relays, sensors and test path are hardware; `utc_ms` is the meter's own clock.

    `memories` are what each line's safety logic had saved before a power cut.
    """

    def __init__(
        self,
        relays: list[Relay],
        test_path: LeakageTestPath,
        winding: TestWinding,
        store: TripStore,
        utc_ms: Callable[[], int],
        settings: ProtectionSettings | None = None,
        memories: list[SafetyMemory | None] | None = None,
    ) -> None:
        self.settings = settings or ProtectionSettings()
        saved = memories or [None] * len(relays)
        self._lines = [
            _Line(SafetyLogic(self.settings, memory), relay) for relay, memory in zip(relays, saved, strict=True)
        ]
        self._test_path, self._winding, self._store, self._utc_ms = test_path, winding, store, utc_ms
        self._detector = TypeBDetector(len(relays), self.settings)
        self._monitor = SensorMonitor(len(relays))
        self._failed = np.zeros(len(relays), dtype=bool)
        self._history = np.zeros((len(relays), _BEFORE_SAMPLES + _AFTER_SAMPLES + SAMPLE_RATE_HZ))
        self._seen = 0

    @property
    def states(self) -> list[SafetyState]:
        return [line.safety.state for line in self._lines]

    def records(self, line: int) -> list[TripRecord]:
        """The last trips of a line, oldest first: those of this power-up, whether or not flash could keep them."""
        return list(self._lines[line].records)

    def lost_records(self, line: int) -> int:
        """Trips whose record flash had no room for."""
        return self._lines[line].lost_records

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called next, in seconds, or None."""
        times = [
            at
            for line in self._lines
            for at in (line.safety.next_timer(), line.check_s, line.test_until_s)
            if at is not None
        ]
        return min(times, default=None)

    def request_close(self, line: int, now_s: float) -> Outcome:
        """Ask for a line to be closed, from wherever. The check decides; what came of it is an event later on."""
        return self._handle(line, SafetyEvent.CLOSE_REQUESTED, now_s).outcome

    def request_open(self, line: int, now_s: float) -> Outcome:
        return self._handle(line, SafetyEvent.OPEN_REQUESTED, now_s).outcome

    def reset_locally(self, line: int, now_s: float) -> Outcome:
        """The button on the meter."""
        return self._handle(line, SafetyEvent.LOCAL_RESET, now_s).outcome

    def start_self_test(self, line: int, now_s: float) -> None:
        """Drive 1 mA through the test winding; the result is an event after 50 ms."""
        state = self._lines[line]
        state.level_before_ma = self._level_ma(line)
        self._winding.test_ma[line] = _TEST_MA
        state.test_until_s = now_s + _TEST_S

    def handle_timer(self, now_s: float) -> list[LineEvent]:
        """Whatever has come due: watches, checks, self-tests."""
        events = []
        for number, line in enumerate(self._lines):
            if line.check_s is not None and now_s >= line.check_s:
                line.check_s = None
                event = self._check_result(number)
                if event is not None:
                    events.append(self._handle(number, event, now_s))
            if line.test_until_s is not None and now_s >= line.test_until_s:
                events.append(self._finish_self_test(number, now_s))
            outcome = line.safety.handle_timer(now_s)
            if outcome is not None:
                self._carry_out(number, outcome, now_s)
                events.append(LineEvent(number, now_s, outcome))
        return events

    def process(self, block: Samples, now_s: float) -> list[LineEvent]:
        """Take the sensors' next samples in mA (lines x any number up to a second); the last one is of `now_s`."""
        count = block.shape[1]
        if count > SAMPLE_RATE_HZ:
            raise ValueError(f"a block holds at most a second ({SAMPLE_RATE_HZ} samples), not {count}")
        self._history = np.concatenate((self._history, block), axis=1)[:, -self._history.shape[1] :]
        self._seen += count
        detection = self._detector.process(block)
        failed = self._monitor.check(block)
        events = []
        for number in np.nonzero(detection.tripped)[0].tolist():
            sample = int(detection.sample[number])
            # Hardware acts on the sample at which it decides, not at the end of whatever block that fell into.
            at_s = now_s - (self._seen - sample) / SAMPLE_RATE_HZ
            events += self._leakage(number, Cause(int(detection.cause[number])), at_s, sample, bool(failed[number]))
        for number in np.nonzero(failed & ~self._failed)[0].tolist():
            events.append(self._handle(number, SafetyEvent.SENSOR_FAILURE, now_s))
        self._failed = failed
        self._finish_records()
        return events

    def _leakage(self, number: int, cause: Cause, at_s: float, sample: int, blind: bool) -> list[LineEvent]:
        line = self._lines[number]
        self._detector.reset(number)
        if line.safety.state in _CLOSED:
            line.record_trip_at, line.record_cause = sample, cause
            event = SafetyEvent.SENSOR_FAILURE if cause is Cause.SENSOR else SafetyEvent.LEAKAGE
        elif blind or cause is Cause.SENSOR or line.safety.state is SafetyState.SENSOR_FAILED:
            return []
        elif line.safety.state is SafetyState.CHECKING:
            event = SafetyEvent.LEAKAGE
        elif at_s < line.opened_s + _REARM_S:
            return []
        else:
            event = SafetyEvent.CURRENT_PERSISTS
        result = self._handle(number, event, at_s)
        return [] if result.outcome.after is result.outcome.before else [result]

    def _handle(self, number: int, event: SafetyEvent, now_s: float) -> LineEvent:
        outcome = self._lines[number].safety.handle(event, now_s)
        self._carry_out(number, outcome, now_s)
        return LineEvent(number, now_s, outcome)

    def _carry_out(self, number: int, outcome: Outcome, now_s: float) -> None:
        """Relay first: nothing that could fail comes before it."""
        line = self._lines[number]
        for action in outcome.actions:
            match action:
                case Action.OPEN_RELAY:
                    line.relay.open(now_s)
                    line.opened_s = now_s
                case Action.CLOSE_RELAY:
                    self._detector.reset(number)
                    line.relay.close(now_s)
                case Action.START_CHECK:
                    self._test_path.apply(number, True)
                    line.check_s = now_s + _CHECK_S
                case Action.STOP_CHECK:
                    self._test_path.apply(number, False)
                    line.check_s = None
        if outcome.after is not outcome.before:
            self._store.save_safety(number, line.safety.memory.encode())

    def _check_result(self, number: int) -> SafetyEvent | None:
        """What the test current says; None where it says nothing, so that the check times out."""
        currents = [self._test_path.measure_ma(number, polarity) for polarity in Polarity]
        if any(current is None or not math.isfinite(current) for current in currents):
            return None
        prospective = [self._prospective_ma(abs(current or 0.0)) for current in currents]
        alternating, rectified = min(prospective), max(prospective) - min(prospective)
        leaks = alternating >= _REFUSE_SHARE * self.settings.ac_threshold_ma
        leaks |= rectified * _HALF_WAVE_MEAN >= _REFUSE_SHARE * self.settings.dc_threshold_ma
        return SafetyEvent.CHECK_FAILED if leaks else SafetyEvent.CHECK_PASSED

    def _prospective_ma(self, test_ma: float) -> float:
        """RMS leakage at the line's voltage, from the current through the test resistor."""
        if test_ma <= 0.0:
            return 0.0
        leak_ohms = self._test_path.test_v / (test_ma / 1000.0) - self._test_path.series_ohms
        return float("inf") if leak_ohms <= 0.0 else _LINE_V / leak_ohms * 1000.0

    def _level_ma(self, number: int) -> float:
        parts = components(self._history[number, -NEEDED_SAMPLES:], self._detector.fit)
        return parts.smooth_dc_ma + parts.pulsating_dc_ma

    def _finish_self_test(self, number: int, now_s: float) -> LineEvent:
        line = self._lines[number]
        line.test_until_s = None
        step_ma = self._level_ma(number) - line.level_before_ma
        self._winding.test_ma[number] = 0.0
        passed = abs(step_ma - _TEST_MA) <= _TEST_TOLERANCE_MA and not self._failed[number]
        return self._handle(number, SafetyEvent.SELF_TEST_PASSED if passed else SafetyEvent.SENSOR_FAILURE, now_s)

    def _finish_records(self) -> None:
        for number, line in enumerate(self._lines):
            if line.record_trip_at is None or self._seen - line.record_trip_at < _AFTER_SAMPLES:
                continue
            after = self._seen - line.record_trip_at
            end = self._history.shape[1] - after + _AFTER_SAMPLES
            samples = self._history[number, end - _AFTER_SAMPLES - _BEFORE_SAMPLES : end]
            parts = components(samples[:_BEFORE_SAMPLES], self._detector.fit)
            record = TripRecord(
                self._utc_ms(), number, int(line.record_cause), parts, _BEFORE_SAMPLES,
                tuple(np.nan_to_num(samples).tolist()),
            )  # fmt: skip
            line.record_trip_at = None
            line.records = [*line.records[-9:], record]
            if not self._store.append_trip(record.encode()):
                line.lost_records += 1
