"""The hopping schedules that nodes tell each other: US-IE and BS-IE of Wi-SUN FAN.

Both end with the same channel information. Channel plans are understood as a regulatory domain with an operating
class (plan 0), channel functions as fixed (0) or DH1CF (2), without excluded channels: what this project's nodes send.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.errors import LocalProtocolError, RemoteProtocolError

FIXED_CHANNEL = 0
DH1CF = 2

_SPEC = "Wi-SUN FAN TPS, US-IE and BS-IE"
_TIMING = struct.Struct("<BBB")
_BROADCAST = struct.Struct("<IH")


@dataclass(frozen=True, slots=True)
class UnicastSchedule:
    """US-IE: on which channels its sender listens."""

    dwell_interval_ms: int = 255
    clock_drift_ppm: int = 20
    timing_accuracy_10us: int = 0
    regulatory_domain: int = 1
    operating_class: int = 1
    channel_function: int = FIXED_CHANNEL
    fixed_channel: int = 0

    def encode(self) -> bytes:
        """The content, without a descriptor."""
        try:
            timing = _TIMING.pack(self.dwell_interval_ms, self.clock_drift_ppm, self.timing_accuracy_10us)
        except struct.error as error:
            raise LocalProtocolError(f"US-IE: {error}") from error
        return timing + _encode_channels(
            self.regulatory_domain, self.operating_class, self.channel_function, self.fixed_channel
        )

    @classmethod
    def decode(cls, content: bytes) -> UnicastSchedule | None:
        """None if the channel information is of a kind that is not understood. Raises RemoteProtocolError."""
        if len(content) < _TIMING.size:
            raise RemoteProtocolError("US-IE is cut off", spec=_SPEC)
        channels = _decode_channels(content, _TIMING.size)
        return None if channels is None else cls(*(_TIMING.unpack_from(content) + channels))


@dataclass(frozen=True, slots=True)
class BroadcastSchedule:
    """BS-IE: when, and on which channels, everybody in the PAN listens."""

    broadcast_interval_ms: int = 1020
    schedule_id: int = 0
    dwell_interval_ms: int = 255
    clock_drift_ppm: int = 20
    timing_accuracy_10us: int = 0
    regulatory_domain: int = 1
    operating_class: int = 1
    channel_function: int = FIXED_CHANNEL
    fixed_channel: int = 0

    def encode(self) -> bytes:
        """The content, without a descriptor."""
        try:
            head = _BROADCAST.pack(self.broadcast_interval_ms, self.schedule_id)
            timing = _TIMING.pack(self.dwell_interval_ms, self.clock_drift_ppm, self.timing_accuracy_10us)
        except struct.error as error:
            raise LocalProtocolError(f"BS-IE: {error}") from error
        channels = _encode_channels(
            self.regulatory_domain, self.operating_class, self.channel_function, self.fixed_channel
        )
        return head + timing + channels

    @classmethod
    def decode(cls, content: bytes) -> BroadcastSchedule | None:
        """None if the channel information is of a kind that is not understood. Raises RemoteProtocolError."""
        head_bytes = _BROADCAST.size + _TIMING.size
        if len(content) < head_bytes:
            raise RemoteProtocolError("BS-IE is cut off", spec=_SPEC)
        channels = _decode_channels(content, head_bytes)
        if channels is None:
            return None
        return cls(*(_BROADCAST.unpack_from(content) + _TIMING.unpack_from(content, _BROADCAST.size) + channels))


def _encode_channels(domain: int, operating_class: int, function: int, fixed_channel: int) -> bytes:
    if function not in (FIXED_CHANNEL, DH1CF):
        raise LocalProtocolError(f"channel function {function} is not supported")
    try:
        head = bytes((function << 3, domain, operating_class))
        return head + (fixed_channel.to_bytes(2, "little") if function == FIXED_CHANNEL else b"")
    except (ValueError, OverflowError) as error:
        raise LocalProtocolError(f"channel information: {error}") from error


def _decode_channels(content: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """Regulatory domain, operating class, channel function, fixed channel."""
    if offset >= len(content):
        raise RemoteProtocolError("channel information is cut off", offset=offset, spec=_SPEC)
    control = content[offset]
    plan, function, excluded = control & 7, control >> 3 & 7, control >> 6
    if plan != 0 or excluded != 0 or function not in (FIXED_CHANNEL, DH1CF):
        return None
    size = 3 + (2 if function == FIXED_CHANNEL else 0)
    if len(content) - offset != size:
        raise RemoteProtocolError(
            f"channel information has {len(content) - offset} bytes, not {size}", offset=offset, spec=_SPEC
        )
    fixed = content[offset + 3] | content[offset + 4] << 8 if function == FIXED_CHANNEL else 0
    return content[offset + 1], content[offset + 2], function, fixed
