"""The quality of the supply, and tampering with the terminals: voltages, balance, neutral, direction of currents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.hardware.metrology import Instant, Metrology
from protocols.ports import Cancellable, Timers

LOOK_EVERY_S = 900
"""The chip gives a signal when something is disturbed; what drifts slowly is found by looking."""
PERSISTENCE_S = 10.0
"""How long a condition must last to count, and how long it must be over."""

NORMAL, SAG, SWELL, MISSING = "normal", "sag", "swell", "missing"
UNBALANCED, LOST, REVERSED = "unbalanced", "lost", "reversed"
_SAG_SHARE, _SWELL_SHARE, _MISSING_SHARE = 0.9, 1.1, 0.5
"""Shares of the nominal voltage (Kenya's grid code: 90 to 110 %)."""
_UNBALANCE_SHARE = 0.1
"""Largest deviation of a phase from the mean of all."""
_REVERSED_W = -5.0
"""Active power of a phase: what a swapped current transformer shows, and what is generated at home, too."""


@dataclass(slots=True)
class Watched:
    """One thing that is in one of some states. `classify` tells which, `events` what to note when it is a new one."""

    classify: Callable[[Instant], str]
    events: Mapping[str, MeterEvent]
    state: str = NORMAL
    candidate: str = NORMAL
    since_s: float = 0.0


class LineWatch:
    """Looks when the chip signals, and every LOOK_EVERY_S. Costs nothing in between."""

    def __init__(
        self,
        metrology: Metrology,
        events: EventRecorder,
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
        *,
        nominal_v: float,
    ) -> None:
        self._metrology = metrology
        self._events = events
        self._timers = timers
        self._guard = guard
        self._handle: Cancellable | None = None
        phases = range(metrology.phase_count)
        self._watched = [Watched(_voltage_state(phase, nominal_v), _voltage_events(phase)) for phase in phases]
        self._watched.append(
            Watched(
                lambda _: NORMAL if metrology.neutral_present else LOST, _pair(LOST, "neutral_lost", "neutral_back")
            )
        )
        reversed_events = _pair(REVERSED, "current_reversed", "current_normal")
        self._watched.append(Watched(_current_state, reversed_events))
        if metrology.phase_count > 1:
            self._watched.append(Watched(_balance_state, _pair(UNBALANCED, "voltage_unbalanced", "voltage_balanced")))

    def start(self) -> None:
        self._metrology.on_disturbed.append(self._disturbed)
        self.look()

    def stop(self) -> None:
        if self._disturbed in self._metrology.on_disturbed:
            self._metrology.on_disturbed.remove(self._disturbed)
        self._cancel()

    def look(self) -> None:
        """Compare what is there now with what was noted last."""
        instant, now_s = self._metrology.instant(), self._timers.time()
        waiting_s = []
        for item in self._watched:
            state = item.classify(instant)
            if state == item.state:
                item.candidate = state
                continue
            if state != item.candidate:
                item.candidate, item.since_s = state, now_s
            if now_s - item.since_s >= PERSISTENCE_S:
                item.state = state
                self._events.record(item.events[state])
            else:
                waiting_s.append(item.since_s + PERSISTENCE_S)
        self._cancel()
        if waiting_s:
            self._handle = self._timers.call_at(min(waiting_s), self._disturbed)

    def _disturbed(self) -> None:
        self._guard(self.look)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def _voltage_state(phase: int, nominal_v: float) -> Callable[[Instant], str]:
    def classify(instant: Instant) -> str:
        voltage_v = instant.phases[phase].voltage_v
        if voltage_v < _MISSING_SHARE * nominal_v:
            return MISSING
        if voltage_v < _SAG_SHARE * nominal_v:
            return SAG
        return SWELL if voltage_v > _SWELL_SHARE * nominal_v else NORMAL

    return classify


def _voltage_events(phase: int) -> dict[str, MeterEvent]:
    return {state: MeterEvent(f"voltage_{state}_l{phase + 1}") for state in (NORMAL, SAG, SWELL, MISSING)}


def _pair(state: str, begins: str, ends: str) -> dict[str, MeterEvent]:
    return {state: MeterEvent(begins), NORMAL: MeterEvent(ends)}


def _current_state(instant: Instant) -> str:
    return REVERSED if any(phase.active_power_w < _REVERSED_W for phase in instant.phases) else NORMAL


def _balance_state(instant: Instant) -> str:
    voltages_v = [phase.voltage_v for phase in instant.phases]
    mean_v = sum(voltages_v) / len(voltages_v)
    worst_v = max(abs(voltage_v - mean_v) for voltage_v in voltages_v)
    return UNBALANCED if worst_v > _UNBALANCE_SHARE * mean_v else NORMAL
