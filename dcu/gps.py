"""The GPS receiver's line: marks are timed by the oscillator, the sentences behind a mark say which second it was."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from dcu.discipline import TimeSample
from protocols.errors import RemoteProtocolError
from protocols.nmea import Gga, LeapSeconds, NmeaStream, Rmc, Txt, Zda, decode, utc_s
from protocols.ports import ByteLink

_LOG = logging.getLogger(__name__)
MARK_UNCERTAINTY_S = 0.001
"""How late a mark may be read from the line."""
_LATEST_SENTENCE_S = 0.9
_LEAST_SATELLITES = 4


class GpsState(StrEnum):
    """SILENT: nothing has come yet. What is said of the antenna counts only while there is no fix."""

    SILENT = "silent"
    NO_FIX = "no-fix"
    ANTENNA = "antenna-open"
    FIX = "fix"


class GpsDriver:
    """Gives a sample for every second that the receiver vouches for.

    A second counts when its mark came, and RMC (valid), GGA (four satellites or more) and ZDA of one and the same time
    came within 0.9 s behind it. `on_state` is told of every change.
    """

    def __init__(
        self,
        line: ByteLink,
        *,
        oscillator_s: Callable[[], float],
        on_sample: Callable[[TimeSample], None],
        on_state: Callable[[GpsState], None],
    ) -> None:
        self._line = line
        self._oscillator_s = oscillator_s
        self._on_sample = on_sample
        self._on_state = on_state
        self._stream = NmeaStream(on_mark=self._mark, on_line=self._line_came)
        self._marked_s: float | None = None
        self._rmc: Rmc | None = None
        self._satellites = 0
        self.state = GpsState.SILENT
        self.leap_s: int | None = None
        """GPS time minus UTC, as the receiver reckons; None before it said."""
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        self._line.on_data(self._stream.feed)

    def stop(self) -> None:
        self._line.on_data(lambda _: None)

    def _mark(self) -> None:
        self._marked_s = self._oscillator_s()
        self._rmc, self._satellites = None, 0
        self.counters["marks"] += 1

    def _line_came(self, line: bytes) -> None:
        try:
            sentence = decode(line)
        except RemoteProtocolError as error:
            self.counters["malformed"] += 1
            _LOG.debug("a sentence of the GPS receiver was dropped: %s", error)
            return
        match sentence:
            case Rmc():
                self._rmc = sentence
                if not sentence.is_valid and self.state is not GpsState.ANTENNA:
                    self._change(GpsState.NO_FIX)
            case Gga():
                self._satellites = sentence.satellites if sentence.quality else 0
            case Zda():
                self._second_named(sentence)
            case LeapSeconds() if not sentence.is_default:
                self.leap_s = sentence.leap_s
            case Txt() if "ANTSTATUS=OPEN" in sentence.text and self.state is not GpsState.FIX:
                self._change(GpsState.ANTENNA)
            case _:
                self.counters["other"] += 1

    def _second_named(self, zda: Zda) -> None:
        rmc, marked_s = self._rmc, self._marked_s
        self._marked_s = None
        if rmc is None or not rmc.is_valid or zda.time is None or zda.day is None or marked_s is None:
            return
        if rmc.time != zda.time or rmc.day != zda.day or self._satellites < _LEAST_SATELLITES or zda.time.hundredth:
            self.counters["doubtful"] += 1
            return
        if self._oscillator_s() - marked_s > _LATEST_SENTENCE_S:
            self.counters["late"] += 1
            return
        self._change(GpsState.FIX)
        self._on_sample(TimeSample(marked_s, utc_s(zda.day, zda.time), MARK_UNCERTAINTY_S))

    def _change(self, state: GpsState) -> None:
        if state is not self.state:
            self.state = state
            self._on_state(state)
