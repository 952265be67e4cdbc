"""What the meter keeps of a trip: when, where, why, the parts of the current, and its waveform before and after."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError

SAMPLE_RATE_HZ = 8000
MOST_SAMPLES = 2000
_VERSION = 1
_HEAD = struct.Struct(">BQBBffffffHH")
_COUNT_MA = 0.02
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
    """One trip. `time_ms` is UTC in milliseconds since 1970 by the meter's clock, `cause` that of the detector.

    `samples_ma` is the residual current at 8 kHz; the decision fell at `trip_index`. It is kept in steps of 0.02 mA,
    at most 655 mA, which is the sensor's own range.
    """

    time_ms: int
    line: int
    cause: int
    components: Components
    trip_index: int
    samples_ma: tuple[float, ...]

    def encode(self) -> bytes:
        """Version, head, then samples as signed 16-bit counts; big-endian. Raises LocalProtocolError if too long."""
        if len(self.samples_ma) > MOST_SAMPLES:
            raise LocalProtocolError(f"a trip record holds at most {MOST_SAMPLES} samples, not {len(self.samples_ma)}")
        parts = self.components
        head = _HEAD.pack(
            _VERSION, self.time_ms, self.line, self.cause, parts.smooth_dc_ma, parts.pulsating_dc_ma, parts.ac_ma,
            parts.high_frequency_ma, parts.total_ma, parts.line_hz, self.trip_index, len(self.samples_ma),
        )  # fmt: skip
        counts = [max(-_MOST_COUNTS, min(_MOST_COUNTS, round(value / _COUNT_MA))) for value in self.samples_ma]
        return head + struct.pack(f">{len(counts)}h", *counts)

    @classmethod
    def decode(cls, data: bytes) -> TripRecord:
        """Raises RemoteProtocolError for another version, missing or left-over bytes, or too many samples."""
        reader = Reader(data, spec="trip record")
        version, time_ms, line, cause, *parts, trip_index, count = _HEAD.unpack(reader.take(_HEAD.size))
        if version != _VERSION:
            raise reader.error(f"no version {version} of a trip record")
        if count > MOST_SAMPLES or trip_index > count:
            raise reader.error(f"{count} samples with the trip at {trip_index} cannot be")
        counts = struct.unpack(f">{count}h", reader.take(2 * count))
        reader.expect_end()
        samples = tuple(value * _COUNT_MA for value in counts)
        return cls(time_ms, line, cause, Components(*parts), trip_index, samples)
