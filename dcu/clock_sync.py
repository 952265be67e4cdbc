"""Use case VI: the meters' clocks are compared with the concentrator's, and set by broadcast; outliers by unicast."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dcu.broadcast import CLASS_CLOCK, CLOCK, set_clock
from dcu.config import ClockPolicy
from dcu.dlms_session import MeterSession
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess
from dcu.meter_group import MeterGroup
from dcu.readings import utc_ms
from dcu.registry import Meter, MeterState, Registry
from dcu.sessions import Sessions
from dcu.storage import StorageError
from dcu.tasks import TaskGroup
from dcu.timekeeping import TimeQuality
from protocols.dlms.action import MethodReference
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, octet_string
from protocols.dlms.date_time import DateTime
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_TIME, _SHIFT_TIME = 2, 6
_SHIFT_LIMIT_S = 900
_DAY_S = 86_400
_LONGEST_SLEEP_S = 600.0
_BEHIND_LEAP_S = 2.0
_TRIES = 3
EVENT_SYNCHRONIZED = "clocks-synchronized"
EVENT_NOT_SYNCHRONIZED = "clocks-not-synchronized"


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """A meter's clock minus ours, in seconds: somewhere between these two. Half of the round trip is not known."""

    low_s: float
    high_s: float

    @classmethod
    def measured(cls, meter_utc_s: float, asked_utc_s: float, answered_utc_s: float) -> ClockOffset:
        """The clock was read at some moment between the question and its answer."""
        return cls(meter_utc_s - answered_utc_s, meter_utc_s - asked_utc_s)

    @property
    def middle_s(self) -> float:
        return (self.low_s + self.high_s) / 2

    @property
    def one_way_s(self) -> float:
        return (self.high_s - self.low_s) / 2

    def certainly_beyond(self, limit_s: float) -> bool:
        """Whether the clock is off by more than `limit_s`, wherever on the way it was read."""
        return self.low_s > limit_s or self.high_s < -limit_s


