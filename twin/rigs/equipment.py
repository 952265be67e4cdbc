"""What stands beside a rig's concentrator: GPS receiver, oscillator, modem, and the two links with their proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dcu.station import Devices
from protocols.ports import Trace
from twin.backhaul.gps import GpsReceiver
from twin.backhaul.link import Backhaul
from twin.backhaul.modem import Modem
from twin.backhaul.oscillator import Oscillator
from twin.backhaul.proxy import BackhaulProxy
from twin.backhaul.ptp import Grandmaster, PtpLine, UdpGrandmaster
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds
from twin.scenarios.schema import DcuSettings, LinkOutage

SATELLITE, CELLULAR = "satellite", "cellular"


@dataclass(frozen=True, slots=True)
class Equipment:
    """The devices that the scenario gives its concentrator; None for those that it does not."""

    oscillator: Oscillator
    satellite: Backhaul | None
    cellular: Backhaul | None
    gps: GpsReceiver | None
    modem: Modem | None
    ptp: Grandmaster | None
    ptp_line: PtpLine | None
    """Between the grandmaster and a concentrator in this process, or in lock-step with it."""
    ptp_server: UdpGrandmaster | None
    """The same grandmaster on ports of the host's loopback interface, for a machine that reaches them."""
    proxies: dict[str, BackhaulProxy]
    """By way, where the broker has a socket."""

    @property
    def devices(self) -> Devices:
        """The ends that are connected to the concentrator."""
        return Devices(
            gps=None if self.gps is None else self.gps.line,
            modem=None if self.modem is None else self.modem.line,
            ptp=self.ptp_line,
        )

    @property
    def links(self) -> dict[str, Backhaul]:
        """The ways in their order; empty where the concentrator has only one."""
        if self.satellite is None or self.cellular is None:
            return {}
        return {SATELLITE: self.satellite, CELLULAR: self.cellular}


@asynccontextmanager
async def open_equipment(
    settings: DcuSettings,
    outages: list[LinkOutage],
    clock: RunClock,
    seeds: Seeds,
    backhaul: Backhaul | None,
    broker_address: tuple[str, int] | None,
    trace: Trace,
    *,
    reaches_host: bool = False,
) -> AsyncIterator[Equipment]:
    """Build it, switch it on, and off again at the end.

    `reaches_host` says that the concentrator is a machine whose network leads to the host's loopback interface.
    `backhaul` is the satellite link that the broker has already; without one, and with a modem, one is made here.
    """
    timers = clock.timers
    oscillator = Oscillator(clock.now, ppm=settings.oscillator_ppm, swing_ppm=settings.oscillator_swing_ppm)
    satellite, cellular, modem = backhaul, None, None
    if settings.modem:
        satellite = satellite or Backhaul(timers, seeds.stream("backhaul"), "satellite", trace=trace)
        cellular = Backhaul(timers, seeds.stream("cellular"), "4g", name=CELLULAR, trace=trace)
        modem = Modem(timers, cellular, trace=trace)
    gps = GpsReceiver(clock, seeds.stream("gps"), trace=trace) if settings.gps else None
    ptp = Grandmaster(clock, trace=trace) if settings.ptp else None
    ptp_line = None if ptp is None else PtpLine(clock, ptp, seeds.stream("ptp"))
    ptp_server = UdpGrandmaster(ptp, clock.loop) if ptp is not None and reaches_host else None
    equipment = Equipment(oscillator, satellite, cellular, gps, modem, ptp, ptp_line, ptp_server, {})
    for outage in outages:
        _plan(equipment, outage, clock)
    if gps is not None:
        gps.power_on()
    try:
        if broker_address is not None:
            for name, link in equipment.links.items():
                proxy = BackhaulProxy(link, broker_address, clock.loop)
                await proxy.start()
                equipment.proxies[name] = proxy
        if ptp_server is not None:
            await ptp_server.start()
        yield equipment
    finally:
        if gps is not None:
            gps.power_off()
        if ptp is not None:
            ptp.stop()
        if ptp_server is not None:
            ptp_server.stop()
        for proxy in equipment.proxies.values():
            await proxy.stop()


def _plan(equipment: Equipment, outage: LinkOutage, clock: RunClock) -> None:
    """An outage window of the scenario file."""
    now = clock.timers.time()
    satellite, modem = equipment.satellite, equipment.modem
    if outage.link == SATELLITE and satellite is not None:
        clock.timers.call_at(now + outage.from_s, satellite.cut)
        clock.timers.call_at(now + outage.to_s, satellite.restore)
    if outage.link == CELLULAR and modem is not None:
        for slot in (0, 1):
            clock.timers.call_at(now + outage.from_s, modem.lose_network, slot)
            clock.timers.call_at(now + outage.to_s, modem.restore_network, slot)
