"""Whose turn it is on the air, and waiting for a meter that is out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dcu.errors import MeterRefusedError
from dcu.registry import Meter, MeterState, Registry
from protocols.errors import TwinError


class UnknownMeterError(TwinError):
    """No meter with this serial number has registered here."""


class MeterAccess:
    """Jobs wait in order per meter, and at most `parallel` meters are asked at the same time."""

    def __init__(self, registry: Registry, parallel: int) -> None:
        self._registry = registry
        self._air = asyncio.Semaphore(parallel)
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._changes: dict[bytes, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, meter: Meter) -> AsyncIterator[None]:
        """The meter's own queue comes first: one that is out of reach holds none of the places on the air."""
        async with self._locks.setdefault(meter.eui64, asyncio.Lock()), self._air:
            yield

    def changed(self, meter: Meter) -> None:
        """The meter's state is another: whoever waits for it looks again."""
        event = self._changes.pop(meter.eui64, None)
        if event is not None:
            event.set()

    async def until_changed(self, meter: Meter) -> None:
        await self._changes.setdefault(meter.eui64, asyncio.Event()).wait()

    async def registered(self, serial: str, *, announced_too: bool = False) -> Meter:
        """The meter as soon as it is registered; waits as long as the caller does.

        With `announced_too` a meter will do that has proved itself with keys that the head-end had granted, and whose
        registration waits for the acknowledgement: without an uplink there is none.

        Raises UnknownMeterError, MeterRefusedError when its registration was refused.
        """
        while True:
            meter = self._registry.find_serial(serial)
            if meter is None:
                raise UnknownMeterError("no meter with this serial number has registered here")
            if meter.state is MeterState.REFUSED:
                raise MeterRefusedError("refused", "the meter's registration was refused")
            if meter.state is MeterState.REGISTERED or (announced_too and meter.state is MeterState.ANNOUNCED):
                return meter
            await self.until_changed(meter)
