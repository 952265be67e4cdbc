"""The register interface of an inverter, tried: nameplate, monitoring, management, and what it has to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from grid.der.categories import Category
from grid.der.inverter import GridPoint, Inverter
from grid.der.settings import PROFILES
from grid.der.sunspec.bank import RegisterBank
from grid.der.sunspec.device import Answer, SunSpecDevice
from grid.der.sunspec.models import MODELS
from twin.grid.registers import write_point

_WANTED = (1, *range(701, 715))


@dataclass(frozen=True, slots=True)
class _Setting:
    """Points written in their order, and the power that has to follow after a minute, in percent of the rating."""

    name: str
    writes: tuple[tuple[int, str, int], ...]
    active_pct: float | None = None
    reactive_pct: float | None = None
    voltage_pu: float = 1.0
    hz: float = 50.0


_SETTINGS = (
    _Setting("704, limit of active power", ((704, "WMaxLimPct", 500), (704, "WMaxLimPctEna", 1)), active_pct=50.0),
    _Setting("704, constant reactive power", ((704, "VarSetPct", 250), (704, "VarSetEna", 1)), reactive_pct=25.0),
    _Setting("704, power factor", ((704, "PFWInj.PF", 950), (704, "PFWInj.Ext", 1), (704, "PFWInjEna", 1)),
             reactive_pct=-31.2),
    _Setting("705, volt-var", ((705, "Ena", 1),), reactive_pct=-22.0, voltage_pu=1.05),
    _Setting("706, volt-watt", ((706, "Ena", 1),), active_pct=50.0, voltage_pu=1.08),
    _Setting("711, droop off", ((711, "Ena", 0),), active_pct=100.0, hz=50.9),
    _Setting("712, watt-var", ((712, "Ena", 1),), reactive_pct=-44.0),
    _Setting("702, maximum active power", ((702, "WMax", 4000),), active_pct=80.0),
    _Setting("703, permission withdrawn", ((703, "ES", 0),), active_pct=0.0),
    _Setting("708, a nearer overvoltage trip",
             ((708, "Crv[1].MustTrip.Pt[0].V", 11000), (708, "Crv[1].MustTrip.Pt[0].Tms", 100), (708, "AdptCrvReq", 2)),
             active_pct=0.0, voltage_pu=1.11),
    _Setting("707, a farther undervoltage trip",
             ((707, "Crv[1].MustTrip.Pt[0].V", 5000), (707, "Crv[1].MustTrip.Pt[0].Tms", 2100), (707, "AdptCrvReq", 2)),
             active_pct=100.0, voltage_pu=0.60),
    _Setting("709, a farther underfrequency trip",
             ((709, "Crv[1].MustTrip.Pt[1].Hz", 43000), (709, "Crv[1].MustTrip.Pt[1].Tms", 100000),
              (709, "Crv[1].MustTrip.Pt[0].Hz", 43500), (709, "Crv[1].MustTrip.Pt[0].Tms", 100000),
              (709, "AdptCrvReq", 2)), active_pct=100.0, hz=45.0),
    _Setting("710, a farther overfrequency trip",
             ((710, "Crv[1].MustTrip.Pt[1].Hz", 54000), (710, "AdptCrvReq", 2)), active_pct=44.2, hz=51.43),
)  # fmt: skip

_NONSENSE = (
    ("enter service at 200 % of the voltage", 703, "ESVHi", 20000),
    ("a limit of 300 %", 704, "WMaxLimPct", 3000),
    ("a switch at 7", 705, "Ena", 7),
    ("more active power than the rating", 702, "WMax", 9000),
    ("a measurement written", 701, "W", 1),
    ("a serial number written", 1, "SN", 0),
    ("the reading's own curve written", 705, "Crv[0].Pt[0].V", 9300),
    ("enter service at 20 Hz", 703, "ESHzLo", 20000),
)


def _device() -> SunSpecDevice:
    inverter = Inverter(PROFILES["ieee1547-50"], Category.II)
    inverter.step(GridPoint(1.0, 50.0), 0.02)
    return SunSpecDevice(inverter)


def check_registers() -> Iterator[tuple[str, bool | int, bool | int]]:
    """Name, what was found, what has to be found; each setting on an inverter of its own."""
    device = _device()
    found = RegisterBank()
    found.registers[:] = device.registers()
    present = [model for model in _WANTED if model in MODELS and found.get(model, "ID") == model]
    yield "models 1 and 701 to 714 present", len(present), len(_WANTED)
    for setting in _SETTINGS:
        yield setting.name, _is_effective(setting), True
    for name, model, path, raw in _NONSENSE:
        refused, before = _device(), _device().registers()
        answer = write_point(refused, model, path, raw)
        yield f"refused: {name}", answer is not Answer.DONE and refused.registers() == before, True


def _is_effective(setting: _Setting) -> bool:
    device = _device()
    inverter = device.inverter
    taken = all(write_point(device, model, path, raw) is Answer.DONE for model, path, raw in setting.writes)
    for _ in range(3000):
        inverter.step(GridPoint(setting.voltage_pu, setting.hz), 0.02)
    rating = inverter.rating
    active_pct = 100.0 * inverter.active_w / rating.active_w
    reactive_pct = 100.0 * inverter.reactive_var / rating.apparent_va
    right = setting.active_pct is None or abs(active_pct - setting.active_pct) < 1.0
    return taken and right and (setting.reactive_pct is None or abs(reactive_pct - setting.reactive_pct) < 1.0)
