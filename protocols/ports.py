"""What the protocols need from outside, passed in by whoever runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """Monotonic time and callbacks. Every asyncio event loop is one."""

    def time(self) -> float:
        """Seconds, monotonic."""
        ...

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Cancellable: ...


class KeySource(Protocol):
    """Where keys, nonces and challenges come from: seeded in virtual runs, the system's in real ones."""

    def random_bytes(self, size_bytes: int) -> bytes: ...


class ByteLink(Protocol):
    """A serial line or a stream, seen from one end. Bytes arrive in order; how they are cut means nothing."""

    def write(self, data: bytes) -> None: ...

    def on_data(self, callback: Callable[[bytes], None]) -> None: ...


class Trace(Protocol):
    """Machine-readable events of a run (`events.jsonl`). Never given a key."""

    def __call__(self, kind: str, /, **fields: object) -> None: ...
