"""IEEE 802.15.4-2015 MAC frames: header with addressing, auxiliary security header and header elements, then the body.

The body (payload elements, payload) is handled apart from the header, because link security authenticates the one in
clear and encrypts the other. Addresses are bytes in the order in which people write them (the reverse of the air's).
Frames of versions 0 and 1 are read too, except with the security of version 0, which nobody uses.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TypeAlias

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.elements import PAYLOAD_TERMINATION, Termination, split_payload_ies, walk_header_ies

_SPEC = "IEEE 802.15.4-2015"

BROADCAST_PAN = 0xFFFF
BROADCAST_SHORT = b"\xff\xff"

_FC_SECURITY = 0x0008
_FC_PENDING = 0x0010
_FC_ACK_REQUEST = 0x0020
_FC_PAN_ID_COMPRESSION = 0x0040
_FC_SEQUENCE_SUPPRESSION = 0x0100
_FC_IE_PRESENT = 0x0200
_MODE_OF_SIZE = {0: 0, 2: 2, 8: 3}
_SIZE_OF_MODE = (0, -1, 2, 8)
_KEY_SOURCE_SIZE = (0, 0, 4, 8)
_MIC_SIZE = (0, 4, 8, 16, 0, 4, 8, 16)


class MacFrameType(enum.IntEnum):
    BEACON = 0
    DATA = 1
    ACK = 2
    COMMAND = 3


def mic_size(level: int) -> int:
    """Bytes of message integrity code at a security level, 0 to 7 (table 9-6)."""
    return _MIC_SIZE[level]


@dataclass(frozen=True, slots=True)
class AuxiliarySecurity:
    """Auxiliary security header (9.4): how a frame is secured. Key-id mode 0 names no key, 1 an index."""

    level: int
    frame_counter: int
    key_id_mode: int = 1
    key_index: int = 1
    key_source: bytes = b""

    def encode(self) -> bytes:
        mode = self.key_id_mode
        if not (0 < self.level < 8 and 0 <= mode < 4 and len(self.key_source) == _KEY_SOURCE_SIZE[mode]):
            raise LocalProtocolError(f"security level {self.level} with key-id mode {mode} cannot be encoded")
        try:
            head = struct.pack("<BI", self.level | mode << 3, self.frame_counter)
            return head + self.key_source[::-1] + (bytes((self.key_index,)) if mode else b"")
        except (struct.error, ValueError) as error:
            raise LocalProtocolError(f"auxiliary security header: {error}") from error

    @classmethod
    def decode_at(cls, data: bytes, offset: int) -> tuple[AuxiliarySecurity, int]:
        """The header at `offset`, and the offset behind it."""
        if offset + 5 > len(data):
            raise RemoteProtocolError("auxiliary security header is cut off", offset=offset, spec=_SPEC)
        control, counter = struct.unpack_from("<BI", data, offset)
        level, mode = control & 7, control >> 3 & 3
        if control >> 5 or level == 0:
            raise RemoteProtocolError(f"security control 0x{control:02x} is not supported", offset=offset, spec=_SPEC)
        start = offset + 5
        size = _KEY_SOURCE_SIZE[mode]
        end = start + size + (1 if mode else 0)
        if end > len(data):
            raise RemoteProtocolError("key identifier is cut off", offset=start, spec=_SPEC)
        index = data[end - 1] if mode else 0
        return cls(level, counter, mode, index, data[start : start + size][::-1]), end


@dataclass(frozen=True, slots=True)
class MacHeader:
    """The MAC header (MHR), header elements included.

    `destination` and `source` are 8 bytes (EUI-64), 2 bytes (short) or None. A PAN id is present in the frame where
    table 7-2 says so for the addresses and `pan_id_compression`; elsewhere it is None. `header_ies` are encoded
    elements without termination.
    """

    frame_type: MacFrameType
    sequence: int | None = None
    destination: bytes | None = None
    source: bytes | None = None
    destination_pan: int | None = None
    source_pan: int | None = None
    pan_id_compression: bool = False
    ack_request: bool = False
    frame_pending: bool = False
    security: AuxiliarySecurity | None = None
    header_ies: bytes = b""
    termination: Termination = Termination.NONE
    version: int = 2

    def encode(self) -> bytes:
        """Raises LocalProtocolError if PAN ids do not fit the addresses, or the version cannot say it."""
        destination, source = self.destination or b"", self.source or b""
        control = self._frame_control(destination, source)
        want_destination, want_source = _PAN_PRESENT[control & _LAYOUT_MASK]
        if (self.destination_pan is not None, self.source_pan is not None) != (want_destination, want_source):
            raise LocalProtocolError("PAN ids do not fit the addresses and the PAN-id compression bit")
        if self.version < 2 and (self.sequence is None or self.header_ies or self.termination is not Termination.NONE):
            raise LocalProtocolError(f"frame version {self.version} has a sequence number and no elements")
        try:
            parts = [control.to_bytes(2, "little")]
            if self.sequence is not None:
                parts.append(bytes((self.sequence,)))
            if self.destination_pan is not None:
                parts.append(self.destination_pan.to_bytes(2, "little"))
            parts.append(destination[::-1])
            if self.source_pan is not None:
                parts.append(self.source_pan.to_bytes(2, "little"))
            parts.append(source[::-1])
        except (ValueError, OverflowError) as error:
            raise LocalProtocolError(f"MAC header: {error}") from error
        if self.security is not None:
            parts.append(self.security.encode())
        parts.append(self.header_ies)
        parts.append(self.termination.value)
        return b"".join(parts)

    def _frame_control(self, destination: bytes, source: bytes) -> int:
        try:
            modes = _MODE_OF_SIZE[len(destination)] << 10 | _MODE_OF_SIZE[len(source)] << 14
        except KeyError as error:
            raise LocalProtocolError(f"an address has 2 or 8 bytes, not {error}") from error
        control = self.frame_type | self.version << 12 | modes
        if self.security is not None:
            control |= _FC_SECURITY
        if self.frame_pending:
            control |= _FC_PENDING
        if self.ack_request:
            control |= _FC_ACK_REQUEST
        if self.pan_id_compression:
            control |= _FC_PAN_ID_COMPRESSION
        if self.sequence is None:
            control |= _FC_SEQUENCE_SUPPRESSION
        if self.header_ies or self.termination is not Termination.NONE:
            control |= _FC_IE_PRESENT
        return control

    @classmethod
    def decode(cls, frame: bytes) -> tuple[MacHeader, int]:
        """The header of `frame` (PSDU without FCS), and where the body begins. Raises RemoteProtocolError."""
        if len(frame) < 2:
            raise RemoteProtocolError("frame control is cut off", offset=0, spec=_SPEC)
        control = frame[0] | frame[1] << 8
        layout = layout_of(control)
        if layout.addresses_end > len(frame):
            raise RemoteProtocolError("addresses are cut off", offset=len(frame), spec=_SPEC)
        offset = layout.addresses_end
        security = None
        if control & _FC_SECURITY:
            security, offset = AuxiliarySecurity.decode_at(frame, offset)
        header_ies, termination = b"", Termination.NONE
        if control & _FC_IE_PRESENT:
            end = len(frame) - (0 if security is None else _MIC_SIZE[security.level])
            start = offset
            stop, offset, termination = walk_header_ies(frame, start, end)
            header_ies = frame[start:stop]
        sequence, destination, source, destination_pan, source_pan = layout.read(frame)
        return (
            cls(
                layout.frame_type,
                sequence,
                destination,
                source,
                destination_pan,
                source_pan,
                control & _FC_PAN_ID_COMPRESSION != 0,
                control & _FC_ACK_REQUEST != 0,
                control & _FC_PENDING != 0,
                security,
                header_ies,
                termination,
                control >> 12 & 3,
            ),
            offset,
        )


_LAYOUT_MASK = 0x0C40 | 0xF000
"""Bits that decide where the PAN ids are: version, addressing modes, PAN-id compression."""


def _pan_ids_present(control: int) -> tuple[bool, bool]:
    """Whether the destination's and the source's PAN id are in the frame (tables 7-2 and 7.2.2.6 for older ones)."""
    compressed = control & _FC_PAN_ID_COMPRESSION != 0
    destination, version, source = control >> 10 & 3, control >> 12 & 3, control >> 14 & 3
    if version < 2:
        return destination != 0, source != 0 and not (compressed and destination != 0)
    if destination == 0 and source == 0:
        return compressed, False
    if source == 0:
        return not compressed, False
    if destination == 0:
        return False, not compressed
    if destination == 3 and source == 3:
        return not compressed, False
    return True, not compressed


_PAN_PRESENT = {
    control: _pan_ids_present(control)
    for control in (bits << 6 for bits in range(1 << 10))
    if control & ~_LAYOUT_MASK == 0
}

AddressFields: TypeAlias = tuple[int | None, bytes | None, bytes | None, int | None, int | None]


@dataclass(frozen=True, slots=True)
class AddressLayout:
    """Where the fields are in frames with one frame control; -1 for a field that is not there."""

    frame_type: MacFrameType
    sequence_at: int
    destination_pan_at: int
    destination_at: int
    destination_end: int
    source_pan_at: int
    source_at: int
    addresses_end: int

    def read(self, frame: bytes) -> AddressFields:
        """Sequence number, destination, source, and their PAN ids. `frame` is long enough."""
        at = self.destination_pan_at
        destination_pan = None if at < 0 else frame[at] | frame[at + 1] << 8
        at = self.source_pan_at
        source_pan = None if at < 0 else frame[at] | frame[at + 1] << 8
        return (
            None if self.sequence_at < 0 else frame[self.sequence_at],
            None if self.destination_at < 0 else frame[self.destination_at : self.destination_end][::-1],
            None if self.source_at < 0 else frame[self.source_at : self.addresses_end][::-1],
            destination_pan,
            source_pan,
        )


_LAYOUTS: dict[int, AddressLayout] = {}
"""One entry per frame control seen: at most 65,536."""


def layout_of(control: int) -> AddressLayout:
    """The address layout of a frame control field. Raises RemoteProtocolError for what cannot be read."""
    layout = _LAYOUTS.get(control)
    if layout is None:
        layout = _LAYOUTS[control] = _make_layout(control)
    return layout


def _make_layout(control: int) -> AddressLayout:
    frame_type, version = control & 7, control >> 12 & 3
    destination_mode, source_mode = control >> 10 & 3, control >> 14 & 3
    if frame_type > MacFrameType.COMMAND:
        raise RemoteProtocolError(f"frame type {frame_type} is not supported", offset=0, spec=_SPEC)
    if version > 2:
        raise RemoteProtocolError(f"frame version {version} is reserved", offset=1, spec=_SPEC)
    if destination_mode == 1 or source_mode == 1:
        raise RemoteProtocolError("addressing mode 1 is reserved", offset=1, spec=_SPEC)
    if version < 2 and control & (_FC_SEQUENCE_SUPPRESSION | _FC_IE_PRESENT):
        raise RemoteProtocolError(f"frame version {version} has no elements", offset=1, spec=_SPEC)
    if version == 0 and control & _FC_SECURITY:
        raise RemoteProtocolError("security of frame version 0 is not supported", offset=0, spec=_SPEC)
    has_destination_pan, has_source_pan = _PAN_PRESENT[control & _LAYOUT_MASK]
    offset = 2
    places = []
    for present, size in (
        (not control & _FC_SEQUENCE_SUPPRESSION, 1),
        (has_destination_pan, 2),
        (destination_mode != 0, _SIZE_OF_MODE[destination_mode]),
        (has_source_pan, 2),
        (source_mode != 0, _SIZE_OF_MODE[source_mode]),
    ):
        places.append(offset if present else -1)
        offset += size if present else 0
    sequence, destination_pan, destination, source_pan, source = places
    return AddressLayout(
        MacFrameType(frame_type),
        sequence,
        destination_pan,
        destination,
        destination + _SIZE_OF_MODE[destination_mode],
        source_pan,
        source,
        offset,
    )


def termination_for(payload_ies: bytes, payload: bytes) -> Termination:
    """How a header that has elements must end for this body (7.4.1)."""
    if payload_ies:
        return Termination.HT1
    return Termination.HT2 if payload else Termination.NONE


def encode_body(payload_ies: bytes, payload: bytes) -> bytes:
    """Payload elements with the termination that a payload behind them needs, then the payload."""
    if payload_ies and payload:
        return payload_ies + PAYLOAD_TERMINATION + payload
    return payload_ies or payload


def split_body(header: MacHeader, body: bytes) -> tuple[bytes, bytes]:
    """Payload elements (without termination) and payload of a body in clear. Raises RemoteProtocolError."""
    if header.termination is Termination.HT1:
        return split_payload_ies(body)
    if header.termination is Termination.NONE and header.header_ies and body:
        raise RemoteProtocolError("payload without a header termination", spec=_SPEC)
    return b"", body
