"""What the protection keeps in its own partitions of the flash: states, settings, and a ring of trip records.

Nothing here stands in the way of a trip: where the flash cannot take something, the answer is False.
"""

from __future__ import annotations

from collections.abc import Iterator

from meters.firmware.partitions import PROTECTION, TRIPS, PartitionView, StorageError
from meters.firmware.protection.safety import SafetyMemory
from meters.firmware.protection.settings import ProtectionSettings
from meters.firmware.row_log import RowLog
from meters.firmware.storage import RecordStore
from meters.hardware.flash import Flash, FlashError
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.trip_record import TripRecord, record_bytes

RECORD_SAMPLES = 800
_SETTINGS = "settings"
_UNITS_PER_MA = 10
"""Thresholds are kept in tenths of a milliampere, as the meter's objects show them."""


class FlashTripStore:
    """A `TripStore`. Trip number n is row n - 1 of the ring; the oldest rows are given up for new ones."""

    def __init__(self, flash: Flash) -> None:
        self._records = RecordStore(PartitionView(flash, PROTECTION), area_blocks=1)
        self._trips = RowLog(PartitionView(flash, TRIPS), row_bytes=record_bytes(RECORD_SAMPLES))

    # trips

    @property
    def next_number(self) -> int:
        return self._trips.next + 1

    def append_trip(self, record: TripRecord) -> bool:
        try:
            self._trips.append(record.encode())
        except (StorageError, FlashError):
            return False
        return True

    def trip(self, number: int) -> TripRecord | None:
        """The record of that number; None if it is not kept, or power failed while it was written."""
        raw = self._trips.row(number - 1) if number - 1 >= self._trips.first else None
        try:
            return None if raw is None else TripRecord.decode(raw)
        except RemoteProtocolError:
            return None

    def trips(self) -> Iterator[TripRecord]:
        """All that are kept, oldest first."""
        for sequence, _ in self._trips.rows():
            record = self.trip(sequence + 1)
            if record is not None:
                yield record

    # safety

    def save_safety(self, line: int, memory: SafetyMemory) -> bool:
        return self._put(f"line/{line}", memory.encode())

    def safety(self, line: int) -> SafetyMemory | None:
        """None where nothing, or nothing readable, is kept."""
        raw = self._records.get(f"line/{line}")
        try:
            return None if raw is None else SafetyMemory.decode(raw)
        except RemoteProtocolError:
            return None

    # settings

    def save_settings(self, settings: ProtectionSettings) -> bool:
        values = (settings.dc_threshold_ma, settings.ac_threshold_ma)
        return self._put(_SETTINGS, b"".join(round(value * _UNITS_PER_MA).to_bytes(2, "big") for value in values))

    def settings(self, line_hz: float) -> ProtectionSettings:
        """The kept thresholds; the limits themselves where nothing that may be is kept."""
        raw = self._records.get(_SETTINGS)
        if raw is None or len(raw) != 4:
            return ProtectionSettings(line_hz=line_hz)
        dc_ma, ac_ma = (int.from_bytes(raw[at : at + 2], "big") / _UNITS_PER_MA for at in (0, 2))
        try:
            return ProtectionSettings(dc_ma, ac_ma, line_hz)
        except BadInputError:
            # A disturbed threshold is not believed.
            return ProtectionSettings(line_hz=line_hz)

    def _put(self, key: str, value: bytes) -> bool:
        try:
            self._records.put(key, value)
        except (StorageError, FlashError):
            return False
        return True
