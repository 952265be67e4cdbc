"""The rig: all parts of a run put together, with the same verbs whatever runs behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from dcu.config import CollectionPolicy, DcuConfig
from dcu.station import Station, SystemClock
from dcu.storage import FileStorage, Storage
from protocols.mesh.config import LinkKey
from protocols.ports import KeySource
from twin.air.air import Air, AirSettings, Position, write_keys
from twin.air.pipeline import FramePipeline
from twin.air.radio import Radio
from twin.clock.clocks import ClockKind, RunClock, VirtualClock
from twin.clock.seeds import KeyFactory, Seeds, SystemKeys
from twin.errors import RigError
from twin.hes.hes import Hes
from twin.rigs.authority import RunAuthority
from twin.rigs.brokers import BrokerRig, MemoryBrokerRig, open_broker
from twin.rigs.dcu import DcuClock, RigDcu
from twin.rigs.dlms_identity import certified
from twin.rigs.equipment import Equipment, open_equipment
from twin.rigs.firmware_vendor import FirmwareVendor
from twin.rigs.flash_store import OptStorage
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.installing import Installers
from twin.rigs.mesh_identity import MeshIdentities, spare_group_keys
from twin.rigs.mesh_view import MeshView
from twin.rigs.meters import NETWORK_NAME, RigMeter, build_meters
from twin.rigs.options import DEFAULT_DATABASE, AirKind, DcuKind, RunOptions
from twin.rigs.provisioning import Provision, provision
from twin.rigs.radio import radio_numbers, radio_settings, timers_profile
from twin.rigs.uplink_view import UplinkView
from twin.rigs.watch import Watch
from twin.scenarios.loading import LoadedScenario
from twin.scenarios.schema import Scenario

if TYPE_CHECKING:
    from twin.air.scapy_layers.pipeline import ScapyPipeline
    from twin.conformance.report import Figure
    from twin.grid.rig_grid import RigGrid
    from twin.rigs.lockstep.dcu import LockstepDcu
    from twin.rigs.lockstep.node import Tally
    from twin.rigs.qemu.dcu import QemuDcu

log = logging.getLogger(__name__)

DCU_NODE = "DCU"
CAPTURE = "air.pcap"
KEYS = "keys.json"


class Rig:
    """What a step, a conformance case and a test get. Built by `open_rig`."""

    def __init__(
        self,
        loaded: LoadedScenario,
        options: RunOptions,
        clock: RunClock,
        trace: EventTrace,
        parts: Provision,
        *,
        air: Air,
        meters: dict[str, RigMeter],
        broker: BrokerRig,
        dcu: RigDcu | QemuDcu | LockstepDcu,
        hes: Hes,
        equipment: Equipment,
        scapy: ScapyPipeline | None,
        folder: RunFolder,
        grid: RigGrid | None = None,
        spare_group_keys: Sequence[LinkKey] = (),
        firmware_vendor: FirmwareVendor | None = None,
    ) -> None:
        self.loaded = loaded
        self.firmware_vendor = firmware_vendor
        self.options = options
        self.clock = clock
        self.trace = trace
        self.parts = parts
        self.air = air
        self.meters = meters
        self.broker = broker
        self.equipment = equipment
        self.backhaul = equipment.satellite
        """The link to the head-end, which is the satellite's; None where there is no emulated one."""
        self.dcu = dcu
        self.hes = hes
        self._grid = grid
        self.folder = folder
        """Where the run writes; a step names what it leaves there by `Record.attach`."""
        self.uplink_view = _uplink_view(clock, dcu, equipment, trace)
        """What is seen of ways, queue and clock; None where the concentrator has no such devices."""
        self.figures: list[Figure] = []
        """Pictures that steps add to the report."""
        self.spare_group_keys = list(spare_group_keys)
        """Group keys that a rotation may bring into use, in their order."""
        self.scapy = scapy
        """The pipeline of `--air scapy`, for filters and edits; None with `--air bytes`."""
        self._unhandled: list[str] = []
        clock.loop.set_exception_handler(self._note_unhandled)
        names = {meter.eui64: name for name, meter in meters.items()} | {parts.dcu_eui64: DCU_NODE}
        self.mesh = MeshView(names, DCU_NODE, trace)
        # After the view, so that what is waited for has been noted when it is looked at.
        self._watch = Watch(trace)
        air.medium.on_air.append(self.mesh.observe)

    def _note_unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._unhandled.append(f"{type(error).__name__}: {error}" if error else str(context.get("message")))
        log.error("nobody caught this: %s", context.get("message"), exc_info=error)

    @property
    def virtual(self) -> bool:
        return self.clock.kind is ClockKind.VIRTUAL

    @property
    def lockstep(self) -> Tally | None:
        """What crossed between the run and an emulated concentrator in virtual time; None for any other."""
        return getattr(self.dcu, "tally", None)

    @property
    def scenario(self) -> Scenario:
        return self.loaded.scenario

    def value(self, parameter: str) -> float | int | str | bool:
        """A parameter of the scenario, as `--set` left it."""
        return self.loaded.values[parameter]

    def meter(self, name: str) -> RigMeter:
        """Raises RigError for a name that the scenario does not have."""
        try:
            return self.meters[name]
        except KeyError:
            raise RigError(f"no meter {name!r} in this scenario; there are: {', '.join(self.meters)}") from None

    @property
    def has_grid(self) -> bool:
        return self._grid is not None

    @property
    def grid(self) -> RigGrid:
        """The feeder and its verbs. Raises RigError where the scenario has none."""
        if self._grid is None:
            raise RigError("this scenario has no grid; give it a feeder under the key 'grid'")
        return self._grid

    @property
    def unhandled(self) -> list[str]:
        """Exceptions that no task or callback of the run caught, as texts."""
        return list(self._unhandled)

    @property
    def rebuild_differences(self) -> int:
        """Frames that `--air scapy` could not put together again as the same bytes."""
        return 0 if self.scapy is None else self.scapy.rebuild_differences

    async def until(self, condition: Callable[[], bool], *, timeout_s: float) -> bool:
        """Wait until the condition holds; False if it does not within `timeout_s` of the run's time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch.until(condition)
        except TimeoutError:
            return condition()
        return True


@asynccontextmanager
async def open_rig(
    loaded: LoadedScenario, options: RunOptions, clock: RunClock, folder: RunFolder, trace: EventTrace
) -> AsyncIterator[Rig]:
    """Build and start every part; stop them all again, in the reverse order, whatever happens."""
    scenario, seeds = loaded.scenario, Seeds(options.seed)
    keys = _key_factory(clock, seeds)
    repeatable = clock.kind is ClockKind.VIRTUAL
    authority = RunAuthority.for_run(keys("authority"), start_utc_s=clock.utc_s(), repeatable=repeatable)
    vendor = FirmwareVendor.for_run(keys("firmware-vendor"), authority.make_signer)
    parts = certified(vendor.provision(provision(scenario, keys("provisioning"))), authority, keys)
    identities = _mesh_identities(scenario, parts, authority, clock, keys)
    async with AsyncExitStack() as stack:
        spares = spare_group_keys(parts, keys)
        group_keys = {item.index: item.key for item in (parts.link_key, *spares)}
        scapy = _scapy_pipeline(options.air, group_keys)
        air = _build_air(scenario, clock, seeds, scapy, trace)
        stack.callback(air.close)
        write_keys(folder.file(KEYS), parts.link_key.key, group_keys)
        dcu_radio = air.add_radio(DCU_NODE, parts.dcu_eui64, Position(*scenario.dcu.position))
        if scenario.capture:
            air.capture_to(folder.file(CAPTURE), start_utc_s=clock.utc_s() - clock.loop.time(), observer=DCU_NODE)
        meters = build_meters(scenario, parts, radio_settings(scenario), air, clock, seeds, keys, trace, identities)
        broker = await stack.enter_async_context(
            open_broker(options.broker, scenario.dcu.id, parts, clock, seeds, folder, trace)
        )
        hes = Hes(
            clock,
            uplink=broker.headend_uplink(),
            rng=seeds.stream("hes"),
            trace=trace,
            vault_key=keys("hes").random_bytes(32),
            store_url=_store_url(options, folder),
            firmware_keys=vendor.trusted(),
        )
        stack.push_async_callback(hes.stop)
        _announce(hes, parts)
        hes.start()
        access = broker.dcu_access
        equipment = await stack.enter_async_context(
            open_equipment(
                scenario.dcu, scenario.outages, clock, seeds, broker.backhaul,
                None if access is None else (access.host, access.port), trace,
                reaches_host=options.dcu is DcuKind.QEMU and not isinstance(clock, VirtualClock),
            )
        )  # fmt: skip
        dcu: RigDcu | QemuDcu | LockstepDcu
        if options.dcu is DcuKind.QEMU and isinstance(clock, VirtualClock):
            machine_keys = keys("dcu/machine")
            dcu = _lockstep_dcu(
                scenario, parts, identities, broker, equipment, clock, folder, dcu_radio, air, machine_keys, trace
            )
        elif options.dcu is DcuKind.QEMU:
            dcu = await _emulated_dcu(scenario, parts, identities, broker, equipment, clock, folder, dcu_radio, air)
        else:
            storage, dcu_keys, dcu_rng = _dcu_storage(clock, folder), keys("dcu"), seeds.stream("dcu")
            dcu_clock = DcuClock(clock)
            dcu = RigDcu(
                lambda: Station(
                    _dcu_config(scenario, parts, identities),
                    equipment.devices,
                    loop=clock.loop,
                    radio=dcu_radio.host,
                    uplink=broker.dcu_ways(equipment) if equipment.links else broker.dcu_uplink(),
                    storage=storage,
                    key_source=dcu_keys,
                    rng=dcu_rng,
                    clock=SystemClock(dcu_clock.utc_s, equipment.oscillator.read_s, lambda: dcu_clock.quality),
                    trace=trace.of(DCU_NODE),
                    make_signer=authority.make_signer,
                ),
                dcu_radio,
                air,
                dcu_clock,
                storage if isinstance(storage, OptStorage) else None,
            )
        rig = Rig(
            loaded, options, clock, trace, parts, air=air, meters=meters, broker=broker, dcu=dcu, hes=hes,
            equipment=equipment, scapy=scapy,
            folder=folder, grid=_grid(scenario, meters, dcu, seeds, clock, trace, stack), spare_group_keys=spares,
            firmware_vendor=vendor,
        )  # fmt: skip
        stack.push_async_callback(dcu.stop)
        dcu.start()
        await dcu.ready()
        await clock.reach_start()
        for meter in meters.values():  # right at the start, however long before it the machine had to be switched on
            meter.rtc.set(clock.utc_s())
        if rig.uplink_view is not None:
            stack.push_async_callback(rig.uplink_view.stop)
            rig.uplink_view.start()
        Installers(meters.values(), clock.loop, trace)
        for meter in meters.values():
            stack.callback(meter.die)
        yield rig


def _grid(
    scenario: Scenario,
    meters: dict[str, RigMeter],
    dcu: RigDcu | QemuDcu | LockstepDcu,
    seeds: Seeds,
    clock: RunClock,
    trace: EventTrace,
    stack: AsyncExitStack,
) -> RigGrid | None:
    if scenario.grid is None:
        return None
    # Only a scenario with a feeder needs the numbers that come with it.
    try:
        from twin.grid.rig_grid import build_grid
    except ModuleNotFoundError as error:
        raise RigError(f"a scenario with a grid needs {error.name}: pip install 'openami-twin[grid]'") from error
    grid = build_grid(scenario, meters, dcu, seeds, clock, trace)
    stack.callback(grid.stop)
    return grid


def _uplink_view(
    clock: RunClock, dcu: RigDcu | QemuDcu | LockstepDcu, equipment: Equipment, trace: EventTrace
) -> UplinkView | None:
    if not (equipment.links or equipment.devices.have_time):
        return None
    return UplinkView(clock, dcu, equipment, trace)


def _store_url(options: RunOptions, folder: RunFolder) -> str:
    if options.database != DEFAULT_DATABASE:
        return options.database
    return f"sqlite:///{folder.file('mdms.sqlite')}"


def _announce(hes: Hes, parts: Provision) -> None:
    """The manufacturer's shipment file, as far as the scenario lets the head-end have it."""
    for meter in parts.meters:
        keys, certificates = meter.headend_keys, meter.shipped_certificates
        if keys is not None:
            hes.add_shipment(
                meter.identity.serial,
                eui64=meter.identity.eui64,
                system_title=keys.system_title,
                encryption_key=keys.encryption_key,
                authentication_key=keys.authentication_key,
                security_suite=keys.suite,
                master_key=keys.master_key or None,
                signing_certificate_pem=None if certificates is None else certificates.signing.pem(),
                agreement_certificate_pem=None if certificates is None else certificates.agreement.pem(),
            )


