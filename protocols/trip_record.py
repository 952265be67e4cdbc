"""What a meter keeps of a trip: when, where, why, the parts of the current, and its waveform before and after.

The meter's own format: as bytes it is in the meter's flash, and is the value of its trip slots (class 1, octet string).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.leakage_protection import Cause

SAMPLE_RATE_HZ = 8000
MOST_SAMPLES = 2000
COUNT_MA = 0.02
"""One count of a stored sample."""
_VERSION = 1
_HEAD = struct.Struct(">BIQBBffffffHH")
_MOST_COUNTS = 32767


@dataclass(frozen=True, slots=True)
class Components:
    """Parts of a residual current. DC and mean values signed, the others RMS, all in mA."""

    smooth_dc_ma: float
    pulsating_dc_ma: float
    ac_ma: float
    high_frequency_ma: float
    total_ma: float
    line_hz: float


@dataclass(frozen=True, slots=True)
class TripRecord:
    """One trip. `number` counts the meter's trips from 1; `time_ms` is UTC in milliseconds since 1970 by the meter's
    clock; lines count from 1.

    `samples_ma` is the residual current at 8 kHz; the decision fell at `trip_index`. It is kept in steps of 0.02 mA,
    at most 655 mA, which is the sensor's own range.
    """

    number: int
    time_ms: int
    line: int
    cause: Cause
    components: Components
    trip_index: int
    samples_ma: tuple[float, ...]

    def encode(self) -> bytes:
        """Version, head, then samples as signed 16-bit counts; big-endian. Raises LocalProtocolError if too long."""
        if len(self.samples_ma) > MOST_SAMPLES:
            raise LocalProtocolError(f"a trip record holds at most {MOST_SAMPLES} samples, not {len(self.samples_ma)}")
        parts = self.components
        head = _HEAD.pack(
            _VERSION, self.number, self.time_ms, self.line, self.cause, parts.smooth_dc_ma, parts.pulsating_dc_ma,
            parts.ac_ma, parts.high_frequency_ma, parts.total_ma, parts.line_hz, self.trip_index, len(self.samples_ma),
        )  # fmt: skip
        return head + encode_counts(self.samples_ma)

    @classmethod
    def decode(cls, data: bytes) -> TripRecord:
        """Raises RemoteProtocolError for another version, missing or left-over bytes, or too many samples."""
        reader = Reader(data, spec="trip record")
        version, number, time_ms, line, cause, *parts, trip_index, count = _HEAD.unpack(reader.take(_HEAD.size))
        if version != _VERSION:
            raise reader.error(f"no version {version} of a trip record")
        if count > MOST_SAMPLES or trip_index > count:
            raise reader.error(f"{count} samples with the trip at {trip_index} cannot be")
        if cause not in {member.value for member in Cause}:
            raise reader.error(f"no cause {cause}")
        samples = decode_counts(reader.take(2 * count))
        reader.expect_end()
        return cls(number, time_ms, line, Cause(cause), Components(*parts), trip_index, samples)


def record_bytes(samples: int) -> int:
    """Size of a record with that many samples."""
    return _HEAD.size + 2 * samples


def encode_counts(samples_ma: tuple[float, ...]) -> bytes:
    """Samples as signed 16-bit counts of 0.02 mA, big-endian; what lies beyond is cut off."""
    counts = [max(-_MOST_COUNTS, min(_MOST_COUNTS, round(value / COUNT_MA))) for value in samples_ma]
    return struct.pack(f">{len(counts)}h", *counts)


def decode_counts(data: bytes) -> tuple[float, ...]:
    """Raises RemoteProtocolError for an odd number of bytes."""
    if len(data) % 2:
        raise RemoteProtocolError(f"{len(data)} bytes are no 16-bit counts", spec="trip record")
    return tuple(value * COUNT_MA for value in struct.unpack(f">{len(data) // 2}h", data))
