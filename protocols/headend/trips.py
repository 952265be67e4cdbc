"""Leakage trips of meters, with their waveforms, on their way to the head-end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocols.headend.bulk import Base64
from protocols.headend.kinds import ID, SERIAL, UTC
from protocols.headend.shapes import Integer, Text, wrong
from protocols.leakage_protection import MAX_LINES
from protocols.trip_record import COUNT_MA, MOST_SAMPLES, SAMPLE_RATE_HZ, TripRecord, decode_counts, encode_counts

_MICROAMPERES = Integer(-(2**31), 2**31 - 1)
_COUNT = Integer(0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class TripReport:
    """DCU to head-end: a meter's leakage protection has opened a line.

    A trip is known by serial, `number` and `time_utc_ms`, the meter's own; it can come twice. Currents are in
    microamperes, direct ones signed, the others RMS. `samples` is the residual current around the decision, which
    fell at `trip_index`: signed 16-bit counts of `count_ua`, big-endian, `rate_hz` a second.
    """

    TYPE: ClassVar[str] = "trip-report"
    id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    number: Annotated[int, Integer(1, 2**32 - 1)]
    line: Annotated[int, Integer(1, MAX_LINES)]
    cause: Annotated[str, Text(32, "[a-z][a-z0-9-]*", 1)]
    time_utc_ms: Annotated[int, UTC]
    collected_utc_ms: Annotated[int, UTC]
    smooth_dc_ua: Annotated[int, _MICROAMPERES]
    pulsating_dc_ua: Annotated[int, _MICROAMPERES]
    ac_ua: Annotated[int, _MICROAMPERES]
    high_frequency_ua: Annotated[int, _MICROAMPERES]
    total_ua: Annotated[int, _MICROAMPERES]
    line_mhz: Annotated[int, _COUNT]
    rate_hz: Annotated[int, Integer(1, 1_000_000)]
    count_ua: Annotated[int, Integer(1, 1_000_000)]
    trip_index: Annotated[int, Integer(0, MOST_SAMPLES)]
    samples: Annotated[bytes, Base64(2 * MOST_SAMPLES)]

    def check(self) -> None:
        if len(self.samples) % 2 or self.trip_index > len(self.samples) // 2:
            raise wrong("samples", "must be 16-bit counts, and reach to trip_index")

    @classmethod
    def from_record(cls, record: TripRecord, *, report_id: str, serial: str, collected_utc_ms: int) -> TripReport:
        parts = record.components
        return cls(
            id=report_id,
            serial=serial,
            number=record.number,
            line=record.line,
            cause=record.cause.text,
            time_utc_ms=record.time_ms,
            collected_utc_ms=collected_utc_ms,
            smooth_dc_ua=round(1000 * parts.smooth_dc_ma),
            pulsating_dc_ua=round(1000 * parts.pulsating_dc_ma),
            ac_ua=round(1000 * parts.ac_ma),
            high_frequency_ua=round(1000 * parts.high_frequency_ma),
            total_ua=round(1000 * parts.total_ma),
            line_mhz=round(1000 * parts.line_hz),
            rate_hz=SAMPLE_RATE_HZ,
            count_ua=round(1000 * COUNT_MA),
            trip_index=record.trip_index,
            samples=encode_counts(record.samples_ma),
        )

    @property
    def samples_ma(self) -> tuple[float, ...]:
        """The residual current in mA."""
        factor = self.count_ua / 1000 / COUNT_MA
        return tuple(value * factor for value in decode_counts(self.samples))
