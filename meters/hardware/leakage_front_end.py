"""The residual-current sensors' converter: every millisecond, while anything can flow, 8 samples of every line.

What flows comes from the bench (`ResidualSource`). While nothing does, and the sensors are sound, samples would say
zero; they are then left out, which changes no decision and costs nothing. The last of them are made up for when the
converter starts again, as what is kept of a trip begins before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from protocols.ports import Cancellable, Timers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from meters.hardware.leakage_sensor import LeakageSensor

    Samples = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 8000
TICK_SAMPLES = 8
_SETTLING_S = 1.0
"""For how long a mended sensor's samples are not left out: what the firmware remembers of the fault passes."""
_MADE_UP_TICKS = 125
_TICKS_PER_S = SAMPLE_RATE_HZ // TICK_SAMPLES


class ResidualSource(Protocol):
    """What flows through the sensors, from the bench."""

    def sample(self, time_s: Samples) -> tuple[Samples, Samples]:
        """Residual current in mA and load current in A at these times of the run: both lines x times."""
        ...

    def is_quiet(self, now_s: float) -> bool:
        """Nothing flows, and nothing has for long enough to be forgotten."""
        ...


class LeakageFrontEnd:
    """Sensors of `lines` lines, of one kind; `seed` is their noise's. `on_samples` and `drive` are the firmware's, the
    rest is the bench's.

    `on_samples` is called with each block (lines x 8, mA) at the time of its last sample.
    """

    def __init__(self, timers: Timers, kind: str, lines: int, seed: int) -> None:
        self.lines = lines
        self._timers = timers
        self._kind = kind
        self._seed = seed
        self._sensor: LeakageSensor | None = None
        self._source: ResidualSource | None = None
        # Nearly always empty, and a town has many meters.
        self._driven: frozenset[int] = frozenset()
        self._faulty: frozenset[int] = frozenset()
        self._settles_at_s = float("-inf")
        self._supplied = False
        self._tick = 0
        self._converted = 0
        self._timer: Cancellable | None = None
        self.on_samples: Callable[[Samples, float], None] | None = None

    # the firmware's face

    def drive(self, line: int, test_ma: float) -> None:
        """Current through the sensor's own test winding."""
        self._sensors().test_ma[line] = test_ma
        self._driven = self._driven | {line} if test_ma else self._driven - {line}
        self.wake()

    # bench verbs

    def attach(self, source: ResidualSource | None) -> None:
        """From now on this is what flows; None: nothing does."""
        self._source = source
        self.wake()

    def unplug(self, line: int) -> None:
        """The sensor of a line (from 0) is unplugged: its input floats to the rail."""
        self._sensors().unplug(line)
        self._fault(line)

    def plug(self, line: int) -> None:
        self._sensors().plug(line)
        self._mended(line)

    def stick(self, line: int) -> None:
        """The converter repeats its last code."""
        self._sensors().stick(line)
        self._fault(line)

    def let_go(self, line: int) -> None:
        self._sensors().let_go(line)
        self._mended(line)

    def supply(self, present: bool) -> None:
        """The meter's supply comes or goes."""
        self._supplied = present
        if present:
            self._converted = math.floor(self._timers.time() * _TICKS_PER_S)
            self.wake()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """Something may flow from now on."""
        if self._timer is None and self._supplied and self._is_live():
            self._tick = math.floor(self._timers.time() * _TICKS_PER_S) + 1
            self._arm()

    # inside

    def _is_live(self) -> bool:
        flows = self._source is not None and not self._source.is_quiet(self._timers.time())
        settles = self._timers.time() < self._settles_at_s
        return flows or settles or bool(self._driven) or bool(self._faulty)

    def _fault(self, line: int) -> None:
        self._faulty |= {line}
        self.wake()

    def _mended(self, line: int) -> None:
        self._faulty -= {line}
        self._settles_at_s = self._timers.time() + _SETTLING_S
        self.wake()

    def _sensors(self) -> LeakageSensor:
        """Made when first needed: numpy takes its time to load."""
        if self._sensor is None:
            import numpy as np

            from meters.hardware.leakage_sensor import SENSOR_MODELS, LeakageSensor

            model, rng = SENSOR_MODELS[self._kind], np.random.default_rng(self._seed)
            self._sensor = LeakageSensor(model, self.lines, rng)
        return self._sensor

    def _arm(self) -> None:
        self._timer = self._timers.call_at(self._tick / _TICKS_PER_S, self._convert)

    def _convert(self) -> None:
        import numpy as np

        now_s = self._tick / _TICKS_PER_S
        times_s = (self._tick * TICK_SAMPLES + np.arange(1 - TICK_SAMPLES, 1)) / SAMPLE_RATE_HZ
        if self._source is None:
            residual_ma = load_a = np.zeros((self.lines, TICK_SAMPLES))
        else:
            residual_ma, load_a = self._source.sample(times_s)
        left_out = min(self._tick - 1 - self._converted, _MADE_UP_TICKS)
        if left_out > 0:
            self._deliver(np.zeros((self.lines, left_out * TICK_SAMPLES)), None, (self._tick - 1) / _TICKS_PER_S)
        self._converted = self._tick
        self._timer = None
        if self._is_live():
            self._tick += 1
            self._arm()
        self._deliver(residual_ma, load_a, now_s)

    def _deliver(self, residual_ma: Samples, load_a: Samples | None, now_s: float) -> None:
        samples = self._sensors().measure(residual_ma, load_a)
        if self.on_samples is not None:
            self.on_samples(samples, now_s)
