"""Ties an inverter to its registers: settings and measurements out, written settings in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from grid.der.categories import Category, TripPoint
from grid.der.inverter import DerState, Inverter
from grid.der.settings import Curve, DerSettings, EnterService, FrequencyDroop, Function, PowerControl, VarReference
from grid.der.sunspec.bank import RegisterBank
from grid.der.sunspec.models import CURVE_POINTS, CURVES, TRIP_POINTS

COMPLETED, FAILED = 1, 2

_SCALES: dict[int, dict[str, int]] = {
    701: {
        "A_SF": -2, "V_SF": -1, "Hz_SF": -3, "W_SF": 0, "PF_SF": -3, "VA_SF": 0, "Var_SF": 0, "TotWh_SF": 0,
        "TotVarh_SF": 0, "Tmp_SF": -1,
    },
    702: {"W_SF": 0, "PF_SF": -3, "VA_SF": 0, "Var_SF": 0, "V_SF": -1, "A_SF": -2, "S_SF": 0},
    703: {"V_SF": -2, "Hz_SF": -3},
    704: {
        "PF_SF": -3, "WMaxLimPct_SF": -1, "WSet_SF": 0, "WSetPct_SF": -1, "VarSet_SF": 0, "VarSetPct_SF": -1,
    },
    705: {"V_SF": -2, "DeptRef_SF": -2, "RspTms_SF": -1},
    706: {"V_SF": -2, "DeptRef_SF": -2, "RspTms_SF": -1},
    707: {"V_SF": -2, "Tms_SF": -2},
    708: {"V_SF": -2, "Tms_SF": -2},
    709: {"Hz_SF": -3, "Tms_SF": -2},
    710: {"Hz_SF": -3, "Tms_SF": -2},
    711: {"Db_SF": -3, "K_SF": -3, "RspTms_SF": -1},
    712: {"W_SF": -2, "DeptRef_SF": -2},
    713: {"WH_SF": 0, "Pct_SF": -1},
    714: {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "DCWH_SF": 0, "Tmp_SF": -1},
}  # fmt: skip
_CURVE_MODELS = {705: ("volt_var", "V", "Var"), 706: ("volt_watt", "V", "W"), 712: ("watt_var", "W", "Var")}
_TRIP_MODELS = {707: ("voltage", "uv", 0), 708: ("voltage", "ov", 1), 709: ("frequency", "uf", 2),
                710: ("frequency", "of", 3)}  # fmt: skip
_CATEGORY = {Category.I: 0, Category.II: 1, Category.III: 2}
_INVERTER_STATE = {
    DerState.TRIPPED: 0, DerState.WAITING: 7, DerState.RAMPING: 2, DerState.RUNNING: 3, DerState.CEASED: 7,
}  # fmt: skip
_DC_V = 380.0
_EFFICIENCY = 0.97


def initialize(bank: RegisterBank, inverter: Inverter, serial: str, unit: int) -> None:
    """Fill in what never changes, then the settings, and offer the active curves as templates for new ones."""
    common = (("Mn", "openami-twin"), ("Md", f"DER {inverter.profile.name}"), ("Vr", "1.0"), ("SN", serial))
    for path, text in common:
        bank.put(1, path, text)
    bank.put(1, "DA", unit)
    for model, scales in _SCALES.items():
        for path, exponent in scales.items():
            bank.put(model, path, exponent)
    _put_ratings(bank, inverter)
    for model in (*_CURVE_MODELS, *_TRIP_MODELS):
        points = TRIP_POINTS if model in _TRIP_MODELS else CURVE_POINTS
        bank.put(model, "NPt", points)
        bank.put(model, "NCrvSet" if model in _TRIP_MODELS else "NCrv", CURVES)
    bank.put(711, "NCtl", CURVES)
    for model in (*_CURVE_MODELS, *_TRIP_MODELS, 711):
        group = "Ctl" if model == 711 else "Crv"
        bank.put(model, "AdptCtlReq" if model == 711 else "AdptCrvReq", 0)
        bank.put(model, "AdptCtlRslt" if model == 711 else "AdptCrvRslt", COMPLETED)
        for index in range(CURVES):
            bank.put(model, f"{group}[{index}].ReadOnly", 1 if index == 0 else 0)
    for index in range(CURVES):
        put_settings(bank, inverter.settings, index)


def _put_ratings(bank: RegisterBank, inverter: Inverter) -> None:
    rating, limits = inverter.rating, inverter.settings.voltage
    values = {
        "WMaxRtg": rating.active_w, "VAMaxRtg": rating.apparent_va, "VarMaxInjRtg": rating.reactive_var,
        "VarMaxAbsRtg": rating.reactive_var, "VNomRtg": rating.nominal_v, "AMaxRtg": rating.maximum_a,
        "VMaxRtg": rating.nominal_v * limits.ov2.limit, "VMinRtg": rating.nominal_v * 0.5,
    }  # fmt: skip
    for path, value in values.items():
        bank.put_scaled(702, path, value)
    bank.put(702, "NorOpCatRtg", 1)
    bank.put(702, "AbnOpCatRtg", _CATEGORY[inverter.settings.category])
    modes = (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13)
    bank.put(702, "CtrlModes", sum(1 << bit for bit in modes))
    bank.put(713, "Sta", 0)
    bank.put(713, "WHRtg", 0)
    bank.put(713, "WHAvail", 0)
    bank.put(714, "NPrt", 1)
    bank.put(714, "PrtAlrms", 0)
    bank.put(714, "Prt[0].PrtTyp", 0)
    bank.put(714, "Prt[0].ID", 1)
    bank.put(714, "Prt[0].IDStr", "PV1")
    bank.put(714, "Prt[0].DCAlrm", 0)


def put_settings(bank: RegisterBank, settings: DerSettings, curve: int = 0) -> None:
    """Write the settings into the registers, curves into curve number `curve`."""
    for path, value in (
        ("WMax", settings.maximum_w), ("VAMax", settings.maximum_va), ("VarMaxInj", settings.maximum_var),
        ("VarMaxAbs", settings.maximum_var),
    ):  # fmt: skip
        bank.put_scaled(702, path, value)
    _put_enter_service(bank, settings.enter)
    _put_control(bank, settings.power, settings)
    for model, (name, x, y) in _CURVE_MODELS.items():
        _put_curve(bank, model, getattr(settings, name), x, y, curve)
    for model, (group, prefix, switch) in _TRIP_MODELS.items():
        bank.put(model, "Ena", int(settings.trips_enabled[switch]))
        trips = getattr(settings, group)
        _put_trips(bank, model, [getattr(trips, f"{prefix}{number}") for number in (1, 2)], curve)
    droop, base = settings.droop, f"Ctl[{curve}]."
    bank.put(711, "Ena", int(droop.enabled))
    for path, value in (
        ("DbOf", droop.over_deadband_hz), ("DbUf", droop.under_deadband_hz), ("KOf", droop.over_droop),
        ("KUf", droop.under_droop), ("RspTms", droop.response_s), ("PMin", droop.minimum_power_pct),
    ):  # fmt: skip
        bank.put_scaled(711, base + path, value)


def _put_enter_service(bank: RegisterBank, enter: EnterService) -> None:
    bank.put(703, "ES", int(enter.permitted))
    for path, value in (
        ("ESVHi", enter.high_pu * 100.0), ("ESVLo", enter.low_pu * 100.0), ("ESHzHi", enter.high_hz),
        ("ESHzLo", enter.low_hz), ("ESDlyTms", enter.delay_s), ("ESRmpTms", enter.ramp_s),
    ):  # fmt: skip
        bank.put_scaled(703, path, value)


def _put_control(bank: RegisterBank, power: PowerControl, settings: DerSettings) -> None:
    for path, flag in (
        ("PFWInjEna", power.power_factor_enabled), ("WMaxLimPctEna", power.limit_enabled),
        ("WMaxLimPctEnaRvrt", power.limit_revert_enabled), ("WSetEna", power.set_enabled), ("WSetMod", False),
        ("VarSetEna", power.var_enabled), ("VarSetPri", power.reactive_first), ("AntiIslEna", power.anti_islanding),
        ("PFWInj.Ext", not power.over_excited),
    ):  # fmt: skip
        bank.put(704, path, int(flag))
    modes = {VarReference.W_MAX: 0, VarReference.VAR_MAX: 1, VarReference.VAR_AVAILABLE: 2, VarReference.VA_MAX: 3}
    bank.put(704, "VarSetMod", modes[power.var_reference])
    for path, value in (
        ("WMaxLimPct", power.limit_pct), ("WMaxLimPctRvrt", power.limit_revert_pct), ("WSetPct", power.set_pct),
        ("VarSetPct", power.var_pct), ("PFWInj.PF", power.power_factor), ("WMaxLimPctRvrtTms", power.limit_revert_s),
    ):  # fmt: skip
        bank.put_scaled(704, path, value)
    # In percent of the maximum active power a second; 100 %/s and more is as good as at once.
    bank.put_scaled(704, "WRmp", 65533.0 if power.ramp_pct_per_s is None else power.ramp_pct_per_s)
    bank.put(704, "WRmpRef", 1)


def _put_curve(bank: RegisterBank, model: int, function: Function, x: str, y: str, curve: int) -> None:
    base, points = f"Crv[{curve}].", function.curve.points
    bank.put(model, "Ena", int(function.enabled))
    bank.put(model, base + "ActPt", len(points))
    bank.put(model, base + "DeptRef", 0 if model == 706 else int(function.reference))
    if model != 712:
        bank.put_scaled(model, base + "RspTms", function.response_s)
    if model != 706:
        bank.put(model, base + "Pri", 1)
    if model == 705:
        bank.put_scaled(model, base + "VRef", 100.0)
        bank.put(model, base + "VRefAutoEna", 0)
    for index in range(CURVE_POINTS):
        pair = points[index] if index < len(points) else (None, None)
        bank.put_scaled(model, f"{base}Pt[{index}].{x}", pair[0])
        bank.put_scaled(model, f"{base}Pt[{index}].{y}", pair[1])


def _put_trips(bank: RegisterBank, model: int, trips: list[TripPoint], curve: int) -> None:
    """Region 1 (the nearer limit, the longer time) first, then region 2."""
    quantity, factor = ("V", 100.0) if model in {707, 708} else ("Hz", 1.0)
    base = f"Crv[{curve}].MustTrip."
    bank.put(model, base + "ActPt", len(trips))
    bank.put(model, f"Crv[{curve}].MayTrip.ActPt", 0)
    bank.put(model, f"Crv[{curve}].MomCess.ActPt", 0)
    for index in range(TRIP_POINTS):
        trip = trips[index] if index < len(trips) else None
        bank.put_scaled(model, f"{base}Pt[{index}].{quantity}", trip.limit * factor if trip else None)
        bank.put_scaled(model, f"{base}Pt[{index}].Tms", trip.clearing_s if trip else None)


def read_settings(bank: RegisterBank, settings: DerSettings) -> DerSettings:
    """Settings as the registers that act at once now say. Raises BadInputError or ValueError for nonsense."""
    switched: dict[str, Any] = {
        name: replace(getattr(settings, name), enabled=bool(bank.get_int(model, "Ena")))
        for model, (name, _, _) in _CURVE_MODELS.items()
    }
    enabled = [bool(bank.get_int(model, "Ena")) for model in _TRIP_MODELS]
    return replace(
        settings,
        maximum_w=bank.get_scaled(702, "WMax"),
        maximum_va=bank.get_scaled(702, "VAMax"),
        maximum_var=min(bank.get_scaled(702, "VarMaxInj"), bank.get_scaled(702, "VarMaxAbs")),
        enter=EnterService(
            bool(bank.get_int(703, "ES")), bank.get_scaled(703, "ESVLo") / 100.0, bank.get_scaled(703, "ESVHi") / 100.0,
            bank.get_scaled(703, "ESHzLo"), bank.get_scaled(703, "ESHzHi"), bank.get_scaled(703, "ESDlyTms"),
            bank.get_scaled(703, "ESRmpTms"),
        ),
        power=_read_control(bank),
        droop=replace(settings.droop, enabled=bool(bank.get_int(711, "Ena"))),
        trips_enabled=(enabled[0], enabled[1], enabled[2], enabled[3]),
        **switched,
    )  # fmt: skip


def _read_control(bank: RegisterBank) -> PowerControl:
    ramp = bank.get_scaled(704, "WRmp")
    return PowerControl(
        limit_enabled=bool(bank.get_int(704, "WMaxLimPctEna")),
        limit_pct=bank.get_scaled(704, "WMaxLimPct"),
        limit_revert_pct=bank.get_scaled(704, "WMaxLimPctRvrt"),
        limit_revert_enabled=bool(bank.get_int(704, "WMaxLimPctEnaRvrt")),
        limit_revert_s=bank.get_scaled(704, "WMaxLimPctRvrtTms"),
        set_enabled=bool(bank.get_int(704, "WSetEna")),
        set_pct=bank.get_scaled(704, "WSetPct"),
        power_factor_enabled=bool(bank.get_int(704, "PFWInjEna")),
        power_factor=bank.get_scaled(704, "PFWInj.PF"),
        over_excited=bank.get_int(704, "PFWInj.Ext") == 0,
        var_enabled=bool(bank.get_int(704, "VarSetEna")),
        var_pct=bank.get_scaled(704, "VarSetPct"),
        var_reference=VarReference(bank.get_int(704, "VarSetMod")),
        reactive_first=bank.get_int(704, "VarSetPri") != 0,
        ramp_pct_per_s=None if ramp > 10000.0 else ramp,
        anti_islanding=bool(bank.get_int(704, "AntiIslEna")),
    )


def adopt(bank: RegisterBank, model: int, number: int, settings: DerSettings) -> DerSettings:
    """Settings with curve `number` (1-based) of a model taken over. Raises BadInputError or ValueError for nonsense."""
    if not 1 <= number <= CURVES:
        raise ValueError(f"there is no curve {number}")
    index = number - 1
    if model == 711:
        return replace(settings, droop=_read_droop(bank, index, settings.droop.enabled))
    if model in _CURVE_MODELS:
        name, x, y = _CURVE_MODELS[model]
        changed: dict[str, Any] = {name: _read_curve(bank, model, index, getattr(settings, name), x, y)}
        return replace(settings, **changed)
    group, prefix, _ = _TRIP_MODELS[model]
    first, second = _read_trips(bank, model, index)
    trips = replace(getattr(settings, group), **{f"{prefix}1": first, f"{prefix}2": second})
    adopted: dict[str, Any] = {group: trips}
    return replace(settings, **adopted)


def _read_droop(bank: RegisterBank, index: int, enabled: bool) -> FrequencyDroop:
    names = ("DbOf", "DbUf", "KOf", "KUf", "RspTms", "PMin")
    values = [bank.get_scaled(711, f"Ctl[{index}].{path}") for path in names]
    return FrequencyDroop(enabled, *values)


def _read_curve(bank: RegisterBank, model: int, index: int, function: Function, x: str, y: str) -> Function:
    base = f"Crv[{index}]."
    count = bank.get_int(model, base + "ActPt")
    if not 2 <= count <= CURVE_POINTS:
        raise ValueError(f"a curve of {count} points cannot be; 2 to {CURVE_POINTS} can")
    points = tuple(
        (bank.get_scaled(model, f"{base}Pt[{number}].{x}"), bank.get_scaled(model, f"{base}Pt[{number}].{y}"))
        for number in range(count)
    )
    if model != 706 and bank.get_int(model, base + "Pri") != 1:
        raise ValueError("the curve of reactive power has priority (Pri 1); other orders are not supported")
    if model == 705:
        _refuse_other_reference(bank, base)
    response_s = function.response_s if model == 712 else bank.get_scaled(model, base + "RspTms")
    reference = bank.get_int(model, base + "DeptRef")
    kept = function.reference if model == 706 else VarReference(reference)
    if model == 706 and reference != 0:
        raise ValueError(f"reference {reference} of volt-watt is not supported; 0 (maximum active power) is")
    return Function(Curve(points), function.enabled, response_s, kept)


def _refuse_other_reference(bank: RegisterBank, base: str) -> None:
    """The curve's voltages are percent of nominal: what would shift them is refused, not ignored."""
    if bank.get_scaled(705, base + "VRef") != 100.0 or bank.get_int(705, base + "VRefAutoEna") != 0:
        raise ValueError("the reference voltage is nominal (VRef 100 %, VRefAutoEna 0); shift the curve's points")


