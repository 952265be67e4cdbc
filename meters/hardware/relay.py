"""The relay of one tenant line: models as data, and the emulated device with its faults.

How long a relay takes to bring its current to zero depends on the current itself; that is computed from sampled
currents in `meters.hardware.relay_opening`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class RelayKind(enum.StrEnum):
    MOSFET = "mosfet"
    THYRISTOR = "thyristor"
    CONTACTOR = "contactor"


@dataclass(frozen=True, slots=True)
class RelayModel:
    """What a data sheet says about a relay.

    `opening_ms` is the turn-off delay of a MOSFET, the gate's delay of a thyristor, the parting time of a contactor.
    A thyristor lets go below `holding_a`; a contactor's arc dies at a current zero or below `minimum_arc_a`.
    `bounce_ms` is for how long contacts re-make after parting or after closing.
    """

    name: str
    kind: RelayKind
    opening_ms: float
    closing_ms: float
    holding_a: float = 0.0
    minimum_arc_a: float = 0.0
    bounce_ms: float = 0.0

    def __post_init__(self) -> None:
        for field in ("opening_ms", "closing_ms", "holding_a", "minimum_arc_a", "bounce_ms"):
            if not getattr(self, field) >= 0.0:
                raise ValueError(f"{field} of relay model {self.name!r} must be 0 or more, is {getattr(self, field)}")


RELAY_MODELS = {
    "mosfet": RelayModel("mosfet", RelayKind.MOSFET, opening_ms=1.0, closing_ms=1.0),
    "thyristor": RelayModel("thyristor", RelayKind.THYRISTOR, opening_ms=0.0, closing_ms=0.5, holding_a=0.03),
    "contactor": RelayModel(
        "contactor", RelayKind.CONTACTOR, opening_ms=20.0, closing_ms=15.0, minimum_arc_a=0.3, bounce_ms=2.0
    ),
}


class Relay:
    """The relay of one line, all poles driven by one coil or gate, which latches: it stays as it is without supply.

    The firmware calls `open` and `close`; `weld` and `free` are the bench's. Contacts do not move at once:
    `is_closed` answers for a moment in time, in seconds on the run's clock.
    """

    def __init__(self, model: RelayModel, poles: tuple[str, ...] = ("L", "N"), *, closed: bool = False) -> None:
        if not poles:
            raise ValueError("a relay needs at least one pole")
        self.model = model
        self.poles = poles
        self.operations = 0
        self.on_moved: list[Callable[[], None]] = []
        """Called after a command that moves the contacts, and after `weld` and `free`: what hangs on the line looks."""
        self._commanded_closed = closed
        self._moved_at_s = float("-inf")
        self._welded: frozenset[str] = frozenset()

    @property
    def commanded_closed(self) -> bool:
        """What the coil or gate was last told."""
        return self._commanded_closed

    @property
    def moved_at_s(self) -> float:
        """When the coil or gate was last told something new."""
        return self._moved_at_s

    @property
    def welded(self) -> frozenset[str]:
        return self._welded

    def open(self, now_s: float) -> None:
        self._command(False, now_s)

    def close(self, now_s: float) -> None:
        self._command(True, now_s)

    def _command(self, closed: bool, now_s: float) -> None:
        if closed != self._commanded_closed:
            self._commanded_closed = closed
            self._moved_at_s = now_s
            self.operations += 1
            self._tell()

    def is_closed(self, now_s: float, pole: str | None = None) -> bool:
        """Whether `pole` (any pole, if none is named) conducts at `now_s`, arcs not counted."""
        if pole is not None and pole not in self.poles:
            raise ValueError(f"no pole {pole!r}; this relay has {', '.join(self.poles)}")
        travel_ms = self.model.closing_ms if self._commanded_closed else self.model.opening_ms
        moved = now_s - self._moved_at_s >= travel_ms / 1000
        if self._commanded_closed == moved:
            return True
        return bool(self._welded) if pole is None else pole in self._welded

    def weld(self, *poles: str) -> None:
        """Bench: weld these poles shut, or all. A welded pole conducts whatever the coil is told."""
        unknown = set(poles) - set(self.poles)
        if unknown:
            raise ValueError(f"no pole {sorted(unknown)[0]!r}; this relay has {', '.join(self.poles)}")
        self._welded |= frozenset(poles or self.poles)
        self._tell()

    def free(self) -> None:
        """Bench: undo `weld`."""
        self._welded = frozenset()
        self._tell()

    @property
    def carries_load(self) -> bool:
        """Every pole conducts, or will as soon as its contacts have moved: current can go there and back."""
        return self._commanded_closed or self._welded.issuperset(self.poles)

    def _tell(self) -> None:
        for listener in tuple(self.on_moved):
            listener()
