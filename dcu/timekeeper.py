"""The concentrator's wall clock: which reference it follows, which it does not believe, and what it does without."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dcu.config import TimePolicy
from dcu.discipline import ClockState, DisciplinedClock, Leap, TimeSample
from dcu.timekeeping import TimeQuality
from protocols.headend.time_check import TimeSource
from protocols.ports import Cancellable, Timers, Trace

_LOG = logging.getLogger(__name__)
EVENT_SYNCHRONISED = "clock-synchronised"
EVENT_HOLDOVER = "clock-holdover"
EVENT_REFUSED = "clock-source-refused"
EVENT_STEPPED = "clock-stepped"
EVENT_LEAP = "clock-leap-second"
PREFERENCE = (TimeSource.GPS, TimeSource.PTP, TimeSource.NETWORK)
_LEAP_WINDOW_S = 0.2
_BELIEVED_AGAIN_AFTER = 3
_DAY_S = 86_400
_OLD_ANNOUNCEMENT_S = 60
_TRACE_EVERY_S = 60.0

Report = Callable[[str, dict[str, str]], None]


@dataclass(slots=True)
class _Source:
    """What is known of one reference: its last sample, how long it is good for, and whether it is believed."""

    patience_s: float
    last: TimeSample | None = None
    refused: bool = False
    agreed: int = 0

    def is_fresh(self, at_s: float) -> bool:
        return self.last is not None and at_s - self.last.at_s <= self.patience_s


class Timekeeper:
    """Keeps UTC on the oscillator by the best reference that is there and agrees with it.

    Preferred in this order: GPS, PTP, the head-end's time. A reference that disagrees with a clock that was right is
    refused, until it agrees again, or until a second one agrees with it. Times of the oscillator are called `at_s`;
    `initial_utc_s` is what the system's clock says at the start. `on_doubt` is called when a second opinion is wanted.
    """

    def __init__(
        self,
        policy: TimePolicy,
        *,
        oscillator_s: Callable[[], float],
        initial_utc_s: float,
        timers: Timers,
        trace: Trace,
    ) -> None:
        self._policy = policy
        self._oscillator_s = oscillator_s
        self._timers = timers
        self._trace = trace
        self._clock = DisciplinedClock(oscillator_s(), initial_utc_s, holdover_ppm=policy.holdover_ppm)
        long_s = 3 * policy.ask_s
        self._sources = {
            TimeSource.GPS: _Source(policy.lost_after_s),
            TimeSource.PTP: _Source(policy.lost_after_s),
            TimeSource.NETWORK: _Source(long_s),
        }
        self._followed: TimeSource | None = None
        self._held_since_s = 0.0
        self._watch: Cancellable | None = None
        self._traced_s = -math.inf
        self._report: Report = lambda kind, details: None
        self.on_doubt: Callable[[], None] = lambda: None
        self.counters: Counter[str] = Counter()

    # for everybody

    def utc_s(self) -> float:
        return self._clock.utc_s(self._oscillator_s())

    def quality(self) -> TimeQuality:
        at_s, state = self._oscillator_s(), self._clock.state
        if state is ClockState.UNSYNCHRONISED:
            return TimeQuality(TimeSource.FREE, 0.0, math.inf)
        uncertainty_s = self._clock.uncertainty_s(at_s)
        if state is ClockState.HOLDOVER or self._followed is None:
            return TimeQuality(TimeSource.HOLDOVER, at_s - self._held_since_s, uncertainty_s)
        return TimeQuality(self._followed, 0.0, uncertainty_s)

    def count_s(self) -> float:
        """The oscillator's count, in which the times of samples are given."""
        return self._oscillator_s()

    @property
    def state(self) -> ClockState:
        return self._clock.state

    @property
    def frequency_ppm(self) -> float:
        return self._clock.frequency_ppm

    def start(self, report: Report) -> None:
        """`report(kind, details)` takes events for the head-end."""
        self._report = report

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._report = lambda kind, details: None

    # references

    def offer(self, source: TimeSource, sample: TimeSample) -> None:
        """A reference has spoken."""
        known = self._sources[source]
        known.last = sample
        if self._clock.state is ClockState.UNSYNCHRONISED:
            self._adopt(source, sample)
            return
        if self._is_at_leap(sample):
            return
        self._leap_observed(source, sample)
        offset_s = sample.utc_s - self._clock.utc_s(sample.at_s)
        doubt_s = self._clock.uncertainty_s(sample.at_s) + sample.uncertainty_s + self._policy.margin_s
        if abs(offset_s) <= doubt_s:
            self._agrees(source, known, offset_s)
            if not known.refused and self._is_best(source) and not self._is_better_alone(source, sample):
                self._follow(source, sample, offset_s)
        else:
            self._disagrees(source, known, sample, offset_s)

    def announce_leap(self, at_utc_s: int, step_s: int) -> None:
        """A reference says that a leap second is to come before this midnight. Only the next midnight counts, and what
        is said just behind one is old."""
        ahead_s = at_utc_s - self.utc_s()
        is_near = 0 < ahead_s <= _DAY_S - _OLD_ANNOUNCEMENT_S
        if self._clock.state is ClockState.UNSYNCHRONISED or not is_near or at_utc_s % _DAY_S:
            return
        leap = Leap(at_utc_s, step_s)
        if self._clock.leap == leap:
            return
        self._clock.announce(leap, self._oscillator_s())
        self._report(EVENT_LEAP, {"at_utc_s": str(at_utc_s), "step_s": str(step_s), "state": "announced"})

    # inside

    def _is_best(self, source: TimeSource) -> bool:
        """Whether no better reference is fresh and believed."""
        at_s = self._oscillator_s()
        for better in PREFERENCE:
            if better is source:
                return True
            known = self._sources[better]
            if known.is_fresh(at_s) and not known.refused:
                return False
        return True

    def _is_better_alone(self, source: TimeSource, sample: TimeSample) -> bool:
        """Whether the clock alone knows the time better than the head-end does at the other end of a slow link."""
        if source is not TimeSource.NETWORK or self._followed is TimeSource.NETWORK:
            return False
        held_s = sample.at_s - self._held_since_s if self._clock.state is ClockState.HOLDOVER else 0.0
        return held_s <= self._policy.holdover_s and self._clock.uncertainty_s(sample.at_s) < sample.uncertainty_s

    def _adopt(self, source: TimeSource, sample: TimeSample) -> None:
        """Set the clock by a reference, whatever it showed before."""
        jump_s = self._clock.step_to(sample)
        self.counters["steps"] += 1
        self._report(EVENT_STEPPED, {"source": source.value, "by_s": f"{jump_s:.3f}"})
        self._note(sample.at_s, jump_s, always=True)
        self._now_follows(source)

    def _follow(self, source: TimeSource, sample: TimeSample, offset_s: float) -> None:
        if abs(offset_s) > self._policy.step_s:
            self._adopt(source, sample)
            return
        self._clock.steer(sample)
        self._now_follows(source)
        self._note(sample.at_s, offset_s)

    def _now_follows(self, source: TimeSource) -> None:
        if self._followed is not source:
            self._followed = source
            if self._watch is not None:
                self._watch.cancel()  # it looks when the former reference would be missed
                self._watch = None
            uncertainty_s = self._clock.uncertainty_s(self._oscillator_s())
            self._report(EVENT_SYNCHRONISED, {"source": source.value, "uncertainty_s": f"{uncertainty_s:.6f}"})
        self._set_watch(self._sources[source].patience_s)

    def _agrees(self, source: TimeSource, known: _Source, offset_s: float) -> None:
        if known.refused:
            known.agreed += 1
            if known.agreed >= _BELIEVED_AGAIN_AFTER or source is TimeSource.NETWORK:
                known.refused = False
                _LOG.info("the time of %s is believed again", source)
                self._trace("dcu-clock-source", source=source.value, state="believed", offset_s=offset_s)

    def _disagrees(self, source: TimeSource, known: _Source, sample: TimeSample, offset_s: float) -> None:
        self.counters["refused"] += 1
        known.agreed = 0
        ally = self._ally(source, sample)
        if ally is not None:
            self._sources[source].refused = self._sources[ally].refused = False
            _LOG.warning("%s and %s agree that the clock is wrong by %.3f s", source, ally, offset_s)
            best = source if PREFERENCE.index(source) < PREFERENCE.index(ally) else ally
            if best is source:
                self._adopt(source, sample)
            return
        if not known.refused:
            known.refused = True
            _LOG.warning("the time of %s is off by %.3f s and is not followed", source, offset_s)
            self._report(EVENT_REFUSED, {"source": source.value, "offset_s": f"{offset_s:.3f}"})
            self.on_doubt()

    def _ally(self, source: TimeSource, sample: TimeSample) -> TimeSource | None:
        """Another reference, heard of lately, that tells the same time and not ours."""
        for other in PREFERENCE:
            known = self._sources[other]
            if other is source or known.last is None or not known.is_fresh(sample.at_s):
                continue
            theirs_s = known.last.utc_s + (sample.at_s - known.last.at_s)
            doubt_s = known.last.uncertainty_s + sample.uncertainty_s + self._policy.margin_s
            ours_s = self._clock.utc_s(sample.at_s)
            if abs(theirs_s - sample.utc_s) <= doubt_s and abs(theirs_s - ours_s) > doubt_s:
                return other
        return None

    def _is_at_leap(self, sample: TimeSample) -> bool:
        """Whether this is the very moment of a leap that was announced: either side of it may be meant."""
        leap = self._clock.leap
        if leap is None:
            return False
        own_s = self._clock.utc_s(sample.at_s)
        return min(abs(own_s - leap.begins_utc_s), abs(own_s + leap.step_s - leap.begins_utc_s)) < _LEAP_WINDOW_S

    def _leap_observed(self, source: TimeSource, sample: TimeSample) -> None:
        """At the end of a month the reference that we follow is off by just a second: a leap that nobody announced.

        Receivers count 23:59:60, or 00:00:00 twice; both come to the same.
        """
        own_s = self._clock.utc_s(sample.at_s)
        offset_s = sample.utc_s - own_s
        step_s = 1 if offset_s < 0 else -1
        first_s = round(own_s) // _DAY_S * _DAY_S if step_s == 1 else -(-round(own_s) // _DAY_S) * _DAY_S
        is_due = abs(round(own_s) - first_s) <= 1 and datetime.fromtimestamp(first_s, UTC).day == 1
        if source is not self._followed or not is_due or abs(offset_s + step_s) > _LEAP_WINDOW_S:
            return
        self._clock.step_to(TimeSample(sample.at_s, own_s - step_s, sample.uncertainty_s))
        self._report(EVENT_LEAP, {"at_utc_s": str(first_s), "step_s": str(step_s), "state": "observed"})

    def _set_watch(self, after_s: float) -> None:
        if self._watch is None:
            self._watch = self._timers.call_at(self._timers.time() + after_s, self._look)

    def _look(self) -> None:
        """Is what we follow still there? If not: whatever else is, or holdover."""
        self._watch = None
        followed, at_s = self._followed, self._oscillator_s()
        if followed is None:
            return
        known = self._sources[followed]
        if known.last is not None and known.is_fresh(at_s) and not known.refused:
            self._set_watch(max(known.last.at_s + known.patience_s - at_s, 0.0) + 0.1)
            return
        self._followed, self._held_since_s = None, at_s if known.last is None else known.last.at_s
        self._clock.lose()
        self.counters["holdovers"] += 1
        reason = "refused" if known.refused else "silent"
        details = {"source": followed.value, "reason": reason, "rate_ppm": f"{self._clock.frequency_ppm:.3f}"}
        self._report(EVENT_HOLDOVER, details)
        self.on_doubt()

    def _note(self, at_s: float, offset_s: float, *, always: bool = False) -> None:
        if not always and at_s - self._traced_s < _TRACE_EVERY_S:
            return
        self._traced_s = at_s
        self._trace(
            "dcu-clock",
            state=self._clock.state.value,
            offset_s=offset_s,
            rate_ppm=self._clock.frequency_ppm,
            uncertainty_s=self._clock.uncertainty_s(at_s),
        )
