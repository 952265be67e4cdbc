"""The protection core of a meter: every tenant line's sensor, safety logic and relay.

It needs nothing but its own hardware: application, mesh, concentrator and head-end may all be dead. Samples are
handed over in blocks, and everything is decided from them and from the moment of their last sample. Lines are counted
from 0 here; the records and everything outside count them from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from meters.firmware.protection.safety import Action, Outcome, SafetyEvent, SafetyLogic, SafetyMemory
from meters.firmware.protection.settings import ProtectionSettings
from meters.hardware.leakage_test_path import LeakageTestPath, Polarity
from meters.hardware.relay import Relay
from protocols.leakage_protection import Cause, SafetyState
from protocols.trip_record import SAMPLE_RATE_HZ, TripRecord

if TYPE_CHECKING:
    from meters.firmware.protection.signal import Finding, Samples, SignalPath, Waveform

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
_KEPT_RECORDS = 10

_CLOSED = frozenset({SafetyState.CLOSED, SafetyState.WATCHING})


class TripStore(Protocol):
    """Where records and states go: flash, through the meter's storage. Never waited for by a trip."""

    @property
    def next_number(self) -> int:
        """Number that the next trip gets."""
        ...

    def append_trip(self, record: TripRecord) -> bool:
        """Keep a record; False if there is no room or no flash."""
        ...

    def save_safety(self, line: int, memory: SafetyMemory) -> bool: ...


class TestWinding(Protocol):
    """The sensor's own test winding."""

    def drive(self, line: int, test_ma: float) -> None: ...


@dataclass(frozen=True, slots=True)
class LineEvent:
    """Something that happened to a line (from 0), at `at_s` on the clock that `process` is called with."""

    line: int
    at_s: float
    outcome: Outcome


@dataclass(slots=True)
class _Line:
    """What the unit remembers of one line between blocks."""

    safety: SafetyLogic
    relay: Relay
    saved: SafetyMemory
    opened_s: float = float("-inf")
    check_s: float | None = None
    test_until_s: float | None = None
    level_before_ma: float = 0.0
    has_failed: bool = False
    lost_records: int = 0
    records: list[TripRecord] = field(default_factory=list)


