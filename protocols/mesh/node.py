"""The mesh stack of one node, from the radio's messages up to UDP. Sans-I/O: messages and `now` in, messages out."""

from __future__ import annotations

import functools
import random
from collections import Counter

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.access import Access
from protocols.mesh.authentication.eapol import RELAY_PORT
from protocols.mesh.config import LinkKey, MeshConfig, Role
from protocols.mesh.core import NodeCore
from protocols.mesh.delivery import LocalDelivery
from protocols.mesh.discovery import Discovery
from protocols.mesh.events import DropReason, Joined, JoinStateChanged, Left, MeshEvent
from protocols.mesh.forwarding import Forwarder
from protocols.mesh.ipv6 import Ipv6Packet
from protocols.mesh.join import JoinEvent, JoinState, next_state
from protocols.mesh.key_ring import GTK_COUNT, KeyRing
from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.replay_floors import ReplayFloors
from protocols.mesh.routing import Routing
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.timers import TimersProfile, earliest
from protocols.mesh.transmissions import Transmissions
from protocols.mesh.transmit_queue import Outgoing
from protocols.mesh.wisun import DISCOVERY, FrameType, PayloadElements, decode_datagram, mpx_capacity
from protocols.ports import Trace
from protocols.rcp.codes import ChannelFunction
from protocols.rcp.messages import (
    NO_PAN,
    ClearKey,
    HostMessage,
    RadioMessage,
    Ready,
    Received,
    Refused,
    SetKey,
    SetTimeSource,
    TransmitDone,
)

_decode_discovery = functools.lru_cache(maxsize=64)(PayloadElements.decode)
"""Every neighbour decodes the same elements."""
_RADIO_RESTART_LEAP = 1024
"""Frame counters skipped when the radio restarts: more than it can have used without telling."""


_ROUTE_WAITS_MAX = 8
"""RPL time-outs until a node gives up a PAN whose root does not answer, though there is a parent."""


