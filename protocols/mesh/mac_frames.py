"""The frames that a MAC of this project sends: how Wi-SUN FAN fills the 802.15.4 header for each frame type."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.mesh.checksum import append_fcs, fcs_size
from protocols.mesh.ieee802154 import (
    AuxiliarySecurity,
    MacFrameType,
    MacHeader,
    encode_body,
    mic_size,
    termination_for,
)
from protocols.mesh.link_security import ENC_MIC_64, LinkCipher
from protocols.mesh.mac_schedule import Timing
from protocols.mesh.wisun import FrameType, HeaderElements

_UNICAST_TYPES = (FrameType.DATA, FrameType.EAPOL)
_BROADCAST_TIMING_TYPES = (FrameType.DATA, FrameType.EAPOL, FrameType.PC)
"""Frames of those who are in the PAN carry its broadcast timing; those that seek or offer one do not."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """What secures one frame: the cipher, its key index, and the frame counter."""

    cipher: LinkCipher
    key_index: int
    frame_counter: int


def is_consistent(frame_type: FrameType, destination: bytes | None) -> bool:
    """Whether Wi-SUN sends such frames: DATA both ways, EAPOL to one node, discovery to all, ACK never by request."""
    if frame_type is FrameType.ACK:
        return False
    return frame_type is FrameType.DATA or (destination is not None) == (frame_type in _UNICAST_TYPES)


def build_frame(
    frame_type: FrameType,
    source: bytes,
    destination: bytes | None,
    sequence: int,
    pan_id: int,
    timing: Timing,
    payload_ies: bytes,
    payload: bytes,
    sealing: Sealing | None,
    fcs_bytes: int,
) -> bytes:
    """The PSDU of a data frame. Unicast frames ask for an acknowledgement.

    PAN ids: unicast DATA and PAS name none, EAPOL the destination's, the others the source's.
    """
    slot = timing.broadcast_slot if frame_type in _BROADCAST_TIMING_TYPES else None
    elements = HeaderElements(frame_type, timing.ufsi, slot, 0 if slot is None else timing.broadcast_offset_ms)
    unicast = destination is not None
    names_no_pan = frame_type is FrameType.PAS or (unicast and frame_type is FrameType.DATA)
    header = MacHeader(
        MacFrameType.DATA,
        sequence if unicast else None,
        destination,
        source,
        pan_id if unicast and not names_no_pan else None,
        None if unicast or names_no_pan else pan_id,
        names_no_pan,
        unicast,
        False,
        _security(sealing),
        elements.encode(),
        termination_for(payload_ies, payload),
    )
    return _seal(header, encode_body(payload_ies, payload), source, sealing, fcs_bytes)


def build_ack(
    source: bytes, acknowledged: MacHeader, timing: Timing, rsl_dbm: int, sealing: Sealing | None, fcs_bytes: int
) -> bytes:
    """The enhanced acknowledgement of a frame, with UTT and RSL elements, secured as the frame was."""
    header = MacHeader(
        MacFrameType.ACK,
        acknowledged.sequence,
        acknowledged.source,
        source,
        acknowledged.destination_pan,
        None,
        acknowledged.destination_pan is None,
        False,
        False,
        _security(sealing),
        HeaderElements(FrameType.ACK, timing.ufsi, rsl_dbm=rsl_dbm).encode(),
    )
    return _seal(header, b"", source, sealing, fcs_bytes)


def _security(sealing: Sealing | None) -> AuxiliarySecurity | None:
    if sealing is None:
        return None
    return AuxiliarySecurity(sealing.cipher.level, sealing.frame_counter, 1, sealing.key_index)


def _seal(header: MacHeader, body: bytes, source: bytes, sealing: Sealing | None, fcs_bytes: int) -> bytes:
    head = header.encode()
    if sealing is not None:
        body = sealing.cipher.seal(head, body, source, sealing.frame_counter)
    return append_fcs(head + body, fcs_bytes)


def frame_size(
    frame_type: FrameType, unicast: bool, secured: bool, body: bytes, has_broadcast_timing: bool, max_psdu_bytes: int
) -> int:
    """Bytes of the PSDU that `build_frame` makes of this body, FCS included, if there is a broadcast slot to tell."""
    if unicast:
        size = 2 + 1 + 8 + 8 + (0 if frame_type is FrameType.DATA else 2)
    else:
        size = 2 + 8 + (0 if frame_type is FrameType.PAS else 2)
    if has_broadcast_timing and frame_type in _BROADCAST_TIMING_TYPES:
        size += _BT_BYTES
    size += _UTT_BYTES + (_TERMINATION_BYTES if body else 0)
    if secured:
        size += _AUXILIARY_BYTES + mic_size(ENC_MIC_64)
    return size + len(body) + fcs_size(max_psdu_bytes)


def ack_size(secured: bool, names_pan: bool, max_psdu_bytes: int) -> int:
    """Bytes of the PSDU that `build_ack` makes, FCS included."""
    size = 2 + 1 + 8 + 8 + (2 if names_pan else 0) + _UTT_BYTES + _RSL_BYTES + fcs_size(max_psdu_bytes)
    return size + (_AUXILIARY_BYTES + mic_size(ENC_MIC_64) if secured else 0)


_UTT_BYTES = 2 + 5
_BT_BYTES = 2 + 6
_RSL_BYTES = 2 + 2
_TERMINATION_BYTES = 2
_AUXILIARY_BYTES = 6
