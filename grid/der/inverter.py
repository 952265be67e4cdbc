"""An inverter after IEEE 1547-2018, per unit and table-driven.

Time comes in steps. Within a step voltage and frequency are constant; a step of 20 ms or less resolves the shortest
clearing time of 0.16 s.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, replace

from grid.der.categories import (
    CESSATION_RESPONSE_S,
    ROCOF_HZ_PER_S,
    SINGLE_PHASE_JUMP_DEG,
    Category,
    TripPoint,
)
from grid.der.control import Response, active_target, reactive_target
from grid.der.settings import DerSettings, Profile, Rating

_TINY = 1e-6
_ROCOF_WINDOW_S = 0.1
_ROCOF_TRIP_S = 0.5


class DerState(enum.Enum):
    TRIPPED = "tripped"
    """Off after a trip, or not permitted to run, until the grid is within the limits of entering service."""
    WAITING = "waiting"
    """The grid is fit; the delay runs."""
    RAMPING = "ramping"
    RUNNING = "running"
    CEASED = "ceased"
    """Momentary cessation: connected, exporting nothing."""


class DerEvent(enum.Enum):
    GRID_FIT = enum.auto()
    GRID_UNFIT = enum.auto()
    """Outside the limits of entering service."""
    DELAY_ELAPSED = enum.auto()
    RAMP_ELAPSED = enum.auto()
    TRIP = enum.auto()
    FORBIDDEN = enum.auto()
    """The permission to be in service was withdrawn."""
    CESSATION_BEGINS = enum.auto()
    CESSATION_ENDS = enum.auto()


_S, _E = DerState, DerEvent

TRANSITIONS: dict[tuple[DerState, DerEvent], DerState] = {
    **{(state, event): state for state in _S for event in _E},
    (_S.TRIPPED, _E.GRID_FIT): _S.WAITING,
    (_S.WAITING, _E.GRID_UNFIT): _S.TRIPPED,
    (_S.WAITING, _E.DELAY_ELAPSED): _S.RAMPING,
    (_S.RAMPING, _E.RAMP_ELAPSED): _S.RUNNING,
    (_S.RAMPING, _E.CESSATION_BEGINS): _S.CEASED,
    (_S.RUNNING, _E.CESSATION_BEGINS): _S.CEASED,
    (_S.CEASED, _E.CESSATION_ENDS): _S.RUNNING,
    **{(state, _E.TRIP): _S.TRIPPED for state in _S},
    **{(state, _E.FORBIDDEN): _S.TRIPPED for state in _S},
}
"""Complete: what is not named above leaves the state as it is."""


@dataclass(frozen=True, slots=True)
class GridPoint:
    """The grid at the inverter's terminals. `phase_deg` is the angle against an undisturbed grid."""

    voltage_pu: float = 1.0
    hz: float = 50.0
    phase_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class DerEventRecord:
    """A change of state: when (s), what, and why in words."""

    at_s: float
    event: DerEvent
    before: DerState
    after: DerState
    reason: str


