"""The hook through which every frame passes before it goes on the air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Emission:
    """A frame that goes on the air, `delay_s` after the moment at which its sender sent it."""

    psdu: bytes
    delay_s: float = 0.0


class FramePipeline(Protocol):
    """Sees every PSDU (FCS included) between a MAC and the air, and says what becomes of it.

    No emission drops the frame, more than one duplicates it, another PSDU edits it. The sender notices nothing.
    """

    def process(self, psdu: bytes, *, channel: int, sender: str, now: float) -> Sequence[Emission]: ...
