"""The firmware of one meter, from power-up to power-down. What it holds in RAM dies with it."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from meters.firmware.alarms import Alarms
from meters.firmware.bootloader import Boot, Bootloader
from meters.firmware.catalogue import BINDINGS
from meters.firmware.clock import MeterClock
from meters.firmware.compiled import INSTANCES, compile_model
from meters.firmware.device_keys import DeviceKeys
from meters.firmware.diary import Diary, SecurityDiary
from meters.firmware.events import EventRecorder
from meters.firmware.image_machine import Machine, ProgramFault, ProgramRunner
from meters.firmware.image_program import apply_image
from meters.firmware.image_trial import ImageTrial
from meters.firmware.image_update import ImageParts, ImageUpdate
from meters.firmware.layout import migrate
from meters.firmware.line_watch import LineWatch
from meters.firmware.measurements import Measurements
from meters.firmware.mesh_node import MeshEndpoint, MeshSettings
from meters.firmware.partitions import COUNTERS, LAYOUT_VERSION, PARAMETERS, PartitionView
from meters.firmware.protection.controller import ProtectionController
from meters.firmware.scheduler import RtcScheduler
from meters.firmware.scripts import ScriptRunner
from meters.firmware.security import SecretStore
from meters.firmware.services import Services
from meters.firmware.storage import RecordStore
from meters.firmware.supply_control import PlainLine, ProtectedLine, SupplyControl, press_button
from meters.firmware.tables import Tables
from meters.firmware.tamper import TamperWatch
from meters.firmware.trip_announcer import TripAnnouncer
from meters.hardware.disconnector import Disconnector
from meters.hardware.enclosure import Enclosure
from meters.hardware.flash import Flash
from meters.hardware.metrology import Metrology
from meters.hardware.rtc import Rtc
from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.models.schema import MeterModel
from protocols.dlms.enums import Mechanism
from protocols.dlms.notification import DataNotification
from protocols.dlms.security.keys import Suite
from protocols.dlms.server import Association, CosemServer, ServerSecurity
from protocols.errors import TwinError
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import TrustedKeys
from protocols.firmware.program import Program
from protocols.meter_identity import MANAGEMENT_SAP, SERVER_SAP
from protocols.ports import ByteLink, KeySource, Timers, Trace

CHECKPOINT_S = 900
"""Energy counted since the last checkpoint is lost when power goes without a warning."""

_START_COUNT = "start_count"
Guard = Callable[[Callable[[], None]], None]


class ResetCause(enum.Enum):
    """Why the processor starts: what its reset register says."""

    POWER = "power"
    RESTART = "restart"
    """The firmware asked for it, with mains present."""
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class Board:
    """What the firmware finds when it starts: its chips, and what the factory has put in."""

    model: MeterModel
    identity: MeterIdentity
    keys: MeterKeys
    rtc: Rtc
    flash: Flash
    metrology: Metrology
    timers: Timers
    rng: random.Random
    key_source: KeySource
    trace: Trace
    enclosure: Enclosure
    disconnector: Disconnector | None
    restart: Callable[[], None]
    """Resets the processor shortly after: what runs now may finish and answer."""
    protection: ProtectionController | None
    guard: Guard
    """Runs every piece of work that begins with a timer or a datagram; a power failure inside it ends there."""
    radio: ByteLink | None = None
    mesh: MeshSettings | None = None


class Firmware:
    """Starts when made: the bootloader says with which program. `stop` is the end.

    Raises PowerLostError if power fails while it starts, ProgramFault if the program crashes.
    """

    def __init__(self, board: Board, cause: ResetCause = ResetCause.POWER) -> None:
        self._timers = board.timers
        keys = TrustedKeys.from_pem(board.keys.firmware_keys_pem)
        bootloader = Bootloader(board.flash, keys, board.trace)
        boot = bootloader.boot()
        model, program = _program_of(board.model, boot)
        self.services = _start_services(board, model, boot, bootloader, keys)
        self._program = ProgramRunner(self.services.machine, program.routines, board.timers, board.guard)
        self._trial = ImageTrial(
            self.services.image,
            board.timers,
            board.guard,
            lambda: self.mesh is None or self.mesh.is_joined,
            board.restart,
        )
        self.refused_saps = 0
        self.mesh: MeshEndpoint | None = None
        self._disconnector = board.disconnector
        self._button: Callable[[], None] | None = None
        try:
            self._start(board, cause)
        except TwinError:
            self.stop()  # timers must not outlive a start that failed
            raise

    def _start(self, board: Board, cause: ResetCause) -> None:
        services = self.services
        self.server = _start_server(services)
        self._diary = Diary(services)
        if board.radio is not None and board.mesh is not None:
            self.mesh = MeshEndpoint(
                board.identity,
                board.mesh,
                services.counters,
                self.handle,
                board.guard,
                timers=board.timers,
                link=board.radio,
                rng=board.rng,
                start_count=services.start_count,
                trace=board.trace,
            )
            services.notify = self._notify
        self._diary.started(by_power=cause is ResetCause.POWER)
        services.image.started()
        self._program.start()
        self._listen_to_button()
        self._schedule()
        self._listen_to_protection()
        if self.mesh is not None:
            self.mesh.start()
        self._trial.start()
        board.trace(
            "meter.started",
            start_count=services.start_count,
            firmware=services.firmware_version,
            cause=cause.value,
        )

    def _listen_to_button(self) -> None:
        supplies, guard = self.services.supplies, self.services.guard
        if self._disconnector is not None:
            self._button = lambda: guard(lambda: press_button(supplies))
            self._disconnector.on_button.append(self._button)

    def _listen_to_protection(self) -> None:
        services = self.services
        if services.protection is not None and services.announcer is not None:
            services.protection.on_line_event = lambda event: services.guard(
                lambda: services.supplies[event.line].line_event(event)
            )
            services.announcer.start()

    def _schedule(self) -> None:
        services, scheduler = self.services, self.services.scheduler
        scheduler.every(services.model.demand_period_s, services.measurements.close_demand_period)
        services.tables.schedule(scheduler, calendar_months=not services.schedules_billing)
        for start in services.on_start:
            start()
        services.tamper.start()
        services.line.start()
        scheduler.every(CHECKPOINT_S, lambda _: self.checkpoint())
        services.clock.on_change.append(lambda before_s, after_s: scheduler.clock_changed())

    def handle(
        self, client_sap: int, server_sap: int, apdu: bytes, channel: Hashable, age_s: float = 0.0
    ) -> bytes | None:
        """The COSEM server's answer. `age_s`: how long the APDU was on its way, as far as is known."""
        if server_sap != SERVER_SAP:
            self.refused_saps += 1
            return None
        return self.server.handle(client_sap, apdu, self._timers.time(), channel=channel, age_s=age_s)

    def _notify(self, notification: bytes) -> bool:
        """Push to the concentrator as to the management client. False while there is no way to it."""
        if self.mesh is None or not self.mesh.is_joined:
            return False
        apdu = self.server.notify(MANAGEMENT_SAP, notification)
        self.mesh.push(SERVER_SAP, MANAGEMENT_SAP, apdu, lambda: self._push_lost(notification))
        return True

    def _push_lost(self, notification: bytes) -> None:
        self.services.alarms.lost(DataNotification.decode(notification).body)

    def close_channel(self, channel: Hashable) -> None:
        self.server.close(channel)

    def power_failing(self) -> None:
        """Mains is gone, the capacitor holds: save what would be lost, and tell it."""
        self._diary.power_failing()
        self._save()
        self.services.alarms.last_gasp()

    def power_restored(self) -> None:
        """Mains is back before the capacitor was empty."""
        self._diary.power_restored()

    def checkpoint(self) -> None:
        self._diary.checkpoint()
        self.services.line.look()
        self.services.alarms.remind()
        self._save()

    def _save(self) -> None:
        self.services.measurements.checkpoint()
        if self.mesh is not None:
            self.mesh.checkpoint()

    def stop(self) -> None:
        """The processor stands still: timers are gone, nothing is written any more."""
        self.services.scheduler.stop()
        self._program.stop()
        self._trial.stop()
        if self._disconnector is not None and self._button is not None:
            self._disconnector.on_button.remove(self._button)
        self.services.tamper.stop()
        self.services.line.stop()
        if self.services.protection is not None and self.services.announcer is not None:
            self.services.protection.on_line_event = None
            self.services.announcer.stop()
        for watch in self.services.watches:
            watch.stop()
        for pusher in self.services.pushers:
            pusher.stop()
        if self.mesh is not None:
            self.mesh.stop()


