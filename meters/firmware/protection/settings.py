"""Settings of the protection core. The two limits can be lowered, and by nobody raised."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocols.errors import BadInputError

DC_LIMIT_MA = 6.0
AC_LIMIT_MA = 30.0
MAX_ISOLATION_MS = 40.0


@dataclass(frozen=True, slots=True)
class ProtectionSettings:
    """Raises BadInputError, which names the field, for any value outside its range (NaN included).

    `dc_threshold_ma` (2 to 6) and `ac_threshold_ma` (10 to 30) are the currents at which the line must open.
    `watch_s` is how long a line that was just closed counts as on probation; `lockout_trips` trips within
    `lockout_window_s` lock it out until it is reset on site. `line_hz` is the nominal frequency.
    """

    dc_threshold_ma: float = DC_LIMIT_MA
    ac_threshold_ma: float = AC_LIMIT_MA
    line_hz: float = 50.0
    watch_s: float = 10.0
    lockout_trips: int = 3
    lockout_window_s: float = 3600.0
    check_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        _check("dc_threshold_ma", self.dc_threshold_ma, 2.0, DC_LIMIT_MA)
        _check("ac_threshold_ma", self.ac_threshold_ma, 10.0, AC_LIMIT_MA)
        _check("line_hz", self.line_hz, 45.0, 65.0)
        _check("watch_s", self.watch_s, 1.0, 3600.0)
        _check("lockout_trips", self.lockout_trips, 1, 20)
        _check("lockout_window_s", self.lockout_window_s, 1.0, 7 * 86400.0)
        _check("check_timeout_s", self.check_timeout_s, 0.1, 60.0)


def _check(key: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadInputError(f"must be from {low:g} to {high:g}, is {value:g}", key=key)
