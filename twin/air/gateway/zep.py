"""ZEP version 2: 802.15.4 frames in UDP datagrams, as sniffers and native firmware builds exchange them.

The layout is the one that Wireshark's `zep` dissector reads. All integers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

ZEP_PORT = 17_754
MAX_PSDU_BYTES = 127
HEADER_BYTES = 32
CRC_MODE = 1
"""The frame ends with an FCS; mode 0 has the LQI there instead."""
NTP_EPOCH_BEFORE_UNIX_S = 2_208_988_800

_SPEC = "ZEP v2"
_MAGIC = b"EX"
_VERSION = 2
_DATA = 1
_LAYOUT = struct.Struct(">2sBBBHBBQI10sB")


@dataclass(frozen=True, slots=True)
class ZepData:
    """One frame. `psdu` has its 2-byte FCS; `ntp_time` is in 2**-32 s since 1900; `channel` and `lqi` are bytes."""

    psdu: bytes
    channel: int
    device: int = 0
    lqi: int = 255
    ntp_time: int = 0
    sequence: int = 0
    crc_mode: int = CRC_MODE

    def encode(self) -> bytes:
        """Raises LocalProtocolError for a frame of more than 127 bytes or a field that does not fit."""
        if not 0 < len(self.psdu) <= MAX_PSDU_BYTES:
            raise LocalProtocolError(f"ZEP carries 1 to {MAX_PSDU_BYTES} bytes, not {len(self.psdu)}")
        try:
            head = _LAYOUT.pack(
                _MAGIC, _VERSION, _DATA, self.channel, self.device, self.crc_mode, self.lqi, self.ntp_time,
                self.sequence, bytes(10), len(self.psdu),
            )  # fmt: skip
        except struct.error as error:
            raise LocalProtocolError(f"ZEP header: {error}") from error
        return head + self.psdu

    @classmethod
    def decode(cls, datagram: bytes) -> ZepData:
        """Raises RemoteProtocolError for anything but a data frame of version 2."""
        reader = Reader(datagram, spec=_SPEC)
        magic, version, kind, channel, device, mode, lqi, ntp_time, sequence, _, length = _LAYOUT.unpack(
            reader.take(HEADER_BYTES)
        )
        if magic != _MAGIC or version != _VERSION:
            raise RemoteProtocolError(f"not ZEP version {_VERSION}", offset=0, spec=_SPEC)
        if kind != _DATA:
            raise RemoteProtocolError(f"type {kind} is not data", offset=3, spec=_SPEC)
        size = length & 0x7F
        if not size:
            raise RemoteProtocolError("empty frame", offset=HEADER_BYTES - 1, spec=_SPEC)
        psdu = reader.take(size)
        reader.expect_end()
        return cls(psdu, channel, device, lqi, ntp_time, sequence, mode)


def ntp_time(utc_s: float) -> int:
    """NTP time stamp of a moment in seconds since 1970."""
    return round((utc_s + NTP_EPOCH_BEFORE_UNIX_S) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF
