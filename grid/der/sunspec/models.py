"""The models: 1 (common) and 701 to 714 (DER), as the SunSpec Alliance numbers their points."""

from __future__ import annotations

from grid.der.sunspec.points import GroupSpec, parse_points

CURVES = 2
"""The first curve is the active one and read-only; a client writes the second and asks for its adoption."""
CURVE_POINTS = 4
TRIP_POINTS = 4

_HEAD = "ID:uint16 L:uint16 "


def _phase(number: int, following: int) -> str:
    n = str(number)
    return (
        f"WL{n}:int16/W_SF VAL{n}:int16/VA_SF VarL{n}:int16/Var_SF PFL{n}:int16/PF_SF AL{n}:int16/A_SF "
        f"VL{n}L{following}:uint16/V_SF VL{n}:uint16/V_SF TotWhInjL{n}:uint64/TotWh_SF TotWhAbsL{n}:uint64/TotWh_SF "
        f"TotVarhInjL{n}:uint64/TotVarh_SF TotVarhAbsL{n}:uint64/TotVarh_SF "
    )


_COMMON = _HEAD + "Mn:string(16) Md:string(16) Opt:string(8) Vr:string(8) SN:string(16) DA:uint16* Pad:pad"
_MEASURE_AC = (
    _HEAD + "ACType:enum16 St:enum16 InvSt:enum16 ConnSt:enum16 Alrm:bitfield32 DERMode:bitfield32 W:int16/W_SF "
    "VA:int16/VA_SF Var:int16/Var_SF PF:int16/PF_SF A:int16/A_SF LLV:uint16/V_SF LNV:uint16/V_SF Hz:uint32/Hz_SF "
    "TotWhInj:uint64/TotWh_SF TotWhAbs:uint64/TotWh_SF TotVarhInj:uint64/TotVarh_SF TotVarhAbs:uint64/TotVarh_SF "
    "TmpAmb:int16/Tmp_SF TmpCab:int16/Tmp_SF TmpSnk:int16/Tmp_SF TmpTrns:int16/Tmp_SF TmpSw:int16/Tmp_SF "
    "TmpOt:int16/Tmp_SF "
    + _phase(1, 2) + _phase(2, 3) + _phase(3, 1)
    + "ThrotPct:uint16 ThrotSrc:bitfield32 A_SF:sunssf V_SF:sunssf Hz_SF:sunssf W_SF:sunssf PF_SF:sunssf VA_SF:sunssf "
    "Var_SF:sunssf TotWh_SF:sunssf TotVarh_SF:sunssf Tmp_SF:sunssf MnAlrmInfo:string(32)"
)  # fmt: skip
_CAPACITY = (
    _HEAD + "WMaxRtg:uint16/W_SF WOvrExtRtg:uint16/W_SF WOvrExtRtgPF:uint16/PF_SF WUndExtRtg:uint16/W_SF "
    "WUndExtRtgPF:uint16/PF_SF VAMaxRtg:uint16/VA_SF VarMaxInjRtg:uint16/Var_SF VarMaxAbsRtg:uint16/Var_SF "
    "WChaRteMaxRtg:uint16/W_SF WDisChaRteMaxRtg:uint16/W_SF VAChaRteMaxRtg:uint16/VA_SF "
    "VADisChaRteMaxRtg:uint16/VA_SF VNomRtg:uint16/V_SF VMaxRtg:uint16/V_SF VMinRtg:uint16/V_SF AMaxRtg:uint16/A_SF "
    "PFOvrExtRtg:uint16/PF_SF PFUndExtRtg:uint16/PF_SF ReactSusceptRtg:uint16/S_SF NorOpCatRtg:enum16 "
    "AbnOpCatRtg:enum16 CtrlModes:bitfield32 IntIslandCatRtg:bitfield16 WMax:uint16/W_SF* WMaxOvrExt:uint16/W_SF* "
    "WOvrExtPF:uint16/PF_SF* WMaxUndExt:uint16/W_SF* WUndExtPF:uint16/PF_SF* VAMax:uint16/VA_SF* "
    "VarMaxInj:uint16/Var_SF* VarMaxAbs:uint16/Var_SF* WChaRteMax:uint16/W_SF* WDisChaRteMax:uint16/W_SF* "
    "VAChaRteMax:uint16/VA_SF* VADisChaRteMax:uint16/VA_SF* VNom:uint16/V_SF* VMax:uint16/V_SF* VMin:uint16/V_SF* "
    "AMax:uint16/A_SF* PFOvrExt:uint16/PF_SF* PFUndExt:uint16/PF_SF* IntIslandCat:bitfield16* W_SF:sunssf "
    "PF_SF:sunssf VA_SF:sunssf Var_SF:sunssf V_SF:sunssf A_SF:sunssf S_SF:sunssf"
)
_ENTER_SERVICE = (
    _HEAD + "ES:enum16* ESVHi:uint16/V_SF* ESVLo:uint16/V_SF* ESHzHi:uint32/Hz_SF* ESHzLo:uint32/Hz_SF* "
    "ESDlyTms:uint32* ESRndTms:uint32* ESRmpTms:uint32* ESDlyRemTms:uint32 V_SF:sunssf Hz_SF:sunssf"
)
_CONTROL = (
    _HEAD + "PFWInjEna:enum16* PFWInjEnaRvrt:enum16* PFWInjRvrtTms:uint32* PFWInjRvrtRem:uint32 PFWAbsEna:enum16* "
    "PFWAbsEnaRvrt:enum16* PFWAbsRvrtTms:uint32* PFWAbsRvrtRem:uint32 WMaxLimPctEna:enum16* "
    "WMaxLimPct:uint16/WMaxLimPct_SF* WMaxLimPctRvrt:uint16/WMaxLimPct_SF* WMaxLimPctEnaRvrt:enum16* "
    "WMaxLimPctRvrtTms:uint32* WMaxLimPctRvrtRem:uint32 WSetEna:enum16* WSetMod:enum16* WSet:int32/WSet_SF* "
    "WSetRvrt:int32/WSet_SF* WSetPct:int16/WSetPct_SF* WSetPctRvrt:int16/WSetPct_SF* WSetEnaRvrt:enum16* "
    "WSetRvrtTms:uint32* WSetRvrtRem:uint32 VarSetEna:enum16* VarSetMod:enum16* VarSetPri:enum16* "
    "VarSet:int32/VarSet_SF* VarSetRvrt:int32/VarSet_SF* VarSetPct:int16/VarSetPct_SF* "
    "VarSetPctRvrt:int16/VarSetPct_SF* VarSetEnaRvrt:enum16* VarSetRvrtTms:uint32* VarSetRvrtRem:uint32 WRmp:uint16* "
    "WRmpRef:enum16* VarRmp:uint16* AntiIslEna:enum16* PF_SF:sunssf WMaxLimPct_SF:sunssf WSet_SF:sunssf "
    "WSetPct_SF:sunssf VarSet_SF:sunssf VarSetPct_SF:sunssf"
)
_POWER_FACTOR = "PF:uint16/PF_SF* Ext:enum16*"
_CURVE_HEAD = (
    _HEAD + "Ena:enum16* AdptCrvReq:uint16* AdptCrvRslt:enum16 NPt:uint16 NCrv:uint16 RvrtTms:uint32* RvrtRem:uint32 "
    "RvrtCrv:uint16* "
)
_TRIP_HEAD = _HEAD + "Ena:enum16* AdptCrvReq:uint16* AdptCrvRslt:enum16 NPt:uint16 NCrvSet:uint16 "
_DROOP_HEAD = (
    _HEAD + "Ena:enum16* AdptCtlReq:uint16* AdptCtlRslt:enum16 NCtl:uint16 RvrtTms:uint32* RvrtRem:uint32 "
    "RvrtCtl:uint16* Db_SF:sunssf K_SF:sunssf RspTms_SF:sunssf"
)
_DROOP = (
    "DbOf:uint32/Db_SF* DbUf:uint32/Db_SF* KOf:uint16/K_SF* KUf:uint16/K_SF* RspTms:uint32/RspTms_SF* PMin:int16* "
    "ReadOnly:enum16"
)
_STORAGE = (
    _HEAD + "WHRtg:uint16/WH_SF WHAvail:uint16/WH_SF SoC:uint16/Pct_SF SoH:uint16/Pct_SF Sta:enum16 WH_SF:sunssf "
    "Pct_SF:sunssf"
)
_MEASURE_DC = (
    _HEAD + "PrtAlrms:bitfield32 NPrt:uint16 DCA:int16/DCA_SF DCW:int16/DCW_SF DCWhInj:uint64/DCWH_SF "
    "DCWhAbs:uint64/DCWH_SF DCA_SF:sunssf DCV_SF:sunssf DCW_SF:sunssf DCWH_SF:sunssf Tmp_SF:sunssf"
)
_PORT = (
    "PrtTyp:enum16 ID:uint16 IDStr:string(8) DCA:int16/DCA_SF DCV:uint16/DCV_SF DCW:int16/DCW_SF "
    "DCWhInj:uint64/DCWH_SF DCWhAbs:uint64/DCWH_SF Tmp:int16/Tmp_SF DCSta:enum16 DCAlrm:bitfield32"
)


