"""What a meter switches its customers with: a latching relay a tenant line, and the button on the case."""

from __future__ import annotations

from collections.abc import Callable

from meters.hardware.metrology import Metrology
from meters.hardware.relay import Relay, RelayModel
from protocols.errors import BadInputError
from protocols.ports import Timers


class Disconnector:
    """Relays of the lines 1 to `len(relays)`. The firmware has the relays and `is_closed`, the rest is the bench's.

    The load behind the meter is spread evenly over its lines: what an open line does not take, is not counted. Verbs on
    a line or a pole that there is not raise BadInputError.
    """

    def __init__(
        self,
        timers: Timers,
        metrology: Metrology,
        model: RelayModel,
        *,
        lines: int = 1,
        poles: tuple[str, ...] = ("L", "N"),
    ) -> None:
        self._timers = timers
        self._metrology = metrology
        self.relays = tuple(Relay(model, poles, closed=True) for _ in range(lines))
        for relay in self.relays:
            relay.on_moved.append(self._moved)
        self.on_button: list[Callable[[], None]] = []

    def is_closed(self, line: int = 1) -> bool:
        """Feedback of the contacts: some pole of the line is closed."""
        return self._relay(line).is_closed(self._settled_s())

    # bench verbs

    def open(self, line: int = 1) -> None:
        """Push the contacts apart by hand, behind the firmware's back."""
        self._relay(line).open(self._timers.time())

    def weld(self, line: int = 1, pole: str | None = None) -> None:
        """A pole of a line, or all of them, stay shut, whatever the coils do."""
        relay = self._relay(line)
        if pole is not None and pole not in relay.poles:
            raise BadInputError(f"no pole {pole!r}; there are {', '.join(relay.poles)}", key="pole")
        relay.weld(*(() if pole is None else (pole,)))

    def free(self, line: int = 1) -> None:
        self._relay(line).free()

    def press_button(self) -> None:
        """The customer presses the button on the case."""
        for listener in tuple(self.on_button):
            listener()

    def _relay(self, line: int) -> Relay:
        if not 1 <= line <= len(self.relays):
            raise BadInputError(f"no line {line}; this meter has 1 to {len(self.relays)}", key="line")
        return self.relays[line - 1]

    def _settled_s(self) -> float:
        """A moment at which contacts that are on their way have arrived: feedback is read when they have."""
        model = self.relays[0].model
        return self._timers.time() + max(model.opening_ms, model.closing_ms) / 1000.0

    def _moved(self) -> None:
        carrying = sum(relay.carries_load for relay in self.relays)
        self._metrology.set_contact(carrying > 0, share=carrying / len(self.relays))