class ClockSync:
    """Checks all clocks every day, and is told of every clock that was read besides. One that is off by more than the
    limit starts a round: broadcast to all, then every clock is read, and outliers are corrected one by one."""

    def __init__(
        self,
        policy: ClockPolicy,
        *,
        local_offset_s: int,
        headend: Headend,
        registry: Registry,
        sessions: Sessions,
        access: MeterAccess,
        group: MeterGroup,
        flood_s: Callable[[], float],
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        quality: Callable[[], TimeQuality],
        trace: Trace,
    ) -> None:
        """`flood_s` is how long a multicast takes at present to the farthest meter."""
        self._policy = policy
        self._local_offset_s = local_offset_s
        self._headend = headend
        self._registry = registry
        self._sessions = sessions
        self._access = access
        self._group = group
        self._flood_s = flood_s
        self._tasks = tasks
        self._utc_s = utc_s
        self._quality = quality
        self._trace = trace
        self._one_way_s: dict[bytes, float] = {}
        self._last_round_s: float | None = None
        self._is_running = False
        self._leap_at_s: int | None = None
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        self._tasks.spawn(self._every_day(), "clocks")

    def noticed(self, meter: Meter, meter_utc_s: float, asked_utc_s: float, answered_utc_s: float) -> None:
        """A clock was read on the way. One that is certainly off starts a round, unless there was one just now."""
        offset = ClockOffset.measured(meter_utc_s, asked_utc_s, answered_utc_s)
        if not offset.certainly_beyond(self._policy.limit_s) or self._is_running:
            return
        self.counters["drifts_noticed"] += 1
        now_s = self._utc_s()
        last_s = self._last_round_s
        if last_s is not None and 0 <= now_s - last_s < self._policy.least_between_s:
            return
        self._trace("dcu-clock-drift", eui64=meter.name, offset_s=round(offset.middle_s, 3))
        self._tasks.spawn(self.synchronize("drift"), "clock round")

    def leap_announced(self, at_utc_s: int) -> None:
        """A leap second comes before this midnight: meters know nothing of it, and are set right behind it."""
        if self._leap_at_s != at_utc_s:
            self._leap_at_s = at_utc_s
            self._tasks.spawn(self._behind_leap(at_utc_s), "leap second")

    async def _behind_leap(self, at_utc_s: int) -> None:
        while True:
            wait_s = at_utc_s + _BEHIND_LEAP_S - self._utc_s()
            if wait_s <= 0:
                break
            # In pieces, and by our own clock, which takes the leap.
            await asyncio.sleep(min(wait_s + 0.001, _LONGEST_SLEEP_S))
        await self.synchronize("leap second")

    async def _every_day(self) -> None:
        while True:
            local_s = self._utc_s() + self._local_offset_s - self._policy.check_after_s
            wait_s = _DAY_S - local_s % _DAY_S
            if wait_s > _LONGEST_SLEEP_S:
                # In pieces: our own clock may be corrected meanwhile.
                await asyncio.sleep(_LONGEST_SLEEP_S)
                continue
            await asyncio.sleep(wait_s + 0.001)
            await self.check()

    async def check(self) -> None:
        """Read every clock; one beyond the limit starts a round."""
        offsets = await self._measure(self._meters())
        self.counters["checks"] += 1
        if any(offset.certainly_beyond(self._policy.limit_s) for offset in offsets.values()):
            await self.synchronize("daily check")

    async def synchronize(self, why: str) -> None:
        """One round: broadcast, look, correct. Nothing is set while our own time is not to be relied on."""
        quality = self._quality()
        if self._is_running:
            return
        if not quality.may_set_clocks(self._policy.longest_holdover_s):
            self.counters["rounds_withheld"] += 1
            details = {"source": quality.source.value, "holdover_s": f"{quality.holdover_s:.0f}", "why": why}
            self._headend.report(EVENT_NOT_SYNCHRONIZED, details=details)
            return
        self._is_running = True
        try:
            await self._round(why, quality)
        finally:
            self._is_running = False
            self._last_round_s = self._utc_s()

    async def _round(self, why: str, quality: TimeQuality) -> None:
        self.counters["rounds"] += 1
        meters = self._meters()
        sent = await self._broadcast(meters)
        await asyncio.sleep(self._flood_s() + self._policy.settle_s)
        after_broadcast = await self._measure(meters)
        outliers = [
            meter
            for meter in meters
            if meter.eui64 not in after_broadcast or abs(after_broadcast[meter.eui64].middle_s) > self._policy.goal_s
        ]
        corrected = [offset for meter in outliers if (offset := await self._correct(meter)) is not None]
        self.counters["outliers"] += len(outliers)
        self.counters["corrected"] += len(corrected)
        rest = [abs(item.middle_s) for key, item in after_broadcast.items() if key not in {m.eui64 for m in outliers}]
        worst_s = max([*rest, *(abs(offset.middle_s) for offset in corrected)], default=0.0)
        details = {
            "why": why,
            "meters": str(len(meters)),
            "broadcasts": str(sent),
            "outliers": str(len(outliers)),
            "corrected": str(len(corrected)),
            "worst_s": f"{worst_s:.3f}",
            "source": quality.source.value,
            "holdover_s": f"{quality.holdover_s:.0f}",
        }
        self._headend.report(EVENT_SYNCHRONIZED, details=details)

    def _meters(self) -> list[Meter]:
        return [meter for meter in self._registry.meters() if meter.state is MeterState.REGISTERED]

    async def _broadcast(self, meters: Iterable[Meter]) -> int:
        """The time to all, by multicast. Meters add how long it was on its way, which every forwarder counts."""
        members = await self._group.admit(meters)
        self._group.begin_round(members)
        sent = self._group.broadcast(members, lambda: set_clock(self._utc_s()))
        self._trace("dcu-clock-broadcast", sent=sent, members=len(members))
        return sent

    async def _measure(self, meters: Iterable[Meter]) -> dict[bytes, ClockOffset]:
        """Clocks of those that answer."""
        found = await asyncio.gather(*(self._offset(meter) for meter in meters))
        return {eui64: offset for eui64, offset in found if offset is not None}

    async def _offset(self, meter: Meter) -> tuple[bytes, ClockOffset | None]:
        try:
            async with self._access.unhurried_turn(meter):
                session = self._sessions.find(meter.eui64)
                return meter.eui64, await self._read(meter, session)
        except (NoAnswerError, MeterRefusedError, StorageError) as error:
            self.counters["unanswered"] += 1
            _LOG.warning("the clock of meter %s cannot be read: %s", meter.name, error)
            return meter.eui64, None

    async def _read(self, meter: Meter, session: MeterSession) -> ClockOffset | None:
        await session.open()
        asked_s = self._utc_s()
        (answer,) = await session.get([AttributeReference(CLASS_CLOCK, CLOCK, _TIME)])
        moment_ms = utc_ms(answer)
        if moment_ms is None:
            return None
        offset = ClockOffset.measured(moment_ms / 1000, asked_s, self._utc_s())
        self._one_way_s[meter.eui64] = offset.one_way_s
        self._trace("dcu-clock-read", eui64=meter.name, offset_s=round(offset.middle_s, 3))
        return offset

    async def _correct(self, meter: Meter) -> ClockOffset | None:
        """Shift or set one clock, and look again: the offset that is left, None if it could not be brought down."""
        for _ in range(_TRIES):
            try:
                async with self._access.turn(meter):
                    session = self._sessions.find(meter.eui64)
                    offset = await self._read(meter, session)
                    if offset is not None and abs(offset.middle_s) <= self._policy.goal_s:
                        return offset
                    await self._move(meter, session, offset)
                    offset = await self._read(meter, session)
            except (NoAnswerError, MeterRefusedError, StorageError) as error:
                _LOG.warning("the clock of meter %s cannot be corrected: %s", meter.name, error)
                continue
            if offset is not None and abs(offset.middle_s) <= self._policy.goal_s:
                return offset
        return None

    async def _move(self, meter: Meter, session: MeterSession, offset: ClockOffset | None) -> None:
        """A shift does not mind how long it is on the way; what it cannot reach is set, with the way added.

        Neither is repeated when no answer comes: it may have been done.
        """
        if offset is not None and 0.5 <= abs(offset.middle_s) <= _SHIFT_LIMIT_S:
            shift_s = -round(offset.middle_s)
            self.counters["shifts"] += 1
            await session.invoke_once(MethodReference(CLASS_CLOCK, CLOCK, _SHIFT_TIME), Data(Tag.LONG, shift_s))
            return
        way_s = self._one_way_s.get(meter.eui64, self._policy.usual_way_s)
        self.counters["steps"] += 1
        value = octet_string(DateTime.from_utc_s(self._utc_s() + way_s).encode())
        await session.set_once(AttributeReference(CLASS_CLOCK, CLOCK, _TIME), value)
