"""Following a hopping sequence: where it is, and how fast its owner's crystal runs compared with ours."""

from __future__ import annotations

SLOTS = 0x1_0000
"""Length of every hopping sequence under DH1CF."""

_RESTART_SLOTS = 2.0
"""A sample further off than this is not drift: the owner restarted."""
_RATE_AFTER_S = 30.0
_RATE_FULL_S = 600.0
_MAX_RATE = 200e-6
_MIN_GUARD_S = 0.002
_RESIDUAL_RATE = 20e-6


class Track:
    """Position in a sequence of 65,536 slots as a function of local time, corrected by samples.

    Samples are coarse (a millisecond or so), so the rate is measured over minutes, from an anchor in the past.
    """

    __slots__ = ("_anchor_position", "_anchor_s", "_local_s", "_position", "_rate", "period_s")

    def __init__(self, period_s: float, local_s: float, position: float) -> None:
        self.period_s = period_s
        self._restart(local_s, position)

    def _restart(self, local_s: float, position: float) -> None:
        self._anchor_s = self._local_s = local_s
        self._anchor_position = self._position = position
        self._rate = 0.0

    def position_at(self, local_s: float) -> float:
        """Slot number and fraction, 0 to 65,536."""
        return (self._position + (local_s - self._local_s) * (1.0 + self._rate) / self.period_s) % SLOTS

    @property
    def rate_ppm(self) -> float:
        """How much faster the owner's clock is believed to run than ours."""
        return self._rate * 1e6

    def sample(self, local_s: float, position: float, *, gain: float = 1.0) -> None:
        """The owner said that it was at `position`. `gain` below 1 takes that share of the difference."""
        expected = self.position_at(local_s)
        error_slots = _difference(position, expected)
        if abs(error_slots) > _RESTART_SLOTS:
            self._restart(local_s, position)
            return
        self._measure_rate(local_s, position)
        self._position = (expected + gain * error_slots) % SLOTS
        self._local_s = local_s

    def _measure_rate(self, local_s: float, position: float) -> None:
        elapsed_s = local_s - self._anchor_s
        if elapsed_s < _RATE_AFTER_S:
            return
        gained_slots = _difference(position, self._anchor_position + elapsed_s / self.period_s)
        measured = min(max(gained_slots * self.period_s / elapsed_s, -_MAX_RATE), _MAX_RATE)
        self._rate += min(1.0, elapsed_s / _RATE_FULL_S) * (measured - self._rate)
        if elapsed_s >= _RATE_FULL_S:
            self._anchor_s, self._anchor_position = local_s, position

    def guard_s(self, local_s: float) -> float:
        """How far from a slot's edges to stay, for the position may be wrong by that much."""
        return min(_MIN_GUARD_S + _RESIDUAL_RATE * (local_s - self._local_s), self.period_s / 4)


def _difference(position: float, other: float) -> float:
    """The shorter way round from `other` to `position`, in slots."""
    return (position - other + SLOTS / 2) % SLOTS - SLOTS / 2
