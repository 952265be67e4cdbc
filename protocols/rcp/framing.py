"""HDLC-like framing of RCP messages on a serial line: flags, octet stuffing and FCS-32 of RFC 1662.

Frame: 7e, stuffed (message, FCS-32 low byte first), 7e. One flag may close a frame and open the next. There are no
retransmissions: a damaged frame is dropped and counted, and the next flag starts afresh.
"""

from __future__ import annotations

from zlib import crc32

from protocols.errors import LocalProtocolError

FLAG = 0x7E
ESCAPE = 0x7D
_FLIP = 0x20
_FCS_BYTES = 4
MAX_MESSAGE_BYTES = 4096
_MAX_STUFFED_BYTES = 2 * (MAX_MESSAGE_BYTES + _FCS_BYTES)

_FLAG_BYTE = bytes((FLAG,))
_ESCAPE_BYTE = bytes((ESCAPE,))
_STUFFED_FLAG = bytes((ESCAPE, FLAG ^ _FLIP))
_STUFFED_ESCAPE = bytes((ESCAPE, ESCAPE ^ _FLIP))


def encode_frame(message: bytes) -> bytes:
    """The frame of one message of 1 to 4,096 bytes. Raises LocalProtocolError."""
    if not 0 < len(message) <= MAX_MESSAGE_BYTES:
        raise LocalProtocolError(f"a frame carries 1 to {MAX_MESSAGE_BYTES} bytes, not {len(message)}")
    content = message + crc32(message).to_bytes(_FCS_BYTES, "little")
    stuffed = content.replace(_ESCAPE_BYTE, _STUFFED_ESCAPE).replace(_FLAG_BYTE, _STUFFED_FLAG)
    return b"".join((_FLAG_BYTE, stuffed, _FLAG_BYTE))


class FrameDecoder:
    """Takes bytes cut anyhow, gives whole messages. Never raises on what it is fed; counts what it drops."""

    __slots__ = ("_partial", "_skipping", "bad_frames", "oversized_frames")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False
        self.bad_frames = 0
        """Frames dropped for a wrong FCS, a wrong escape, or too few bytes."""
        self.oversized_frames = 0
        """Runs of bytes without a flag that were longer than any frame."""

    def reset(self) -> None:
        """Forget a frame that was begun: the line or the peer restarted."""
        self._partial.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order."""
        if self._is_one_frame(data):
            message = _decode_content(data[1:-1])
            if message is not None:
                return [message]
            self.bad_frames += 1
            return []
        messages: list[bytes] = []
        first, *others = data.split(_FLAG_BYTE)
        self._append(first)
        for piece in others:
            self._close(messages)
            self._append(piece)
        return messages

    def _is_one_frame(self, data: bytes) -> bool:
        """Whether nothing was begun and `data` is a whole frame, as on a line that does not cut."""
        return (
            not self._partial
            and not self._skipping
            and 2 < len(data) <= _MAX_STUFFED_BYTES
            and data[0] == FLAG
            and data.find(_FLAG_BYTE, 1) == len(data) - 1
        )

    def _append(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._partial += piece
        if len(self._partial) > _MAX_STUFFED_BYTES:
            self._partial.clear()
            self._skipping = True
            self.oversized_frames += 1

    def _close(self, messages: list[bytes]) -> None:
        """A flag came: what was gathered is a frame, or nothing, or junk."""
        if self._skipping:
            self._skipping = False
            return
        if not self._partial:
            return
        message = _decode_content(bytes(self._partial))
        self._partial.clear()
        if message is None:
            self.bad_frames += 1
        else:
            messages.append(message)


def _decode_content(stuffed: bytes) -> bytes | None:
    """The message between two flags, or None if it is damaged."""
    content = stuffed
    if _ESCAPE_BYTE in stuffed:
        first, *others = stuffed.split(_ESCAPE_BYTE)
        parts = [first]
        for piece in others:
            if not piece or piece[0] ^ _FLIP not in (FLAG, ESCAPE):
                return None
            parts.append(bytes((piece[0] ^ _FLIP,)))
            parts.append(piece[1:])
        content = b"".join(parts)
    message, fcs = content[:-_FCS_BYTES], content[-_FCS_BYTES:]
    if not message or len(message) > MAX_MESSAGE_BYTES or crc32(message).to_bytes(_FCS_BYTES, "little") != fcs:
        return None
    return message
