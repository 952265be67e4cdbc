"""The meter's real-time clock: a tuning-fork crystal, a counter and a backup cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meters.hardware.world import World
from protocols.errors import BadInputError

EPOCH_UTC_S = 946_684_800.0
"""2000-01-01T00:00:00Z, where the counter starts after it has lost both supplies."""

LAST_UTC_S = 4_102_444_799.0
"""2099-12-31T23:59:59Z, as far as its two digits of a year go."""
COLDEST_C, HOTTEST_C = -100.0, 200.0
"""Beyond any bench: a fork of quartz has no parabola there."""

_YEAR_S = 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class Crystal:
    """Frequency error of a 32,768 Hz tuning fork: offset, a parabola over temperature, and linear ageing."""

    offset_ppm: float = 0.0
    turnover_c: float = 25.0
    curvature_ppm_per_c2: float = -0.034
    ageing_ppm_per_year: float = 0.0

    def error_ppm(self, temperature_c: float) -> float:
        """Relative error of a new crystal; positive runs fast."""
        return self.offset_ppm + self.curvature_ppm_per_c2 * (temperature_c - self.turnover_c) ** 2


@dataclass(frozen=True, slots=True)
class RtcReading:
    """What the firmware reads: UTC by this clock, and whether the oscillator has run ever since it was set."""

    utc_s: float
    valid: bool


class Rtc:
    """Counts UTC seconds with the crystal's error. `read` and `write` are the firmware's, the rest is the bench's.

    A new clock shows true time unless `utc_s` says otherwise. While neither the supply nor the cell feeds it, it
    stands still and forgets; it then starts at EPOCH_UTC_S, marked invalid until it is written.
    """

    def __init__(
        self,
        world: World,
        crystal: Crystal | None = None,
        *,
        utc_s: float | None = None,
        temperature_c: float = 25.0,
    ) -> None:
        self._world = world
        self.crystal = crystal or Crystal()
        self._temperature_c = temperature_c
        self._made_s = self._base_s = world.now()
        self._counter_s = world.utc_s() if utc_s is None else utc_s
        self._valid = True
        self._cell_alive = True
        self._supplied = True
        self.on_moved: list[Callable[[], None]] = []
        """Called after the bench has moved the counter or its rate: the alarm comparator looks again."""
        self.steps = 0
        """How often the firmware has written the counter."""

    def read(self) -> RtcReading:
        self._count()
        return RtcReading(self._counter_s, self._valid)

    def write(self, utc_s: float) -> None:
        """Set the counter; it is valid from now on."""
        self._count()
        self._counter_s = utc_s
        self._valid = True
        self.steps += 1

    def seconds_until(self, utc_s: float) -> float:
        """Real seconds until this clock will show `utc_s`, at its present rate; not negative."""
        self._count()
        return max(0.0, (utc_s - self._counter_s) / (1.0 + self.rate_error_ppm * 1e-6))

    def supply(self, present: bool) -> None:
        """The meter's supply comes or goes."""
        self._count()
        self._supplied = present

    # bench verbs

    @property
    def rate_error_ppm(self) -> float:
        """Present relative error of the rate, with temperature and age."""
        age_years = (self._world.now() - self._made_s) / _YEAR_S
        return self.crystal.error_ppm(self._temperature_c) + self.crystal.ageing_ppm_per_year * age_years

    @property
    def offset_s(self) -> float:
        """This clock minus true time."""
        return self.read().utc_s - self._world.utc_s()

    @property
    def temperature_c(self) -> float:
        return self._temperature_c

    def set_temperature(self, temperature_c: float) -> None:
        """Raises BadInputError below COLDEST_C and above HOTTEST_C."""
        if not COLDEST_C <= temperature_c <= HOTTEST_C:
            raise BadInputError(
                f"a temperature lies between {COLDEST_C:g} and {HOTTEST_C:g} degrees Celsius, not {temperature_c:g}",
                key="temperature_c",
            )
        self._count()
        self._temperature_c = temperature_c
        self._moved()

    def advance(self, seconds: float) -> None:
        """Move the counter by `seconds`, behind the firmware's back. Raises BadInputError as `set` does."""
        self._count()
        self._put(self._counter_s + seconds, "seconds")

    def set(self, utc_s: float) -> None:
        """Put the counter at `utc_s`, behind the firmware's back; validity stays.

        Raises BadInputError before EPOCH_UTC_S and after LAST_UTC_S: the counter does not go there.
        """
        self._count()
        self._put(utc_s, "utc_s")

    def _put(self, utc_s: float, key: str) -> None:
        if not EPOCH_UTC_S <= utc_s <= LAST_UTC_S:
            raise BadInputError(
                f"the clock's counter goes from {EPOCH_UTC_S:.0f} (2000) to {LAST_UTC_S:.0f} (2099), not to {utc_s:g}",
                key=key,
            )
        self._counter_s = utc_s
        self._moved()

    def kill_cell(self) -> None:
        """The backup cell is empty: at the next loss of supply the time is lost."""
        self._count()
        self._cell_alive = False

    def replace_cell(self) -> None:
        self._count()
        self._cell_alive = True

    def _moved(self) -> None:
        for listener in tuple(self.on_moved):
            listener()

    def _count(self) -> None:
        now_s = self._world.now()
        elapsed_s = now_s - self._base_s
        if not (self._supplied or self._cell_alive):
            self._counter_s = EPOCH_UTC_S
            self._valid = False
        elif elapsed_s > 0:
            # Ageing is linear in time, so its integral over the interval is the value at its middle.
            middle_years = ((now_s + self._base_s) / 2 - self._made_s) / _YEAR_S
            error_ppm = self.crystal.error_ppm(self._temperature_c) + self.crystal.ageing_ppm_per_year * middle_years
            self._counter_s += elapsed_s * (1.0 + error_ppm * 1e-6)
        self._base_s = now_s
