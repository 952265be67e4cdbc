"""The concentrator of a rig, natively in process: power switch and restart."""

from __future__ import annotations

from collections.abc import Callable

from dcu.daemon import Dcu
from dcu.station import Station
from dcu.timekeeping import TimeQuality
from protocols.headend.time_check import TimeSource
from twin.air.air import Air
from twin.air.radio import Radio
from twin.clock.clocks import RunClock
from twin.rigs.flash_store import OptStorage


class DcuClock:
    """The concentrator's own wall clock, kept by GPS: true time plus `offset_s`. A test may set this and `quality`."""

    def __init__(self, clock: RunClock) -> None:
        self._clock = clock
        self.offset_s = 0.0
        self.quality = TimeQuality(TimeSource.GPS)

    def utc_s(self) -> float:
        return self._clock.utc_s() + self.offset_s


class RigDcu:
    """One concentrator under test. `make` builds its software over the storage that survives its power."""

    def __init__(
        self, make: Callable[[], Station], radio: Radio, air: Air, clock: DcuClock, opt: OptStorage | None = None
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

    def cut_power(self) -> None:
        """Daemon and radio end at once; what was in storage stays."""
        if self._station is not None:
            station, self._station = self._station, None
            station.halt()
        self._air.kill(self._radio.name)
