"""The concentrator of a rig, natively in process: power switch and restart."""

from __future__ import annotations

from collections.abc import Callable

from dcu.daemon import Dcu
from dcu.timekeeping import TimeQuality
from protocols.headend.time_check import TimeSource
from twin.air.air import Air
from twin.air.radio import Radio
from twin.clock.clocks import RunClock


class DcuClock:
    """The concentrator's own wall clock, kept by GPS: true time plus `offset_s`. A test may set this and `quality`."""

    def __init__(self, clock: RunClock) -> None:
        self._clock = clock
        self.offset_s = 0.0
        self.quality = TimeQuality(TimeSource.GPS)

    def utc_s(self) -> float:
        return self._clock.utc_s() + self.offset_s


class RigDcu:
    """One concentrator under test. `make` builds a daemon over the storage that survives its power."""

    def __init__(self, make: Callable[[], Dcu], radio: Radio, air: Air, clock: DcuClock) -> None:
        self.clock = clock
        self._make = make
        self._radio = radio
        self._air = air
        self._daemon: Dcu | None = None

    @property
    def daemon(self) -> Dcu | None:
        """What runs now, None without power."""
        return self._daemon

    @property
    def alive(self) -> bool:
        return self._daemon is not None

    def start(self) -> None:
        """Power comes: radio and daemon start."""
        self._air.revive(self._radio.name)
        self._daemon = self._make()
        self._daemon.start()

    async def ready(self) -> None:
        """Until the daemon runs: at once, natively."""

    async def stop(self) -> None:
        """An orderly end."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            await daemon.stop()

    def cut_power(self) -> None:
        """Daemon and radio end at once; what was in storage stays."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.halt()
        self._air.kill(self._radio.name)
