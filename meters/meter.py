"""The meter: a model, an identity, keys and hardware, with the firmware running on them while there is power."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from meters.firmware.firmware import Board, Firmware, ResetCause
from meters.firmware.image_machine import ProgramFault
from meters.firmware.mesh_node import MeshSettings
from meters.firmware.partitions import StorageError
from meters.firmware.protection.controller import ProtectionController
from meters.hardware.disconnector import Disconnector
from meters.hardware.enclosure import Enclosure
from meters.hardware.flash import Flash, FlashGeometry, PowerLostError
from meters.hardware.leakage_front_end import LeakageFrontEnd
from meters.hardware.leakage_test_path import LeakageTestPath
from meters.hardware.metrology import Metrology
from meters.hardware.power import PowerSupply
from meters.hardware.relay import RELAY_MODELS
from meters.hardware.rtc import Crystal, Rtc
from meters.hardware.world import World
from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.models.schema import MeterModel
from protocols.loads import LoadSource
from protocols.ports import ByteLink, Cancellable, KeySource, Timers, Trace

__all__ = ["MeshSettings", "Meter", "MeterHardware", "MeterIdentity"]

_RESTART_AFTER_S = 2.0
_WATCHDOG_S = 1.0


@dataclass(frozen=True, slots=True)
class MeterHardware:
    """The parts. Each has the firmware's face and the bench's verbs."""

    rtc: Rtc
    flash: Flash
    metrology: Metrology
    power: PowerSupply
    enclosure: Enclosure
    disconnector: Disconnector | None = None
    """None on a model that cannot switch its supply."""
    leakage: LeakageFrontEnd | None = None
    """None on a model without leakage protection; with it there is a test path."""
    leakage_test_path: LeakageTestPath | None = None

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
        metrology = Metrology(world, load, phase_count=model.phases)
        disconnector = None
        if model.has_disconnector:
            relay, lines = RELAY_MODELS[model.relay], model.tenant_lines
            disconnector = Disconnector(timers, metrology, relay, lines=lines, poles=model.poles)
        protected = disconnector is not None and model.leakage_sensor is not None
        return cls(
            rtc=Rtc(world, crystal),
            flash=flash or Flash(FlashGeometry(sizes.page_bytes, sizes.pages_per_block, sizes.block_count)),
            metrology=metrology,
            power=PowerSupply(timers, hold_up_s=model.hold_up_s, frequency_hz=model.supply_frequency_hz),
            enclosure=Enclosure(),
            disconnector=disconnector,
            leakage=_front_end(model, timers, rng) if protected else None,
            leakage_test_path=LeakageTestPath(model.tenant_lines) if protected else None,
        )


def _front_end(model: MeterModel, timers: Timers, rng: random.Random) -> LeakageFrontEnd:
    return LeakageFrontEnd(timers, model.leakage_sensor or "", model.tenant_lines, rng.getrandbits(64))


class _Chips:
    """The supply pins of the chips around the processor."""

    def __init__(self, hardware: MeterHardware) -> None:
        self._hardware = hardware

    def power_good(self) -> None:
        self._hardware.flash.power_up()
        self._hardware.rtc.supply(True)
        self._hardware.metrology.supply(True)
        if self._hardware.leakage is not None:
            self._hardware.leakage.supply(True)

    def power_failing(self) -> None:
        """Mains is gone: nothing flows any more, the chips live on the capacitor."""
        self._hardware.metrology.interrupt(True)

    def power_gone(self) -> None:
        self._hardware.rtc.supply(False)
        self._hardware.metrology.supply(False)
        if self._hardware.leakage is not None:
            self._hardware.leakage.supply(False)


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
        self._trace = trace or _no_trace
        self.protection = _protection(model, hardware, timers, self._trace)
        """The leakage protection's controller; None on a model without."""
        self._board = Board(
            model=model,
            identity=identity,
            keys=keys,
            rtc=hardware.rtc,
            flash=hardware.flash,
            metrology=hardware.metrology,
            timers=timers,
            rng=rng,
            key_source=key_source,
            trace=self._trace,
            enclosure=hardware.enclosure,
            disconnector=hardware.disconnector,
            restart=self._restart_soon,
            protection=self.protection,
            guard=self._guard,
            radio=radio,
            mesh=mesh,
        )
        self._timers = timers
        self._firmware: Firmware | None = None
        self._reset: Cancellable | None = None
        hardware.flash.on_power_lost = hardware.power.cut_at_once
        hardware.power.listen(_Chips(hardware))
        if self.protection is not None:
            hardware.power.listen(self.protection)  # before the application: it does not wait for it
        hardware.power.listen(self)

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
    def enclosure(self) -> Enclosure:
        return self.hardware.enclosure

    @property
    def disconnector(self) -> Disconnector | None:
        return self.hardware.disconnector

    @property
    def firmware(self) -> Firmware | None:
        """What runs now, None without power."""
        return self._firmware

    @property
    def running(self) -> bool:
        """The firmware runs."""
        return self._firmware is not None

    def power_on(self) -> None:
        """Mains comes: the firmware boots."""
        self.power.restore()

    def power_off(self) -> None:
        """Mains goes without a warning: what is in RAM is lost, flash stays."""
        self.power.cut_at_once()

    def handle_apdu(
        self, client_sap: int, server_sap: int, apdu: bytes, *, channel: Hashable = "direct"
    ) -> bytes | None:
        """The answer to an APDU, None if there is none: meter off, unknown SAP, unconfirmed service.

        `channel` tells clients apart: an association belongs to the one that opened it.
        """
        answer: bytes | None = None

        def work() -> None:
            nonlocal answer
            if self._firmware is not None:
                answer = self._firmware.handle(client_sap, server_sap, apdu, channel)

        self._guard(work)
        return answer

    def close_channel(self, channel: Hashable) -> None:
        """A client's connection is gone, and its associations with it."""
        if self._firmware is not None:
            self._firmware.close_channel(channel)

    # bench verbs on the processor of the application

    def halt(self) -> None:
        """The application hangs: nothing of it runs any more, though it has its supply. The protection goes on."""
        self.power_gone()

    def reset(self) -> None:
        """The application starts anew, if there is mains."""
        if self._firmware is None and self.power.mains_present:
            self._guard(self._boot)

    # the processor's pins

    def power_good(self) -> None:
        if self._firmware is None:
            self._guard(self._boot)
        else:
            self._guard(self._firmware.power_restored)

    def power_failing(self) -> None:
        if self._firmware is not None:
            self._guard(self._firmware.power_failing)

    def power_gone(self) -> None:
        if self._reset is not None:
            self._reset.cancel()
            self._reset = None
        if self._firmware is not None:
            self._firmware.stop()
            self._firmware = None
            self._trace("meter.stopped")

    def _boot(self, cause: ResetCause = ResetCause.POWER) -> None:
        self._firmware = Firmware(self._board, cause)

    def _restart_soon(self) -> None:
        """The firmware asks for a reset: what it was asked for is answered before."""
        if self._reset is None:
            self._reset = self._timers.call_at(self._timers.time() + _RESTART_AFTER_S, self._guard, self._restart)

    def _restart(self) -> None:
        """What is in RAM is saved, then the processor is reset; mains is there all the time."""
        self._reset = None
        if self._firmware is not None:
            self._firmware.checkpoint()
            self._firmware.stop()
            self._firmware = None
        self._boot(ResetCause.RESTART)

    def _bitten(self) -> None:
        """The watchdog has reset the processor."""
        self._reset = None
        self._boot(ResetCause.WATCHDOG)

    def _crashed(self, reason: str) -> None:
        """The watchdog resets the processor: what was in RAM is lost."""
        self._trace("meter.crashed", reason=reason)
        self.power_gone()
        self._reset = self._timers.call_at(self._timers.time() + _WATCHDOG_S, self._guard, self._bitten)

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a piece of the firmware's work. A power failure in its middle is the end of it, and nobody's error."""
        try:
            work()
        except PowerLostError:
            self.power_gone()
        except ProgramFault as fault:
            self._crashed(str(fault))
        except StorageError as error:
            # Worn out: a meter that cannot keep its counters must not go on.
            self._trace("meter.fault", reason=str(error))
            self.power_gone()


def _protection(
    model: MeterModel, hardware: MeterHardware, timers: Timers, trace: Trace
) -> ProtectionController | None:
    if hardware.disconnector is None or hardware.leakage is None or hardware.leakage_test_path is None:
        return None
    return ProtectionController(
        hardware.disconnector,
        hardware.leakage,
        hardware.leakage_test_path,
        hardware.flash,
        hardware.rtc,
        timers,
        trace,
        line_hz=model.nominal_frequency_hz,
    )


def _no_trace(kind: str, /, **fields: object) -> None:
    """Nobody listens."""
