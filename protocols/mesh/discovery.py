"""Join states 1 to 3: PAN advertisements and configurations, asked for and given (PAS, PA, PCS, PC)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protocols.mesh.config import Role
from protocols.mesh.core import NodeCore
from protocols.mesh.events import DropReason
from protocols.mesh.join import JoinEvent, JoinState
from protocols.mesh.key_ring import KeyRing
from protocols.mesh.neighbours import etx_from_rss
from protocols.mesh.timers import earliest
from protocols.mesh.trickle import Trickle
from protocols.mesh.wisun import FrameType, PanInformation, PayloadElements
from protocols.rcp.messages import NO_PAN, Received

_VERSION_LEAP = 64
_VERSIONS = 0x1_0000
_PANS_MAX = 8
_SIZE_STEP = 1.5
"""By how much the PAN must have grown or shrunk to be worth telling."""

SendDiscovery = Callable[[FrameType, PayloadElements, int], None]
"""Frame type, elements, key index (0: unsecured)."""


class ConfigurationHeard(Protocol):
    """Told of an authentic PAN configuration of the own PAN."""

    def __call__(self, key_index: int, hashes: tuple[bytes, ...], *, is_present: bool) -> None:
        """Which key it came under, the hashes of all, and whether it is the newest that was heard."""
        ...


@dataclass(slots=True)
class PanOffer:
    """The best advertisement heard of one PAN."""

    pan_id: int
    cost: int
    pan_size: int
    sender: bytes


def _is_newer_version(a: int, b: int) -> bool:
    """Serial number arithmetic of 16 bits (RFC 1982)."""
    return 0 < (a - b) % _VERSIONS < _VERSIONS // 2


class Discovery:
    """Finds a PAN and its configuration, and, once in it, tells others of it."""

    def __init__(
        self,
        core: NodeCore,
        keys: KeyRing,
        send: SendDiscovery,
        happened: Callable[[JoinEvent], None],
        path_cost: Callable[[], int],
        configuration_heard: ConfigurationHeard,
    ) -> None:
        self._core = core
        self._keys = keys
        self._configuration_heard = configuration_heard
        self._send = send
        self._happened = happened
        self._path_cost = path_cost
        profile = core.profile
        self._solicitation = Trickle(profile.discovery, core.rng)
        self._pa = Trickle(profile.advertisement, core.rng)
        self._pc = Trickle(profile.advertisement, core.rng)
        self._offers: dict[int, PanOffer] = {}
        self._refusals: dict[int, int] = {}
        self._select_at: float | None = None
        self._version_deadline: float | None = None
        self._solicitations_sent = 0
        self._state = JoinState.OFF
        self.pan_version = core.config.start_count * _VERSION_LEAP % _VERSIONS
        self.pan_size = 1
        self._told_size = 1
        self.broadcast_schedule_id = 0
        self.target: bytes | None = None
        """Whose advertisement decided for the PAN: the neighbour to authenticate through."""
        self._gtk_hashes = keys.hashes()
        """Those of the newest PAN configuration: a node that lacks a key passes its hash on all the same."""

    # states

    def enter(self, state: JoinState) -> None:
        """The node is in this state now."""
        now = self._core.now
        self._state = state
        self._solicitation.stop()
        self._select_at = None
        if state in (JoinState.SELECT_PAN, JoinState.CONFIGURE):
            self._offers.clear()
            self._solicitations_sent = 0
            self._solicitation.start(now)
        if state in (JoinState.OFF, JoinState.SELECT_PAN):
            self._version_deadline = None
        if state is JoinState.OPERATIONAL:
            self._pa.start(now)
            self._pc.start(now)
            if self._core.config.role is Role.ROOT:
                self._version_deadline = now + self._core.profile.pan_version_lifetime_s
        else:
            self._pa.stop()
            self._pc.stop()

    def next_deadline(self) -> float | None:
        return earliest(
            self._solicitation.deadline,
            self._pa.deadline,
            self._pc.deadline,
            self._select_at,
            self._version_deadline,
        )

    def handle_timer(self) -> None:
        now = self._core.now
        if self._select_at is not None and now >= self._select_at:
            self._select_pan()
        if self._solicitation.handle(now):
            self._solicit()
        if self._pa.handle(now):
            self._send_pa()
        if self._pc.handle(now):
            self._send_pc()
        if self._version_deadline is not None and now >= self._version_deadline:
            self._version_is_old()

    def _version_is_old(self) -> None:
        if self._core.config.role is Role.ROOT:
            self.raise_pan_version(self.pan_version)
            self._version_deadline = self._core.now + self._core.profile.pan_version_lifetime_s
        else:
            self._version_deadline = None
            self._happened(JoinEvent.PAN_TIMED_OUT)

    def raise_pan_version(self, above: int) -> None:
        """Root only: tell a version newer than `above`."""
        self.pan_version = (above + 1) % _VERSIONS
        self._gtk_hashes = self._keys.hashes()
        self._pc.reset(self._core.now)

    def resize(self, size: int) -> None:
        """So many nodes are in the PAN: from the root's table there, from those nearer to the root elsewhere.

        What all nodes do at once is spread over a time that grows with it, so a size that has changed much is told on
        soon: nodes that joined early would go on taking a town for a hamlet.
        """
        self.pan_size = size
        if self._state is JoinState.OPERATIONAL and not self._is_told():
            self._pa.reset(self._core.now)

    def _is_told(self) -> bool:
        return self._told_size <= self.pan_size * _SIZE_STEP and self.pan_size <= self._told_size * _SIZE_STEP

    # what goes out

    def _solicit(self) -> None:
        elements = PayloadElements(
            unicast_schedule=self._core.config.radio.unicast_schedule(), network_name=self._core.config.network_name
        )
        self._solicitations_sent += 1
        if self._state is JoinState.SELECT_PAN:
            self._send(FrameType.PAS, elements, 0)
            return
        if self._solicitations_sent > self._core.profile.configuration_attempts:
            pan_id = self._core.pan_id
            if pan_id is not None:
                self._refusals[pan_id] = self._refusals.get(pan_id, 0) + 1
            self._happened(JoinEvent.CONFIGURATION_FAILED)
            return
        self._send(FrameType.PCS, elements, 0)

    def _send_pa(self) -> None:
        self._told_size = self.pan_size
        elements = PayloadElements(
            unicast_schedule=self._core.config.radio.unicast_schedule(),
            pan=PanInformation(pan_size=min(self.pan_size, 0xFFFF), routing_cost=self._path_cost()),
            network_name=self._core.config.network_name,
        )
        self._send(FrameType.PA, elements, 0)

    def _send_pc(self) -> None:
        elements = PayloadElements(
            unicast_schedule=self._core.config.radio.unicast_schedule(),
            broadcast_schedule=self._core.config.radio.broadcast_schedule(self.broadcast_schedule_id),
            pan_version=self.pan_version,
            gtk_hashes=self._gtk_hashes,
        )
        self._send(FrameType.PC, elements, self._keys.active_index)

    # what comes in

    def receive(self, frame: Received, elements: PayloadElements) -> None:
        if frame.frame_type is FrameType.PC:
            self._receive_pc(frame, elements)
        elif elements.network_name != self._core.config.network_name:
            self._core.counters["other_network"] += 1
        elif frame.frame_type is FrameType.PA:
            self._receive_pa(frame, elements)
        else:
            self._receive_solicitation(frame)

    def _receive_solicitation(self, frame: Received) -> None:
        is_pas = frame.frame_type is FrameType.PAS
        if self._state is JoinState.OPERATIONAL:
            if is_pas:
                self._pa.reset(self._core.now)
            elif frame.pan_id in (self._core.pan_id, NO_PAN):
                self._pc.reset(self._core.now)
        elif self._state is (JoinState.SELECT_PAN if is_pas else JoinState.CONFIGURE):
            self._solicitation.hear_consistent()

    def _receive_pa(self, frame: Received, elements: PayloadElements) -> None:
        pan = elements.pan
        if pan is None or not pan.routing_method_rpl:
            return
        if self._state is JoinState.SELECT_PAN:
            self._consider(frame, pan)
        elif frame.pan_id == self._core.pan_id:
            if self._core.config.role is not Role.ROOT and pan.routing_cost < self._path_cost():
                self.resize(pan.pan_size)
            if self._state is JoinState.OPERATIONAL and self._is_told():
                self._pa.hear_consistent()

    def _consider(self, frame: Received, pan: PanInformation) -> None:
        link_cost = etx_from_rss(frame.rss_dbm, self._core.config.radio.sensitivity_dbm)
        offer = PanOffer(frame.pan_id, pan.routing_cost + link_cost, pan.pan_size, frame.source)
        known = self._offers.get(frame.pan_id)
        if known is None and len(self._offers) >= _PANS_MAX:
            return
        if known is None or offer.cost < known.cost:
            self._offers[frame.pan_id] = offer
        if self._select_at is None:
            self._select_at = self._core.now + self._core.profile.pan_selection_window_s

    def _select_pan(self) -> None:
        """The PAN that refused least, then the cheapest path, then the smallest PAN."""
        best = min(
            self._offers.values(),
            key=lambda o: (self._refusals.get(o.pan_id, 0), o.cost, o.pan_size, o.pan_id),
        )
        self._select_at = None
        self.pan_size = best.pan_size
        self.target = best.sender
        self._core.pan_id = best.pan_id
        if len(self._refusals) > _PANS_MAX:
            self._refusals.clear()
        self._happened(JoinEvent.PAN_SELECTED)

    def _receive_pc(self, frame: Received, elements: PayloadElements) -> None:
        version, hashes = elements.pan_version, elements.gtk_hashes
        if frame.key_index == 0:
            self._core.counters[DropReason.UNSECURED] += 1
            return
        if frame.pan_id != self._core.pan_id or version is None or hashes is None:
            return
        is_member = self._state in (JoinState.ROUTE, JoinState.OPERATIONAL)
        is_newer = is_member and _is_newer_version(version, self.pan_version)
        is_present = not is_member or version == self.pan_version or is_newer
        if is_present and self._core.config.role is not Role.ROOT:
            self._gtk_hashes = hashes
        self._configuration_heard(frame.key_index, hashes, is_present=is_present)
        if self._state is JoinState.CONFIGURE:
            self._configure(version, elements)
        elif self._core.config.role is Role.ROOT:
            if _is_newer_version(version, self.pan_version):
                self.raise_pan_version(version)
            elif version == self.pan_version:
                self._pc.hear_consistent()
        elif version == self.pan_version:
            self._pc.hear_consistent()
        elif _is_newer_version(version, self.pan_version):
            self._configure_version(version)
            self._pc.reset(self._core.now)
        else:
            self._pc.reset(self._core.now)

    def _configure(self, version: int, elements: PayloadElements) -> None:
        if elements.broadcast_schedule is not None:
            self.broadcast_schedule_id = elements.broadcast_schedule.schedule_id
        self._configure_version(version)
        if self._core.pan_id is not None:
            self._refusals.pop(self._core.pan_id, None)
        self._happened(JoinEvent.CONFIGURED)

    def _configure_version(self, version: int) -> None:
        self.pan_version = version
        self._version_deadline = self._core.now + self._core.profile.pan_timeout_s
