"""Energy registers, tariffs and demand: the metrology chip's volatile counts made lasting."""

from __future__ import annotations

from dataclasses import dataclass, fields

from meters.firmware.clock import MeterClock
from meters.firmware.layout import ENERGY_BYTES
from meters.firmware.storage import RecordStore
from meters.hardware.metrology import Energies, Instant, Metrology
from protocols.cursor import Reader

_FIELDS = tuple(item.name for item in fields(Energies))
DEMANDS = ("active_import_nj", "active_export_nj", "reactive_import_nj", "reactive_export_nj", "apparent_import_nj")
_NO_TIME = -1.0


@dataclass(slots=True)
class Demand:
    """Block demand of one energy: mean powers in milliwatts (mvar, mVA), moments in UTC seconds."""

    period_s: int
    start_energy_nj: int = 0
    last_mw: int = 0
    maximum_mw: int = 0
    maximum_utc_s: float = _NO_TIME

    def close(self, energy_nj: int, end_utc_s: float) -> None:
        """A period has ended at this register reading."""
        self.last_mw = self.running_mw(energy_nj)
        if self.last_mw > self.maximum_mw:
            self.maximum_mw, self.maximum_utc_s = self.last_mw, end_utc_s
        self.start_energy_nj = energy_nj

    def running_mw(self, energy_nj: int) -> int:
        """Energy since the period began over the whole period."""
        return (energy_nj - self.start_energy_nj) // (self.period_s * 10**6)

    def reset(self) -> None:
        self.maximum_mw, self.maximum_utc_s = 0, _NO_TIME

    def encode(self) -> bytes:
        return self.maximum_mw.to_bytes(8, "big") + round(self.maximum_utc_s * 1000).to_bytes(8, "big", signed=True)

    def restore(self, raw: bytes) -> None:
        reader = Reader(raw)
        self.maximum_mw = reader.u64()
        self.maximum_utc_s = int.from_bytes(reader.take(8), "big", signed=True) / 1000
        reader.expect_end()


class Measurements:
    """Registers that survive, by tariff rate, and the demand of the present period.

    Energy since the last checkpoint is lost when power goes without a warning. `rate` is the tariff rate that counts
    now, 1 to `rate_count`.
    """

    def __init__(
        self,
        metrology: Metrology,
        store: RecordStore,
        clock: MeterClock,
        *,
        demand_period_s: int,
        rate_count: int = 4,
    ) -> None:
        self._metrology = metrology
        self._store = store
        self._clock = clock
        metrology.clear()
        self._seen = Energies()
        self._total = self._load("energy/0")
        self._rates = [self._load(f"energy/{rate}") for rate in range(1, rate_count + 1)]
        self._rate = 1
        self.demands = {name: Demand(demand_period_s) for name in DEMANDS}
        for name, demand in self.demands.items():
            saved = store.get(f"demand/{name}")
            if saved is not None:
                demand.restore(saved)
            demand.start_energy_nj = getattr(self._total, name)

    @property
    def phase_count(self) -> int:
        return self._metrology.phase_count

    @property
    def rate(self) -> int:
        return self._rate

    @property
    def rate_count(self) -> int:
        return len(self._rates)

    def select_rate(self, rate: int) -> None:
        """Count on another tariff rate from now on. Raises ValueError if there is no such rate."""
        if not 1 <= rate <= len(self._rates):
            raise ValueError(f"there are rates 1 to {len(self._rates)}, not {rate}")
        self._absorb()
        self._rate = rate

    def energies(self, rate: int = 0) -> Energies:
        """Registers of a tariff rate; 0 is the total."""
        self._absorb()
        return self._total if rate == 0 else self._rates[rate - 1]

    def instant(self) -> Instant:
        return self._metrology.instant()

    def running_demand_mw(self, name: str) -> int:
        return self.demands[name].running_mw(getattr(self.energies(), name))

    def close_demand_period(self, boundary_utc_s: float) -> None:
        """A demand period has ended; maxima and energies go to flash."""
        energies = self.energies()
        for name, demand in self.demands.items():
            demand.close(getattr(energies, name), boundary_utc_s)
        self.checkpoint()

    def reset_maximum(self, name: str) -> None:
        self.demands[name].reset()
        self._store.put(f"demand/{name}", self.demands[name].encode())

    def checkpoint(self) -> None:
        """Write everything that changed to flash, at once or not at all."""
        self._absorb()
        entries = {"energy/0": _encode(self._total)}
        entries |= {f"energy/{rate}": _encode(value) for rate, value in enumerate(self._rates, 1)}
        entries |= {f"demand/{name}": demand.encode() for name, demand in self.demands.items()}
        self._store.put_many(entries)

    def _absorb(self) -> None:
        """Take over what the chip has counted since the last look."""
        now = self._metrology.energies()
        if now != self._seen:
            grown = Energies(*(getattr(now, name) - getattr(self._seen, name) for name in _FIELDS))
            self._seen = now
            self._total = self._total + grown
            self._rates[self._rate - 1] = self._rates[self._rate - 1] + grown

    def _load(self, key: str) -> Energies:
        saved = self._store.get(key)
        if saved is None:
            return Energies()
        reader = Reader(saved)
        return Energies(*(int.from_bytes(reader.take(ENERGY_BYTES), "big") for _ in _FIELDS))


def _encode(energies: Energies) -> bytes:
    return b"".join(getattr(energies, name).to_bytes(ENERGY_BYTES, "big") for name in _FIELDS)
