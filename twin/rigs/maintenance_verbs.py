"""What a bench asks of a concentrator that is a machine of its own: over its maintenance line, as technicians do."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from protocols.mesh.config import LinkKey
from twin.clock.clocks import RunClock
from twin.errors import RigError

_ANSWER_S = 60.0
_LOOKS, _BETWEEN_LOOKS_S = 3, 0.13
"""A machine that has just answered is still busy with that, and hears the next question late."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A concentrator's clock, looked at once.

    `offset_s` is its time minus the true one, right to `known_to_s`: half of the time between question and answer.
    """

    offset_s: float
    known_to_s: float
    state: str
    source: str
    uncertainty_s: float
    """How far it believes to be off at most; infinite before it ever had a reference."""
    rate_ppm: float
    steps: int
    """How often it was set rather than slewed."""

    @property
    def most_s(self) -> float:
        """How far it may be off by this look, without a sign."""
        return abs(self.offset_s) + self.known_to_s

    @property
    def least_s(self) -> float:
        """How far it is off for certain."""
        return max(abs(self.offset_s) - self.known_to_s, 0.0)

    @classmethod
    def of(cls, told: dict[str, Any], asked_utc_s: float, answered_utc_s: float) -> ClockReading:
        """From what the concentrator says, and the true times of question and answer."""
        uncertainty_s = told["uncertainty_s"]
        return cls(
            offset_s=told["utc_s"] - (asked_utc_s + answered_utc_s) / 2,
            known_to_s=(answered_utc_s - asked_utc_s) / 2,
            state=told["state"],
            source=told["source"],
            uncertainty_s=math.inf if uncertainty_s is None else uncertainty_s,
            rate_ppm=told["rate_ppm"],
            steps=told["steps"],
        )


class MaintenanceVerbs(ABC):
    """Verbs over `ask`. All raise RigError if the concentrator refuses, or does not answer."""

    is_machine = True
    shows_events = False
    """Whether the daemon's own events are in the run's trace."""

    def __init__(self, clock: RunClock) -> None:
        self._run_clock = clock

    @abstractmethod
    async def ask(self, command: str, *, timeout_s: float = _ANSWER_S, **fields: object) -> dict[str, Any]:
        """One request over the maintenance line. Raises TimeoutError without an answer, RigError if it is refused."""

    async def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return await self._told("status")

    async def waiting(self) -> int:
        """Messages and bundles in the concentrator now."""
        return int((await self.status())["waiting"])

    async def ping(self, eui64: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None:
        """ICMPv6 echo to a node of the mesh: the round trip in seconds; None without an answer, or a way to it."""
        told = await self._told(
            "ping", _ANSWER_S + timeout_s, eui64=eui64.hex(), payload_bytes=len(payload), wait_s=timeout_s
        )
        found: float | None = told["round_trip_s"]
        return found

    async def rotate_group_key(self, key: LinkKey) -> None:
        """Bring a new group key of the mesh into use."""
        await self._told("rotate-group-key", index=key.index, key=key.key.hex())

    async def revoke_access(self, eui64: bytes) -> None:
        """Refuse a device in the mesh from now on; the next rotation of the group key shuts it out."""
        await self._told("revoke", eui64=eui64.hex())

    async def read_clock(self) -> ClockReading:
        """The one of a few looks that took the least time."""
        found: list[ClockReading] = []
        while len(found) < _LOOKS:
            await asyncio.sleep(_BETWEEN_LOOKS_S)
            asked_utc_s = self._run_clock.utc_s()
            told = await self._told("clock")
            answered_utc_s = self._run_clock.utc_s()
            if answered_utc_s >= asked_utc_s:  # a leap second was not inserted between the two
                found.append(ClockReading.of(told, asked_utc_s, answered_utc_s))
        return min(found, key=lambda reading: reading.known_to_s)

    async def _told(self, command: str, timeout_s: float = _ANSWER_S, **fields: object) -> dict[str, Any]:
        try:
            return await self.ask(command, timeout_s=timeout_s, **fields)
        except TimeoutError:
            raise RigError(
                f"the concentrator does not answer {command!r} on its maintenance line in {timeout_s:g} s"
            ) from None