def _program_of(model: MeterModel, boot: Boot) -> tuple[MeterModel, Program]:
    if boot.image is None:
        return model, Program()
    try:
        return apply_image(model, boot.image)
    except FirmwareError as error:
        raise ProgramFault(str(error)) from None


def _start_services(
    board: Board, model: MeterModel, boot: Boot, bootloader: Bootloader, firmware_keys: TrustedKeys
) -> Services:
    compiled = compile_model(model)
    parameters = RecordStore(PartitionView(board.flash, PARAMETERS), area_blocks=4)
    counters = RecordStore(PartitionView(board.flash, COUNTERS))
    layout = migrate(counters)
    if layout != LAYOUT_VERSION:
        board.trace("meter.migrated", layout=layout, now=LAYOUT_VERSION)
    start_count = (counters.load(_START_COUNT) or 0) + 1
    counters.save(_START_COUNT, start_count)
    clock = MeterClock(board.rtc, parameters, zone_min=model.time_zone_deviation_min)
    secrets = SecretStore(board.keys, parameters)
    device = DeviceKeys(board.keys, parameters, clock.utc_s, board.key_source)
    companion = None if compiled.tables is None else compiled.tables.companion
    events = EventRecorder({} if companion is None else companion.events, clock, board.trace)
    measurements = Measurements(board.metrology, counters, clock, demand_period_s=model.demand_period_s)
    started_s = board.timers.time()
    image = ImageParts(
        flash=board.flash,
        bootloader=bootloader,
        keys=firmware_keys,
        model=board.model,
        check=lambda image: apply_image(board.model, image),
        parameters=parameters,
        events=events,
        trace=board.trace,
        restart=board.restart,
    )
    alarms = Alarms(parameters, board.timers)
    events.listeners.append(alarms.note)
    services = Services(
        model=model,
        identity=board.identity,
        timers=board.timers,
        rng=board.rng,
        key_source=board.key_source,
        trace=board.trace,
        parameters=parameters,
        counters=counters,
        clock=clock,
        measurements=measurements,
        scheduler=RtcScheduler(board.timers, board.rtc, board.guard),
        secrets=secrets,
        device=device,
        security=ServerSecurity(
            board.keys.system_title,
            secrets.symmetric(),
            counters,
            suite=Suite(board.keys.suite),
            policy=secrets.policy(),
            client_system_title=board.keys.client_system_title or None,
            on_keys=secrets.keep,
            asymmetric=device.asymmetric,
        ),
        firmware_version=model.firmware_version,
        start_count=start_count,
        events=events,
        scripts=ScriptRunner(board.trace),
        supplies=_supplies(board, parameters, events),
        protection=board.protection,
        announcer=None
        if board.protection is None
        else TripAnnouncer(board.protection, parameters, board.timers, board.guard),
        guard=board.guard,
        tables=Tables(compiled.tables, board.flash, clock, events),
        codes=compiled.codes,
        object_lists=compiled.object_lists,
        image=ImageUpdate(image, boot),
        machine=Machine(measurements, lambda: board.timers.time() - started_s),
        alarms=alarms,
        tamper=TamperWatch(board.enclosure, events, counters, board.guard),
        line=LineWatch(board.metrology, events, board.timers, board.guard, nominal_v=model.nominal_voltage_v),
        row_values=compiled.row_values,
    )
    for name, config in compiled.configs(board.keys.suite).items():
        provisioned = board.keys.reader_secret if config.mechanism is Mechanism.LOW else b""
        secret = secrets.association_secret(INSTANCES[name], provisioned)
        usable = secret or config.mechanism is not Mechanism.LOW
        if usable and (board.keys.broadcast_key or not config.pre_established):
            services.associations.append(Association(config, secret))
    return services


def _supplies(board: Board, parameters: RecordStore, events: EventRecorder) -> tuple[SupplyControl, ...]:
    """Where there is leakage protection, it has every line's relay."""
    disconnector, protection = board.disconnector, board.protection
    if disconnector is None:
        return ()
    return tuple(
        SupplyControl(
            PlainLine(disconnector, number, board.timers.time)
            if protection is None
            else ProtectedLine(protection, number),
            parameters,
            events,
            number=number,
        )
        for number in range(1, len(disconnector.relays) + 1)
    )


def _start_server(services: Services) -> CosemServer:
    rows = compile_model(services.model).rows
    objects = [BINDINGS[row.class_id].make(services, row) for row in rows]
    server = CosemServer(
        objects,
        services.associations,
        security=services.security if services.model.security_suites else None,
        keys=services.key_source,
        trace=services.trace,
        on_security_event=SecurityDiary(services).note,
    )
    services.find = server.accessor.find
    services.tables.bind(services.find)
    services.scripts.bind(services.find)
    return server
