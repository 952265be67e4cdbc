"""A clock that runs on an oscillator and is steered towards a reference: phase and rate by a PI loop.

Nothing is set in the oscillator: the clock is a line through its count, and steering changes the line. The loop is wide
at the beginning and narrows as it settles (proportional gain from 0.25 to 0.01 a second, integral gain a quarter of its
square: critically damped), so that the rate that is left when the reference is lost is an average of minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from protocols.errors import LocalProtocolError

_WIDEST, _NARROWEST = 0.25, 0.01
_NARROWING = 0.99
_MEMORY = 0.02
_FAST_INTERVAL_S = 4.0
_MAX_RATE = 500e-6
_SETTLED_S = 0.01
_SPIKE = 4.0
_LEAST_NOISE_S = 50e-6


class ClockState(Enum):
    """UNSYNCHRONISED: never had a reference. RECOVERING: has it back, and is not yet close to it."""

    UNSYNCHRONISED = "unsynchronised"
    DISCIPLINED = "disciplined"
    HOLDOVER = "holdover"
    RECOVERING = "recovering"


class ClockEvent(Enum):
    FOLLOW = auto()
    SETTLE = auto()
    LOSE = auto()


TRANSITIONS: dict[tuple[ClockState, ClockEvent], ClockState] = {
    (ClockState.UNSYNCHRONISED, ClockEvent.FOLLOW): ClockState.RECOVERING,
    (ClockState.HOLDOVER, ClockEvent.FOLLOW): ClockState.RECOVERING,
    (ClockState.RECOVERING, ClockEvent.FOLLOW): ClockState.RECOVERING,
    (ClockState.DISCIPLINED, ClockEvent.FOLLOW): ClockState.DISCIPLINED,
    (ClockState.RECOVERING, ClockEvent.SETTLE): ClockState.DISCIPLINED,
    (ClockState.DISCIPLINED, ClockEvent.SETTLE): ClockState.DISCIPLINED,
    (ClockState.RECOVERING, ClockEvent.LOSE): ClockState.HOLDOVER,
    (ClockState.DISCIPLINED, ClockEvent.LOSE): ClockState.HOLDOVER,
}


@dataclass(frozen=True, slots=True)
class TimeSample:
    """A reference said that it was `utc_s` when the oscillator counted `at_s`, give or take `uncertainty_s`."""

    at_s: float
    utc_s: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True)
class Leap:
    """Before the midnight `at_utc_s` a second is inserted (`step_s` 1) or left out (-1)."""

    at_utc_s: int
    step_s: int

    @property
    def begins_utc_s(self) -> int:
        """On the scale before the leap: midnight, or the second before it that is left out."""
        return self.at_utc_s if self.step_s == 1 else self.at_utc_s - 1


class DisciplinedClock:
    """UTC as a function of the oscillator's count; all arguments `at_s` are such counts, and never go back."""

    def __init__(self, at_s: float, utc_s: float, *, holdover_ppm: float) -> None:
        self._anchor_s = at_s
        self._anchor_utc_s = utc_s
        self._frequency = 0.0
        self._slew = 0.0
        self._slew_until_s = at_s
        self._gain = _WIDEST
        self._noise_s = 0.0
        self._frequency_noise = 0.0
        self._last_sample_s: float | None = None
        self._base_uncertainty_s = math.inf
        self._holdover_ppm = holdover_ppm
        self._leap: Leap | None = None
        self.state = ClockState.UNSYNCHRONISED

    # reading

    def utc_s(self, at_s: float) -> float:
        value_s = self._plain_utc_s(at_s)
        if self._leap is not None and value_s >= self._leap.begins_utc_s:
            value_s -= self._leap.step_s
        return value_s

    def _plain_utc_s(self, at_s: float) -> float:
        elapsed_s = at_s - self._anchor_s
        slewed_s = min(elapsed_s, max(self._slew_until_s - self._anchor_s, 0.0))
        return self._anchor_utc_s + elapsed_s * (1.0 + self._frequency) + slewed_s * self._slew

    @property
    def frequency_ppm(self) -> float:
        """What the oscillator's rate is corrected by."""
        return 1e6 * self._frequency

    def uncertainty_s(self, at_s: float) -> float:
        """How far it may be off: what the last samples left, and what the rate may have made of it since."""
        if self._last_sample_s is None:
            return math.inf
        silent_s = max(at_s - self._last_sample_s, 0.0)
        wander = 1e-6 * self._holdover_ppm + 2 * self._frequency_noise
        return self._base_uncertainty_s + silent_s * wander

    # leap seconds

    def announce(self, leap: Leap, at_s: float) -> None:
        """A leap second is to come. One that has begun already is not taken."""
        if self._plain_utc_s(at_s) < leap.begins_utc_s:
            self._leap = leap

    @property
    def leap(self) -> Leap | None:
        """The one that is to come, or has come since the last sample."""
        return self._leap

    def leap_has_begun(self, at_s: float) -> bool:
        return self._leap is not None and self._plain_utc_s(at_s) >= self._leap.begins_utc_s

    # steering

    def step_to(self, sample: TimeSample) -> float:
        """Set the clock to a sample; gives by how much it jumped (s). The rate is kept."""
        jump_s = sample.utc_s - self.utc_s(sample.at_s)
        self._move_anchor(sample.at_s)
        self._anchor_utc_s = sample.utc_s
        self._slew = 0.0
        self._gain = _WIDEST
        self._noise_s = 0.0
        self._took(sample, 0.0)
        self._change(ClockEvent.FOLLOW)
        return jump_s

    def steer(self, sample: TimeSample) -> float:
        """Follow a sample; gives the offset that it showed: reference minus clock, in seconds."""
        offset_s = sample.utc_s - self.utc_s(sample.at_s)
        last_s = self._last_sample_s
        if last_s is None:
            raise LocalProtocolError("the first sample is stepped to, not steered to")
        interval_s = max(sample.at_s - last_s, 1e-3)
        self._move_anchor(sample.at_s)
        if interval_s <= _FAST_INTERVAL_S:
            self._close_loop(self._without_spike(offset_s), interval_s)
        else:
            self._correct_rarely(offset_s, interval_s, sample.uncertainty_s)
        self._took(sample, offset_s)
        self._change(ClockEvent.FOLLOW)
        if abs(offset_s) <= _SETTLED_S + sample.uncertainty_s:
            self._change(ClockEvent.SETTLE)
        return offset_s

    def lose(self) -> None:
        """The reference is gone: run on with the rate that was found."""
        self._change(ClockEvent.LOSE)

    def _close_loop(self, offset_s: float, interval_s: float) -> None:
        self._slew = _limited(self._gain * offset_s)
        # While the slew is at its limit, the offset says nothing about the rate.
        change = self._gain**2 / 4 * offset_s * interval_s if abs(self._slew) < _MAX_RATE else 0.0
        self._frequency = _limited(self._frequency + change)
        self._frequency_noise += _MEMORY * (abs(change) / math.sqrt(self._gain) - self._frequency_noise)
        self._slew_until_s = self._anchor_s + 2 * interval_s
        settled = self.state is ClockState.DISCIPLINED
        self._gain = max(_NARROWEST, self._gain * _NARROWING) if settled else _WIDEST

    def _correct_rarely(self, offset_s: float, interval_s: float, uncertainty_s: float) -> None:
        """After a long silence, or from what speaks only now and then: what is beyond doubt is corrected.

        The rate by half of what it must have been wrong since; the phase by what the loop cannot narrow down further.
        """
        beyond_s = max(abs(offset_s) - uncertainty_s - self._base_uncertainty_s, 0.0)
        self._frequency = _limited(self._frequency + 0.5 * math.copysign(beyond_s, offset_s) / interval_s)
        self._slew = 0.0
        if uncertainty_s > _SETTLED_S:
            self._anchor_utc_s += math.copysign(max(abs(offset_s) - uncertainty_s, 0.0), offset_s)

    def _without_spike(self, offset_s: float) -> float:
        """A single sample far outside of the noise counts no more than its edge."""
        if self.state is not ClockState.DISCIPLINED:
            return offset_s
        edge_s = _SPIKE * max(self._noise_s, _LEAST_NOISE_S)
        return min(max(offset_s, -edge_s), edge_s)

    def _took(self, sample: TimeSample, offset_s: float) -> None:
        self._noise_s += _MEMORY * (abs(offset_s) - self._noise_s) if self._noise_s else abs(offset_s)
        self._base_uncertainty_s = sample.uncertainty_s + max(self._noise_s, abs(offset_s))
        self._last_sample_s = sample.at_s

    def _move_anchor(self, at_s: float) -> None:
        if self.leap_has_begun(at_s):
            self._anchor_utc_s, self._anchor_s, self._leap = self.utc_s(at_s), at_s, None
            return
        self._anchor_utc_s, self._anchor_s = self._plain_utc_s(at_s), at_s

    def _change(self, event: ClockEvent) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise LocalProtocolError(f"{event.name} is not possible in state {self.state.name}")
        self.state = following


def _limited(rate: float) -> float:
    return min(max(rate, -_MAX_RATE), _MAX_RATE)
