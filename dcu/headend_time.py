"""The head-end's time as a reference: asked for now and then, and whenever a second opinion is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dcu.config import TimePolicy
from dcu.discipline import TimeSample
from dcu.headend import Headend
from dcu.timekeeper import Timekeeper
from protocols.headend.messages import Message
from protocols.headend.time_check import TimeAnswer, TimeRequest, TimeSource

_LONGEST_ROUND_TRIP_S = 20.0
_DOUBT_SPACING_S = 30.0


class HeadendTime:
    """Asks for the time while the uplink is up, and offers the answers to the clock.

    The moment of the answer is taken in the middle of the round trip, and half of the round trip is its uncertainty.
    An answer that took more than 20 s is no use.
    """

    def __init__(
        self,
        policy: TimePolicy,
        headend: Headend,
        keeper: Timekeeper,
        *,
        is_online: Callable[[], bool],
    ) -> None:
        self._policy = policy
        self._headend = headend
        self._keeper = keeper
        self._is_online = is_online
        self._asked: tuple[str, float] | None = None
        self._last_asked_s = float("-inf")
        self._wake = asyncio.Event()
        headend.on(TimeAnswer, self._answered)
        keeper.on_doubt = self._wake.set

    def online(self) -> None:
        """The uplink is up again."""
        if self._keeper.quality().source not in (TimeSource.GPS, TimeSource.PTP):
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            if self._is_online():
                self._ask()
            better = self._keeper.quality().source in (TimeSource.GPS, TimeSource.PTP, TimeSource.NETWORK)
            wait_s = self._policy.ask_s if better else self._policy.ask_first_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            early_s = self._last_asked_s + _DOUBT_SPACING_S - self._keeper.count_s()
            if early_s > 0:
                await asyncio.sleep(early_s)

    def _ask(self) -> None:
        identifier = self._headend.new_id()
        self._last_asked_s = self._keeper.count_s()
        self._asked = (identifier, self._last_asked_s)
        self._headend.send(TimeRequest(identifier))

    def _answered(self, message: Message) -> None:
        if not isinstance(message, TimeAnswer) or self._asked is None or message.request_id != self._asked[0]:
            return
        asked_s, self._asked = self._asked[1], None
        now_s = self._keeper.count_s()
        round_trip_s = now_s - asked_s - (message.sent_utc_ms - message.received_utc_ms) / 1000
        if not 0 <= round_trip_s <= _LONGEST_ROUND_TRIP_S:
            return
        sample = TimeSample(now_s - round_trip_s / 2, message.sent_utc_ms / 1000, round_trip_s / 2 + 0.001)
        self._keeper.offer(TimeSource.NETWORK, sample)
        if message.leap_at_utc_ms is not None and message.leap_step_s:
            self._keeper.announce_leap(message.leap_at_utc_ms // 1000, message.leap_step_s)
