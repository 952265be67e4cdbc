"""Wi-SUN FAN information elements: timing in the header, schedules and PAN data in the payload, and the MPX element.

Numbers inside the elements are little-endian, as everywhere in IEEE 802.15.4. Elements of another kind are skipped
and counted, because a stranger's frames may carry more than is known here.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from protocols.errors import LocalProtocolError, RemoteProtocolError

_SPEC = "Wi-SUN FAN TPS"


class FrameType(enum.IntEnum):
    """Frame type of the unicast timing and frame type element (UTT-IE)."""

    PA = 0
    PAS = 1
    PC = 2
    PCS = 3
    DATA = 4
    ACK = 5
    EAPOL = 6


DISCOVERY = frozenset({FrameType.PA, FrameType.PAS, FrameType.PC, FrameType.PCS})
"""Asynchronous frames: no destination, no sequence number, sent on every channel."""

MULTIPLEX_KMP = 1
MULTIPLEX_6LOWPAN = 0xA0ED
KMP_8021X = 1
KMP_4WH = 6
KMP_GKH = 7


@dataclass(frozen=True, slots=True)
class HeaderElements:
    """The Wi-SUN header elements of one frame, in this order: UTT, BT, RSL.

    `ufsi` is the place in the sender's unicast hopping sequence, in 2**-24 of the sequence. `broadcast_slot` and
    `broadcast_offset_ms` are the broadcast slot and the time since it began. `rsl_dbm` is how strongly the sender of
    an acknowledgement heard the frame, -174 to +80.
    """

    frame_type: FrameType
    ufsi: int = 0
    broadcast_slot: int | None = None
    broadcast_offset_ms: int = 0
    rsl_dbm: int | None = None

    def encode(self) -> bytes:
        """The elements with their descriptors, without a termination."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: bytes) -> HeaderElements:
        """From the header elements of a frame, without a termination. Raises RemoteProtocolError, also without UTT."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class UnicastSchedule:
    """US-IE: on which channels its sender listens. `plan` is a regulatory domain and an operating class."""

    dwell_interval_ms: int = 255
    clock_drift_ppm: int = 20
    timing_accuracy_10us: int = 0
    regulatory_domain: int = 1
    operating_class: int = 1
    channel_function: int = 0
    fixed_channel: int = 0


@dataclass(frozen=True, slots=True)
class BroadcastSchedule:
    """BS-IE: the broadcast schedule of the PAN."""

    broadcast_interval_ms: int = 1020
    schedule_id: int = 0
    dwell_interval_ms: int = 255
    clock_drift_ppm: int = 20
    timing_accuracy_10us: int = 0
    regulatory_domain: int = 1
    operating_class: int = 1
    channel_function: int = 0
    fixed_channel: int = 0


@dataclass(frozen=True, slots=True)
class PanInformation:
    """PAN-IE: what a joining node compares. `routing_cost` is the sender's path cost to the root."""

    pan_size: int
    routing_cost: int
    use_parent_broadcast_schedule: bool = True
    routing_method_rpl: bool = True
    fan_tps_version: int = 1


@dataclass(frozen=True, slots=True)
class Multiplex:
    """MPX-IE (IEEE 802.15.9), whole frames only: 6LoWPAN or a key management message.

    `kmp_id` is given if and only if `multiplex_id` is `MULTIPLEX_KMP`.
    """

    multiplex_id: int
    payload: bytes
    kmp_id: int | None = None
    transaction_id: int = 0


@dataclass(frozen=True, slots=True)
class PayloadElements:
    """The payload elements of one frame, in the order WP (nested), MPX. `gtk_hashes` are four times 8 bytes."""

    unicast_schedule: UnicastSchedule | None = None
    broadcast_schedule: BroadcastSchedule | None = None
    pan: PanInformation | None = None
    network_name: str | None = None
    pan_version: int | None = None
    gtk_hashes: tuple[bytes, ...] | None = None
    multiplex: Multiplex | None = None
    unknown_count: int = field(default=0, compare=False)

    def encode(self) -> bytes:
        """The elements without a termination, as `Transmit.payload_ies` takes them."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: bytes) -> PayloadElements:
        """From `Received.payload_ies`. Raises RemoteProtocolError."""
        raise NotImplementedError


def encode_datagram(datagram: bytes) -> bytes:
    """Fast path of `PayloadElements(multiplex=Multiplex(MULTIPLEX_6LOWPAN, datagram)).encode()`."""
    raise NotImplementedError


def decode_datagram(payload_ies: bytes) -> bytes | None:
    """Fast path: the 6LoWPAN bytes of the MPX element, None if the list holds none. Raises RemoteProtocolError."""
    raise NotImplementedError


def mpx_capacity(max_psdu_bytes: int, *, secured: bool = True, other_ies_bytes: int = 0) -> int:
    """How many 6LoWPAN bytes fit in the MPX element of one DATA frame, unicast or broadcast.

    `other_ies_bytes` is the room that other payload elements (a WP element with schedules) take, descriptors included.
    """
    raise NotImplementedError
