"""Load shedding: the system operator disconnects groups of meters and restores them, staggered.

An order is a supply request for each meter of the group, each at its time. A meter counts as disconnected or restored
when the contacts were read back so; what became of every meter is part of the order's result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from protocols.errors import BadInputError
from protocols.headend.supply import SupplyAction, SupplyStatus
from protocols.ports import Cancellable, Timers, Trace
from twin.hes.shedding_store import SheddingStore
from twin.hes.shedding_tables import OrderPart, SheddingOrder
from twin.hes.supply import MAX_TIMEOUT_S, MIN_TIMEOUT_S, SupplyService
from twin.hes.supply_tables import SupplyRecord
from twin.hes.tables import RequestStatus

DEFAULT_TIMEOUT_S = 120.0
MAX_STAGGER_S = 3600.0
WAITING, WITHDRAWN = "waiting", "withdrawn"
"""A part whose time has not come, and one that a later order for its meter has overtaken."""
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one meter. `status` is that of its supply request, or WAITING, or WITHDRAWN."""

    serial: str
    status: str
    connected: bool | None
    detail: str
    due_utc_ms: int
    completed_utc_ms: int | None
    verified: bool
    """The meter's own contacts were read where the order wants them."""

    @property
    def ended(self) -> bool:
        return self.status not in {WAITING, RequestStatus.PENDING}


@dataclass(frozen=True, slots=True)
class OrderResult:
    order: SheddingOrder
    parts: tuple[PartResult, ...]

    @property
    def status(self) -> str:
        """pending, done (all verified), partial (ended, and some were not), or withdrawn."""
        if not all(part.ended for part in self.parts):
            return "pending"
        if all(part.verified for part in self.parts):
            return "done"
        return WITHDRAWN if all(part.status == WITHDRAWN for part in self.parts) else "partial"

    @property
    def verified(self) -> int:
        return sum(part.verified for part in self.parts)


class SheddingService:
    """Groups and orders. `supply` carries out each meter's part; `is_known` says whether a meter has registered.

    `notify` tells whoever watches, `changed` returns after the next message or ended request of the head-end.
    """

    def __init__(
        self,
        store: SheddingStore,
        supply: SupplyService,
        *,
        timers: Timers,
        now_ms: Callable[[], int],
        is_known: Callable[[str], bool],
        notify: Callable[[], None],
        changed: Callable[[], Awaitable[None]],
        prefix: str,
        trace: Trace,
    ) -> None:
        self.store = store
        self._supply = supply
        self._timers = timers
        self._now_ms = now_ms
        self._is_known = is_known
        self._notify = notify
        self._changed = changed
        self._prefix = prefix
        self._trace = trace
        self._timer: Cancellable | None = None
        self._arm()

    def stop(self) -> None:
        """Parts that are still to begin begin after the next start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def define(self, group: str, serials: Sequence[str]) -> list[str]:
        """Make a group or replace its members. Raises BadInputError for a bad name, meters that never registered, a
        meter twice, or one of another group."""
        if not _GROUP.fullmatch(group):
            raise BadInputError("1 to 32 letters, digits, - or _", key="group")
        if not serials:
            raise BadInputError("name at least one meter", key="serials")
        if len(set(serials)) != len(serials):
            raise BadInputError("a meter is named twice", key="serials")
        unknown = [serial for serial in serials if not self._is_known(serial)]
        if unknown:
            raise BadInputError(f"no meter of this serial number has registered: {', '.join(unknown)}", key="serials")
        for other, members in self.store.groups().items():
            taken = sorted(set(members) & set(serials))
            if other != group and taken:
                raise BadInputError(f"{', '.join(taken)} belongs to group {other!r} already", key="serials")
        self.store.define(group, serials)
        self._trace("hes.shedding_group", group=group, serials=list(serials))
        return list(serials)

    def remove(self, group: str) -> bool:
        """Forget a group; False if there is none. Orders of it go on."""
        known = group in self.store.groups()
        self.store.define(group, [])
        return known

    def order(
        self, group: str, action: SupplyAction, *, stagger_s: float = 0.0, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> OrderResult:
        """Disconnect or reconnect a group, a meter every `stagger_s` in the group's order. Each has `timeout_s` from
        when it is due. What earlier orders still wait to do with these meters is withdrawn.

        Raises BadInputError for a group that there is not and for times out of range.
        """
        members = self.store.groups().get(group)
        if members is None:
            raise BadInputError(f"no group {group!r}", key="group")
        if not (math.isfinite(stagger_s) and 0.0 <= stagger_s <= MAX_STAGGER_S):
            raise BadInputError(f"must be 0 to {MAX_STAGGER_S:g}", key="stagger_s")
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            raise BadInputError(f"must be {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}", key="timeout_s")
        overtaken = [part for part in self.store.waiting() if part.serial in members]
        self.store.withdraw(overtaken)
        now_ms, sequence = self._now_ms(), self.store.next_sequence()
        order = SheddingOrder(
            order_id=f"shedding-{self._prefix}-{sequence}", sequence=sequence, group=group, action=action.value,
            stagger_s=stagger_s, timeout_s=timeout_s, created_utc_ms=now_ms,
        )  # fmt: skip
        parts = [
            OrderPart(
                order_id=order.order_id, serial=serial, position=place, withdrawn=False,
                due_utc_ms=now_ms + round(place * stagger_s * 1000),
            )
            for place, serial in enumerate(members)
        ]  # fmt: skip
        self.store.add(order, parts)
        self._trace("hes.shedding_order", order=order.order_id, group=group, action=action.value, meters=len(members))
        self._begin_due()
        self._notify()
        return self.result(order.order_id)

    def result(self, order_id: str) -> OrderResult:
        """What became of an order so far. Raises KeyError for an unknown id."""
        order = self.store.order(order_id)
        if order is None:
            raise KeyError(order_id)
        return OrderResult(order, tuple(self._part(order, part) for part in self.store.parts(order_id)))

    async def wait(self, order_id: str) -> OrderResult:
        """The order when all its meters' parts have ended. Raises KeyError for an unknown id."""
        while (result := self.result(order_id)).status == "pending":
            await self._changed()
        return result

    def _part(self, order: SheddingOrder, part: OrderPart) -> PartResult:
        request = None if part.request_id is None else self._supply.store.request(part.request_id)
        if request is None:
            status = WITHDRAWN if part.withdrawn else WAITING
            return PartResult(part.serial, status, None, "", part.due_utc_ms, None, verified=False)
        return PartResult(
            part.serial, request.status, request.connected, request.detail or "", part.due_utc_ms,
            request.completed_utc_ms, verified=_is_verified(order, request),
        )  # fmt: skip

    def _begin_due(self) -> None:
        now_ms = self._now_ms()
        for part in self.store.waiting():
            order = self.store.order(part.order_id)
            if part.due_utc_ms > now_ms or order is None:
                continue
            request = self._supply.request(part.serial, SupplyAction(order.action), timeout_s=order.timeout_s)
            self.store.begin(part, request.request_id)
        self._arm()

    def _arm(self) -> None:
        self.stop()
        waiting = self.store.waiting()
        if waiting:
            remaining_s = max(0.0, (waiting[0].due_utc_ms - self._now_ms()) / 1000)
            self._timer = self._timers.call_at(self._timers.time() + remaining_s, self._begin_due)


def _is_verified(order: SheddingOrder, request: SupplyRecord) -> bool:
    wanted = order.action == SupplyAction.RECONNECT
    return request.status == SupplyStatus.OK and request.connected is wanted
