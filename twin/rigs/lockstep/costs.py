"""What a lock-step run cost the host: the one thing about it that differs from run to run, and is kept apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

COSTS_FILE = "lockstep-costs.json"


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the host's time: the guest's emulator at work, what waiting for it took beyond that, and all else.

    `rendezvous` is their number, `guest_s` the guest's own time.
    """

    wall_s: float
    emulator_s: float
    waiting_s: float
    rendezvous: int
    guest_s: float

    @property
    def simulator_s(self) -> float:
        return max(self.wall_s - self.emulator_s - self.waiting_s, 0.0)

    @classmethod
    def measured(cls, *, wall_s: float, processor_s: float, waited_s: float, rendezvous: int, guest_s: float) -> Costs:
        """From the processor time that the emulator took and the time that the run waited for it."""
        emulator_s = min(processor_s, waited_s)
        return cls(wall_s, emulator_s, waited_s - emulator_s, rendezvous, guest_s)

    def save(self, folder: Path) -> None:
        rounded = {name: round(value, 3) for name, value in asdict(self).items()}
        (folder / COSTS_FILE).write_text(json.dumps(rounded) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Costs | None:
        """None where the run in `folder` was not in lock-step."""
        path = folder / COSTS_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def text(self) -> str:
        """One line for people."""
        parts = (("QEMU", self.emulator_s), ("rendezvous", self.waiting_s), ("simulator", self.simulator_s))
        shares = ", ".join(
            f"{name} {value:.1f} s ({100 * value / max(self.wall_s, 1e-9):.0f} %)" for name, value in parts
        )
        return f"lock-step: {self.guest_s:,.0f} guest seconds, {self.rendezvous:,} rendezvous; {shares}"
