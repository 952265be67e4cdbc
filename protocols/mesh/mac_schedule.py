"""Which channel, and when: the MAC asks a schedule, which knows how this node and its neighbours hop."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from protocols.mesh.wisun import HeaderElements
from protocols.rcp.codes import ChannelFunction
from protocols.rcp.messages import Configure

ALL_CHANNELS = -1
"""Channel of a discovery burst: the frame once on every channel of the plan, back to back."""


class Kind(enum.Enum):
    UNICAST = "unicast"
    BROADCAST = "broadcast"
    DISCOVERY = "discovery"


class Opportunity(NamedTuple):
    """A transmission may begin on `channel` at `start_s`."""

    channel: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What the timing elements of a frame that begins at some instant say; no broadcast slot: no BT-IE."""

    ufsi: int = 0
    broadcast_slot: int | None = None
    broadcast_offset_ms: int = 0


class Schedule(Protocol):
    """All times are in seconds on the clock of the run; the schedule knows how far this node's crystal is off."""

    @property
    def has_broadcast_timing(self) -> bool:
        """Whether frames may carry a BT-IE."""
        ...

    def reconfigure(self, configure: Configure, now: float) -> bool:
        """Take a new configuration; False if a new schedule must be made for it."""
        ...

    def set_time_source(self, source: bytes | None) -> None:
        """Whose broadcast timing to follow; None: that of whoever is heard."""
        ...

    def listening_channel(self, now: float) -> int: ...

    def opportunity(self, kind: Kind, destination: bytes | None, now: float) -> Opportunity | None:
        """The first chance at `now` or later; None: nothing is known of the destination's schedule."""
        ...

    def timing(self, start_s: float) -> Timing: ...

    def heard(
        self, source: bytes, elements: HeaderElements, payload_ies: bytes, start_s: float, *, authentic: bool
    ) -> None:
        """An accepted frame that began at `start_s` carried these elements."""
        ...


class FixedChannel:
    """Everybody on one channel, always (channel function 0)."""

    has_broadcast_timing = False

    def __init__(self, channel: int) -> None:
        self._opportunity = Opportunity(channel, 0.0)
        self._timing = Timing()

    def reconfigure(self, configure: Configure, now: float) -> bool:
        return (
            configure.channel_function is ChannelFunction.FIXED and configure.fixed_channel == self._opportunity.channel
        )

    def set_time_source(self, source: bytes | None) -> None:
        """There is no broadcast schedule."""

    def listening_channel(self, now: float) -> int:
        return self._opportunity.channel

    def opportunity(self, kind: Kind, destination: bytes | None, now: float) -> Opportunity | None:
        return self._opportunity

    def timing(self, start_s: float) -> Timing:
        return self._timing

    def heard(
        self, source: bytes, elements: HeaderElements, payload_ies: bytes, start_s: float, *, authentic: bool
    ) -> None:
        """Nothing to learn."""