def _group(name: str, points: str, *groups: GroupSpec, count: int = 1) -> GroupSpec:
    return GroupSpec(name, parse_points(points), groups, count)


def _curve_model(name: str, scales: str, curve: str, point: str) -> GroupSpec:
    points = _group("Pt", point, count=CURVE_POINTS)
    return _group(name, _CURVE_HEAD + scales, _group("Crv", curve, points, count=CURVES))


def _trip_model(name: str, quantity: str, size: str) -> GroupSpec:
    regions = []
    for region in ("MustTrip", "MayTrip", "MomCess"):
        point = _group("Pt", f"{quantity}:{size}/{quantity}_SF* Tms:uint32/Tms_SF*", count=TRIP_POINTS)
        regions.append(_group(region, "ActPt:uint16*", point))
    head = _TRIP_HEAD + f"{quantity}_SF:sunssf Tms_SF:sunssf"
    return _group(name, head, _group("Crv", "ReadOnly:enum16", *regions, count=CURVES))


MODELS: dict[int, GroupSpec] = {
    1: _group("common", _COMMON),
    701: _group("DERMeasureAC", _MEASURE_AC),
    702: _group("DERCapacity", _CAPACITY),
    703: _group("DEREnterService", _ENTER_SERVICE),
    704: _group(
        "DERCtlAC",
        _CONTROL,
        *(_group(name, _POWER_FACTOR) for name in ("PFWInj", "PFWInjRvrt", "PFWAbs", "PFWAbsRvrt")),
    ),
    705: _curve_model(
        "DERVoltVar",
        "V_SF:sunssf DeptRef_SF:sunssf RspTms_SF:sunssf",
        "ActPt:uint16* DeptRef:enum16* Pri:enum16* VRef:uint16/V_SF* VRefAuto:uint16/V_SF VRefAutoEna:enum16* "
        "VRefAutoTms:uint16* RspTms:uint32/RspTms_SF* ReadOnly:enum16",
        "V:uint16/V_SF* Var:int16/DeptRef_SF*",
    ),
    706: _curve_model(
        "DERVoltWatt",
        "V_SF:sunssf DeptRef_SF:sunssf RspTms_SF:sunssf",
        "ActPt:uint16* DeptRef:enum16* RspTms:uint32/RspTms_SF* ReadOnly:enum16",
        "V:uint16/V_SF* W:int16/DeptRef_SF*",
    ),
    707: _trip_model("DERTripLV", "V", "uint16"),
    708: _trip_model("DERTripHV", "V", "uint16"),
    709: _trip_model("DERTripLF", "Hz", "uint32"),
    710: _trip_model("DERTripHF", "Hz", "uint32"),
    711: _group("DERFreqDroop", _DROOP_HEAD, _group("Ctl", _DROOP, count=CURVES)),
    712: _curve_model(
        "DERWattVar",
        "W_SF:sunssf DeptRef_SF:sunssf",
        "ActPt:uint16* DeptRef:enum16* Pri:enum16* ReadOnly:enum16",
        "W:int16/W_SF* Var:int16/DeptRef_SF*",
    ),
    713: _group("DERStorageCapacity", _STORAGE),
    714: _group("DERMeasureDC", _MEASURE_DC, _group("Prt", _PORT)),
}