def _key_factory(clock: RunClock, seeds: Seeds) -> KeyFactory:
    """Virtual runs repeat their keys from the seed; real ones take the system's randomness."""
    if clock.kind is ClockKind.VIRTUAL:
        return seeds.keys
    system: KeySource = SystemKeys()
    return lambda _: system


def _mesh_identities(
    scenario: Scenario, parts: Provision, authority: RunAuthority, clock: RunClock, keys: KeyFactory
) -> MeshIdentities | None:
    """None where the installer gives every meter the group key."""
    if scenario.radio.security == "provisioned":
        return None
    repeatable = clock.kind is ClockKind.VIRTUAL
    authority = RunAuthority.for_run(keys("mesh-authority"), start_utc_s=clock.utc_s(), repeatable=repeatable)
    return MeshIdentities(parts, authority, keys, clock)


def _dcu_storage(clock: RunClock, folder: RunFolder) -> Storage:
    return OptStorage() if clock.kind is ClockKind.VIRTUAL else FileStorage(folder.file("dcu"))


async def _emulated_dcu(
    scenario: Scenario,
    parts: Provision,
    identities: MeshIdentities | None,
    broker: BrokerRig,
    equipment: Equipment,
    clock: RunClock,
    folder: RunFolder,
    radio: Radio,
    air: Air,
) -> QemuDcu:
    from twin.rigs.qemu.dcu import QemuDcu, guest_provisioning, prepare

    emulated = await asyncio.to_thread(prepare, lambda what: log.info("concentrator: %s", what))
    mesh_identity = None if identities is None else identities.dcu_identity(parts.dcu_eui64)
    provisioning = guest_provisioning(_dcu_config(scenario, parts), broker.dcu_access, mesh_identity, equipment)
    return QemuDcu(emulated, folder.path.absolute(), clock, radio, air, provisioning, equipment)


