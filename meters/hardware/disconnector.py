"""The latching switch between meter and home, with the feedback of its contacts and the button on the case."""

from __future__ import annotations

from collections.abc import Callable

from meters.hardware.metrology import Metrology


class Disconnector:
    """`open`, `close` and `is_closed` are the firmware's, the rest is the bench's. It stays as it is without supply."""

    def __init__(self, metrology: Metrology) -> None:
        self._metrology = metrology
        self._closed = True
        self._welded = False
        self.operations = 0
        """How often the contacts have moved."""
        self.on_button: list[Callable[[], None]] = []

    @property
    def is_closed(self) -> bool:
        """Where the contacts really are."""
        return self._closed

    def open(self) -> bool:
        """Pulse the opening coil. Returns whether the contacts are open."""
        if not self._welded:
            self._move(False)
        return not self._closed

    def close(self) -> bool:
        """Pulse the closing coil. Returns whether the contacts are closed."""
        if not self._welded:
            self._move(True)
        return self._closed

    # bench verbs

    def weld(self) -> None:
        """The contacts stay where they are, whatever the coils do."""
        self._welded = True

    def free(self) -> None:
        self._welded = False

    def press_button(self) -> None:
        """The customer presses the button on the case."""
        for listener in tuple(self.on_button):
            listener()

    def _move(self, closed: bool) -> None:
        if closed != self._closed:
            self._closed = closed
            self.operations += 1
            self._metrology.set_contact(closed)
