"""What the firmware itself notes in its logs: power, clock, and attempts to get in."""

from __future__ import annotations

import math

from meters.firmware.event_names import MeterEvent
from meters.firmware.services import Services
from protocols.dlms.server import SecurityEvent

_ALIVE = "alive_utc_s"
_SAME_EVENT_S = 60.0
"""An attacker must not wear the flash out: one row a minute for the same kind of attempt."""
_ON_ITS_WAY_S = 60.0
"""A mesh doubles datagrams and lets them overtake each other. What comes within this time after its number was passed
is refused like any replay, and counted, but is no attempt to get in."""
_HANDED_ON_S = 1800.0
"""For so long forwarders keep a multicast for who has not got it (SEED_SET_ENTRY_LIFETIME of RFC 7731), and a meter
that starts anew has got none: those from before its start come again, and it does not know how late they are."""

_SECURITY_EVENTS = {
    "refused": MeterEvent.AUTHENTICATION_FAILURE,
    "locked": MeterEvent.ASSOCIATION_LOCKED,
    "protection": MeterEvent.DECRYPTION_FAILURE,
    "keys_changed": MeterEvent.KEYS_CHANGED,
}


class Diary:
    """Power and clock events. A power-down without a warning is noted at the next start, at the last sign of life."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._events = services.events
        self._was_dst = False
        services.clock.on_change.append(self._clock_changed)

    def started(self, *, by_power: bool) -> None:
        """The firmware has started; unless `by_power`, mains was there all the time."""
        services, clock = self._services, self._services.clock
        last_alive_s = services.counters.load(_ALIVE)
        if by_power and last_alive_s is not None:
            self._events.record(MeterEvent.POWER_DOWN, float(last_alive_s))
        if not clock.valid:
            self._events.record(MeterEvent.CLOCK_INVALID)
        if by_power:
            self._events.record(MeterEvent.POWER_UP)
        self._was_dst = clock.is_dst(clock.utc_s())
        self._alive()

    def power_failing(self) -> None:
        self._events.record(MeterEvent.POWER_DOWN)
        self._services.counters.delete(_ALIVE)

    def power_restored(self) -> None:
        self._events.record(MeterEvent.POWER_UP)
        self._alive()

    def checkpoint(self) -> None:
        """A quarter of an hour has passed: leave a sign of life, look for a change of daylight saving."""
        clock = self._services.clock
        is_dst = clock.is_dst(clock.utc_s())
        if is_dst != self._was_dst:
            self._was_dst = is_dst
            self._events.record(MeterEvent.DST_CHANGED)
        self._alive()

    def _alive(self) -> None:
        self._services.counters.save(_ALIVE, int(self._services.clock.utc_s()))

    def _clock_changed(self, before_s: float, after_s: float) -> None:
        self._events.record(MeterEvent.CLOCK_ADJUSTED_OLD, before_s)
        self._events.record(MeterEvent.CLOCK_ADJUSTED_NEW, after_s)
        self._was_dst = self._services.clock.is_dst(after_s)


class SecurityDiary:
    """Security events of the COSEM server."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._last_s: dict[MeterEvent, float] = {}
        self._started_s = services.timers.time()

    def note(self, event: SecurityEvent) -> None:
        services = self._services
        services.trace("meter.security", event=event.kind, client_sap=event.client_sap, reason=event.reason)
        noted = _SECURITY_EVENTS.get(event.kind)
        if event.reason.endswith("replay"):
            if self._is_of_the_network(event):
                return
            noted = MeterEvent.REPLAY_REFUSED
        if noted is None:
            return
        now_s = services.timers.time()
        last_s = self._last_s.get(noted)
        if last_s is None or now_s - last_s >= _SAME_EVENT_S:
            self._last_s[noted] = now_s
            services.events.record(noted)

    def _is_of_the_network(self, event: SecurityEvent) -> bool:
        if event.late_s is None:
            return False
        if math.isinf(event.late_s):
            return event.now - self._started_s < _HANDED_ON_S
        return event.late_s < _ON_ITS_WAY_S
