"""The SunSpec interface: layout against the published models, and an independent client over Modbus TCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.der.categories import Category
from grid.der.inverter import DerState, GridPoint, Inverter
from grid.der.settings import PROFILES
from grid.der.sunspec.bank import BASE_ADDRESS
from grid.der.sunspec.device import Answer, SunSpecDevice
from grid.der.sunspec.models import MODELS
from grid.der.sunspec.points import GroupSpec

sunspec2 = pytest.importorskip("sunspec2")
pytest.importorskip("pymodbus")


def _device(category: Category = Category.II) -> SunSpecDevice:
    inverter = Inverter(PROFILES["ieee1547-50"], category)
    inverter.step(GridPoint(1.0, 50.0), 0.02)
    return SunSpecDevice(inverter)


def _same(ours: GroupSpec, published: dict[str, Any]) -> None:
    assert [(p.name, p.kind.text, p.size, p.scale, p.writable) for p in ours.points] == [
        (p["name"], p["type"], p["size"], p.get("sf"), p.get("access") == "RW") for p in published["points"]
    ]
    groups = published.get("groups", [])
    assert [group.name for group in ours.groups] == [group["name"] for group in groups]
    for mine, theirs in zip(ours.groups, groups, strict=True):
        _same(mine, theirs)


@pytest.mark.requirement("GRID-5")
@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_has_the_published_points_in_the_published_order(model: int) -> None:
    folder = Path(sunspec2.__file__).parent / "models" / "json"
    published = json.loads((folder / f"model_{model}.json").read_text())
    _same(MODELS[model], published["group"])


def _with_client(device: SunSpecDevice, visit: Callable[[Any], None]) -> None:
    """Run `visit` with an independent client that has scanned the device over a real socket."""
    from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

    from grid.der.sunspec.server import SunSpecServer

    def talk(host: str, port: int) -> None:
        client = SunSpecModbusClientDeviceTCP(slave_id=7, ipaddr=host, ipport=port)
        try:
            client.scan()
            visit(client)
        finally:
            client.close()

    async def main() -> None:
        server = SunSpecServer(device, "127.0.0.1", 0, 7)
        host, port = await server.start()
        try:
            await asyncio.to_thread(talk, host, port)
        finally:
            await server.stop()

    asyncio.run(main())


@pytest.mark.requirement("GRID-5")
def test_an_independent_client_finds_every_model_and_reads_what_the_inverter_does() -> None:
    device = _device()
    device.inverter.step(GridPoint(0.98, 49.97), 0.02)

    def visit(client: Any) -> None:
        assert sorted(key for key in client.models if isinstance(key, int)) == sorted(MODELS)
        measured = client.DERMeasureAC[0]
        assert measured.W.cvalue == pytest.approx(device.inverter.active_w, abs=1)
        assert measured.LNV.cvalue == pytest.approx(0.98 * 230, abs=0.1)
        assert measured.Hz.cvalue == pytest.approx(49.97)
        assert (measured.InvSt.value, measured.ConnSt.value) == (3, 1)
        assert client.DERTripLV[0].Crv[0].MustTrip.Pt[0].V.cvalue == pytest.approx(70.0)
        assert client.DERTripLV[0].Crv[0].MustTrip.Pt[1].Tms.cvalue == pytest.approx(0.16)
        assert client.DERFreqDroop[0].Ctl[0].KOf.cvalue == pytest.approx(0.05)
        assert client.common[0].SN.value == "DER-1"

    _with_client(device, visit)


@pytest.mark.requirement("GRID-5")
def test_what_the_client_writes_takes_effect() -> None:
    device = _device()
    inverter = device.inverter

    def visit(client: Any) -> None:
        control = client.DERCtlAC[0]
        control.WMaxLimPct.cvalue, control.WMaxLimPctEna.value = 50, 1
        control.write()
        inverter.step(GridPoint(1.0, 50.0), 0.02)
        client.DERMeasureAC[0].read()
        assert client.DERMeasureAC[0].W.cvalue == pytest.approx(2500, abs=1)
        curve = client.DERVoltVar[0]
        curve.Crv[1].Pt[0].V.cvalue, curve.Crv[1].RspTms.cvalue, curve.Ena.value = 93, 2, 1
        curve.write()
        curve.AdptCrvReq.value = 2
        curve.write()
        curve.read()
        assert (curve.AdptCrvRslt.value, curve.Crv[0].Pt[0].V.cvalue) == (1, 93.0)
        assert inverter.settings.volt_var.enabled
        assert inverter.settings.volt_var.curve.points[0] == (93.0, 44.0)
        service = client.DEREnterService[0]
        service.ES.value = 0
        service.write()
        inverter.step(GridPoint(1.0, 50.0), 0.02)
        client.DERMeasureAC[0].read()
        assert client.DERMeasureAC[0].ConnSt.value == 0

    _with_client(device, visit)
    assert inverter.state is DerState.TRIPPED


@pytest.mark.requirement("GRID-5")
def test_nonsense_is_refused_and_changes_nothing() -> None:
    device = _device()
    before = device.inverter.settings

    def visit(client: Any) -> None:
        from sunspec2.modbus.modbus import ModbusClientException

        service = client.DEREnterService[0]
        service.ESVHi.cvalue = 200
        with pytest.raises(ModbusClientException, match="exception: 3"):
            service.write()
        client.DERMeasureAC[0].read()
        with pytest.raises(ModbusClientException, match="exception: 2"):
            client.write(client.DERMeasureAC[0].model_addr + 10, b"\x00\x01")
        trips = client.DERTripLV[0]
        trips.Crv[1].MustTrip.Pt[0].V.cvalue = 99
        trips.write()
        trips.AdptCrvReq.value = 2
        trips.write()
        trips.read()
        assert (trips.AdptCrvRslt.value, trips.Crv[0].MustTrip.Pt[0].V.cvalue) == (2, 70.0)

    _with_client(device, visit)
    assert device.inverter.settings == before
    assert device.refused == 3


def test_settings_within_the_ranges_are_adopted_for_every_trip_model() -> None:
    device = _device()
    wanted = {707: (85.0, 15.0), 708: (115.0, 5.0), 709: (47.0, 500.0), 710: (52.5, 400.0)}
    for model, (limit, clearing_s) in wanted.items():
        quantity = "V" if model < 709 else "Hz"
        scale = 100 if model < 709 else 1000
        _put(device, model, f"Crv[1].MustTrip.Pt[0].{quantity}", round(limit * scale))
        _put(device, model, "Crv[1].MustTrip.Pt[0].Tms", round(clearing_s * 100))
        _put(device, model, "AdptCrvReq", 2)
    settings_now = device.inverter.settings
    assert (settings_now.voltage.uv1.limit, settings_now.voltage.ov1.limit) == (0.85, 1.15)
    assert (settings_now.frequency.uf1.limit, settings_now.frequency.of1.limit) == (47.0, 52.5)
    assert settings_now.frequency.of1.clearing_s == 400.0


def _put(device: SunSpecDevice, model: int, path: str, raw: int) -> None:
    from grid.der.sunspec.bank import RegisterBank
    from grid.der.sunspec.points import to_registers

    bank = RegisterBank()
    for offset in range(len(bank.registers)):
        placed = bank.at(offset)
        if placed is not None and (placed.model, placed.point.path) == (model, path):
            answer = device.write(BASE_ADDRESS + placed.offset, to_registers(placed.point.spec, raw))
            assert answer is Answer.DONE
            return
    raise KeyError(path)


def test_a_limit_that_reverted_by_itself_is_not_brought_back_by_another_write() -> None:
    device = _device()
    for path, raw in (("WMaxLimPct", 300), ("WMaxLimPctRvrtTms", 1), ("WMaxLimPctEna", 1)):
        _put(device, 704, path, raw)
    for _ in range(60):
        device.inverter.step(GridPoint(1.0, 50.0), 0.02)
    _put(device, 703, "ESDlyTms", 200)
    assert not device.inverter.settings.power.limit_enabled
    assert device.inverter.settings.enter.delay_s == 200.0


@given(st.integers(-5, 1000), st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_write_is_answered_and_never_leaves_settings_outside_their_ranges(offset: int, values: list[int]) -> None:
    device = _device()
    before = device.inverter.settings
    answer = device.write(BASE_ADDRESS + offset, values)
    assert isinstance(answer, Answer)
    if answer is not Answer.DONE:
        assert device.inverter.settings == before
    device.inverter.settings.check(device.inverter.profile, device.inverter.rating)
    assert len(device.registers()) == device.size


def _adopted(device: SunSpecDevice, model: int, path: str, raw: int) -> int:
    """Write a point of the second curve and ask for its adoption: 1 is done, 2 is failed."""
    from grid.der.sunspec.bank import RegisterBank

    _put(device, model, path, raw)
    _put(device, model, "AdptCrvReq", 2)
    bank = RegisterBank()
    bank.registers[:] = device.registers()
    return bank.get_int(model, "AdptCrvRslt")


@pytest.mark.requirement("GRID-5")
@pytest.mark.parametrize(
    ("model", "path", "raw"),
    [
        (705, "Crv[1].Pri", 0),
        (705, "Crv[1].VRef", 10300),
        (705, "Crv[1].VRefAutoEna", 1),
        (705, "Crv[1].RspTms", 2000),
        (706, "Crv[1].Pt[0].V", 9000),
        (707, "Crv[1].MomCess.ActPt", 1),
        (710, "Crv[1].MayTrip.ActPt", 1),
    ],
)
def test_a_curve_that_asks_for_what_cannot_be_is_not_adopted(model: int, path: str, raw: int) -> None:
    device = _device()
    before = device.inverter.settings
    assert _adopted(device, model, path, raw) == 2
    assert device.inverter.settings == before
    assert device.refused == 1


@pytest.mark.requirement("GRID-5")
@pytest.mark.parametrize(("path", "raw"), [("ESHzLo", 45000), ("ESHzLo", 49930), ("ESHzHi", 52000)])
def test_entering_service_outside_the_frequencies_of_the_standard_is_refused(path: str, raw: int) -> None:
    from grid.der.sunspec.bank import RegisterBank
    from grid.der.sunspec.points import to_registers

    device, bank = _device(), RegisterBank()
    placed = next(
        item
        for item in map(bank.at, range(len(bank.registers)))
        if item and (item.model, item.point.path) == (703, path)
    )
    answer = device.write(BASE_ADDRESS + placed.offset, to_registers(placed.point.spec, raw))
    assert answer is Answer.ILLEGAL_VALUE
    assert device.inverter.settings.enter.low_hz == 49.58


_WRITES: dict[int, tuple[str, float]] = {
    1: ("DA", 7), 702: ("WMax", 4500), 703: ("ESDlyTms", 120), 704: ("WMaxLimPct", 70.0), 705: ("Ena", 1),
    706: ("Ena", 1), 707: ("Ena", 0), 708: ("Ena", 0), 709: ("Ena", 0), 710: ("Ena", 0), 711: ("Ena", 0),
    712: ("Ena", 1),
}  # fmt: skip
"""A point of every model that can be written, and a value that is not the default; 701, 713 and 714 only measure."""


@pytest.mark.requirement("GRID-5")
def test_an_independent_client_reads_every_model_and_writes_every_one_that_can_be() -> None:
    inverter = Inverter(PROFILES["ieee1547-50"], Category.II)
    inverter.step(GridPoint(1.0, 50.0), 0.02)
    device = SunSpecDevice(inverter, unit=7)

    def visit(client: Any) -> None:
        for number in MODELS:
            model = client.models[number][0]
            model.read()
            assert model.ID.value == number
            if number not in _WRITES:
                continue
            name, value = _WRITES[number]
            getattr(model, name).cvalue = value
            model.write()
            model.read()
            assert getattr(model, name).cvalue == pytest.approx(value), (number, name)

    _with_client(device, visit)
    assert set(MODELS) - set(_WRITES) == {701, 713, 714}
    settings_now = inverter.settings
    assert (settings_now.maximum_w, settings_now.enter.delay_s, settings_now.power.limit_pct) == (4500, 120, 70)
    assert settings_now.trips_enabled == (False, False, False, False)
    assert (settings_now.volt_var.enabled, settings_now.volt_watt.enabled, settings_now.watt_var.enabled) == (True,) * 3
    assert not settings_now.droop.enabled
    assert device.refused == 0
