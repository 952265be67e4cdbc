"""HDLC frames of format type 3: flag, format and length, addresses, control, HCS, information, FCS, flag."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.errors import LocalProtocolError, RemoteProtocolError

FLAG = 0x7E
MAX_FRAME_BYTES = 0x7FF
"""Between the flags."""
_FORMAT_TYPE = 0xA0
_SEGMENTED = 0x08
_SPEC = "IEC 62056-46"

_CRC_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = (_crc >> 1) ^ 0x8408 if _crc & 1 else _crc >> 1
    _CRC_TABLE.append(_crc)


def checksum(data: bytes) -> bytes:
    """HCS and FCS: CRC-16/X-25, the low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ 0xFFFF).to_bytes(2, "little")


class FrameError(RemoteProtocolError):
    """Bytes between flags that are no frame: they are passed over, as if nothing had come."""


@dataclass(frozen=True, slots=True)
class HdlcAddress:
    """`upper` is the logical device (or the client), `lower` the physical device. `size_bytes` is 1, 2 or 4; without
    a lower part, 1."""

    upper: int
    lower: int | None = None
    size_bytes: int = 0

    def __post_init__(self) -> None:
        size = self.size_bytes or (1 if self.lower is None else 2 if max(self.upper, self.lower) < 0x80 else 4)
        object.__setattr__(self, "size_bytes", size)
        limit = 0x4000 if size == 4 else 0x80
        if size not in (1, 2, 4) or not 0 <= self.upper < limit or not 0 <= (self.lower or 0) < limit:
            raise LocalProtocolError(f"an HDLC address of {size} bytes cannot be {self.upper}, {self.lower}")
        if (self.lower is None) is not (size == 1):
            raise LocalProtocolError("an HDLC address has a lower part if it has more than one byte")

    def encode(self) -> bytes:
        if self.size_bytes == 1:
            return bytes((self.upper << 1 | 1,))
        lower = self.lower or 0
        if self.size_bytes == 2:
            return bytes((self.upper << 1, lower << 1 | 1))
        return bytes(
            (self.upper >> 7 << 1, (self.upper & 0x7F) << 1, lower >> 7 << 1, (lower & 0x7F) << 1 | 1),
        )

    @classmethod
    def decode(cls, raw: bytes, offset: int) -> HdlcAddress:
        """The address that begins at `offset`. Raises FrameError."""
        size = 0
        for size in range(1, 5):
            if offset + size > len(raw):
                raise FrameError("an address that does not end", spec=_SPEC)
            if raw[offset + size - 1] & 1:
                break
        parts = [byte >> 1 for byte in raw[offset : offset + size]]
        if size == 1:
            return cls(parts[0], None, 1)
        if size == 2:
            return cls(parts[0], parts[1], 2)
        if size == 4 and raw[offset + 3] & 1:
            return cls(parts[0] << 7 | parts[1], parts[2] << 7 | parts[3], 4)
        raise FrameError("an address of 3 bytes, or of more than 4", spec=_SPEC)


class FrameType(enum.Enum):
    """Kinds of frames by their control byte, poll/final bit and counters taken out."""

    I = 0x00  # noqa: E741 (the standard's name)
    RR = 0x01
    RNR = 0x05
    SNRM = 0x83
    DISC = 0x43
    UA = 0x63
    DM = 0x0F
    FRMR = 0x87
    UI = 0x03


_POLL = 0x10
_UNNUMBERED = {
    item.value: item
    for item in (FrameType.SNRM, FrameType.DISC, FrameType.UA, FrameType.DM, FrameType.FRMR, FrameType.UI)
}
WITH_INFORMATION = frozenset((FrameType.I, FrameType.UI, FrameType.SNRM, FrameType.UA, FrameType.FRMR, FrameType.DM))


