"""The meters of a rig, run in process: hardware verbs, and the power switch that meter and radio share."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from grid.household import Household
from meters.hardware.enclosure import Enclosure
from meters.hardware.flash import Flash
from meters.hardware.metrology import NANOJOULES_PER_WH, Metrology
from meters.hardware.power import PowerSupply
from meters.hardware.rtc import Rtc
from meters.meter import MeshSettings, Meter, MeterHardware
from protocols.mesh.config import RadioSettings
from protocols.mesh.timers import profile_named
from twin.air.air import Air, Position
from twin.air.radio import Radio
from twin.clock.clocks import RunClock
from twin.clock.seeds import KeyFactory, Seeds
from twin.rigs.folder import EventTrace
from twin.rigs.mesh_identity import MeshIdentities
from twin.rigs.provisioning import MeterProvision, Provision
from twin.rigs.radio import timers_profile
from twin.scenarios.schema import MeterSettings, Scenario

if TYPE_CHECKING:
    from twin.protection.line_faults import LeakageVerbs

NETWORK_NAME = "openami"


class RigMeter:
    """One meter under test, with everything that a bench can do to it. Names and serials are the scenario's."""

    def __init__(
        self, provision: MeterProvision, meter: Meter, radio: Radio, household: Household, clock: RunClock
    ) -> None:
        self.provision = provision
        self.meter = meter
        self.radio = radio
        self.household = household
        self._clock = clock

    @property
    def settings(self) -> MeterSettings:
        return self.provision.settings

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def serial(self) -> str:
        return self.settings.serial

    @property
    def eui64(self) -> bytes:
        return self.provision.identity.eui64

    @property
    def rtc(self) -> Rtc:
        return self.meter.rtc

    @property
    def flash(self) -> Flash:
        return self.meter.flash

    @property
    def metrology(self) -> Metrology:
        return self.meter.metrology

    @property
    def enclosure(self) -> Enclosure:
        return self.meter.enclosure

    @property
    def power(self) -> PowerSupply:
        return self.meter.power

    @functools.cached_property
    def leakage(self) -> LeakageVerbs:
        """Faults on its lines, and on its sensors. Raises BadInputError on a model without leakage protection."""
        from twin.protection.line_faults import LeakageVerbs

        return LeakageVerbs(self.meter, self._clock.timers)

    @property
    def alive(self) -> bool:
        return self.radio.alive

    @property
    def group_key_indices(self) -> frozenset[int]:
        """Indices of the mesh's group keys that the meter has now; none without power."""
        firmware = self.meter.firmware
        if firmware is None or firmware.mesh is None:
            return frozenset()
        return firmware.mesh.runner.node.key_indices

    def link_etx(self, eui64: bytes) -> float | None:
        """Expected transmissions of a frame to that neighbour as the meter sees it; None without power or unheard."""
        firmware = self.meter.firmware
        return None if firmware is None or firmware.mesh is None else firmware.mesh.runner.node.link_etx(eui64)

    def imported_wh(self) -> float:
        """What the metrology chip has counted so far: the truth that readings are compared with."""
        return self.metrology.delivered.active_import_nj / NANOJOULES_PER_WH

    def power_on(self) -> None:
        """Mains comes, or comes back."""
        self.power.restore()

    def power_off(self) -> None:
        """Mains fails: the capacitor holds the meter up for its last gasp, then all that is in RAM is lost."""
        self.power.cut()

    def die(self) -> None:
        """Meter and radio stop at once, as when the whole thing is smashed; flash stays."""
        self.power.cut_at_once()


class _RadioSupply:
    """The radio hangs on the meter's supply."""

    def __init__(self, air: Air, name: str) -> None:
        self._air = air
        self._name = name

    def power_good(self) -> None:
        self._air.revive(self._name)

    def power_failing(self) -> None:
        """The capacitor feeds the radio, too."""

    def power_gone(self) -> None:
        self._air.kill(self._name)


def build_meters(
    scenario: Scenario,
    provision: Provision,
    radio_settings: RadioSettings,
    air: Air,
    clock: RunClock,
    seeds: Seeds,
    keys: KeyFactory,
    trace: EventTrace,
    identities: MeshIdentities | None = None,
) -> dict[str, RigMeter]:
    """All meters of a scenario, still without power, by name. With `identities` none of them has the link key."""
    mesh = MeshSettings(
        network_name=NETWORK_NAME,
        keys=(provision.link_key,),
        profile=profile_named(timers_profile(scenario)),
        active_key_index=provision.link_key.index,
        radio=radio_settings,
    )

    def mesh_of(item: MeterProvision) -> MeshSettings:
        if identities is None:
            return mesh
        return replace(mesh, keys=(), credentials=identities.meters[item.identity.eui64])

    return {
        item.settings.name: _build_meter(item, mesh_of(item), air, clock, seeds, keys, trace)
        for item in provision.meters
    }


def _build_meter(
    item: MeterProvision,
    mesh: MeshSettings,
    air: Air,
    clock: RunClock,
    seeds: Seeds,
    keys: KeyFactory,
    trace: EventTrace,
) -> RigMeter:
    settings, model = item.settings, item.model
    stream = f"meter/{settings.serial}"
    household = Household(
        seeds.stream(f"{stream}/household"),
        people=settings.household.people,
        daily_kwh=settings.household.daily_kwh,
        phases=model.phases,
        nominal_v=model.nominal_voltage_v,
        nominal_hz=model.nominal_frequency_hz,
        local_offset_s=-60 * model.time_zone_deviation_min,
    )
    hardware = MeterHardware.for_model(
        model,
        clock,
        clock.timers,
        household,
        seeds.stream(f"{stream}/hardware"),
        crystal_ppm=settings.crystal_ppm,
    )
    radio = air.add_radio(settings.name, item.identity.eui64, Position(*settings.position))
    air.kill(settings.name)
    hardware.power.listen(_RadioSupply(air, settings.name))
    meter = Meter(
        model,
        item.identity,
        item.keys,
        hardware,
        timers=clock.timers,
        rng=seeds.stream(f"{stream}/firmware"),
        key_source=keys(f"{stream}/firmware"),
        trace=trace.of(settings.name),
        radio=radio.host,
        mesh=mesh,
    )
    return RigMeter(item, meter, radio, household, clock)
