"""Grid codes as data."""

from __future__ import annotations

from dataclasses import dataclass

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class GridCode:
    """In which band the voltage has to be in steady state, and in which one equipment has to stay in service.

    A voltage is in steady state what lasts for `steady_s`; neither code says how long that is, a minute is ours.
    """

    name: str
    low_pu: float
    high_pu: float
    low_hz: float
    high_hz: float
    steady_s: float = 60.0

    def allows_hz(self, hz: float) -> bool:
        """End points included."""
        return self.low_hz - _TINY <= hz <= self.high_hz + _TINY


CODES = {
    code.name: code
    for code in (
        # Kenya Electricity Grid Code, as the reference design quotes it.
        GridCode("kenya", 0.90, 1.10, 45.0, 52.0),
        # IEEE 1547-2018: the region of continuous operation; at 50 Hz, scaled by 50/60.
        GridCode("ieee1547-60", 0.88, 1.10, 58.8, 61.2),
        GridCode("ieee1547-50", 0.88, 1.10, 49.0, 51.0),
    )
}
