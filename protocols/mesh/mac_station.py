"""What the sending and the receiving half of a MAC share: the radio's state, the configuration, keys, counters."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from protocols.mesh.checksum import fcs_size
from protocols.mesh.link_security import KeyTable, ReplayGuard
from protocols.mesh.mac_frames import Sealing
from protocols.mesh.mac_schedule import FixedChannel, Schedule
from protocols.mesh.mac_states import Radio, RadioEvent, next_radio
from protocols.mesh.phy import CHANNEL_PLANS, FSK_MODES, ChannelPlan, PhyMode
from protocols.ports import Timers, Trace
from protocols.rcp.codes import ChannelFunction
from protocols.rcp.messages import Configure


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
    max_frame_retries: int = 7
    max_retry_exponent: int = 4
    """A retry waits up to 2 to this power airtimes of its frame."""
    queue_length: int = 32
    duplicate_window_s: float = 10.0
    ack_slack_s: float = 0.002
    clock_drift_ppm: float | None = None
    """How fast this node's crystal runs; None: drawn once, within 20 ppm either way."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A valid configuration, with what is derived from it once."""

    configure: Configure
    eui64: bytes
    eui64_on_air: bytes
    pan_id: int
    max_psdu_bytes: int
    fcs_bytes: int
    mode: PhyMode
    plan: ChannelPlan


def identity_of(configure: Configure) -> Identity | None:
    """None if a value is out of range."""
    plan, mode = CHANNEL_PLANS.get(configure.plan), FSK_MODES.get(configure.fsk_mode)
    if plan is None or mode is None or not _MIN_PSDU_BYTES <= configure.max_psdu_bytes <= _MAX_PSDU_BYTES:
        return None
    if configure.fixed_channel >= plan.channel_count or configure.unicast_dwell_ms == 0:
        return None
    if not 0 < configure.broadcast_dwell_ms <= configure.broadcast_interval_ms:
        return None
    if configure.channel_function is ChannelFunction.DH1CF and _unicast_share_ms(configure) <= 0:
        return None
    size = configure.max_psdu_bytes
    eui64 = configure.eui64
    return Identity(configure, eui64, eui64[::-1], configure.pan_id, size, fcs_size(size), mode, plan)


def _unicast_share_ms(configure: Configure) -> int:
    """What of a broadcast interval is left for unicast, beyond half a dwell."""
    return configure.broadcast_interval_ms - configure.broadcast_dwell_ms - configure.broadcast_dwell_ms // 2


_MIN_PSDU_BYTES = 64
_MAX_PSDU_BYTES = 2047


class Station:
    """One radio: its state, its identity, its keys. Both halves of the MAC work on it."""

    def __init__(
        self, timers: Timers, phy: Phy, rng: random.Random, parameters: MacParameters, trace: Trace | None
    ) -> None:
        self.timers = timers
        self.phy = phy
        self.rng = rng
        self.parameters = parameters
        self.trace = trace
        self.counters: Counter[str] = Counter()
        self.radio = Radio.OFF
        drift_ppm = parameters.clock_drift_ppm
        self.clock_drift_ppm = rng.uniform(-20.0, 20.0) if drift_ppm is None else drift_ppm
        self.forget()

    def forget(self) -> None:
        """Identity, schedule, keys and what was heard: as after a power cut."""
        self.identity: Identity | None = None
        self.schedule: Schedule = FixedChannel(0)
        self.keys = KeyTable()
        self.replay = ReplayGuard()

    def change(self, event: RadioEvent) -> None:
        self.radio = next_radio(self.radio, event)

    def sealing(self, key_index: int) -> Sealing | None:
        """What secures the next frame under a key; None if there is no such key, or its counters are used up."""
        cipher = self.keys.cipher(key_index)
        if cipher is None or not self.keys.is_usable(key_index):
            return None
        return Sealing(cipher, key_index, self.keys.take_counter(key_index))
