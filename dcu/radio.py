"""The link to the radio co-processor, watched: how much it carries, and the frame counters that must never repeat."""

from __future__ import annotations

from collections.abc import Callable

from protocols.ports import ByteLink


class WatchedLink:
    """A `ByteLink` that counts its bytes and calls `after_data` each time that something from the radio was handled."""

    def __init__(self, link: ByteLink, after_data: Callable[[], None]) -> None:
        self._link = link
        self._after_data = after_data
        self._receiver: Callable[[bytes], None] | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        link.on_data(self._received)

    def write(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._link.write(data)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def close(self) -> None:
        """Hear nothing more."""
        self._receiver = None

    def _received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self._receiver is not None:
            self._receiver(data)
            self._after_data()
