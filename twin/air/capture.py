"""Captures of the air: pcap with the IEEE 802.15.4 TAP pseudo header (link type 283), which Wireshark opens.

Time stamps are nanoseconds of the run's clock, so the same run writes the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from protocols.errors import BadInputError, LocalProtocolError

LINK_TYPE_TAP = 283
CHANNEL_PAGE_SUN = 9

_MAGIC_NS = 0xA1B23C4D
_MAGIC_US = 0xA1B2C3D4
_SNAP_BYTES = 0x4_0000
_FILE_HEADER = struct.Struct("<IHHiIII")
_RECORD_HEADER = struct.Struct("<IIII")
_TLV_HEADER = struct.Struct("<HH")
_FCS_TYPE, _RSS, _CHANNEL, _LQI = 0, 1, 3, 10
_FCS_CODE = {0: 0, 2: 1, 4: 2}
_FCS_BYTES = {code: size for size, code in _FCS_CODE.items()}
# TAP header (version 0, 36 bytes in all), then four TLVs, each value padded to 4 bytes.
_TAP = struct.Struct("<BBH HHBxxx HHf HHHBx HHBxxx")


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One frame of a capture. `time_ns` counts from 1970-01-01 UTC; the PSDU has its FCS of `fcs_bytes`."""

    time_ns: int
    psdu: bytes
    rss_dbm: float | None = None
    channel: int | None = None
    channel_page: int | None = None
    lqi: int | None = None
    fcs_bytes: int = 0


class CaptureWriter:
    """Writes frames to a stream that the caller opened and closes.

    `start_utc_s` is the world's time when the run's clock shows 0.
    """

    def __init__(self, stream: BinaryIO, *, start_utc_s: float = 0.0) -> None:
        self._stream = stream
        self._start_ns = round(start_utc_s * 1_000_000) * 1000
        self.frame_count = 0
        stream.write(_FILE_HEADER.pack(_MAGIC_NS, 2, 4, 0, 0, _SNAP_BYTES, LINK_TYPE_TAP))

    def write(
        self,
        time_s: float,
        psdu: bytes,
        *,
        rss_dbm: float,
        channel: int,
        lqi: int,
        fcs_bytes: int = 4,
        channel_page: int = CHANNEL_PAGE_SUN,
    ) -> None:
        """One frame whose first bit was on the air at `time_s` of the run's clock. `fcs_bytes`: 0, 2 or 4."""
        seconds, nanoseconds = divmod(self._start_ns + round(time_s * 1e9), 1_000_000_000)
        size = _TAP.size + len(psdu)
        try:
            tap = _TAP.pack(
                *(0, 0, _TAP.size),
                *(_FCS_TYPE, 1, _FCS_CODE[fcs_bytes]),
                *(_RSS, 4, rss_dbm),
                *(_CHANNEL, 3, channel, channel_page),
                *(_LQI, 1, lqi),
            )
            record = _RECORD_HEADER.pack(seconds, nanoseconds, size, size)
        except (struct.error, KeyError) as error:
            raise LocalProtocolError(f"frame cannot be captured: {error}") from error
        self._stream.write(b"".join((record, tap, psdu)))
        self.frame_count += 1


def read_capture(path: Path) -> Iterator[CapturedFrame]:
    """The frames of a TAP capture, little-endian, of nanoseconds or microseconds. Raises BadInputError."""
    with path.open("rb") as stream:
        header = stream.read(_FILE_HEADER.size)
        if len(header) < _FILE_HEADER.size:
            raise BadInputError("not a pcap file: too short", file=str(path))
        magic, *_, link_type = _FILE_HEADER.unpack(header)
        if magic not in (_MAGIC_NS, _MAGIC_US):
            raise BadInputError(f"not a little-endian pcap file: begins with 0x{magic:08x}", file=str(path))
        if link_type != LINK_TYPE_TAP:
            raise BadInputError(f"link type {link_type}, not {LINK_TYPE_TAP} (IEEE 802.15.4 TAP)", file=str(path))
        fraction_ns = 1 if magic == _MAGIC_NS else 1000
        while record := stream.read(_RECORD_HEADER.size):
            if len(record) < _RECORD_HEADER.size:
                raise BadInputError("capture ends inside a record", file=str(path))
            seconds, fraction, captured, original = _RECORD_HEADER.unpack(record)
            data = stream.read(captured)
            if len(data) < captured or captured < original:
                raise BadInputError("capture has an incomplete frame", file=str(path))
            yield _decode_tap(seconds * 1_000_000_000 + fraction * fraction_ns, data, path)


def _decode_tap(time_ns: int, data: bytes, path: Path) -> CapturedFrame:
    if len(data) < 4 or data[0] != 0:
        raise BadInputError("frame without a TAP header of version 0", file=str(path))
    tap_bytes = int.from_bytes(data[2:4], "little")
    if not 4 <= tap_bytes <= len(data):
        raise BadInputError(f"TAP header of {tap_bytes} bytes in a record of {len(data)}", file=str(path))
    rss_dbm, channel, page, lqi, fcs_bytes = None, None, None, None, 0
    offset = 4
    while offset < tap_bytes:
        if offset + 4 > tap_bytes:
            raise BadInputError("TAP element is cut off", file=str(path))
        kind, size = _TLV_HEADER.unpack_from(data, offset)
        value = data[offset + 4 : offset + 4 + size]
        offset += 4 + size + -size % 4
        if offset > tap_bytes:
            raise BadInputError("TAP element is cut off", file=str(path))
        if kind == _FCS_TYPE and size == 1:
            fcs_bytes = _FCS_BYTES.get(value[0], 0)
        elif kind == _RSS and size == 4:
            rss_dbm = struct.unpack("<f", value)[0]
        elif kind == _CHANNEL and size == 3:
            channel, page = struct.unpack("<HB", value)
        elif kind == _LQI and size == 1:
            lqi = value[0]
    return CapturedFrame(time_ns, data[tap_bytes:], rss_dbm, channel, page, lqi, fcs_bytes)
