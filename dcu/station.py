"""A concentrator with the devices beside it: GPS receiver, PTP, modem, and the ways to the head-end."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dcu.config import DcuConfig
from dcu.daemon import Dcu
from dcu.gps import GpsDriver, GpsState
from dcu.identity import SignerFactory
from dcu.modem import ModemDriver
from dcu.ptp import PtpPort, PtpSlave
from dcu.storage import Storage
from dcu.tasks import TaskGroup
from dcu.timekeeper import Timekeeper
from dcu.timekeeping import TimeQuality, system_time
from dcu.uplink import RoutedUplink, Uplink
from dcu.uplink_manager import AlwaysOpen, CellularModem, UplinkManager
from protocols.dlms.security.signing import RandomSigner
from protocols.headend.time_check import TimeSource
from protocols.ports import ByteLink, KeySource, Trace

EVENT_GPS = "gps-state"


@dataclass(frozen=True, slots=True)
class Ways:
    """More than one way to the broker, and how to try one that is not in use."""

    uplink: RoutedUplink
    probe: Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Devices:
    """What is connected. Without a GPS receiver and without PTP the system's clock is used as it is."""

    gps: ByteLink | None = None
    modem: ByteLink | None = None
    ptp: PtpPort | None = None

    @property
    def have_time(self) -> bool:
        return self.gps is not None or self.ptp is not None


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own: its wall clock, how good that is, and an oscillator that counts seconds and never jumps."""

    utc_s: Callable[[], float]
    oscillator_s: Callable[[], float]
    quality: Callable[[], TimeQuality] = system_time


class Station:
    """Builds a `Dcu` on its devices and lives with it. Raises what `Dcu` raises."""

    def __init__(
        self,
        config: DcuConfig,
        devices: Devices,
        *,
        loop: asyncio.AbstractEventLoop,
        radio: ByteLink,
        uplink: Uplink | Ways,
        storage: Storage,
        key_source: KeySource,
        rng: random.Random,
        clock: SystemClock,
        trace: Trace,
        make_signer: SignerFactory = RandomSigner,
    ) -> None:
        self._tasks = TaskGroup(loop, trace)
        self.keeper = self._make_keeper(config, devices, clock, loop, trace)
        self._gps = self._make_gps(devices.gps, clock)
        self._ptp = self._make_ptp(devices.ptp, config.eui64, clock, loop)
        self._modem: ModemDriver | None = None
        if devices.modem is not None:
            self._modem = ModemDriver(
                devices.modem, config.modem, loop=loop, on_change=self._modem_changed, trace=trace
            )
        self.manager: UplinkManager | None = None
        if isinstance(uplink, Ways):
            modem: CellularModem = self._modem or AlwaysOpen()
            self.manager = UplinkManager(
                config.uplink, uplink.uplink, modem, probe=uplink.probe, loop=loop, trace=trace
            )
        keeper = self.keeper
        self.utc_s = clock.utc_s if keeper is None else keeper.utc_s
        self.dcu = Dcu(
            config,
            loop=loop,
            radio=radio,
            uplink=self.manager or (uplink.uplink if isinstance(uplink, Ways) else uplink),
            storage=storage,
            key_source=key_source,
            rng=rng,
            utc_s=self.utc_s,
            trace=trace,
            make_signer=make_signer,
            time_quality=clock.quality if keeper is None else keeper.quality,
            timekeeper=keeper,
        )

    def _make_keeper(
        self, config: DcuConfig, devices: Devices, clock: SystemClock, loop: asyncio.AbstractEventLoop, trace: Trace
    ) -> Timekeeper | None:
        if not devices.have_time:
            return None
        return Timekeeper(
            config.time, oscillator_s=clock.oscillator_s, initial_utc_s=clock.utc_s(), timers=loop, trace=trace
        )

    def _make_gps(self, line: ByteLink | None, clock: SystemClock) -> GpsDriver | None:
        keeper = self.keeper
        if line is None or keeper is None:
            return None
        return GpsDriver(
            line,
            oscillator_s=clock.oscillator_s,
            on_sample=lambda sample: keeper.offer(TimeSource.GPS, sample),
            on_state=self._gps_changed,
        )

    def _make_ptp(
        self, port: PtpPort | None, identity: bytes, clock: SystemClock, loop: asyncio.AbstractEventLoop
    ) -> PtpSlave | None:
        keeper = self.keeper
        if port is None or keeper is None:
            return None
        return PtpSlave(
            port,
            identity,
            timers=loop,
            oscillator_s=clock.oscillator_s,
            on_sample=lambda sample: keeper.offer(TimeSource.PTP, sample),
            on_leap=keeper.announce_leap,
        )

    def start(self) -> None:
        """Devices first: the concentrator's first messages already have the best time there is."""
        if self._gps is not None:
            self._gps.start()
        if self._ptp is not None:
            self._ptp.start()
        if self._modem is not None:
            self._tasks.spawn(self._modem.run(), "modem")
        if self.manager is not None:
            self.manager.report = self._report
        self.dcu.start()

    async def stop(self) -> None:
        """An orderly end."""
        await self.dcu.stop()
        self._end()
        await self._tasks.wait()

    def halt(self) -> None:
        """End at once, as when the power fails."""
        self.dcu.halt()
        self._end()

    def counters(self) -> dict[str, Counter[str]]:
        """Those of the concentrator, and of the devices beside it."""
        found = self.dcu.counters()
        parts = (
            ("gps", self._gps),
            ("ptp", self._ptp),
            ("clock", self.keeper),
            ("modem", self._modem),
            ("ways", self.manager),
        )
        return found | {name: Counter(part.counters) for name, part in parts if part is not None}

    @property
    def waiting(self) -> int:
        """Messages that the broker has not confirmed, and bundles that the head-end has not acknowledged."""
        return self.dcu.counters()["outbox"]["waiting"] + len(self.dcu.waiting_bundles)

    def clock_reading(self) -> dict[str, str | float | None] | None:
        """The clock's time at this moment, and what it believes of it; None where nothing disciplines it."""
        if self.keeper is None:
            return None
        utc_s = self.utc_s()  # first: whoever asks compares it with the moments of question and answer
        quality = self.keeper.quality()
        return {
            "utc_s": utc_s,
            "state": self.keeper.state.value,
            "source": quality.source.value,
            "uncertainty_s": quality.uncertainty_s if math.isfinite(quality.uncertainty_s) else None,
            "holdover_s": quality.holdover_s,
            "rate_ppm": self.keeper.frequency_ppm,
            "steps": self.keeper.counters["steps"],
        }

    def devices(self) -> dict[str, dict[str, str | float | None]]:
        """What clock, receiver, modem and ways say of themselves, by device; those that are not there are left out."""
        found: dict[str, dict[str, str | float | None]] = {}
        clock = self.clock_reading()
        if clock is not None:
            found["clock"] = clock
        if self._gps is not None:
            found["gps"] = {"state": self._gps.state.value, "leap_s": self._gps.leap_s}
        if self._ptp is not None:
            found["ptp"] = {"state": "served" if self._ptp.has_master else "no master", "delay_s": self._ptp.delay_s}
        if self._modem is not None:
            found["modem"] = {
                **self._modem.describe(),
                "rss_dbm": self._modem.rss_dbm,
                "operator": self._modem.operator,
            }
        if self.manager is not None:
            found["uplink"] = {"way": self.manager.way.value}
        return found

    def _end(self) -> None:
        if self._gps is not None:
            self._gps.stop()
        if self._ptp is not None:
            self._ptp.stop()
        self._tasks.cancel()

    def _report(self, kind: str, details: dict[str, str]) -> None:
        self.dcu.report(kind, details)

    def _gps_changed(self, state: GpsState) -> None:
        self._report(EVENT_GPS, {"state": state.value})

    def _modem_changed(self) -> None:
        if self.manager is not None:
            self.manager.modem_changed()
