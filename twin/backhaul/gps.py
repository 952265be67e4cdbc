"""An emulated GPS timing receiver: marks and NMEA sentences on its line, the verbs of a bench and an attacker."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum

from protocols.nmea import ON_TIME_MARK, FixQuality, Gga, LeapSeconds, Position, Rmc, TimeOfDay, Txt, Zda
from protocols.ports import ByteLink, Cancellable, Trace
from twin.clock.clocks import RunClock

GPS_MINUS_UTC_S = 18
"""Since 2017; leap seconds of the run come on top."""
_NAIROBI = Position(-1.2921, 36.8219)
_SENTENCES_AFTER_S = 0.05
_BAUD = 9600
_BITS_PER_OCTET = 10
_ANTENNA_REPORT_S = 10


class Fix(Enum):
    """What the receiver has."""

    OFF = "off"
    ACQUIRING = "acquiring"
    FIX = "fix"
    NO_SKY = "no sky"
    NO_ANTENNA = "no antenna"


class GpsLine:
    """The receiver's serial line as the concentrator's end sees it; what is written to the receiver is ignored."""

    def __init__(self) -> None:
        self._receiver: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> None:
        """A receiver of this kind takes no commands."""

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def deliver(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver(data)


class GpsReceiver:
    """Starts without a fix and has one after `time_to_fix_s`, for as long as nothing is wrong.

    `line` is what a concentrator is connected to.
    """

    def __init__(
        self,
        clock: RunClock,
        rng: random.Random,
        *,
        trace: Trace | None = None,
        position: Position = _NAIROBI,
        time_to_fix_s: float = 30.0,
        jitter_s: float = 50e-9,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._trace = trace
        self._position = position
        self._time_to_fix_s = time_to_fix_s
        self._jitter_s = jitter_s
        self._spoofed_s = 0.0
        self._wrong_leap_s = 0
        self._fix = Fix.OFF
        self._timer: Cancellable | None = None
        self._fix_timer: Cancellable | None = None
        self._line = GpsLine()

    @property
    def line(self) -> ByteLink:
        return self._line

    @property
    def fix(self) -> Fix:
        return self._fix

    # verbs

    def power_on(self) -> None:
        if self._fix is Fix.OFF:
            self._acquire()
            self._schedule()

    def power_off(self) -> None:
        self._set(Fix.OFF)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lose_fix(self) -> None:
        """Something is between the antenna and the sky, or a jammer is near."""
        if self._fix is not Fix.OFF:
            self._set(Fix.NO_SKY)

    def regain_fix(self) -> None:
        if self._fix is Fix.NO_SKY:
            self._acquire()

    def unplug_antenna(self) -> None:
        if self._fix is not Fix.OFF:
            self._set(Fix.NO_ANTENNA)

    def plug_antenna(self) -> None:
        if self._fix is Fix.NO_ANTENNA:
            self._acquire()

    def spoof(self, offset_s: float) -> None:
        """A stronger signal tells a time that is `offset_s` ahead of the true one; 0 ends it. Marks follow it, too."""
        self._spoofed_s = offset_s
        self._note("gps.spoofed", offset_s=offset_s)
        if self._fix is not Fix.OFF:
            self._schedule()

    def mistake_leap(self, by_s: int) -> None:
        """The receiver reckons with `by_s` leap seconds too many; 0 mends it. Marks stay where they are."""
        self._wrong_leap_s = by_s
        self._note("gps.wrong_leap", by_s=by_s)

    def jitter(self, sigma_s: float) -> None:
        """Marks come late by a half-normal error of this standard deviation."""
        self._jitter_s = sigma_s

    # inside

    def _acquire(self) -> None:
        self._set(Fix.ACQUIRING)
        when = self._clock.timers.time() + self._time_to_fix_s
        self._fix_timer = self._clock.timers.call_at(when, self._set, Fix.FIX)

    def _set(self, fix: Fix) -> None:
        if self._fix_timer is not None:
            self._fix_timer.cancel()
            self._fix_timer = None
        self._fix = fix
        self._note("gps.fix", state=fix.value)

    def _note(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, **fields)

    def _believed_s(self) -> float:
        return self._clock.uniform_s() + self._spoofed_s

    def _schedule(self) -> None:
        """The next beginning of a second, as the receiver believes it."""
        if self._timer is not None:
            self._timer.cancel()
        believed_s = self._believed_s()
        second = math.floor(believed_s + 0.5) + 1
        when = self._clock.timers.time() + second - believed_s
        self._timer = self._clock.timers.call_at(when, self._second, second)

    def _second(self, second: int) -> None:
        late_s = abs(self._rng.gauss(0.0, self._jitter_s))
        timers = self._clock.timers
        now_s = timers.time()
        if self._fix is Fix.FIX:
            timers.call_at(now_s + late_s, self._line.deliver, bytes((ON_TIME_MARK,)))
        text = self._sentences(second)
        timers.call_at(now_s + _SENTENCES_AFTER_S + len(text) * _BITS_PER_OCTET / _BAUD, self._line.deliver, text)
        self._schedule()

    def _sentences(self, second: int) -> bytes:
        """What is said of the second that begins at `second` of uniform time."""
        if self._fix is not Fix.FIX:
            parts = [Rmc(None, False, None).encode(), Gga(None, FixQuality.NONE, 0).encode(), Zda(None, None).encode()]
            if self._fix is Fix.NO_ANTENNA and second % _ANTENNA_REPORT_S == 0:
                parts.append(Txt(1, "ANTSTATUS=OPEN").encode())
            return b"".join(parts)
        day, time = self._label(second)
        leap_s = GPS_MINUS_UTC_S + self._clock.leaps.count(second) + self._wrong_leap_s
        return b"".join((
            Rmc(time, True, day, self._position).encode(),
            Gga(time, FixQuality.GPS, 9, self._position, 1795.0).encode(),
            Zda(time, day).encode(),
            LeapSeconds(time, day, leap_s).encode(),
        ))  # fmt: skip

    def _label(self, second: int) -> tuple[date, TimeOfDay]:
        """Date and time of a second of uniform time, as the receiver reckons UTC."""
        leaps = self._clock.leaps
        moment = datetime.fromtimestamp(leaps.utc_s(second) - self._wrong_leap_s, UTC)
        is_leap = leaps.is_inserted(second) and not self._wrong_leap_s
        return moment.date(), TimeOfDay(moment.hour, moment.minute, 60 if is_leap else moment.second)
