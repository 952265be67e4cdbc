"""The MAC of one node: what runs in the radio co-processor, between the RCP serial line and the radio hardware."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protocols.ports import Timers, Trace

ALL_CHANNELS = -1
"""Channel of a discovery burst: the frame once on every channel of the plan, back to back."""


class Phy(Protocol):
    """The radio hardware of one node, which the medium implements.

    A burst on `ALL_CHANNELS` lasts as many airtimes as the plan has channels; it reaches everyone in range who
    listens anywhere, and its receivers are given the burst's start as `start_s`, because the timing elements in the
    frame are made for that instant.
    """

    def is_clear(self, channel: int) -> bool:
        """Clear channel assessment, now. `ALL_CHANNELS`: whether the burst can begin (the radio is not receiving)."""
        ...

    def is_receiving(self) -> bool:
        """Whether the radio is locked on a frame that somebody sends right now."""
        ...

    def transmit(self, psdu: bytes, channel: int) -> float:
        """Begin to send `psdu` (with FCS) now; returns when it ends, in seconds. `Mac.transmit_done` is called then."""
        ...


@dataclass(frozen=True, slots=True)
class MacParameters:
    """Constants of CSMA-CA and retries; times in seconds."""

    min_be: int = 3
    max_be: int = 5
    max_csma_backoffs: int = 8
    max_frame_retries: int = 3
    queue_length: int = 32
    duplicate_window_s: float = 10.0
    ack_slack_s: float = 0.002
    clock_drift_ppm: float = 0.0


class Mac:
    """Callback-driven MAC. Radio hardware below (`phy`), RCP bytes above (`write_host`, `host_data`).

    Off until `power_on`. Never raises on what comes from the air or from the host: it counts it in `counters`.
    """

    def __init__(
        self,
        timers: Timers,
        phy: Phy,
        rng: random.Random,
        write_host: Callable[[bytes], None],
        *,
        parameters: MacParameters | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        raise NotImplementedError

    def power_on(self) -> None:
        """Start and say `Ready`."""

    def power_off(self) -> None:
        """Lose everything at once. A transmission in the air is the medium's to cut; its `transmit_done` is ignored."""

    def host_data(self, data: bytes) -> None:
        """RCP bytes from the host, cut anyhow."""

    def receive(self, psdu: bytes, rss_dbm: float, channel: int, lqi: int, start_s: float) -> None:
        """A frame ended now that began at `start_s` while this radio listened on `channel`; bits may be wrong."""

    def transmit_done(self) -> None:
        """The transmission that `Phy.transmit` began has ended."""

    def listening_channel(self, now: float) -> int | None:
        """The channel that the radio listens on at `now`; None if it is off, not configured, or sending."""
        raise NotImplementedError
