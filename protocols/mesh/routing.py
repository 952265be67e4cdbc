"""RPL as a part of the node: its messages as ICMPv6 packets, its decisions as events."""

from __future__ import annotations

import functools
from collections.abc import Callable

from protocols.errors import RemoteProtocolError
from protocols.mesh.config import Role
from protocols.mesh.core import NodeCore
from protocols.mesh.events import NodeLost, NodeReachable, ParentChanged, RouteSuspect
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import ALL_RPL_NODES, Ipv6Packet, Protocol, eui64_of, interface_identifier, link_local
from protocols.mesh.join import JoinEvent
from protocols.mesh.neighbour_discovery import NeighbourDiscovery
from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.rpl.messages import INFINITE_RANK, Dao, DaoAck, Dio, Dis, RplCode
from protocols.mesh.rpl.root import RplRoot
from protocols.mesh.rpl.router import RplRouter

_LINK_HOP_LIMIT = 255

SendPacket = Callable[[Ipv6Packet, bytes | None], None]
"""A packet of this node, and the neighbour for a link-local unicast."""


_decode_dio = functools.lru_cache(maxsize=64)(Dio.decode)
"""Every neighbour decodes the same one."""


class Routing:
    """Either the root or a router of a DODAG. Implements the ports of both."""

    def __init__(
        self,
        core: NodeCore,
        neighbours: NeighbourTable,
        send: SendPacket,
        happened: Callable[[JoinEvent], None],
        set_prefix: Callable[[bytes], None],
        parent_changed: Callable[[bytes | None], None],
    ) -> None:
        self._core = core
        self._send = send
        self._happened = happened
        self._set_prefix = set_prefix
        self._parent_changed = parent_changed
        self.is_root = core.config.role is Role.ROOT
        self.neighbour_discovery = NeighbourDiscovery(core, send, self._registered, self.link_failed)
        self._waiting_dao: Dao | None = None
        self._root: RplRoot | None = None
        self._router: RplRouter | None = None
        prefix = core.config.prefix
        if prefix is not None:
            eui64 = core.config.eui64
            address = prefix + interface_identifier(eui64)
            self._root = RplRoot(
                address, eui64, self, core.profile, core.rng, core.counters, start_count=core.config.start_count
            )
        else:
            self._router = RplRouter(
                self, neighbours, core.profile, core.rng, core.counters, start_count=core.config.start_count
            )
            neighbours.is_needed = self._router.is_needed
            neighbours.on_evicted = lambda eui64: self._forget(eui64)

    def _forget(self, eui64: bytes) -> None:
        if self._router is not None:
            self._router.forget(eui64, self._core.now)

    # what the node asks

    @property
    def root_address(self) -> bytes | None:
        return self._core.address if self.is_root else self._router.dodag_id if self._router else None

    @property
    def parent(self) -> bytes | None:
        return self._router.parent if self._router else None

    @property
    def instance_id(self) -> int:
        return self._router.instance_id if self._router else 0

    @property
    def rank(self) -> int:
        if self._root is not None:
            return self._root.rank
        return self._router.rank if self._router else INFINITE_RANK

    @property
    def dag_rank(self) -> int:
        """DAGRank (RFC 6550, 3.5.1)."""
        increase = self._router.min_hop_rank_increase if self._router else self.rank
        return self.rank // increase

    @property
    def path_cost(self) -> int:
        return self._router.path_cost if self._router else 0

    @property
    def node_count(self) -> int:
        """Root only: nodes with a route, the root included."""
        return self._root.node_count + 1 if self._root else 0

    def route(self, eui64: bytes) -> tuple[bytes, ...] | None:
        return self._root.route(eui64) if self._root else None

    def set_network_size(self, size: int) -> None:
        if self._router is not None:
            self._router.network_size = size

    # what happens to it

    def start(self) -> None:
        if self._root is not None:
            self._root.start(self._core.now)
        elif self._router is not None:
            self._router.start(self._core.now)

    def stop(self) -> None:
        self._waiting_dao = None
        self.neighbour_discovery.clear()
        if self._root is not None:
            self._root.stop()
        elif self._router is not None:
            self._router.stop()

    def next_deadline(self) -> float | None:
        part = self._root or self._router
        return part.next_deadline() if part else None

    def handle_timer(self) -> None:
        part = self._root or self._router
        if part is not None:
            part.handle_timer(self._core.now)

    def link_changed(self, eui64: bytes) -> None:
        if self._router is not None:
            self._router.link_changed(eui64, self._core.now)

    def link_failed(self, eui64: bytes) -> None:
        """Router: the neighbour does not acknowledge, or does not take this node."""
        self.neighbour_discovery.forget(eui64)
        if self._router is not None:
            self._router.link_failed(eui64, self._core.now)

    def hop_failed(self, parent: bytes, child: bytes) -> None:
        """Root: the hop from parent to child does not work."""
        if self._root is not None:
            self._root.hop_failed(parent, child, self._core.now)

    def rank_is_inconsistent(self) -> None:
        """A packet met stale ranks for the second time on its way (RFC 6550, 11.2.2.2)."""
        if self._router is not None:
            self._router.rank_is_inconsistent(self._core.now)

    def parent_sends_up(self) -> None:
        """The preferred parent sent a packet upwards to this node: both take the other for the way to the root."""
        self._core.counters["parent_loop"] += 1
        if self._router is not None:
            self._router.parent_is_below(self._core.now)

    def poison(self, eui64: bytes) -> None:
        """Tell a neighbour that sends upwards through this node that there is no way."""
        if self._router is not None:
            self._router.poison(eui64)

    # messages

    def receive(self, packet: Ipv6Packet, message: Icmpv6Message, link_source: bytes, *, is_broadcast: bool) -> None:
        """An RPL control message. Raises RemoteProtocolError."""
        now = self._core.now
        if message.code == RplCode.DAO:
            self._receive_dao(packet, message)
        elif message.code == RplCode.DAO_ACK:
            if self._router is not None and packet.source == self._router.dodag_id:
                self._router.handle_dao_ack(DaoAck.decode(message.body), now)
        elif packet.hop_limit != _LINK_HOP_LIMIT or packet.source != link_local(link_source):
            raise RemoteProtocolError("a DIO or DIS from beyond the link")
        elif message.code == RplCode.DIO:
            self._receive_dio(link_source, _decode_dio(message.body))
        elif message.code == RplCode.DIS:
            Dis.decode(message.body)
            if self._root is not None:
                self._root.handle_dis(link_source, is_multicast=is_broadcast, now=now)
            elif self._router is not None:
                self._router.handle_dis(link_source, is_multicast=is_broadcast, now=now)
        else:
            self._core.counters["rpl_unsupported"] += 1

    def _receive_dio(self, source: bytes, dio: Dio) -> None:
        if self._root is not None:
            self._root.handle_dio(dio, self._core.now)
        elif self._router is not None:
            self._router.handle_dio(source, dio, self._core.now)

    def _receive_dao(self, packet: Ipv6Packet, message: Icmpv6Message) -> None:
        if self._root is None:
            self._core.counters["rpl_unsupported"] += 1
            return
        ack = self._root.handle_dao(packet.source, Dao.decode(message.body), self._core.now)
        if ack is not None and self._root.route(eui64_of(packet.source)) is not None:
            self._send_message(RplCode.DAO_ACK, ack.encode(), packet.source)

    def _send_message(self, code: RplCode, body: bytes, destination: bytes) -> None:
        source = self._core.address
        if source is None:
            return
        payload = Icmpv6Message(Icmpv6Type.RPL_CONTROL, code, body).encode(source, destination)
        self._core.counters[f"{code.name.lower()}_sent"] += 1
        self._send(Ipv6Packet(source, destination, Protocol.ICMPV6, payload), None)

    def _send_on_link(self, code: RplCode, body: bytes, neighbour: bytes | None) -> None:
        source = self._core.link_local_address
        destination = ALL_RPL_NODES if neighbour is None else link_local(neighbour)
        payload = Icmpv6Message(Icmpv6Type.RPL_CONTROL, code, body).encode(source, destination)
        self._core.counters[f"{code.name.lower()}_sent"] += 1
        packet = Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=_LINK_HOP_LIMIT)
        self._send(packet, neighbour)

    # RouterPort and RootPort

    def send_dio(self, dio: Dio, destination: bytes | None) -> None:
        self._send_on_link(RplCode.DIO, dio.encode(), destination)

    def send_dis(self, destination: bytes | None) -> None:
        self._send_on_link(RplCode.DIS, Dis().encode(), destination)

    def send_dao(self, dao: Dao) -> None:
        """At once, or when the parent has registered this node's address. A DAO that is repeated asks it again."""
        parent = self.parent
        if parent is None or self.neighbour_discovery.is_registered(parent):
            self._send_dao_now(dao)
        else:
            self._waiting_dao = dao
            self.neighbour_discovery.solicit(parent)

    def _send_dao_now(self, dao: Dao) -> None:
        self._waiting_dao = None
        root = self.root_address
        if root is not None:
            self._send_message(RplCode.DAO, dao.encode(), root)

    def _registered(self, parent: bytes) -> None:
        """The parent has this node in its neighbour cache."""
        if self._waiting_dao is not None and parent == self.parent:
            self._send_dao_now(self._waiting_dao)

    def own_address(self) -> bytes:
        address = self._core.address
        return self._core.link_local_address if address is None else address

    def prefix_learnt(self, prefix: bytes) -> None:
        self._set_prefix(prefix)

    def parent_changed(self, previous: bytes | None, parent: bytes | None) -> None:
        self._core.counters["parent_changes"] += 1
        self._core.events.append(ParentChanged(previous, parent))
        self._core.trace("mesh.parent", parent=parent and parent.hex(), previous=previous and previous.hex())
        self._parent_changed(parent)

    def route_confirmed(self) -> None:
        self._happened(JoinEvent.DAO_ACKNOWLEDGED)

    def route_lost(self, why: str) -> None:
        self._core.trace("mesh.route_lost", why=why)
        self._happened(JoinEvent.PARENT_LOST)

    def node_reachable(self, eui64: bytes, hops: int, restarted: bool) -> None:
        self._core.events.append(NodeReachable(eui64, self._address_of(eui64), hops, restarted))
        self._core.trace("mesh.reachable", eui64=eui64.hex(), hops=hops, restarted=restarted)

    def route_suspect(self, eui64: bytes) -> None:
        self._core.events.append(RouteSuspect(eui64, self._address_of(eui64)))
        self._core.trace("mesh.suspect", eui64=eui64.hex())

    def node_lost(self, eui64: bytes, why: str) -> None:
        self._core.events.append(NodeLost(eui64, self._address_of(eui64), why))
        self._core.trace("mesh.lost", eui64=eui64.hex(), why=why)

    def _address_of(self, eui64: bytes) -> bytes:
        return (self._core.address or bytes(16))[:8] + interface_identifier(eui64)
