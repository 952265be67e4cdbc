"""The serial lines, ways and clock of a concentrator that runs on a machine of its own."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from dcu.config import UplinkPolicy
from dcu.device_config import DevicePlaces, PtpPlace, SerialPlace
from dcu.discipline import ClockState
from dcu.mqtt_uplink import MqttOptions, MqttUplink, WayAddress
from dcu.ptp_link import UdpPtpPort
from dcu.serial_link import SerialError, SerialLink, open_serial
from dcu.station import Devices, SystemClock, Ways
from dcu.timekeeper import Timekeeper
from dcu.uplink_probe import mqtt_probe

_LOG = logging.getLogger(__name__)
_LOOK_S = 30.0
_LARGEST_OFFSET_S = 0.1


class DeviceLines:
    """Opens what the configuration names. A device that cannot be opened is done without, and `troubles` says why."""

    def __init__(self, places: DevicePlaces, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[str, SerialLink] = {}
        self.troubles: dict[str, str] = {}
        gps, modem = self._line("gps", places.gps), self._line("modem", places.modem)
        self._ptp = self._ptp_port(places.ptp)
        self.devices = Devices(gps=gps, modem=modem, ptp=self._ptp)

    def close(self) -> None:
        if self._ptp is not None:
            self._ptp.close()
        for line in self._open.values():
            line.close()
        self._open.clear()

    def _line(self, name: str, place: SerialPlace | None) -> SerialLink | None:
        if place is None:
            return None
        try:
            line = open_serial(place.device, place.baud, self._loop, lambda why: self._lost(name, why))
        except SerialError as error:
            self.troubles[name] = str(error)
            _LOG.error("the %s is done without: %s", name, error)
            return None
        self._open[name] = line
        return line

    def _ptp_port(self, place: PtpPlace | None) -> UdpPtpPort | None:
        if place is None:
            return None
        try:
            return UdpPtpPort(place.host, (place.event_port, place.general_port), self._loop)
        except OSError as error:
            self.troubles["ptp"] = f"UDP ports {place.event_port} and {place.general_port}: {error.strerror or error}"
            _LOG.error("PTP is done without: %s", self.troubles["ptp"])
            return None

    def _lost(self, name: str, why: str) -> None:
        self._open.pop(name, None)
        self.troubles[name] = why


def make_uplink(
    options: MqttOptions,
    places: DevicePlaces,
    policy: UplinkPolicy,
    loop: asyncio.AbstractEventLoop,
    rng: random.Random,
) -> tuple[MqttUplink, MqttUplink | Ways]:
    """The MQTT client, and what the station is given: the client alone, or with its ways.

    Raises BadInputError when the TLS files cannot be used.
    """
    if not places.ways:
        uplink = MqttUplink(options, loop, rng)
        return uplink, uplink
    ways = tuple((name, WayAddress(place.host, place.port, place.interface)) for name, place in places.ways)
    options = replace(options, ways=ways)
    uplink = MqttUplink(options, loop, rng)
    return uplink, Ways(uplink, mqtt_probe(options, loop, rng, policy.probe_timeout_s))


def system_clock() -> SystemClock:
    """The kernel's wall clock, and its monotonic count as the oscillator."""
    return SystemClock(utc_s=time.time, oscillator_s=time.monotonic)


async def keep_system_clock(
    keeper: Timekeeper, set_clock: Callable[[float], None], read_clock: Callable[[], float] = time.time
) -> None:
    """Set the system's wall clock by the disciplined one whenever it is off by more than 0.1 s, until cancelled.

    What is written there is for others: certificates' dates, logs, the next start. A clock that cannot be set is said
    once.
    """
    has_complained = False
    while True:
        off_s = keeper.utc_s() - read_clock()
        if keeper.state is not ClockState.UNSYNCHRONISED and abs(off_s) > _LARGEST_OFFSET_S:
            try:
                set_clock(keeper.utc_s())
                _LOG.info("the system's clock was off by %.3f s and has been set", off_s)
            except OSError as error:
                if not has_complained:
                    _LOG.error("the system's clock cannot be set: %s", error.strerror or error)
                has_complained = True
        await asyncio.sleep(_LOOK_S)
