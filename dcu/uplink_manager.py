"""Which way the uplink takes: satellite as long as it carries, cellular while it does not, and back with care.

To the rest of the concentrator it is the uplink itself; messages, subscriptions and the session stay with the one MQTT
client beneath, which changes its way and takes its session up again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import Enum, StrEnum, auto
from typing import Protocol

from dcu.config import UplinkPolicy
from dcu.uplink import RoutedUplink, UplinkListener, Will
from protocols.errors import LocalProtocolError
from protocols.ports import Cancellable, Trace

_LOG = logging.getLogger(__name__)
EVENT_CHANGED = "uplink-changed"
EVENT_CELLULAR = "cellular-changed"
_MOST_TRIALS = 24


class Way(StrEnum):
    SATELLITE = "satellite"
    CELLULAR = "cellular"


class Cause(Enum):
    """Why the way is changed."""

    NO_CONNECTION = auto()
    STALLED = auto()
    DETACHED = auto()
    PREFERRED_IS_BACK = auto()


MOVES: dict[tuple[Way, Cause], Way] = {
    (Way.SATELLITE, Cause.NO_CONNECTION): Way.CELLULAR,
    (Way.SATELLITE, Cause.STALLED): Way.CELLULAR,
    (Way.CELLULAR, Cause.NO_CONNECTION): Way.SATELLITE,
    (Way.CELLULAR, Cause.STALLED): Way.SATELLITE,
    (Way.CELLULAR, Cause.DETACHED): Way.SATELLITE,
    (Way.CELLULAR, Cause.PREFERRED_IS_BACK): Way.SATELLITE,
}
"""A satellite terminal detaches from nothing, and there is nothing better than it: those two are missing."""


class CellularModem(Protocol):
    """What the manager has to know of a modem: see `dcu.modem.ModemDriver`."""

    @property
    def is_ready(self) -> bool: ...

    def carried_nothing(self) -> None: ...

    def describe(self) -> dict[str, str]: ...


class AlwaysOpen:
    """A cellular way that needs no modem of ours, such as a router's."""

    @property
    def is_ready(self) -> bool:
        return True

    def carried_nothing(self) -> None:
        """Nothing can be done about it."""

    def describe(self) -> dict[str, str]:
        return {}