class MeshNode:
    """A Wi-SUN-like FAN node: joins a PAN, keeps a route, forwards, sends and receives UDP over IPv6.

    Times are seconds on the caller's monotonic clock. After every call, take `take_messages()` to the radio, look at
    `take_events()`, and call `handle_timer` when `next_timer()` has come. What a peer sends wrong is counted in
    `counters` and dropped; nothing it sends raises.
    """

    def __init__(
        self, config: MeshConfig, timers_profile: TimersProfile, rng: random.Random, *, trace: Trace | None = None
    ) -> None:
        self.config = config
        core = self._core = NodeCore(config, timers_profile, rng, trace)
        self.counters: Counter[str] = core.counters
        self._state = JoinState.OFF
        self._state_deadline: float | None = None
        self._route_waits = 0
        self._keys = KeyRing(config.keys, config.active_key_index, self._key_installed, self._key_removed)
        self._replay_floors = ReplayFloors(config.replay_floors)
        self._neighbours = NeighbourTable(config.radio.sensitivity_dbm)
        self._adapter = LowpanAdapter(
            config.eui64,
            rng,
            core.counters,
            capacity_bytes=mpx_capacity(config.radio.max_psdu_bytes),
            reassembly_timeout_s=timers_profile.reassembly_timeout_s,
        )
        self._routing = Routing(
            core,
            self._neighbours,
            lambda packet, link: self._forwarder.originate(packet, link=link),
            self._happened,
            self._set_prefix,
            self._parent_changed,
        )
        self._transmissions = Transmissions(core, self._keys, self._routing, self._neighbours, self._adapter)
        self._delivery = LocalDelivery(core, self._routing)
        self._forwarder = Forwarder(core, self._routing, self._transmissions.submit, self._delivery.deliver)
        self._transmissions.forwarder = self._delivery.forwarder = self._forwarder
        self._access = Access(
            core,
            self._keys,
            self._send_eapol,
            self._send_relay,
            self._happened,
            lambda: self._discovery.raise_pan_version(self._discovery.pan_version),
        )
        self._access.root_address = lambda: self._routing.root_address
        self._access.parent = lambda: self._routing.parent
        self._access.pan_size = lambda: self._discovery.pan_size
        self._discovery = Discovery(
            core,
            self._keys,
            self._send_discovery,
            self._happened,
            lambda: self._routing.path_cost,
            self._access.hear_configuration,
        )
        if config.credentials is not None:
            self._delivery.own_ports[RELAY_PORT] = self._access.receive_relayed

    # what it is

    @property
    def state(self) -> JoinState:
        return self._state

    @property
    def address(self) -> bytes | None:
        """The node's global IPv6 address, None while it has none."""
        return self._core.address

    @property
    def link_local_address(self) -> bytes:
        return self._core.link_local_address

    @property
    def root_address(self) -> bytes | None:
        """The DODAG root's address (DODAGID), None before a DIO told it. Where a meter sends its pushes."""
        return self._routing.root_address

    @property
    def parent(self) -> bytes | None:
        """EUI-64 of the preferred parent."""
        return self._routing.parent

    @property
    def rank(self) -> int:
        """RPL rank; 0xffff without a route."""
        return self._routing.rank

    @property
    def frame_counter(self) -> int:
        """The next outgoing frame counter, as far as the radio has told: what the host stores, with a leap."""
        return self._transmissions.frame_counter

    @property
    def key_indices(self) -> frozenset[int]:
        """Indices of the group keys that the node has."""
        return self._keys.indices

    @property
    def registered_children(self) -> dict[bytes, bytes]:
        """The neighbour cache: IPv6 addresses that are registered here, with the EUI-64 of each."""
        return self._routing.neighbour_discovery.children()

    @property
    def replay_floors(self) -> bytes:
        """Frame counters that were heard: the host stores them for `MeshConfig.replay_floors` of the next start."""
        return self._replay_floors.encode()

    def link_etx(self, eui64: bytes) -> float | None:
        """Expected transmissions of one frame to a neighbour, None if it was never heard."""
        neighbour = self._neighbours.get(eui64)
        return None if neighbour is None else neighbour.etx_128 / 128

    def hops_to(self, eui64: bytes) -> int | None:
        """Root only: radio hops of the present route to a node, None without one."""
        route = self._routing.route(eui64)
        return None if route is None else len(route)

    def route_to(self, eui64: bytes) -> tuple[bytes, ...] | None:
        """Root only: EUI-64s of the hops to a node, itself last; None without a route."""
        return self._routing.route(eui64)

    # life

    def start(self, now: float) -> None:
        """Configure the radio, which has said `Ready`, and begin to join. Raises LocalProtocolError if it runs."""
        if self._state is not JoinState.OFF:
            raise LocalProtocolError("the node has been started")
        self._core.now = now
        is_root = self.config.role is Role.ROOT
        self._core.pan_id = self.config.pan_id
        self._configure_radio()
        for index, key in self._keys.items():
            self._key_installed(index, key)
        if is_root and self.config.prefix is not None:
            self._set_prefix(self.config.prefix)
        self._happened(JoinEvent.ROOT_STARTED if is_root else JoinEvent.STARTED)
        self._transmissions.pump()

    def stop(self, now: float) -> None:
        """Forget everything but the configuration and the frame counter."""
        self._core.now = now
        self._routing.stop()
        self._transmissions.clear()
        self._neighbours.clear()
        self._happened(JoinEvent.STOPPED)

    def _configure_radio(self) -> None:
        settings = self.config.radio
        self._core.messages.append(
            settings.configure(
                self.config.eui64,
                self._core.pan_id,
                self._discovery.broadcast_schedule_id,
                is_root=self.config.role is Role.ROOT,
            )
        )

    # join states

    def _happened(self, event: JoinEvent) -> None:
        """The only place where the join state changes."""
        previous, state = self._state, next_state(self._state, event)
        if state is previous and event is not JoinEvent.PAN_TIMED_OUT:
            return
        self._state = state
        self._core.events.append(JoinStateChanged(previous, state, event.value))
        self._core.trace("mesh.join", previous=previous.name, state=state.name, why=event.value)
        if previous is JoinState.OPERATIONAL:
            self._core.events.append(Left(event.value))
        self._state_deadline = None
        self._discovery.enter(state)
        self._enter(state, previous)
        if self._state is state:
            self._access.enter(state, self._discovery.target)

    def _enter(self, state: JoinState, previous: JoinState) -> None:
        if state in (JoinState.OFF, JoinState.SELECT_PAN):
            self._leave_pan()
        elif state is JoinState.AUTHENTICATE:
            self._configure_radio()
        elif state is JoinState.ROUTE:
            self._route_waits = 0
            self._state_deadline = self._core.now + self._core.profile.rpl_timeout_s
            if previous is JoinState.CONFIGURE:
                self._configure_radio()
                self._routing.set_network_size(self._discovery.pan_size)
                self._routing.start()
        elif state is JoinState.OPERATIONAL:
            if self._routing.is_root:
                self._routing.start()
            self._forwarder.mpl.start()
            address, pan_id = self._core.address, self._core.pan_id
            if address is not None and pan_id is not None:
                self._core.events.append(Joined(address, pan_id, self._routing.parent))

    def _leave_pan(self) -> None:
        if self.config.role is Role.ROOT:
            return
        self._routing.stop()
        self._forwarder.mpl.stop()
        self._adapter.clear()
        self._core.address = None
        if self._core.pan_id is not None:
            self._core.pan_id = None
            if self._state is not JoinState.OFF:
                self._configure_radio()

    def _parent_changed(self, parent: bytes | None) -> None:
        if self.config.radio.channel_function is not ChannelFunction.FIXED:
            self._core.messages.append(SetTimeSource(parent))
        self._transmissions.parent_changed(parent)

    def _set_prefix(self, prefix: bytes) -> None:
        self._core.set_prefix(prefix)
        self._adapter.set_prefix(prefix)

    # keys

    def _key_installed(self, index: int, key: bytes) -> None:
        self._core.messages.append(SetKey(index, key, self._transmissions.frame_counter))
        self._core.messages.extend(self._replay_floors.for_key(index, key))

    def _key_removed(self, index: int) -> None:
        self._core.messages.append(ClearKey(index))

    def rotate_group_key(self, key: LinkKey, now: float) -> None:
        """Root only: bring a new group key, index 1 to 4, into use, and end the one before it, by the profile's times.

        Raises LocalProtocolError for a router, where keys are provisioned, and for an index beyond 4 or in use.
        """
        if self.config.role is not Role.ROOT or self.config.credentials is None:
            raise LocalProtocolError("only a root that authenticates devices can give them a new group key")
        if key.index > GTK_COUNT or key.index == self._keys.active_index:
            raise LocalProtocolError(f"group key {key.index} cannot be brought into use here")
        self._core.now = now
        self._access.rotate(key)
        self._transmissions.pump()

    def revoke(self, eui64: bytes, now: float) -> None:
        """Root only: refuse a device from now on. It is shut out for good when the group key has been rotated."""
        self._core.now = now
        self._access.revoke(eui64)

    # the radio

    def receive(self, message: RadioMessage, now: float) -> None:
        """A message from the radio. `Ready` says that it has restarted: the node joins again."""
        self._core.now = now
        if isinstance(message, Received):
            self._receive_frame(message)
        elif isinstance(message, TransmitDone):
            self._transmissions.done(message)
        elif isinstance(message, Ready):
            self._radio_restarted(now)
        elif isinstance(message, Refused):
            self.counters["radio_refused"] += 1
            self._core.trace("mesh.refused", message_type=message.message_type, code=message.code.name)
        self._transmissions.pump()

    def _radio_restarted(self, now: float) -> None:
        if self._state is JoinState.OFF:
            return
        self.counters["radio_restarts"] += 1
        self.stop(now)
        self._transmissions.leap(_RADIO_RESTART_LEAP)
        self.start(now)

    def _receive_frame(self, frame: Received) -> None:
        if self._state is JoinState.OFF:
            return
        self._neighbours.hear(frame.source, frame.rss_dbm, self._core.now)
        if frame.key_index:
            self._replay_floors.note(frame.source, frame.key_index, frame.frame_counter)
        try:
            if frame.frame_type in DISCOVERY:
                self._discovery.receive(frame, _decode_discovery(frame.payload_ies))
                self._note_size()
            elif frame.frame_type is FrameType.DATA:
                self._receive_data(frame)
            elif frame.frame_type is FrameType.EAPOL and self.config.credentials is not None:
                self._access.receive_frame(frame.source, PayloadElements.decode(frame.payload_ies))
            else:
                self.counters[DropReason.UNSUPPORTED] += 1
        except RemoteProtocolError as error:
            self._core.drop(DropReason.MALFORMED)
            self._core.trace("mesh.malformed", source=frame.source.hex(), error=str(error))

    def _note_size(self) -> None:
        """The root counts the PAN's nodes, the others hear of it."""
        if self._routing.is_root:
            self._discovery.resize(self._routing.node_count)
        else:
            self._routing.set_network_size(self._discovery.pan_size)

    def _receive_data(self, frame: Received) -> None:
        if frame.key_index == 0:
            self.counters[DropReason.UNSECURED] += 1
        elif frame.pan_id not in (self._core.pan_id, NO_PAN):  # unicast frames name none
            self.counters[DropReason.OTHER_PAN] += 1
        elif self._state in (JoinState.ROUTE, JoinState.OPERATIONAL):
            payload = decode_datagram(frame.payload_ies)
            if payload is None:
                self.counters[DropReason.UNSUPPORTED] += 1
                return
            packet = self._adapter.from_frame(payload, frame.source, frame.destination, self._core.now)
            if packet is not None:
                self._delivery.link_source = frame.source
                self._delivery.is_broadcast = frame.destination is None
                self._forwarder.receive(packet, frame.source)
                if self._routing.is_root:
                    self._note_size()

    def _send_discovery(self, frame_type: FrameType, elements: PayloadElements, key_index: int) -> None:
        self.counters[f"{frame_type.name.lower()}_sent"] += 1
        outgoing = Outgoing(None, frame_type=frame_type, key_index=key_index, frames=[elements.encode()])
        self._transmissions.submit(outgoing)

    def _send_eapol(self, destination: bytes, elements: PayloadElements) -> None:
        self.counters["eapol_sent"] += 1
        self._transmissions.submit(Outgoing(None, destination, frame_type=FrameType.EAPOL, frames=[elements.encode()]))
        self._transmissions.pump()

    def _send_relay(self, destination: bytes, payload: bytes) -> None:
        datagram_id, packet = self._delivery.make_udp(RELAY_PORT, destination, RELAY_PORT, payload)
        self._originate(packet, datagram_id)

    # time

    def next_timer(self) -> float | None:
        return earliest(
            self._state_deadline,
            self._discovery.next_deadline(),
            self._access.next_deadline(),
            self._routing.next_deadline(),
            self._transmissions.next_deadline(),
            self._forwarder.mpl.next_deadline(),
            self._adapter.next_deadline(),
        )

    def handle_timer(self, now: float) -> None:
        """Do what is due. Calling it early does nothing."""
        self._core.now = now
        if self._state_deadline is not None and now >= self._state_deadline:
            self._route_is_late(now)
        self._discovery.handle_timer()
        self._access.handle_timer()
        self._routing.handle_timer()
        self._adapter.expire(now)
        self._forwarder.mpl.handle_timer()
        self._transmissions.handle_timer()

    def _route_is_late(self, now: float) -> None:
        """Without a parent the node looks for a PAN again; a parent over which the root does not answer gets longer."""
        self._route_waits += 1
        if self._routing.parent is not None and self._route_waits < _ROUTE_WAITS_MAX:
            self._state_deadline = now + self._core.profile.rpl_timeout_s
            return
        self._state_deadline = None
        self._happened(JoinEvent.ROUTE_FAILED)

    # the application

    def listen(self, port: int) -> None:
        """Accept UDP datagrams to this port; others are answered by ICMPv6 port unreachable."""
        self._delivery.ports.add(port)

    def send_udp(self, source_port: int, destination: bytes, destination_port: int, payload: bytes, now: float) -> int:
        """Send a datagram; returns the identifier that a later `Dropped` names.

        One to a multicast address of realm-local scope or wider (such as ff03::fc, ff05::1) goes to every node of the
        mesh by MPL; those who do not listen to the port ignore it.

        Raises LocalProtocolError for a port, address or payload size that cannot be sent.
        """
        self._core.now = now
        datagram_id, packet = self._delivery.make_udp(source_port, destination, destination_port, payload)
        return self._originate(packet, datagram_id)

    def send_echo(self, destination: bytes, identifier: int, sequence: int, payload: bytes, now: float) -> int:
        """Send an ICMPv6 echo request; the answer comes as EchoReplyReceived. Raises LocalProtocolError."""
        self._core.now = now
        datagram_id, packet = self._delivery.make_echo(destination, identifier, sequence, payload)
        return self._originate(packet, datagram_id)

    def _originate(self, packet: Ipv6Packet | None, datagram_id: int) -> int:
        if packet is None:
            self._core.drop(DropReason.NOT_JOINED, datagram_id)
        else:
            self._forwarder.originate(packet, datagram_id)
            self._transmissions.pump()
        return datagram_id

    def take_messages(self) -> list[HostMessage]:
        """What to send to the radio, in order."""
        messages, self._core.messages = self._core.messages, []
        return messages

    def take_events(self) -> list[MeshEvent]:
        """What happened since the last call, in order."""
        events, self._core.events = self._core.events, []
        return events
