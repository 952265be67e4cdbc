"""What the firmware's objects work with, made anew at every start of the firmware."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from meters.firmware.alarms import Alarms
from meters.firmware.clock import MeterClock
from meters.firmware.device_keys import DeviceKeys
from meters.firmware.events import EventRecorder
from meters.firmware.image_machine import Machine
from meters.firmware.line_watch import LineWatch
from meters.firmware.measurements import Measurements
from meters.firmware.protection.controller import ProtectionController
from meters.firmware.push import Pusher
from meters.firmware.scheduler import RtcScheduler
from meters.firmware.scripts import ScriptRunner
from meters.firmware.security import SecretStore
from meters.firmware.storage import RecordStore
from meters.firmware.supply_control import SupplyControl
from meters.firmware.tables import Tables
from meters.firmware.tamper import TamperWatch
from meters.firmware.trip_announcer import TripAnnouncer
from meters.firmware.watch import ThresholdWatch
from meters.identity import MeterIdentity
from meters.models.schema import MeterModel, ObjectRow
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import CosemObject
from protocols.dlms.server import Association, ServerSecurity
from protocols.ports import KeySource, Timers, Trace

if TYPE_CHECKING:
    from meters.firmware.image_update import ImageUpdate
    from meters.firmware.objects.association import ObjectList
    from meters.firmware.objects.tariff import SpecialDaysObject

T = TypeVar("T")


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
    device: DeviceKeys
    security: ServerSecurity
    firmware_version: str
    start_count: int
    events: EventRecorder
    scripts: ScriptRunner
    supplies: tuple[SupplyControl, ...]
    """One a line; none on a model without a disconnector."""
    protection: ProtectionController | None
    announcer: TripAnnouncer | None
    """Both None on a model without leakage protection."""
    guard: Callable[[Callable[[], None]], None]
    tables: Tables
    codes: Mapping[str, ObisCode]
    """The OBIS codes of the model's rows, shared by all meters of the model."""
    object_lists: Mapping[int, ObjectList]
    image: ImageUpdate
    machine: Machine
    """Where the routines of the program run."""
    alarms: Alarms
    tamper: TamperWatch
    line: LineWatch
    row_values: dict[str, object]
    """What rows of the model mean, shared by all its meters (see `shared`)."""
    associations: list[Association] = field(default_factory=list)

    find: Callable[[bytes], CosemObject | None] = lambda key: None
    """The object with a key (class and OBIS code), once all are built."""
    schedules_billing: bool = False
    """A single action schedule ends the billing periods."""
    watches: list[ThresholdWatch] = field(default_factory=list)
    pushers: list[Pusher] = field(default_factory=list)
    notify: Callable[[bytes], bool] | None = None
    """Sends a notification to the concentrator, protected; None where there is no mesh."""
    special_days: SpecialDaysObject | None = None
    """Set when the object is built, which stands before the calendar in a model."""
    on_start: list[Callable[[], None]] = field(default_factory=list)
    """Called once everything is built, before the first timer."""

    def obis(self, row: ObjectRow) -> ObisCode:
        return self.codes[row.obis]

    def shared(self, row: ObjectRow, make: Callable[[], T]) -> T:
        """What `make` gives for a row, made once for all meters of the model."""
        found = self.row_values.get(row.obis)
        if found is None:
            found = self.row_values[row.obis] = make()
        return cast(T, found)
