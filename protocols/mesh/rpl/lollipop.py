"""Sequence counters of RPL (RFC 6550, 7.2): a straight part for the time after a restart, then a circle."""

from __future__ import annotations

INITIAL = 240
WINDOW = 16
_LINEAR = 128


def increment(value: int) -> int:
    """255 and 127 are both followed by 0."""
    return 0 if value in (255, 127) else value + 1


def is_newer(a: int, b: int) -> bool:
    """Whether `a` is greater than `b` in the sense of the RFC; False too where they cannot be compared."""
    if (a < _LINEAR) != (b < _LINEAR):
        straight, circular = (a, b) if a >= _LINEAR else (b, a)
        circular_is_greater = 256 + circular - straight <= WINDOW
        return (a == circular) == circular_is_greater
    if a >= _LINEAR:
        return 0 < a - b <= WINDOW
    return 0 < (a - b) % _LINEAR <= WINDOW


def is_restarted(value: int) -> bool:
    """Whether a counter is still in the part that follows a restart."""
    return value >= _LINEAR