class Inverter:
    """One inverter. It begins in service if no trip limit is passed at its first step, as one that has run for hours.

    `available_pct` is what sun or storage could give, in percent of the rated active power; the bench sets it.
    """

    def __init__(self, profile: Profile, category: Category, rating: Rating | None = None) -> None:
        self.profile = profile
        self.rating = rating or Rating(nominal_v=profile.nominal_v)
        self.available_pct = 100.0
        self.events: deque[DerEventRecord] = deque(maxlen=1000)
        self.event_count = 0
        self._settings = profile.settings(category, self.rating)
        self._state: DerState | None = None
        self._now_s = 0.0
        self._since_s = 0.0
        self._grid = GridPoint(hz=profile.nominal_hz)
        self._beyond_s: dict[str, float] = {}
        self._recent: deque[tuple[float, float]] = deque()
        self._rocof_s = 0.0
        self._cease_s = 0.0
        self._limit_reverts_s: float | None = None
        self._active, self._reactive = Response(), Response()
        self._ramped_pct = 0.0
        self._pre_disturbance_pct: float | None = None
        self.exported_wh = 0.0
        self.trip_reason = ""

    @property
    def state(self) -> DerState:
        return self._state or DerState.TRIPPED

    @property
    def settings(self) -> DerSettings:
        return self._settings

    @property
    def grid(self) -> GridPoint:
        return self._grid

    @property
    def connected(self) -> bool:
        return self.state in {DerState.RAMPING, DerState.RUNNING, DerState.CEASED}

    @property
    def active_w(self) -> float:
        return self._active.value * self.rating.active_w / 100.0 if self._exports else 0.0

    @property
    def reactive_var(self) -> float:
        """Injected reactive power: positive raises the voltage."""
        return self._reactive.value * self.rating.apparent_va / 100.0 if self._exports else 0.0

    @property
    def _exports(self) -> bool:
        return self.state in {DerState.RAMPING, DerState.RUNNING}

    @property
    def entry_remaining_s(self) -> float:
        """What is left of the delay before entering service."""
        if self.state is not DerState.WAITING:
            return 0.0
        return max(0.0, self._settings.enter.delay_s - (self._now_s - self._since_s))

    @property
    def limit_revert_remaining_s(self) -> float:
        return 0.0 if self._limit_reverts_s is None else max(0.0, self._limit_reverts_s - self._now_s)

    def next_change_s(self, grid: GridPoint) -> float:
        """How long this grid can last before a timer of the inverter ends: a trip, the delay of entering service, a
        momentary cessation, a limit that reverts; infinity if none runs. A ramp is no timer."""
        ends = [self.limit_revert_remaining_s] if self._limit_reverts_s is not None else []
        if self.connected:
            ends += [
                point.clearing_s - self._beyond_s.get(name, 0.0)
                for name, enabled, value, point, sign in self._trip_rows(grid)
                if enabled and sign * (value - point.limit) > _TINY
            ]
            ceasing = self._to_cease(grid)
            if ceasing != (self.state is DerState.CEASED):
                ends.append(CESSATION_RESPONSE_S - self._cease_s if ceasing else 0.0)
        fits = self._settings.enter.permitted and self._fit(grid)
        if self.state is DerState.WAITING and fits:
            ends.append(self.entry_remaining_s)
        if (self.state is DerState.TRIPPED) == fits:
            ends += [0.0] if self.state in {DerState.TRIPPED, DerState.WAITING} else []
        return max(0.0, min(ends, default=math.inf))

    def apply(self, settings: DerSettings) -> None:
        """Take new settings. Raises BadInputError, and keeps the old ones, if any lies outside its range."""
        settings.check(self.profile, self.rating)
        old, new = self._settings.power, settings.power
        self._settings = settings
        if new.limit_revert_s > 0.0 and new.limit_enabled and new != old:
            self._limit_reverts_s = self._now_s + new.limit_revert_s
        elif not new.limit_enabled or new.limit_revert_s == 0.0:
            self._limit_reverts_s = None

    def step(self, grid: GridPoint, duration_s: float) -> None:
        """Live through `duration_s` of this grid. Raises ValueError for values that are no numbers."""
        if not all(math.isfinite(value) for value in (grid.voltage_pu, grid.hz, grid.phase_deg, duration_s)):
            raise ValueError(f"a grid of {grid} cannot be")
        jump_deg = abs((grid.phase_deg - self._grid.phase_deg + 180.0) % 360.0 - 180.0) if self._state else 0.0
        self._grid = grid
        if self._state is None:
            self._start()
        self._now_s += duration_s
        self._revert_limit()
        for event, reason in self._observe(duration_s, jump_deg):
            self._handle(event, reason)
        self._control(duration_s)
        self.exported_wh += max(self.active_w, 0.0) * duration_s / 3600.0

    def _start(self) -> None:
        volts, hertz = self._settings.voltage, self._settings.frequency
        inside = volts.uv1.limit - _TINY <= self._grid.voltage_pu <= volts.ov1.limit + _TINY
        inside = inside and hertz.uf1.limit - _TINY <= self._grid.hz <= hertz.of1.limit + _TINY
        fit = inside and self._settings.enter.permitted
        self._state = DerState.RUNNING if fit else DerState.TRIPPED
        self._ramped_pct = 100.0 if fit else 0.0
        self._active.value = self.available_pct if fit else 0.0

    def _handle(self, event: DerEvent, reason: str) -> None:
        """The only place that changes the state."""
        before = self.state
        after = TRANSITIONS[before, event]
        if after is before:
            return
        self._state, self._since_s = after, self._now_s
        if after is DerState.TRIPPED and before is not DerState.WAITING:
            self.trip_reason = reason
        if after in {DerState.TRIPPED, DerState.RAMPING}:
            self._active, self._reactive, self._ramped_pct = Response(), Response(), 0.0
        if after is DerState.RUNNING and before is DerState.RAMPING:
            self.trip_reason = ""
        if after is DerState.RUNNING:
            self._ramped_pct = 100.0
        self.event_count += 1
        self.events.append(DerEventRecord(self._now_s, event, before, after, reason))

    def _observe(self, duration_s: float, jump_deg: float) -> list[tuple[DerEvent, str]]:
        found: list[tuple[DerEvent, str]] = []
        reason = self._trip_reason(duration_s, jump_deg)
        if reason and self.connected:
            found.append((DerEvent.TRIP, reason))
        if not self._settings.enter.permitted:
            found.append((DerEvent.FORBIDDEN, "permission to be in service withdrawn"))
        elif self._fit(self._grid):
            found.append((DerEvent.GRID_FIT, "grid within the limits of entering service"))
        else:
            found.append((DerEvent.GRID_UNFIT, "grid outside the limits of entering service"))
        elapsed_s = self._now_s - self._since_s + _TINY
        if self.state is DerState.WAITING and elapsed_s >= self._settings.enter.delay_s:
            found.append((DerEvent.DELAY_ELAPSED, f"{self._settings.enter.delay_s:g} s have passed"))
        if self.state is DerState.RAMPING and elapsed_s >= self._settings.enter.ramp_s:
            found.append((DerEvent.RAMP_ELAPSED, f"{self._settings.enter.ramp_s:g} s have passed"))
        return found + self._cessation(duration_s)

    def _fit(self, grid: GridPoint) -> bool:
        enter = self._settings.enter
        return (
            enter.low_pu - _TINY <= grid.voltage_pu <= enter.high_pu + _TINY
            and enter.low_hz - _TINY <= grid.hz <= enter.high_hz + _TINY
        )

    def _cessation(self, duration_s: float) -> list[tuple[DerEvent, str]]:
        if self._settings.category is not Category.III:
            return []
        voltage, outside = self._grid.voltage_pu, self._to_cease(self._grid)
        self._cease_s = self._cease_s + duration_s if outside else 0.0
        if not outside:
            return [(DerEvent.CESSATION_ENDS, "voltage is back")]
        # It has to have ceased within 83 ms: the last step that ends before that is the one to act in.
        if self._cease_s + duration_s > CESSATION_RESPONSE_S:
            return [(DerEvent.CESSATION_BEGINS, f"voltage {voltage:.3f} pu")]
        return []

    def _to_cease(self, grid: GridPoint) -> bool:
        """Whether this voltage is one of momentary cessation."""
        outside = grid.voltage_pu < 0.50 - _TINY or grid.voltage_pu > 1.10 + _TINY
        return outside and self._settings.category is Category.III

    def _trip_rows(self, grid: GridPoint) -> tuple[tuple[str, bool, float, TripPoint, int], ...]:
        """Name, whether enabled, quantity, limit, and the side of the limit that trips (-1: below)."""
        settings = self._settings
        low_v, high_v, low_f, high_f = settings.trips_enabled
        return (
            ("UV2", low_v, grid.voltage_pu, settings.voltage.uv2, -1),
            ("UV1", low_v, grid.voltage_pu, settings.voltage.uv1, -1),
            ("OV2", high_v, grid.voltage_pu, settings.voltage.ov2, 1),
            ("OV1", high_v, grid.voltage_pu, settings.voltage.ov1, 1),
            ("UF2", low_f, grid.hz, settings.frequency.uf2, -1),
            ("UF1", low_f, grid.hz, settings.frequency.uf1, -1),
            ("OF2", high_f, grid.hz, settings.frequency.of2, 1),
            ("OF1", high_f, grid.hz, settings.frequency.of1, 1),
        )

    def _trip_reason(self, duration_s: float, jump_deg: float) -> str:
        reason = ""
        for name, enabled, value, point, sign in self._trip_rows(self._grid):
            beyond = enabled and sign * (value - point.limit) > _TINY
            self._beyond_s[name] = self._beyond_s.get(name, 0.0) + duration_s if beyond else 0.0
            # Power must have ceased at the clearing time: act in the step that ends there.
            if beyond and not reason and self._beyond_s[name] >= point.clearing_s - _TINY:
                unit = "Hz" if name[1] == "F" else "pu"
                reason = f"{name}: {value:.3f} {unit} for {point.clearing_s:g} s"
        return reason or self._islanding_reason(duration_s, jump_deg)

    def _islanding_reason(self, duration_s: float, jump_deg: float) -> str:
        """Loss of mains: beyond what has to be ridden through, and lasting, so that a mere step of the grid is not."""
        if not self._settings.power.anti_islanding:
            return ""
        if jump_deg > SINGLE_PHASE_JUMP_DEG + _TINY:
            return f"phase jump of {jump_deg:.0f} degrees"
        self._recent.append((self._now_s, self._grid.hz))
        while self._recent and self._now_s - self._recent[0][0] > _ROCOF_WINDOW_S + _TINY:
            self._recent.popleft()
        span_s = self._now_s - self._recent[0][0]
        rate = abs(self._grid.hz - self._recent[0][1]) / span_s if span_s > 0.0 else 0.0
        limit = ROCOF_HZ_PER_S[self._settings.category]
        self._rocof_s = self._rocof_s + duration_s if rate > limit * 1.05 else 0.0
        return f"ROCOF of {rate:.1f} Hz/s" if self._rocof_s >= _ROCOF_TRIP_S - _TINY else ""

    def _revert_limit(self) -> None:
        if self._limit_reverts_s is not None and self._now_s >= self._limit_reverts_s:
            power = self._settings.power
            power = replace(
                power, limit_pct=power.limit_revert_pct, limit_enabled=power.limit_revert_enabled, limit_revert_s=0.0
            )
            self._settings, self._limit_reverts_s = replace(self._settings, power=power), None

    def _control(self, duration_s: float) -> None:
        if not self._exports:
            return
        if self.state is DerState.RAMPING:
            share = (self._now_s - self._since_s) / self._settings.enter.ramp_s
            self._ramped_pct = min(100.0, 100.0 * share)
        deviation = abs(self._grid.hz - self._settings.nominal_hz)
        if deviation <= self._settings.droop.over_deadband_hz:
            self._pre_disturbance_pct = None
        elif self._pre_disturbance_pct is None:
            self._pre_disturbance_pct = self._active.value
        target, response_s = active_target(
            self._settings, self.rating, self._grid.voltage_pu, self._grid.hz, self.available_pct,
            self._pre_disturbance_pct,
        )  # fmt: skip
        self._active.follow(min(target, self._ramped_pct), response_s, duration_s, self._settings.power.ramp_pct_per_s)
        var_target, var_response_s, limit_pct = reactive_target(
            self._settings, self.rating, self._grid.voltage_pu, self._active.value
        )
        self._reactive.follow(var_target, var_response_s, duration_s, None)
        if self._settings.power.reactive_first:
            apparent_pct = 100.0 * self._settings.maximum_va / self.rating.apparent_va
            room = math.sqrt(max(0.0, apparent_pct**2 - self._reactive.value**2))
            self._active.value = min(self._active.value, room * self.rating.apparent_va / self.rating.active_w)
        else:
            self._reactive.value = max(-limit_pct, min(limit_pct, self._reactive.value))