def _lockstep_dcu(
    scenario: Scenario,
    parts: Provision,
    identities: MeshIdentities | None,
    broker: BrokerRig,
    equipment: Equipment,
    clock: VirtualClock,
    folder: RunFolder,
    radio: Radio,
    air: Air,
    keys: KeySource,
    trace: EventTrace,
) -> LockstepDcu:
    from twin.rigs.lockstep.dcu import LockstepDcu, lockstep_provisioning, prepare
    from twin.rigs.lockstep.protocol import Channel

    assert isinstance(broker, MemoryBrokerRig)
    lines = {Channel.GPS: equipment.devices.gps, Channel.MODEM: equipment.devices.modem}
    return LockstepDcu(
        prepare(lambda what: log.info("concentrator: %s", what)),
        folder.path.absolute(),
        clock,
        radio,
        air,
        lockstep_provisioning(
            _dcu_config(scenario, parts),
            scenario.dcu.id,
            parts.dcu_password,
            None if identities is None else identities.dcu_identity(parts.dcu_eui64),
            has_gps=scenario.dcu.gps,
            has_ptp=scenario.dcu.ptp,
            has_modem=scenario.dcu.modem,
        ),
        connectors={Channel[name.upper()]: way for name, way in broker.dcu_connectors(equipment).items()},
        devices={channel: line for channel, line in lines.items() if line is not None},
        keys=keys,
        trace=trace.of(DCU_NODE),
        ptp=equipment.ptp_line,
        crystal=None if equipment.oscillator.is_perfect else equipment.oscillator,
    )


