"""A connection as brokers and clients see it: a reliable stream of bytes that can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Transport(Protocol):
    """One end of an open connection."""

    def write(self, data: bytes) -> None:
        """Send in order. After `close` or `abort`, or once the peer is gone, bytes go nowhere."""
        ...

    def close(self) -> None:
        """Send what was written, then end; the peer learns of it. Nothing is called back after it."""
        ...

    def abort(self) -> None:
        """End at once. The peer may never learn of it."""
        ...


@dataclass(frozen=True, slots=True)
class TransportHandler:
    """Where one end reports: `received(data)`, and `lost(reason)` at most once, not after its own close or abort."""

    received: Callable[[bytes], None]
    lost: Callable[[str], None]


class Connector(Protocol):
    """Opens connections to one broker."""

    def open(
        self, handler: TransportHandler, opened: Callable[[Transport], None], failed: Callable[[str], None]
    ) -> Callable[[], None]:
        """Calls `opened` or `failed`, once, later. Returns how to give up waiting: nothing is called after that."""
        ...
