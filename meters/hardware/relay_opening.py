"""When the current of a relay's poles comes to zero, from sampled pole currents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meters.hardware.relay import RelayKind, RelayModel

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Opening:
    """`zero_s` is when the last pole's current came to zero, in seconds from the first sample, or None.

    `reason` says which pole could not let go, and why.
    """

    zero_s: float | None
    reason: str = ""

    @property
    def isolated(self) -> bool:
        return self.zero_s is not None


def open_relay(
    model: RelayModel,
    pole_currents_a: dict[str, Samples],
    command_s: float,
    rate_hz: float,
    welded: frozenset[str] = frozenset(),
) -> Opening:
    """Open all poles at `command_s`. Each pole's own current, load and fault together, decides when it ends.

    The samples must reach far enough beyond the command to show a zero: where they show none, the pole counts as
    never letting go.
    """
    latest_s = command_s
    for pole, current_a in pole_currents_a.items():
        if pole in welded:
            return Opening(None, f"pole {pole} is welded")
        zero_s = _pole_zero_s(model, current_a, command_s, rate_hz)
        if zero_s is None:
            why = "never falls below its holding current" if model.kind is RelayKind.THYRISTOR else "arc never dies"
            return Opening(None, f"the current of pole {pole} has no zero: {model.name} {why}")
        latest_s = max(latest_s, zero_s)
    return Opening(latest_s)


def _pole_zero_s(model: RelayModel, current_a: Samples, command_s: float, rate_hz: float) -> float | None:
    ready_s = command_s + model.opening_ms / 1000.0
    if model.kind is RelayKind.MOSFET:
        return ready_s
    if model.kind is RelayKind.CONTACTOR:
        return _first_quiet_s(current_a, ready_s + model.bounce_ms / 1000.0, model.minimum_arc_a, rate_hz)
    return _first_quiet_s(current_a, ready_s, model.holding_a, rate_hz)


def _first_quiet_s(current_a: Samples, from_s: float, limit_a: float, rate_hz: float) -> float | None:
    """The first moment from `from_s` on at which the current changes sign, or is smaller than `limit_a`."""
    place = from_s * rate_hz
    start = max(int(np.floor(place)), 0)
    if start >= len(current_a):
        return None
    tail = current_a[start:]
    # The moment itself lies between two samples; take the line between them.
    fraction = place - start
    if len(tail) > 1:
        tail = np.concatenate(([tail[0] + fraction * (tail[1] - tail[0])], tail[1:]))
    small = np.abs(tail) <= limit_a
    crossing = np.signbit(tail[1:]) != np.signbit(tail[:-1])
    if small[0]:
        return from_s
    candidates = []
    if small.any():
        candidates.append(_position(start, fraction, float(small.argmax())))
    if crossing.any():
        before = int(crossing.argmax())
        part = abs(tail[before]) / (abs(tail[before]) + abs(tail[before + 1]))
        left = _position(start, fraction, float(before))
        right = _position(start, fraction, float(before + 1))
        candidates.append(left + part * (right - left))
    return min(candidates) / rate_hz if candidates else None


def _position(start: int, fraction: float, index: float) -> float:
    """Place in samples of an element of the tail, whose first one sits between two samples."""
    return start + (fraction if index == 0.0 else index)
