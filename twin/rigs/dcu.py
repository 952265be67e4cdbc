"""The concentrator of a rig, natively in process: power switch and restart."""

from __future__ import annotations

from collections.abc import Callable

from dcu.daemon import Dcu
from twin.air.air import Air
from twin.air.radio import Radio


class RigDcu:
    """One concentrator under test. `make` builds a daemon over the storage that survives its power."""

    def __init__(self, make: Callable[[], Dcu], radio: Radio, air: Air) -> None:
        self._make = make
        self._radio = radio
        self._air = air
        self._daemon: Dcu | None = None

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
