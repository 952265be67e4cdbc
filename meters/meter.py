"""The meter: a model, an identity, keys and hardware, with the firmware running on them while there is power."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from meters.hardware.flash import Flash, FlashGeometry
from meters.hardware.metrology import LoadSource, Metrology
from meters.hardware.power import PowerSupply
from meters.hardware.rtc import Crystal, Rtc
from meters.hardware.world import World
from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.models.schema import MeterModel
from protocols.mesh.config import LinkKey
from protocols.mesh.timers import TimersProfile
from protocols.ports import ByteLink, KeySource, Timers, Trace


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """How the meter joins the mesh: network name, link keys, timer profile."""

    network_name: str
    keys: tuple[LinkKey, ...] = field(repr=False)
    profile: TimersProfile
    active_key_index: int = 1
    max_psdu_bytes: int = 2047


@dataclass(frozen=True, slots=True)
class MeterHardware:
    """The parts. Each has the firmware's face and the bench's verbs."""

    rtc: Rtc
    flash: Flash
    metrology: Metrology
    power: PowerSupply

    @classmethod
    def for_model(
        cls,
        model: MeterModel,
        world: World,
        timers: Timers,
        load: LoadSource,
        rng: random.Random,
        *,
        flash: Flash | None = None,
        crystal_ppm: float | None = None,
    ) -> MeterHardware:
        """New hardware of that model; the crystal's offset is drawn from `rng` unless `crystal_ppm` gives it."""
        settings = model.crystal
        drawn_ppm = rng.gauss(0.0, settings.offset_ppm)
        crystal = Crystal(
            offset_ppm=drawn_ppm if crystal_ppm is None else crystal_ppm,
            curvature_ppm_per_c2=settings.curvature_ppm_per_c2,
            ageing_ppm_per_year=settings.ageing_ppm_per_year,
        )
        sizes = model.flash
        return cls(
            rtc=Rtc(world, crystal),
            flash=flash or Flash(FlashGeometry(sizes.page_bytes, sizes.pages_per_block, sizes.block_count)),
            metrology=Metrology(world, load, phase_count=model.phases),
            power=PowerSupply(timers, hold_up_s=model.hold_up_s),
        )


class Meter:
    """One meter. Off until `power_on`.

    With `radio` and `mesh` it joins the mesh and answers DLMS wrapper datagrams on UDP 4059; `handle_apdu` is the
    same COSEM server by a direct call. Bench verbs are on `rtc`, `flash`, `metrology` and `power`.
    """

    def __init__(
        self,
        model: MeterModel,
        identity: MeterIdentity,
        keys: MeterKeys,
        hardware: MeterHardware,
        *,
        timers: Timers,
        rng: random.Random,
        key_source: KeySource,
        trace: Trace | None = None,
        radio: ByteLink | None = None,
        mesh: MeshSettings | None = None,
    ) -> None:
        self.model = model
        self.identity = identity
        self.hardware = hardware

    @property
    def rtc(self) -> Rtc:
        return self.hardware.rtc

    @property
    def flash(self) -> Flash:
        return self.hardware.flash

    @property
    def metrology(self) -> Metrology:
        return self.hardware.metrology

    @property
    def power(self) -> PowerSupply:
        return self.hardware.power

    @property
    def running(self) -> bool:
        """The firmware runs."""
        raise NotImplementedError

    def power_on(self) -> None:
        """Mains comes: the firmware boots."""
        raise NotImplementedError

    def power_off(self) -> None:
        """Mains goes without a warning: what is in RAM is lost, flash stays."""
        raise NotImplementedError

    def handle_apdu(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        """The answer to an APDU, None if there is none: meter off, unknown SAP, unconfirmed service."""
        raise NotImplementedError
