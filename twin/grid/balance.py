"""Energy at the feeder against energy on the meters: what is missing was stolen, or a meter is wrong."""

from __future__ import annotations

from dataclasses import dataclass

_SHARE = 0.02
_LEAST_WH = 50.0


@dataclass(frozen=True, slots=True)
class Balance:
    """Energies of one period in Wh. `metered_wh` is import less export of all meters; losses are the conductors'."""

    busbar_wh: float
    metered_wh: float
    loss_wh: float

    @property
    def unexplained_wh(self) -> float:
        """What left the transformer and is neither on a meter nor lost on the way."""
        return self.busbar_wh - self.metered_wh - self.loss_wh

    @property
    def tolerance_wh(self) -> float:
        """What readings that are some seconds apart may explain: 2 % of the energy, 50 Wh at least."""
        return max(_LEAST_WH, _SHARE * max(abs(self.busbar_wh), abs(self.metered_wh)))

    @property
    def is_flagged(self) -> bool:
        return abs(self.unexplained_wh) > self.tolerance_wh
