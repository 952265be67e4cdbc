"""At which currents the detector must trip and must not, and where the reference design departs from the standards.

Rows marked "general knowledge" have not been checked against the paid text of the standard.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

RATED_MA = 30.0


class Expectation(enum.StrEnum):
    TRIP = "must trip"
    HOLD = "must not trip"
    FREE = "no requirement"


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One line of the table: currents of one waveform, in mA of its rating."""

    waveform: str
    hold_ma: float | None
    """Up to here it must not trip."""
    trip_ma: float | None
    """From here on it must trip, isolated within 40 ms."""
    origin: str


_TYPE_B = "Type B"
_GENERAL = "Type B, general knowledge"
_REFERENCE = "reference design"
_IMMUNITY = "immunity"

FAULT_TABLE = (
    FaultRow("ac", 0.5 * RATED_MA, RATED_MA, _TYPE_B),
    FaultRow("dc", 3.0, 6.0, _REFERENCE),
    FaultRow("dc-plus-ac", 2.0, 6.0, _REFERENCE),
    FaultRow("half-wave-0", 0.35 * RATED_MA, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("half-wave-90", 0.25 * RATED_MA, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("half-wave-135", 0.11 * RATED_MA, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("half-wave-0-plus-dc", None, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("half-wave-90-plus-dc", None, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("half-wave-135-plus-dc", None, 1.4 * RATED_MA, _TYPE_B),
    FaultRow("two-pulse", None, 2.0 * RATED_MA, _GENERAL),
    FaultRow("three-pulse", None, 2.0 * RATED_MA, _GENERAL),
    FaultRow("six-pulse", None, 2.0 * RATED_MA, _GENERAL),
    FaultRow("ac-150", 0.5 * RATED_MA, 2.4 * RATED_MA, _TYPE_B),
    FaultRow("ac-400", 0.5 * RATED_MA, 6.0 * RATED_MA, _GENERAL),
    FaultRow("ac-1000", 1.0 * RATED_MA, 14.0 * RATED_MA, _GENERAL),
    FaultRow("composite", 0.5 * RATED_MA, 1.4 * RATED_MA, _GENERAL),
    FaultRow("surge", 3.0e6, None, _IMMUNITY),
    FaultRow("ring-wave", 200.0e3, None, _IMMUNITY),
    FaultRow("switch-on", 500.0, None, _IMMUNITY),
    FaultRow("inrush", 0.5 * RATED_MA, 10.0 * RATED_MA, _REFERENCE),
)

_ROWS = {row.waveform: row for row in FAULT_TABLE}


def fault_row(waveform: str) -> FaultRow:
    return _ROWS[waveform]


def expectation(waveform: str, ma: float, direct_ma: float = 0.0) -> Expectation:
    """What the table asks for `ma` of this waveform with `direct_ma` of smooth direct current on it."""
    row = _ROWS[waveform]
    # Direct current of the other sign takes from a pulsating one; only alone or under a sine is it itself.
    plain = waveform.startswith("ac") or waveform in {"dc", "composite"}
    total_direct = direct_ma + (ma if waveform == "dc" else 0.0)
    tiny = 1e-9
    if plain and abs(total_direct) >= 6.0 - tiny:
        return Expectation.TRIP
    if row.trip_ma is not None and waveform != "dc" and abs(ma) >= row.trip_ma - tiny:
        return Expectation.TRIP
    small = row.hold_ma is not None and abs(total_direct if waveform == "dc" else ma) <= row.hold_ma + tiny
    return Expectation.HOLD if small and abs(direct_ma) <= 3.0 + tiny else Expectation.FREE


@dataclass(frozen=True, slots=True)
class Conflict:
    """Where the reference design and a standard, or two of its own demands, pull apart, and what was decided."""

    title: str
    conflict: str
    decision: str


CONFLICTS = (
    Conflict(
        "40 ms at the rated current",
        "IEC asks for 40 ms only from five times the rated current; at 1x it allows 300 ms.",
        "The reference design wins: 40 ms everywhere. It is a limit of this project, not a claim of IEC conformity.",
    ),
    Conflict(
        "a half-wave that must not trip carries more than 6 mA of direct current",
        "A half-wave of 10.5 mA (0.35 of rated) must not trip, and has a mean of 6.68 mA.",
        "Pulsating is not smooth: while the current rests below the threshold between its pulses, the smooth-DC rule "
        "is inhibited. The half-wave holds; 6 mA DC under any sine, and under a half-wave of its own sign, trips.",
    ),
    Conflict(
        "30 mA at 1 kHz",
        "IEC 62423 says 30 mA at 1 kHz must not trip; the reference design says 30 mA AC must.",
        "The 30 mA hold from 45 to 52 Hz. Above, the detector is weighted by frequency, as the table is.",
    ),
    Conflict(
        "a switch-on pulse of 300 mA for 10 ms",
        "IEC lets it pass; a pulsating fault has to be isolated within 40 ms, which leaves no time to wait it out.",
        "It trips.",
    ),
    Conflict(
        "a fixed window of 20 ms",
        "Off 50 Hz it sees direct current that is not there: 2.3 mA for 15 mA AC at 45 Hz.",
        "The window follows the frequency, which is measured in the residual current itself.",
    ),
    Conflict(
        "a plain mean over one cycle",
        "It trips falsely while an alternating current of 13.3 mA or more begins.",
        "The smooth-DC rule waits until the fit holds for 10 ms: the beginning of an alternating current fits nothing.",
    ),
    Conflict(
        "rectified currents of 15 mA",
        "The table of smooth, two-, three- and six-pulse direct current has 0.5 of rated as the current that must not "
        "trip; the reference design's 6 mA lie below it.",
        "The reference design wins: what does not rest at zero for 7 ms and has a mean of 6 mA trips.",
    ),
)