def _read_trips(bank: RegisterBank, model: int, index: int) -> tuple[TripPoint, TripPoint]:
    quantity, factor = ("V", 100.0) if model in {707, 708} else ("Hz", 1.0)
    base = f"Crv[{index}].MustTrip."
    if bank.get_int(model, base + "ActPt") != 2:
        raise ValueError("must-trip curves have two points: region 1, then region 2")
    for region in ("MayTrip", "MomCess"):
        if bank.get_int(model, f"Crv[{index}].{region}.ActPt") != 0:
            raise ValueError(f"{region} follows from the category and cannot be set; leave its ActPt 0")
    points = [
        TripPoint(
            bank.get_scaled(model, f"{base}Pt[{number}].{quantity}") / factor,
            bank.get_scaled(model, f"{base}Pt[{number}].Tms"),
        )
        for number in range(2)
    ]
    return points[0], points[1]


def put_measurements(bank: RegisterBank, inverter: Inverter) -> None:
    """What changes by itself: power, energy, voltage, frequency, state, timers."""
    active, reactive = inverter.active_w, inverter.reactive_var
    apparent = (active**2 + reactive**2) ** 0.5
    volts = inverter.grid.voltage_pu * inverter.rating.nominal_v
    amperes = apparent / volts if volts > 1.0 else 0.0
    for suffix in ("", "L1"):
        bank.put_scaled(701, "W" + suffix, active)
        bank.put_scaled(701, "VA" + suffix, apparent)
        bank.put_scaled(701, "Var" + suffix, reactive)
        bank.put_scaled(701, "PF" + suffix, active / apparent if apparent > 0.0 else 1.0)
        bank.put_scaled(701, "A" + suffix, amperes)
        bank.put_scaled(701, "TotWhInj" + suffix, inverter.exported_wh)
    bank.put_scaled(701, "LNV", volts)
    bank.put_scaled(701, "VL1", volts)
    bank.put_scaled(701, "Hz", inverter.grid.hz)
    bank.put(701, "ACType", 0)
    bank.put(701, "St", int(inverter.connected))
    bank.put(701, "InvSt", _INVERTER_STATE[inverter.state])
    bank.put(701, "ConnSt", int(inverter.connected))
    bank.put(701, "Alrm", _alarms(inverter))
    bank.put(701, "DERMode", 1)
    bank.put(701, "MnAlrmInfo", "" if inverter.connected else inverter.trip_reason)
    bank.put_scaled(703, "ESDlyRemTms", inverter.entry_remaining_s)
    bank.put_scaled(704, "WMaxLimPctRvrtRem", inverter.limit_revert_remaining_s)
    direct_w = active / _EFFICIENCY
    for prefix in ("", "Prt[0]."):
        bank.put_scaled(714, prefix + "DCW", direct_w)
        bank.put_scaled(714, prefix + "DCA", direct_w / _DC_V)
        bank.put_scaled(714, prefix + "DCWhInj", inverter.exported_wh / _EFFICIENCY)
    bank.put_scaled(714, "Prt[0].DCV", _DC_V)
    bank.put(714, "Prt[0].DCSta", int(active > 0.0))


def _alarms(inverter: Inverter) -> int:
    """Bits: 4 grid disconnect, 8/9 over/under-frequency, 10/11 over/under-voltage."""
    if inverter.connected or not inverter.trip_reason:
        return 0
    bits = {"OF": 8, "UF": 9, "OV": 10, "UV": 11}
    specific = bits.get(inverter.trip_reason[:2])
    return (1 << 4) | (1 << specific if specific is not None else 0)
