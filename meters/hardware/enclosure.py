"""The meter's case: the switches under its covers, and the sensor for magnetic fields."""

from __future__ import annotations

import enum
from collections.abc import Callable


class Contact(enum.Enum):
    """What the case senses. Each is a pin of the processor: high while it is open, or the field is there."""

    METER_COVER = "meter_cover"
    TERMINAL_COVER = "terminal_cover"
    MAGNET = "magnet"


class Enclosure:
    """`disturbed` and `on_change` are the firmware's, the rest is the bench's. Covers stay as they are without supply:
    what was opened meanwhile, the firmware sees at its start."""

    def __init__(self) -> None:
        self._disturbed: set[Contact] = set()
        self.on_change: list[Callable[[], None]] = []
        """Called when a pin has moved."""

    def disturbed(self, contact: Contact) -> bool:
        """Whether a cover is open, or a strong field is there."""
        return contact in self._disturbed

    # bench verbs

    def open_meter_cover(self) -> None:
        self._move(Contact.METER_COVER, True)

    def close_meter_cover(self) -> None:
        self._move(Contact.METER_COVER, False)

    def open_terminal_cover(self) -> None:
        self._move(Contact.TERMINAL_COVER, True)

    def close_terminal_cover(self) -> None:
        self._move(Contact.TERMINAL_COVER, False)

    def apply_magnet(self) -> None:
        """Hold a strong magnet to the case."""
        self._move(Contact.MAGNET, True)

    def remove_magnet(self) -> None:
        self._move(Contact.MAGNET, False)

    def _move(self, contact: Contact, disturbed: bool) -> None:
        if disturbed == (contact in self._disturbed):
            return
        self._disturbed ^= {contact}
        for listener in tuple(self.on_change):
            listener()
