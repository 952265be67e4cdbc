"""Under-frequency load shedding: the stages as data, and the system operator who watches the frequency.

The orders go the meters' way: head-end, concentrator, mesh. That takes seconds, not the tenths of a second that
feeder relays have; how long it took is measured.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import BadInputError
from protocols.headend.supply import SupplyAction


@dataclass(frozen=True, slots=True)
class Stage:
    """Below `hz` for `delay_s`, `group` is disconnected."""

    hz: float
    delay_s: float
    group: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.hz) and 40.0 <= self.hz <= 70.0):
            raise BadInputError(f"must be from 40 to 70 Hz, is {self.hz}", key="stages.hz")
        if not (math.isfinite(self.delay_s) and 0.0 <= self.delay_s <= 600.0):
            raise BadInputError(f"must be from 0 to 600 s, is {self.delay_s}", key="stages.delay_s")


@dataclass(frozen=True, slots=True)
class SheddingPlan:
    """Stages from the highest frequency to the lowest; restored in the opposite order, one after another.

    Raises BadInputError where stages do not fall, share a group, or would be restored below where they shed.
    """

    stages: tuple[Stage, ...]
    restore_hz: float
    restore_delay_s: float = 30.0
    stagger_s: float = 5.0

    def __post_init__(self) -> None:
        hertz = [stage.hz for stage in self.stages]
        if not hertz or sorted(hertz, reverse=True) != hertz or len(set(hertz)) != len(hertz):
            raise BadInputError("at least one, from the highest frequency down, each once", key="stages")
        groups = [stage.group for stage in self.stages]
        if len(set(groups)) != len(groups):
            raise BadInputError("two stages disconnect the same group", key="stages")
        if not self.restore_hz > hertz[0]:
            raise BadInputError(f"must be above the first stage's {hertz[0]:g} Hz, is {self.restore_hz}",
                                key="restore_hz")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Carried:
    """An order of the operator: when it was given (s), for what frequency, and what came of it."""

    given_s: float
    ended_s: float
    hz: float
    group: str
    action: SupplyAction
    result: dict[str, Any]


Order = Callable[[str, SupplyAction, float], Awaitable[dict[str, Any]]]
"""`(group, action, stagger_s)`: carries out an order and returns its result."""


@dataclass(slots=True)
class SystemOperator:
    """Watches `hz` every `look_s` and orders what the plan says, until cancelled. Times are of `now`, in s."""

    plan: SheddingPlan
    hz: Callable[[], float]
    now: Callable[[], float]
    order: Order
    look_s: float = 1.0
    carried: list[Carried] = field(default_factory=list)
    shed: list[str] = field(default_factory=list)
    """Groups that are disconnected now, in the order in which they were."""

    async def watch(self) -> None:
        below_since: dict[str, float] = {}
        above_since: float | None = None
        while True:
            hz, now_s = self.hz(), self.now()
            for stage in self.plan.stages:
                if hz >= stage.hz or stage.group in self.shed:
                    below_since.pop(stage.group, None)
                elif now_s - below_since.setdefault(stage.group, now_s) >= stage.delay_s:
                    await self._carry_out(stage.group, SupplyAction.DISCONNECT, hz)
            above_since = None if hz < self.plan.restore_hz else (now_s if above_since is None else above_since)
            if above_since is not None and now_s - above_since >= self.plan.restore_delay_s and self.shed:
                await self._carry_out(self.shed[-1], SupplyAction.RECONNECT, hz)
            await asyncio.sleep(self.look_s)

    async def _carry_out(self, group: str, action: SupplyAction, hz: float) -> None:
        given_s = self.now()
        shedding = action is SupplyAction.DISCONNECT
        if shedding:
            self.shed.append(group)
        else:
            self.shed.remove(group)
        result = await self.order(group, action, 0.0 if shedding else self.plan.stagger_s)
        self.carried.append(Carried(given_s, self.now(), hz, group, action, result))


def plan_from(stages: Sequence[dict[str, Any]], restore_hz: float, **more: float) -> SheddingPlan:
    """A plan from a file's rows. Raises BadInputError for keys that there are not, and for what `SheddingPlan` does."""
    try:
        return SheddingPlan(tuple(Stage(**row) for row in stages), restore_hz, **more)
    except TypeError as error:
        raise BadInputError(f"a stage has hz, delay_s and group: {error}", key="stages") from None