class _Alarm:
    """One timer, set or not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: Cancellable | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, delay_s: float, ring: Callable[[], None]) -> None:
        """In the place of what was set before."""
        self.cancel()
        self._timer = self._loop.call_later(delay_s, self._due, ring)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, ring: Callable[[], None]) -> None:
        self._timer = None
        ring()


class UplinkManager:
    """See `dcu.uplink.Uplink`. `probe(way)` says whether the head-end's broker answers over a way that is not in use.

    `modem` is asked whether the cellular way is open, and told when it carried nothing. `report(kind, details)`, which
    its owner sets, takes events for the head-end.
    """

    def __init__(
        self,
        policy: UplinkPolicy,
        uplink: RoutedUplink,
        modem: CellularModem,
        *,
        probe: Callable[[str], Awaitable[bool]],
        loop: asyncio.AbstractEventLoop,
        trace: Trace,
    ) -> None:
        self._policy = policy
        self._uplink = uplink
        self._modem = modem
        self._probe = probe
        self._loop = loop
        self._trace = trace
        self._listener: UplinkListener | None = None
        self._deadline, self._stall, self._detached = _Alarm(loop), _Alarm(loop), _Alarm(loop)
        self._prober: asyncio.Task[None] | None = None
        self._outstanding: set[int] = set()
        self._last_sign_s = 0.0
        self._trials_needed = policy.return_after
        self._returned_s: float | None = None
        self._cellular: dict[str, str] = {}
        self._was_ready = False
        self.way = Way.SATELLITE
        self.report: Callable[[str, dict[str, str]], None] = lambda kind, details: None
        self.counters: Counter[str] = Counter()

    # the port

    def start(self, listener: UplinkListener, will: Will | None = None) -> None:
        self._listener = listener
        inner = UplinkListener(
            connected=self._connected,
            disconnected=self._disconnected,
            message=self._message,
            confirmed=self._confirmed,
        )
        self._uplink.route(self.way)
        self._uplink.start(inner, will)
        self._trace("dcu-uplink-way", way=self.way.value, reason="start")
        self._expect_connection()

    def stop(self) -> None:
        self._end()
        self._uplink.stop()

    def abort(self) -> None:
        self._end()
        self._uplink.abort()

    @property
    def is_connected(self) -> bool:
        return self._uplink.is_connected

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        self._uplink.subscribe(topic_filter, qos)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        message_id = self._uplink.publish(topic, payload, qos=qos, retain=retain)
        if qos > 0:
            if not self._outstanding:
                self._last_sign_s = self._loop.time()
            self._outstanding.add(message_id)
            self._watch_progress()
        return message_id

    # the modem speaks

    def modem_changed(self) -> None:
        """Called by the modem's driver whenever what it knows changes."""
        if self._listener is None:
            return
        found = self._modem.describe()
        # What a search goes through is nobody's business: only what is ready, and that it no longer is.
        was_ready, is_ready = self._was_ready, self._modem.is_ready
        if found != self._cellular and (is_ready or was_ready):
            self.report(EVENT_CELLULAR, found)
            self._cellular, self._was_ready = found, is_ready
        if self._modem.is_ready:
            self._detached.cancel()
        elif self.way is Way.CELLULAR and not self._detached.is_set:
            self._detached.set(self._policy.give_up_s, self._still_detached)

    def _still_detached(self) -> None:
        if self.way is Way.CELLULAR and not self._modem.is_ready:
            self._move(Cause.DETACHED)

    # the connection speaks

    def _connected(self, session_present: bool) -> None:
        self._deadline.cancel()
        self._sign()
        self.counters["sessions_resumed" if session_present else "sessions_begun"] += 1
        self._trace("dcu-uplink-way", way=self.way.value, reason="connected")
        if self.way is Way.CELLULAR and self._prober is None:
            self._prober = self._loop.create_task(self._try_preferred(), name="uplink probes")
        if self._listener is not None:
            self._listener.connected(session_present)

    def _disconnected(self, reason: str) -> None:
        if not self._deadline.is_set:
            self._expect_connection()
        if self._listener is not None:
            self._listener.disconnected(reason)

    def _message(self, topic: str, payload: bytes) -> None:
        self._sign()
        if self._listener is not None:
            self._listener.message(topic, payload)

    def _confirmed(self, message_id: int) -> None:
        self._outstanding.discard(message_id)
        self._sign()
        if self._listener is not None:
            self._listener.confirmed(message_id)

    def _expect_connection(self) -> None:
        self._deadline.set(self._policy.give_up_s, self._no_connection)

    def _no_connection(self) -> None:
        if self.is_connected:
            return
        if self.way is Way.CELLULAR:
            self._modem.carried_nothing()
        self._move(Cause.NO_CONNECTION)

    # messages that nobody confirms

    def _sign(self) -> None:
        self._last_sign_s = self._loop.time()

    def _watch_progress(self) -> None:
        if not self._stall.is_set:
            wait_s = self._last_sign_s + self._policy.stalled_s - self._loop.time()
            self._stall.set(max(wait_s, 0.0), self._look_at_progress)

    def _look_at_progress(self) -> None:
        if not self._outstanding:
            return
        silent_s = self._loop.time() - self._last_sign_s
        if self.is_connected and silent_s >= self._policy.stalled_s - 1e-6:
            self._sign()
            if self.way is Way.CELLULAR:
                self._modem.carried_nothing()
            self._move(Cause.STALLED)
        elif not self.is_connected:
            self._sign()
        self._watch_progress()

    # changing the way

    def _move(self, cause: Cause) -> None:
        target = MOVES.get((self.way, cause))
        if target is None:
            raise LocalProtocolError(f"{cause.name} is no reason to leave {self.way}")
        if target is Way.CELLULAR and not self._modem.is_ready:
            target = self.way  # there is no other way yet: a new connection over this one
        now_s = self._loop.time()
        if self.way is Way.SATELLITE and target is Way.CELLULAR:
            is_flap = self._returned_s is not None and now_s - self._returned_s < self._policy.flap_s
            self._trials_needed = min(2 * self._trials_needed, _MOST_TRIALS) if is_flap else self._policy.return_after
        if cause is Cause.PREFERRED_IS_BACK:
            self._returned_s = now_s
        if self._prober is not None and asyncio.current_task(self._loop) is not self._prober:
            self._prober.cancel()
        self._prober = None
        was, self.way = self.way, target
        reason = cause.name.lower().replace("_", "-")
        if was is not target:
            self.counters[f"to_{target.value}"] += 1
            _LOG.warning("uplink: from %s to %s, %s", was, target, reason)
            self._trace("dcu-uplink-way", way=target.value, reason=reason)
            self.report(EVENT_CHANGED, {"from": was.value, "to": target.value, "reason": reason})
        self._expect_connection()
        self._uplink.route(target)

    async def _try_preferred(self) -> None:
        """While the preferred way is not in use: does it carry again, and does it go on doing so?"""
        good, wait_s = 0, self._policy.probe_s
        while good < self._trials_needed:
            await asyncio.sleep(wait_s)
            answered = await self._probe(Way.SATELLITE)
            self.counters["probes_answered" if answered else "probes_lost"] += 1
            good = good + 1 if answered else 0
            wait_s = self._policy.probe_s if answered else min(2 * wait_s, self._policy.probe_max_s)
        self._move(Cause.PREFERRED_IS_BACK)

    def _end(self) -> None:
        self._listener = None
        for alarm in (self._deadline, self._stall, self._detached):
            alarm.cancel()
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None