class UnknownControl(FrameError):  # noqa: N818 (the answer to it is a FRMR)
    """A frame that is right but for a control byte that has no meaning."""

    def __init__(self, control: int, destination: HdlcAddress, source: HdlcAddress) -> None:
        super().__init__(f"control byte 0x{control:02X}", spec=_SPEC)
        self.control = control
        self.destination = destination
        self.source = source


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `final` is the poll bit of a command and the final bit of a response; `send` and `receive` are N(S)
    and N(R) where the type has them."""

    destination: HdlcAddress
    source: HdlcAddress
    type: FrameType
    final: bool = False
    send: int = 0
    receive: int = 0
    segmented: bool = False
    information: bytes = b""

    @property
    def control(self) -> int:
        control = self.type.value | (_POLL if self.final else 0)
        if self.type in (FrameType.I, FrameType.RR, FrameType.RNR):
            control |= self.receive << 5
        return control | self.send << 1 if self.type is FrameType.I else control

    def encode(self) -> bytes:
        """Flags included. Raises LocalProtocolError if the frame is too long."""
        head = self.destination.encode() + self.source.encode() + bytes((self.control,))
        length = 2 + len(head) + 2 + (len(self.information) + 2 if self.information else 0)
        if length > MAX_FRAME_BYTES:
            raise LocalProtocolError(f"an HDLC frame of {length} bytes")
        segmented = _SEGMENTED if self.segmented else 0
        head = bytes((_FORMAT_TYPE | segmented | length >> 8, length & 0xFF)) + head
        head += checksum(head)
        if self.information:
            head += self.information
            head += checksum(head)
        return bytes((FLAG,)) + head + bytes((FLAG,))

    @classmethod
    def decode(cls, raw: bytes) -> Frame:
        """From the bytes between the flags. Raises FrameError, UnknownControl."""
        if len(raw) < 7 or raw[0] & 0xF0 != _FORMAT_TYPE:
            raise FrameError("not a frame of format type 3", spec=_SPEC)
        if (raw[0] & 0x07) << 8 | raw[1] != len(raw):
            raise FrameError(f"another length than {len(raw)}", spec=_SPEC)
        if checksum(raw[:-2]) != raw[-2:]:
            raise FrameError("the frame check sequence is wrong", spec=_SPEC)
        destination = HdlcAddress.decode(raw, 2)
        source = HdlcAddress.decode(raw, 2 + destination.size_bytes)
        offset = 2 + destination.size_bytes + source.size_bytes
        if offset + 3 > len(raw):
            raise FrameError("no room for the control byte", spec=_SPEC)
        control, information = raw[offset], b""
        if offset + 3 < len(raw):
            header_end = offset + 3
            if header_end + 2 > len(raw) or checksum(raw[: header_end - 2]) != raw[header_end - 2 : header_end]:
                raise FrameError("the header check sequence is wrong", spec=_SPEC)
            information = raw[header_end:-2]
        segmented = bool(raw[0] & _SEGMENTED)
        return cls._of_control(control, destination, source, segmented, information)

    @classmethod
    def _of_control(
        cls, control: int, destination: HdlcAddress, source: HdlcAddress, segmented: bool, information: bytes
    ) -> Frame:
        final, send, receive = bool(control & _POLL), 0, 0
        if not control & 1:
            kind, send, receive = FrameType.I, control >> 1 & 7, control >> 5
        elif control & 0x0F in (FrameType.RR.value, FrameType.RNR.value):
            kind, receive = FrameType(control & 0x0F), control >> 5
        else:
            unnumbered = _UNNUMBERED.get(control & ~_POLL)
            if unnumbered is None:
                raise UnknownControl(control, destination, source)
            kind = unnumbered
        if information and kind not in WITH_INFORMATION:
            raise FrameError(f"information in a frame {kind.name}", spec=_SPEC)
        return cls(destination, source, kind, final, send, receive, segmented, information)


class FrameDecoder:
    """Takes a serial line's bytes as they come, gives frames. What is no frame is counted and passed over."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.discarded = 0
        """Byte sequences between flags that were no frames."""

    def feed(self, data: bytes) -> list[Frame | UnknownControl]:
        self._buffer += data
        frames: list[Frame | UnknownControl] = []
        while True:
            raw = self._next()
            if raw is None:
                return frames
            try:
                frames.append(Frame.decode(raw))
            except UnknownControl as error:
                frames.append(error)
            except FrameError:
                self.discarded += 1

    def reset(self) -> None:
        """The line was silent for too long inside a frame: what came of it is no frame."""
        if self._buffer:
            self.discarded += 1
        self._buffer.clear()

    @property
    def is_inside_frame(self) -> bool:
        return len(self._buffer) > 1

    def _next(self) -> bytes | None:
        """The next candidate between two flags, by the length that it declares."""
        buffer = self._buffer
        while True:
            start = buffer.find(FLAG)
            if start < 0:
                buffer.clear()
                return None
            del buffer[:start]
            while len(buffer) > 1 and buffer[1] == FLAG:
                del buffer[0]
            if len(buffer) < 3:
                return None
            length = (buffer[1] & 0x07) << 8 | buffer[2]
            if buffer[1] & 0xF0 == _FORMAT_TYPE and length >= 7:
                if len(buffer) < length + 2:
                    return None
                if buffer[length + 1] == FLAG:
                    raw = bytes(buffer[1 : length + 1])
                    del buffer[: length + 1]
                    return raw
            self.discarded += 1
            del buffer[0]
