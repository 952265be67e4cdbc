"""What a mesh node reports to whoever runs it. Addresses are 16 bytes, EUI-64s 8."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocols.mesh.authentication.trust import RefusalReason
from protocols.mesh.config import LinkKey
from protocols.mesh.join import JoinState


class DropReason(enum.StrEnum):
    """Why a datagram or a frame was given up. Each has a counter of its name in `MeshNode.counters`."""

    NO_ROUTE = "no_route"
    NOT_JOINED = "not_joined"
    QUEUE_FULL = "queue_full"
    NO_ACK = "no_ack"
    CHANNEL_BUSY = "channel_busy"
    RADIO_REFUSED = "radio_refused"
    RADIO_RESET = "radio_reset"
    HOP_LIMIT = "hop_limit"
    TOO_BIG = "too_big"
    LOOP = "loop"
    MALFORMED = "malformed"
    NO_LISTENER = "no_listener"
    UNSECURED = "unsecured"
    OTHER_PAN = "other_pan"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class JoinStateChanged:
    previous: JoinState
    state: JoinState
    why: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The node is operational: it has an address, a parent and, unless it is the root, the root's DAO-ACK."""

    address: bytes
    pan_id: int
    parent: bytes | None
    """EUI-64 of the preferred parent, None for the root."""


@dataclass(frozen=True, slots=True)
class Left:
    """The node was operational and is no more. It tries to join again by itself."""

    why: str


@dataclass(frozen=True, slots=True)
class ParentChanged:
    previous: bytes | None
    parent: bytes | None


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """A UDP datagram for this node, its checksum verified.

    `age_s` is how long a multicast has waited in its seed and in all forwarders on the way; 0 for what came directly.
    """

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    payload: bytes = field(repr=False)
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EchoReplyReceived:
    source: bytes
    identifier: int
    sequence: int
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NodeReachable:
    """Root only: there is a route to a node that had none, or whose numbering says that it has restarted."""

    eui64: bytes
    address: bytes
    hops: int
    restarted: bool


@dataclass(frozen=True, slots=True)
class RouteSuspect:
    """Root only: a hop towards this node did not acknowledge, and no other route to it is known."""

    eui64: bytes
    address: bytes


@dataclass(frozen=True, slots=True)
class NodeLost:
    """Root only: the node's route expired, or stayed suspect for longer than the profile allows."""

    eui64: bytes
    address: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A datagram was given up. `datagram_id` is what `send_udp` returned, None for one of somebody else."""

    reason: DropReason
    datagram_id: int | None = None


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    """This device was refused, or nobody answered. It tries again by itself, later each time."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class DeviceAuthenticated:
    """Root only: a device proved itself by its certificate, and has the group keys."""

    eui64: bytes


@dataclass(frozen=True, slots=True)
class AccessRefused:
    """Root only: a device asked for the group keys and does not get them."""

    eui64: bytes
    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class GroupKeysChanged:
    """Root only: a group key was installed, came into use or ended. The host stores what a restart needs.

    `keys` are in the order of their installation, as `MeshConfig.keys` takes them.
    """

    keys: tuple[LinkKey, ...]
    active_index: int


MeshEvent = (
    JoinStateChanged
    | Joined
    | Left
    | ParentChanged
    | DatagramReceived
    | EchoReplyReceived
    | NodeReachable
    | RouteSuspect
    | NodeLost
    | Dropped
    | AuthenticationFailed
    | DeviceAuthenticated
    | AccessRefused
    | GroupKeysChanged
)