class ProtectionUnit:
    """Protection of several lines. Relays, sensors and test path are hardware; `utc_ms` is the meter's own clock.

    `memories` are what each line's safety logic had saved before a power cut. The relays are where they latched; one
    that should be open and is not is driven open. Nothing of numpy is needed before the first samples come.
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
        *,
        now_s: float = 0.0,
    ) -> None:
        self._settings = settings or ProtectionSettings()
        saved = [memory or SafetyMemory() for memory in memories or [None] * len(relays)]
        self._lines = []
        for relay, memory in zip(relays, saved, strict=True):
            safety = SafetyLogic(self._settings, memory, closed=relay.commanded_closed, now_s=now_s)
            if safety.state not in _CLOSED:
                relay.open(now_s)
            self._lines.append(_Line(safety, relay, memory))
        self._test_path, self._winding, self._store, self._utc_ms = test_path, winding, store, utc_ms
        self._signal: SignalPath | None = None
        self._newest = 0
        self.on_record: Callable[[TripRecord], None] = lambda record: None
        """Told of every finished trip record, kept or not."""

    @property
    def settings(self) -> ProtectionSettings:
        return self._settings

    @property
    def states(self) -> list[SafetyState]:
        return [line.safety.state for line in self._lines]

    def safety(self, line: int) -> SafetyLogic:
        """A line's safety logic, to be looked at."""
        return self._lines[line].safety

    def is_closed(self, line: int) -> bool:
        """What the relay was last told. It may be welded, or on its way."""
        return self._lines[line].relay.commanded_closed

    def records(self, line: int) -> list[TripRecord]:
        """The last trips of a line, oldest first: those of this power-up, whether or not flash could keep them."""
        return list(self._lines[line].records)

    @property
    def next_number(self) -> int:
        """Number that the next trip gets; those that flash could not keep count as well."""
        return max(self._store.next_number, self._newest + 1)

    def lost_records(self, line: int) -> int:
        """Trips whose record flash had no room for."""
        return self._lines[line].lost_records

    def configure(self, settings: ProtectionSettings) -> None:
        """Work by other settings from now on. The detector starts anew; whatever is open stays open."""
        self._settings = settings
        for line in self._lines:
            line.safety.settings = settings
        self._signal = None

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
        """The button on the meter. A failed sensor is tested again: it alone can clear itself."""
        outcome = self._handle(line, SafetyEvent.LOCAL_RESET, now_s).outcome
        if outcome.after is SafetyState.SENSOR_FAILED:
            self.start_self_test(line, now_s)
        return outcome

    def start_self_test(self, line: int, now_s: float) -> None:
        """Drive 1 mA through the test winding; the result is an event after 50 ms."""
        state = self._lines[line]
        state.level_before_ma = self._sampled().direct_ma(line)
        self._winding.drive(line, _TEST_MA)
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
        signal = self._sampled()
        events = []
        for finding in signal.take(block):
            # Hardware acts on the sample at which it decides, not at the end of whatever block that fell into.
            at_s = now_s - (signal.seen - finding.sample) / SAMPLE_RATE_HZ
            events += self._leakage(finding, at_s, bool(signal.failed[finding.line]))
        for number, line in enumerate(self._lines):
            failed = bool(signal.failed[number])
            if failed and not line.has_failed:
                events.append(self._handle(number, SafetyEvent.SENSOR_FAILURE, now_s))
            line.has_failed = failed
        signal.finished(self._record)
        return events

    def _sampled(self) -> SignalPath:
        """The sampled side, made when the first samples come: numpy takes its time to load."""
        if self._signal is None:
            from meters.firmware.protection.signal import SignalPath

            self._signal = SignalPath(len(self._lines), self._settings)
        return self._signal

    def _leakage(self, finding: Finding, at_s: float, blind: bool) -> list[LineEvent]:
        number, signal = finding.line, self._sampled()
        line = self._lines[number]
        signal.reset(number)
        if line.safety.state in _CLOSED:
            signal.keep(finding)
            event = SafetyEvent.SENSOR_FAILURE if finding.cause is Cause.SENSOR else SafetyEvent.LEAKAGE
        elif blind or finding.cause is Cause.SENSOR or line.safety.state is SafetyState.SENSOR_FAILED:
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
                    if self._signal is not None:
                        self._signal.reset(number)
                    line.relay.close(now_s)
                case Action.START_CHECK:
                    self._test_path.apply(number, True)
                    line.check_s = now_s + _CHECK_S
                case Action.STOP_CHECK:
                    self._test_path.apply(number, False)
                    line.check_s = None
        memory = line.safety.memory
        if memory != line.saved and self._store.save_safety(number, memory):
            line.saved = memory

    def _check_result(self, number: int) -> SafetyEvent | None:
        """What the test current says; None where it says nothing, so that the check times out."""
        currents = [self._test_path.measure_ma(number, polarity) for polarity in Polarity]
        if any(current is None or not math.isfinite(current) for current in currents):
            return None
        prospective = [self._prospective_ma(abs(current or 0.0)) for current in currents]
        alternating, rectified = min(prospective), max(prospective) - min(prospective)
        leaks = alternating >= _REFUSE_SHARE * self._settings.ac_threshold_ma
        leaks |= rectified * _HALF_WAVE_MEAN >= _REFUSE_SHARE * self._settings.dc_threshold_ma
        return SafetyEvent.CHECK_FAILED if leaks else SafetyEvent.CHECK_PASSED

    def _prospective_ma(self, test_ma: float) -> float:
        """RMS leakage at the line's voltage, from the current through the test resistor."""
        if test_ma <= 0.0:
            return 0.0
        leak_ohms = self._test_path.test_v / (test_ma / 1000.0) - self._test_path.series_ohms
        return float("inf") if leak_ohms <= 0.0 else _LINE_V / leak_ohms * 1000.0

    def _finish_self_test(self, number: int, now_s: float) -> LineEvent:
        line, signal = self._lines[number], self._sampled()
        line.test_until_s = None
        step_ma = signal.direct_ma(number) - line.level_before_ma
        self._winding.drive(number, 0.0)
        passed = abs(step_ma - _TEST_MA) <= _TEST_TOLERANCE_MA and not line.has_failed
        return self._handle(number, SafetyEvent.SELF_TEST_PASSED if passed else SafetyEvent.SENSOR_FAILURE, now_s)

    def _record(self, waveform: Waveform) -> None:
        from meters.firmware.protection.signal import BEFORE_SAMPLES

        line = self._lines[waveform.line]
        # An input that goes to its rail trips as a current would, before it has been there for long enough to be known.
        cause = Cause.SENSOR if line.has_failed else waveform.cause
        record = TripRecord(
            self.next_number, self._utc_ms(), waveform.line + 1, cause, waveform.components,
            BEFORE_SAMPLES, waveform.samples_ma,
        )  # fmt: skip
        self._newest = record.number
        line.records = [*line.records[1 - _KEPT_RECORDS :], record]
        if not self._store.append_trip(record):
            line.lost_records += 1
        self.on_record(record)
