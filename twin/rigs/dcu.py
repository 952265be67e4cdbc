"""The concentrator of a rig, natively in process: power switch and restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcu.daemon import Dcu
from dcu.station import Station
from dcu.timekeeping import TimeQuality
from protocols.headend.time_check import TimeSource
from protocols.mesh.config import LinkKey
from twin.air.air import Air
from twin.air.radio import Radio
from twin.clock.clocks import RunClock
from twin.errors import RigError
from twin.rigs.maintenance_verbs import ClockReading
from twin.rigs.opt import Opt


class DcuClock:
    """The concentrator's own wall clock, kept by GPS: true time plus `offset_s`. A test may set this and `quality`."""

    def __init__(self, clock: RunClock) -> None:
        self._clock = clock
        self.offset_s = 0.0
        self.quality = TimeQuality(TimeSource.GPS)

    def utc_s(self) -> float:
        return self.true_utc_s() + self.offset_s

    def true_utc_s(self) -> float:
        """The time of the world."""
        return self._clock.utc_s()


class RigDcu:
    """One concentrator under test. `make` builds its software over the storage that survives its power."""

    is_machine, shows_events = False, True

    def __init__(
        self, make: Callable[[], Station], radio: Radio, air: Air, clock: DcuClock, opt: Opt | None = None
    ) -> None:
        self.clock = clock
        self.opt = opt
        """Its flash partition with the verbs of a bench; None where that is a real folder."""
        self._make = make
        self._radio = radio
        self._air = air
        self._station: Station | None = None

    @property
    def station(self) -> Station | None:
        """What runs now, None without power."""
        return self._station

    @property
    def daemon(self) -> Dcu | None:
        """The concentrator proper of what runs now, None without power."""
        return None if self._station is None else self._station.dcu

    @property
    def alive(self) -> bool:
        return self._station is not None

    def start(self) -> None:
        """Power comes: radio and daemon start."""
        self._air.revive(self._radio.name)
        self._station = self._make()
        self._station.start()

    async def ready(self) -> None:
        """Until the daemon runs: at once, natively."""

    async def stop(self) -> None:
        """An orderly end."""
        if self._station is not None:
            station, self._station = self._station, None
            await station.stop()

    async def shift_clock(self, by_s: float) -> None:
        """Move the concentrator's wall clock, as a source of time that is wrong would."""
        self.clock.offset_s += by_s

    async def status(self) -> dict[str, Any]:
        """What the daemon says of itself: the parts of `dcu.service`'s answer that there are in process."""
        station = self._running()
        counters = {part: dict(counter) for part, counter in station.counters().items()}
        return {"counters": counters, "devices": station.devices(), "waiting": station.waiting}

    async def waiting(self) -> int:
        """Messages and bundles in the concentrator now."""
        return self._running().waiting

    async def ping(self, eui64: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None:
        """ICMPv6 echo to a node of the mesh: the round trip in seconds; None without an answer, or a way to it."""
        return await self._running().dcu.ping(eui64, payload=payload, timeout_s=timeout_s)

    async def rotate_group_key(self, key: LinkKey) -> None:
        """Bring a new group key of the mesh into use."""
        self._running().dcu.rotate_group_key(key)

    async def revoke_access(self, eui64: bytes) -> None:
        """Refuse a device in the mesh from now on; the next rotation of the group key shuts it out."""
        self._running().dcu.revoke_access(eui64)

    async def read_clock(self) -> ClockReading:
        """Its clock against the true time. Raises RigError where nothing disciplines it."""
        told, now_s = self._running().clock_reading(), self.clock.true_utc_s()
        if told is None:
            raise RigError("nothing disciplines this concentrator's clock; give it dcu.gps or dcu.ptp")
        return ClockReading.of(told, now_s, now_s)

    def _running(self) -> Station:
        if self._station is None:
            raise RigError("the concentrator has no power")
        return self._station

    def cut_power(self) -> None:
        """Daemon and radio end at once; what was in storage stays."""
        if self._station is not None:
            station, self._station = self._station, None
            station.halt()
        self._air.kill(self._radio.name)