def _dcu_config(scenario: Scenario, parts: Provision, identities: MeshIdentities | None = None) -> DcuConfig:
    return DcuConfig(
        dcu_id=scenario.dcu.id,
        eui64=parts.dcu_eui64,
        system_title=parts.dcu_system_title,
        link_key=parts.link_key.key,
        key_index=parts.link_key.index,
        network_name=NETWORK_NAME,
        radio=radio_settings(scenario),
        mesh_credentials=None if identities is None else identities.dcu,
        timers_profile=timers_profile(scenario),
        identity=parts.dcu_identity,
        firmware_keys_pem=parts.firmware_keys_pem,
        collection=CollectionPolicy(local_offset_s=_local_offset_s(parts)),
    )


def _local_offset_s(parts: Provision) -> int:
    """Local time minus UTC where the meters are: the day ends at their midnight."""
    return -60 * parts.meters[0].model.time_zone_deviation_min if parts.meters else 0


def _build_air(
    scenario: Scenario, clock: RunClock, seeds: Seeds, pipeline: FramePipeline | None, trace: EventTrace
) -> Air:
    plan, mode = radio_numbers(scenario)
    air = Air(
        clock.timers,
        seeds,
        settings=AirSettings(
            plan=plan,
            fsk_mode=mode,
            max_psdu_bytes=scenario.radio.max_psdu_bytes,
            shadowing_sigma_db=scenario.radio.shadowing_db,
            duty_cycle_limit=scenario.radio.duty_cycle_limit,
        ),
        pipeline=pipeline,
        trace=trace,
    )
    for wood in scenario.vegetation:
        air.add_vegetation(wood.polygon, wood.loss_db)
    for ridge in scenario.terrain:
        air.add_terrain(ridge.line, ridge.loss_db)
    return air


def _scapy_pipeline(kind: AirKind, group_keys: dict[int, bytes]) -> ScapyPipeline | None:
    if kind is AirKind.BYTES:
        return None
    try:
        from twin.air.scapy_layers.pipeline import ScapyPipeline
    except ModuleNotFoundError as error:
        raise RigError("--air scapy needs Scapy: pip install 'openami-twin[scapy]'") from error
    return ScapyPipeline(group_keys)
