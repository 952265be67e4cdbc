"""What the firmware's objects work with, made anew at every start of the firmware."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meters.firmware.clock import MeterClock
from meters.firmware.events import EventRecorder
from meters.firmware.measurements import Measurements
from meters.firmware.scheduler import RtcScheduler
from meters.firmware.security import SecretStore
from meters.firmware.storage import RecordStore
from meters.firmware.tables import Tables
from meters.identity import MeterIdentity
from meters.models.schema import MeterModel, ObjectRow
from protocols.dlms.obis import ObisCode
from protocols.dlms.server import Association, ServerSecurity
from protocols.ports import KeySource, Timers, Trace

if TYPE_CHECKING:
    from meters.firmware.objects.association import ObjectList


@dataclass(slots=True)
class Services:
    """One set for each time that the firmware runs."""

    model: MeterModel
    identity: MeterIdentity
    timers: Timers
    rng: random.Random
    key_source: KeySource
    trace: Trace
    parameters: RecordStore
    counters: RecordStore
    clock: MeterClock
    measurements: Measurements
    scheduler: RtcScheduler
    secrets: SecretStore
    security: ServerSecurity
    public_keys: tuple[bytes, bytes]
    firmware_version: str
    start_count: int
    events: EventRecorder
    tables: Tables
    codes: Mapping[str, ObisCode]
    """The OBIS codes of the model's rows, shared by all meters of the model."""
    object_lists: Mapping[int, ObjectList]
    associations: list[Association] = field(default_factory=list)

    def obis(self, row: ObjectRow) -> ObisCode:
        return self.codes[row.obis]
