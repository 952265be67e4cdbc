"""What a mesh node is told before it starts."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocols.errors import LocalProtocolError
from protocols.mesh.authentication.trust import MeshCredentials
from protocols.mesh.phy import CHANNEL_PLANS
from protocols.mesh.wisun import BroadcastSchedule, UnicastSchedule
from protocols.rcp.codes import ChannelFunction
from protocols.rcp.messages import NO_PAN, Configure

EUI64_BYTES = 8
PREFIX_BYTES = 8
KEY_BYTES = 16


class Role(enum.Enum):
    ROUTER = "router"
    """Joins a PAN, forwards for others. Every meter is one."""
    ROOT = "root"
    """The border router: it is the PAN coordinator and the root of the DODAG."""


@dataclass(frozen=True, slots=True)
class LinkKey:
    """A group key and its index, 1 to 7 (IEEE 802.15.4-2015, 9.4.2.3, key-id mode 1)."""

    index: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.index <= 7:
            raise LocalProtocolError(f"key index {self.index} is not in 1..7")
        if len(self.key) != KEY_BYTES:
            raise LocalProtocolError(f"a link key has {KEY_BYTES} bytes, not {len(self.key)}")


@dataclass(frozen=True, slots=True)
class RadioSettings:
    """Where and how the radio works: keys of the tables in `phy`, and the hopping schedule."""

    plan: int = 1
    fsk_mode: int = 1
    channel_function: ChannelFunction = ChannelFunction.FIXED
    fixed_channel: int = 0
    unicast_dwell_ms: int = 255
    broadcast_interval_ms: int = 1020
    broadcast_dwell_ms: int = 255
    max_psdu_bytes: int = 2047
    sensitivity_dbm: float = -100.0
    """RSS at which the radio begins to lose frames: links near it start with a worse ETX."""

    def __post_init__(self) -> None:
        if self.plan not in CHANNEL_PLANS:
            raise LocalProtocolError(f"no channel plan {self.plan}")

    def configure(self, eui64: bytes, pan_id: int | None, broadcast_schedule_id: int, *, is_root: bool) -> Configure:
        """The message that sets a radio up so."""
        return Configure(
            eui64=eui64,
            pan_id=NO_PAN if pan_id is None else pan_id,
            max_psdu_bytes=self.max_psdu_bytes,
            plan=self.plan,
            fsk_mode=self.fsk_mode,
            channel_function=self.channel_function,
            fixed_channel=self.fixed_channel,
            unicast_dwell_ms=self.unicast_dwell_ms,
            broadcast_interval_ms=self.broadcast_interval_ms,
            broadcast_dwell_ms=self.broadcast_dwell_ms,
            broadcast_schedule_id=broadcast_schedule_id,
            broadcast_root=is_root,
        )

    def unicast_schedule(self) -> UnicastSchedule:
        plan = CHANNEL_PLANS[self.plan]
        return UnicastSchedule(
            dwell_interval_ms=self.unicast_dwell_ms,
            regulatory_domain=plan.regulatory_domain,
            operating_class=plan.operating_class,
            channel_function=self.channel_function,
            fixed_channel=self.fixed_channel,
        )

    def broadcast_schedule(self, schedule_id: int) -> BroadcastSchedule:
        plan = CHANNEL_PLANS[self.plan]
        return BroadcastSchedule(
            broadcast_interval_ms=self.broadcast_interval_ms,
            schedule_id=schedule_id,
            dwell_interval_ms=self.broadcast_dwell_ms,
            regulatory_domain=plan.regulatory_domain,
            operating_class=plan.operating_class,
            channel_function=self.channel_function,
            fixed_channel=self.fixed_channel,
        )


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Identity and provisioning of one node.

    `eui64` is in transmission order of text (most significant byte first), `prefix` the first 8 bytes of the mesh's
    IPv6 addresses. `frame_counter` is the first that this node may send: the host stores it and leaps ahead at each
    start. `start_count` is how often the device has started; the root derives its first versions from it, so that
    those of a restarted root are newer, and a router its first DAO sequence, by which the root sees the restart. With
    `credentials` a router proves itself by its certificate and is given the group keys, so that it needs none in
    `keys`; the root gives out its own, indices 1 to 4, the oldest first. `pan_id` and `prefix` are the root's alone:
    routers learn them.
    Raises LocalProtocolError for what does not fit together.
    """

    eui64: bytes
    network_name: str
    keys: tuple[LinkKey, ...]
    active_key_index: int = 1
    frame_counter: int = 0
    start_count: int = 0
    role: Role = Role.ROUTER
    pan_id: int | None = None
    prefix: bytes | None = None
    radio: RadioSettings = RadioSettings()
    credentials: MeshCredentials | None = field(default=None, repr=False)
    revoked: frozenset[bytes] = frozenset()
    """Root only: EUI-64s of devices that get no group key, whatever their certificates say."""
    replay_floors: bytes = b""
    """What `MeshNode.replay_floors` gave before the last power cut."""

    def __post_init__(self) -> None:
        if len(self.eui64) != EUI64_BYTES:
            raise LocalProtocolError(f"an EUI-64 has {EUI64_BYTES} bytes, not {len(self.eui64)}")
        if not 1 <= len(self.network_name.encode()) <= 32:
            raise LocalProtocolError("a network name has 1 to 32 bytes")
        is_given_keys = self.credentials is not None and self.role is Role.ROUTER
        if self.active_key_index not in {key.index for key in self.keys} and not is_given_keys:
            raise LocalProtocolError(f"no link key with the active index {self.active_key_index}")
        if self.role is Role.ROOT:
            if self.pan_id is None or not 0 <= self.pan_id < 0xFFFF:
                raise LocalProtocolError("a root needs a PAN identifier in 0..0xfffe")
            if self.prefix is None or len(self.prefix) != PREFIX_BYTES:
                raise LocalProtocolError(f"a root needs a prefix of {PREFIX_BYTES} bytes")
        elif self.pan_id is not None or self.prefix is not None:
            raise LocalProtocolError("PAN identifier and prefix are the root's to give")
