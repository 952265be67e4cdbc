"""Whose turn it is on the air, and waiting for a meter that is out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dcu.border_router import Reachability
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.registry import Meter, MeterState, Registry
from protocols.errors import TwinError

_WEIGHT = 0.25
"""Of the latest turn in what a turn usually takes."""


class UnknownMeterError(TwinError):
    """No meter with this serial number has registered here."""


class RouteBrokenError(NoAnswerError):
    """The mesh has no route to the meter now, and looks for one; `MeterAccess.until_changed` waits for its end."""


class TooLateError(NoAnswerError):
    """The turn came when too little time was left to bring anything."""


class MeterAccess:
    """Jobs wait in order per meter, and at most `parallel` meters are asked at the same time.

    Where more is asked for than the air carries, all would end in the middle: each began when its turn came, a moment
    before its deadline, and what it sent was in vain. So a turn is not given that comes too late to be used: with less
    time left than turns have taken of late, after a wait that was longer than that.

    What nobody waits for is asked one after the other behind a queue of its own, so that an operator who asks while a
    thousand meters are collected waits for a few of them, not for all.
    """

    def __init__(
        self,
        registry: Registry,
        parallel: int,
        *,
        where: Callable[[bytes], Reachability | None],
        usual_s: float,
    ) -> None:
        """`where` is the border router's; `usual_s` is how long a turn takes as long as none is known."""
        self._registry = registry
        self._where = where
        self._usual_s = usual_s
        self._air = asyncio.Semaphore(parallel)
        self._unhurried = asyncio.Semaphore(parallel)
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._changes: dict[bytes, asyncio.Event] = {}

    @asynccontextmanager
    async def unhurried_turn(self, meter: Meter) -> AsyncIterator[None]:
        """A turn for what nobody waits for. Raises RouteBrokenError."""
        async with self._unhurried, self.turn(meter):
            yield

    @asynccontextmanager
    async def turn(self, meter: Meter, *, ends_s: float | None = None) -> AsyncIterator[None]:
        """The meter's own queue comes first: one that is out of reach holds none of the places on the air.

        `ends_s` is when the caller must be ready, on the loop's clock. Raises RouteBrokenError, TooLateError.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with self._locks.setdefault(meter.eui64, asyncio.Lock()), self._air:
            place, now_s = self._where(meter.eui64), loop.time()
            if place is not None and place.is_broken:
                raise RouteBrokenError("the mesh has no route to the meter now, and looks for one")
            if ends_s is not None and ends_s - now_s < min(self._usual_s, now_s - began_s):
                raise TooLateError(f"other meters were asked before it for {now_s - began_s:.1f} s")
            yield
            self._usual_s += _WEIGHT * (loop.time() - now_s - self._usual_s)

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
