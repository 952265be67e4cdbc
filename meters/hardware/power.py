"""The meter's supply: mains, a brown-out detector and the capacitor that gives the firmware its last gasp."""

from __future__ import annotations

import enum
from typing import Protocol

from protocols.errors import LocalProtocolError
from protocols.ports import Cancellable, Timers


class SupplyState(enum.Enum):
    ON = "on"
    HOLDING = "holding"
    """Mains is gone, the capacitor still feeds the processor."""
    OFF = "off"


class SupplyEvent(enum.Enum):
    MAINS_LOST = "mains lost"
    MAINS_BACK = "mains back"
    CAPACITOR_EMPTY = "capacitor empty"
    CUT_AT_ONCE = "cut at once"


TRANSITIONS = {
    (SupplyState.ON, SupplyEvent.MAINS_LOST): SupplyState.HOLDING,
    (SupplyState.ON, SupplyEvent.MAINS_BACK): SupplyState.ON,
    (SupplyState.ON, SupplyEvent.CUT_AT_ONCE): SupplyState.OFF,
    (SupplyState.HOLDING, SupplyEvent.MAINS_LOST): SupplyState.HOLDING,
    (SupplyState.HOLDING, SupplyEvent.MAINS_BACK): SupplyState.ON,
    (SupplyState.HOLDING, SupplyEvent.CAPACITOR_EMPTY): SupplyState.OFF,
    (SupplyState.HOLDING, SupplyEvent.CUT_AT_ONCE): SupplyState.OFF,
    (SupplyState.OFF, SupplyEvent.MAINS_LOST): SupplyState.OFF,
    (SupplyState.OFF, SupplyEvent.MAINS_BACK): SupplyState.ON,
    (SupplyState.OFF, SupplyEvent.CUT_AT_ONCE): SupplyState.OFF,
}


class PowerListener(Protocol):
    """The processor's pins."""

    def power_good(self) -> None:
        """The supply is there: start, or forget the warning."""
        ...

    def power_failing(self) -> None:
        """Early warning: mains is gone, the capacitor lasts for `hold_up_s`."""
        ...

    def power_gone(self) -> None:
        """The processor stops."""
        ...


class PowerSupply:
    """Off when made. The bench cuts and restores mains; the listeners are the processor and the other chips."""

    def __init__(
        self,
        timers: Timers,
        *,
        hold_up_s: float = 0.5,
        brown_out_v: float = 60.0,
        frequency_hz: tuple[float, float] = (45.0, 65.0),
    ) -> None:
        self._timers = timers
        self.hold_up_s = hold_up_s
        self.brown_out_v = brown_out_v
        self.frequency_hz = frequency_hz
        """Lowest and highest frequency of mains that the supply runs on, ends included."""
        self._state = SupplyState.OFF
        self._listeners: list[PowerListener] = []
        self._empty: Cancellable | None = None

    @property
    def state(self) -> SupplyState:
        return self._state

    @property
    def mains_present(self) -> bool:
        return self._state is SupplyState.ON

    def listen(self, listener: PowerListener) -> None:
        self._listeners.append(listener)

    # bench verbs

    def restore(self) -> None:
        """Mains comes back."""
        self._apply(SupplyEvent.MAINS_BACK)

    def cut(self) -> None:
        """Mains goes; the capacitor holds the processor up for `hold_up_s`."""
        self._apply(SupplyEvent.MAINS_LOST)

    def cut_at_once(self) -> None:
        """Mains goes and the capacitor is dead: the processor stops without a warning."""
        self._apply(SupplyEvent.CUT_AT_ONCE)

    def runs_on(self, voltage_v: float, hz: float) -> bool:
        """Whether the supply can run on this mains."""
        lowest_hz, highest_hz = self.frequency_hz
        return voltage_v >= self.brown_out_v and lowest_hz - 1e-9 <= hz <= highest_hz + 1e-9

    def set_mains(self, voltage_v: float, hz: float = 50.0) -> None:
        """Mains that the supply cannot run on is the same as a cut; any other is present."""
        if self.runs_on(voltage_v, hz):
            self.restore()
        else:
            self.cut()

    def _apply(self, event: SupplyEvent) -> None:
        before = self._state
        try:
            self._state = after = TRANSITIONS[before, event]
        except KeyError:
            raise LocalProtocolError(f"supply: {event.value} in state {before.value}") from None
        if after is before:
            return
        if self._empty is not None:
            self._empty.cancel()
            self._empty = None
        if after is SupplyState.HOLDING:
            self._empty = self._timers.call_at(
                self._timers.time() + self.hold_up_s, self._apply, SupplyEvent.CAPACITOR_EMPTY
            )
        for listener in tuple(self._listeners):
            if after is SupplyState.ON:
                listener.power_good()
            elif after is SupplyState.HOLDING:
                listener.power_failing()
            else:
                listener.power_gone()
