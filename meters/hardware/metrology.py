"""The metrology chip: integrates what flows through the meter, and measures what is there now.

Energies are integers of nanojoules, made of whole milliwatts and whole microseconds: the sum does not depend on how
often somebody looks at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from meters.hardware.world import World
from protocols.errors import LocalProtocolError
from protocols.loads import ConstantLoad, LoadSegment, LoadSource, PhaseLoad

__all__ = ["ConstantLoad", "Energies", "Instant", "LoadSegment", "LoadSource", "Metrology", "PhaseLoad", "PhaseReading"]

NANOJOULES_PER_WH = 3_600 * 10**9
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Energies:
    """Integrated energies in nanojoules (active: W·s, reactive: var·s), by quadrant of the summed phases.

    Quadrants as in IEC 62053-23: I is +P +Q, II is -P +Q, III is -P -Q, IV is +P -Q.
    """

    active_import_nj: int = 0
    active_export_nj: int = 0
    reactive_q1_nj: int = 0
    reactive_q2_nj: int = 0
    reactive_q3_nj: int = 0
    reactive_q4_nj: int = 0
    apparent_import_nj: int = 0
    apparent_export_nj: int = 0

    @property
    def reactive_import_nj(self) -> int:
        """R+: quadrants I and II."""
        return self.reactive_q1_nj + self.reactive_q2_nj

    @property
    def reactive_export_nj(self) -> int:
        """R-: quadrants III and IV."""
        return self.reactive_q3_nj + self.reactive_q4_nj

    def __add__(self, other: Energies) -> Energies:
        return Energies(
            self.active_import_nj + other.active_import_nj,
            self.active_export_nj + other.active_export_nj,
            self.reactive_q1_nj + other.reactive_q1_nj,
            self.reactive_q2_nj + other.reactive_q2_nj,
            self.reactive_q3_nj + other.reactive_q3_nj,
            self.reactive_q4_nj + other.reactive_q4_nj,
            self.apparent_import_nj + other.apparent_import_nj,
            self.apparent_export_nj + other.apparent_export_nj,
        )


@dataclass(frozen=True, slots=True)
class PhaseReading:
    """Instantaneous values of one phase. `current_a` is not negative; the sign of `p_w` tells the direction."""

    voltage_v: float
    current_a: float
    active_power_w: float
    reactive_power_var: float

    @property
    def apparent_power_va(self) -> float:
        return self.voltage_v * self.current_a


@dataclass(frozen=True, slots=True)
class Instant:
    """What the chip measures now."""

    phases: tuple[PhaseReading, ...]
    frequency_hz: float

    @property
    def active_power_w(self) -> float:
        return sum(phase.active_power_w for phase in self.phases)

    @property
    def reactive_power_var(self) -> float:
        return sum(phase.reactive_power_var for phase in self.phases)

    @property
    def power_factor(self) -> float:
        """Active over apparent power of the sums, 1 without a load."""
        apparent_va = math.hypot(self.active_power_w, self.reactive_power_var)
        return 1.0 if apparent_va == 0 else abs(self.active_power_w) / apparent_va


def _at_voltage(load: PhaseLoad, voltage_v: float | None) -> PhaseLoad:
    """The load of a phase whose voltage the bench has taken over."""
    if voltage_v is None:
        return load
    return replace(load, u_v=voltage_v) if voltage_v > 0 else PhaseLoad(0.0, 0.0, 0.0)


class Metrology:
    """`energies` and `instant` are the firmware's; the accumulators are volatile and start at 0 with the supply.

    The rest is the bench's. Nothing flows while the supply is off (`supply`) or the disconnector open
    (`set_contact`). Integration is lazy: a read costs one step for every segment since the last one.
    """

    def __init__(self, world: World, source: LoadSource, *, phase_count: int = 1) -> None:
        self._world = world
        self._source = source
        self.phase_count = phase_count
        self._supplied = False
        self._contact_closed = True
        self._share = 1.0
        self._reversed = False
        self._interrupted = False
        self._neutral_present = True
        self._voltages_v: dict[int, float] = {}
        self._integrated_us = self._now_us()
        self._totals = [0] * 8
        self._delivered = Energies()
        self.on_change: list[Callable[[], None]] = []
        """Called after supply, mains or contact changed: with them, what the home behind takes from the grid."""

        self.on_disturbed: list[Callable[[], None]] = []
        """The chip's signal that voltages, currents or the neutral have changed abruptly."""

    # the firmware's face

    @property
    def neutral_present(self) -> bool:
        """Whether the neutral conductor is connected. Without it the chip counts on, against a virtual neutral."""
        return self._neutral_present

    def energies(self) -> Energies:
        """Energies since the supply came."""
        self._integrate()
        return Energies(*self._totals)

    def clear(self) -> None:
        """Start the accumulators at 0: a firmware does that starts anew while the chip has kept its supply."""
        self._integrate()
        self._delivered = self._delivered + Energies(*self._totals)
        self._totals = [0] * 8

    def instant(self) -> Instant:
        """Voltages, currents and powers of this moment; zeros without supply."""
        segment = self._source.segment_at(self._world.utc_s())
        live = self._supplied and not self._interrupted
        closed = self._contact_closed and live
        sign = -1.0 if self._reversed else 1.0
        phases = []
        for load in self._phases_of(segment):
            p_w, q_var = (sign * load.p_w, sign * load.q_var) if closed else (0.0, 0.0)
            current_a = math.hypot(p_w, q_var) / load.u_v if load.u_v > 0 else 0.0
            phases.append(PhaseReading(load.u_v if live else 0.0, current_a, p_w, q_var))
        return Instant(tuple(phases), segment.frequency_hz if live else 0.0)

    # bench verbs

    def supply(self, present: bool) -> None:
        """The supply comes (the accumulators start at 0) or goes."""
        self._integrate()
        self._interrupted = False
        if present != self._supplied:
            self._delivered = self._delivered + Energies(*self._totals)
            self._totals = [0] * 8
            self._supplied = present
        self._changed()

    def interrupt(self, interrupted: bool) -> None:
        """Mains is gone (or back) while the chip still has supply: its counts stay, nothing flows."""
        self._integrate()
        self._interrupted = interrupted
        self._changed()

    def set_contact(self, closed: bool, *, share: float = 1.0) -> None:
        """The disconnector behind the meter closes or opens; `share` of the load is behind lines that are closed."""
        self._integrate()
        self._contact_closed = closed
        self._share = share
        self._changed()

    def set_source(self, source: LoadSource) -> None:
        """From now on this is the load."""
        self._integrate()
        self._source = source
        self._signal_disturbance()

    def reverse_current(self, reversed_: bool = True) -> None:
        """Swap the current terminals: the chip sees energy flow the other way."""
        self._integrate()
        self._reversed = reversed_
        self._signal_disturbance()

    def lose_neutral(self, lost: bool = True) -> None:
        """Disconnect the neutral conductor, or connect it again."""
        self._neutral_present = not lost
        self._signal_disturbance()

    def set_voltage(self, phase: int, voltage_v: float | None) -> None:
        """From now on this phase (from 1) has that voltage instead of the load source's; None: the source's again.

        Loads take the same power at another voltage, and none at 0 V. Raises LocalProtocolError for a phase that is
        not there, or a negative voltage.
        """
        if not 1 <= phase <= self.phase_count or (voltage_v is not None and not 0 <= voltage_v < math.inf):
            raise LocalProtocolError(f"phase {phase} of {self.phase_count} at {voltage_v} V")
        self._integrate()
        if voltage_v is None:
            self._voltages_v.pop(phase - 1, None)
        else:
            self._voltages_v[phase - 1] = voltage_v
        self._signal_disturbance()

    @property
    def flowing(self) -> bool:
        """The home behind the meter has mains."""
        return self._supplied and self._contact_closed and not self._interrupted

    @property
    def flowing_share(self) -> float:
        """Share of the load that is behind closed lines: 0 where nothing flows."""
        return self._share if self.flowing else 0.0

    @property
    def delivered(self) -> Energies:
        """Everything that has flowed since the meter was made, whatever the firmware has kept of it."""
        return self._delivered + self.energies()

    # inside

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()

    def _signal_disturbance(self) -> None:
        for listener in tuple(self.on_disturbed):
            listener()

    def _now_us(self) -> int:
        return round(self._world.utc_s() * _MICROSECONDS)

    def _phases_of(self, segment: LoadSegment) -> tuple[PhaseLoad, ...]:
        phases = segment.phases[: self.phase_count]
        if self._share != 1.0:
            share = self._share
            phases = tuple(PhaseLoad(phase.p_w * share, phase.q_var * share, phase.u_v) for phase in phases)
        if not self._voltages_v:
            return phases
        return tuple(_at_voltage(load, self._voltages_v.get(number)) for number, load in enumerate(phases))

    def _integrate(self) -> None:
        now_us = self._now_us()
        start_us = self._integrated_us
        if self._supplied and self._contact_closed and not self._interrupted:
            while start_us < now_us:
                segment = self._source.segment_at(start_us / _MICROSECONDS)
                if segment.until_s == math.inf:
                    end_us = now_us
                else:
                    # At least one step, should rounding put the boundary on this very microsecond.
                    end_us = min(now_us, max(round(segment.until_s * _MICROSECONDS), start_us + 1))
                self._add(self._phases_of(segment), end_us - start_us)
                start_us = end_us
        self._integrated_us = max(now_us, self._integrated_us)

    def _add(self, phases: tuple[PhaseLoad, ...], duration_us: int) -> None:
        p_mw = sum(round(phase.p_w * 1000) for phase in phases)
        q_mvar = sum(round(phase.q_var * 1000) for phase in phases)
        if self._reversed:
            p_mw, q_mvar = -p_mw, -q_mvar
        s_mva = math.isqrt(p_mw * p_mw + q_mvar * q_mvar)
        totals = self._totals
        totals[0 if p_mw >= 0 else 1] += abs(p_mw) * duration_us
        quadrant = (2 if p_mw >= 0 else 3) if q_mvar >= 0 else (5 if p_mw >= 0 else 4)
        totals[quadrant] += abs(q_mvar) * duration_us
        totals[6 if p_mw >= 0 else 7] += s_mva * duration_us
