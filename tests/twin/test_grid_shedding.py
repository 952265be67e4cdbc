"""Load shedding over REST: groups, orders, results per meter, and the operator who follows the frequency."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from protocols.errors import BadInputError
from protocols.headend.supply import SupplyAction
from twin.clock.virtual import VirtualLoop, run_virtual
from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]
OFF, ON = SupplyAction.DISCONNECT, SupplyAction.RECONNECT


@pytest.fixture
def street(twin_rig: MakeRig) -> SyncRig:
    pytest.importorskip("power_grid_model")
    rig = twin_rig("shedding", seed=3)
    rig.registered()
    names = {"north": "ABC", "east": "DE"}
    for group, members in names.items():
        rig.run(rig.rig.hes.define_group(group, [rig.rig.meter(name).serial for name in members]))
    return rig


def _on(street: SyncRig, names: str) -> list[bool]:
    return [street.rig.meter(name).metrology.flowing for name in names]


def _post(street: SyncRig, group: str, **body: object) -> Any:
    return street.run(street.rig.hes.api.post(f"/api/shedding/groups/{group}/orders", json=body))


@pytest.mark.requirement("GRID-4")
def test_a_group_goes_off_and_comes_back_and_every_meter_says_so_itself(street: SyncRig) -> None:
    off = street.run(street.rig.hes.shed("north", OFF))
    assert (off["status"], off["verified"]) == ("done", 3)
    assert [meter["connected"] for meter in off["meters"]] == [False] * 3
    assert _on(street, "ABCDE") == [False, False, False, True, True]
    started_s = street.rig.clock.now()
    on = street.run(street.rig.hes.shed("north", ON, stagger_s=20.0))
    assert (on["status"], on["verified"]) == ("done", 3)
    assert street.rig.clock.now() - started_s > 40.0
    assert _on(street, "ABC") == [True, True, True]
    listed = street.run(street.rig.hes.api.get("/api/shedding/orders")).json()
    assert [order["action"] for order in listed] == ["reconnect", "disconnect"]


@pytest.mark.requirement("GRID-4")
def test_a_later_order_withdraws_what_an_earlier_one_has_not_begun(street: SyncRig) -> None:
    first = _post(street, "north", action="disconnect", stagger_s=60.0)
    assert first.status_code == 202
    street.wait(30.0)
    assert _on(street, "ABC") == [False, True, True]
    street.run(street.rig.hes.shed("north", ON))
    street.wait(200.0)
    assert _on(street, "ABC") == [True, True, True]
    told = street.run(street.rig.hes.api.get(f"/api/shedding/orders/{first.json()['order_id']}")).json()
    assert [meter["status"] for meter in told["meters"]] == ["ok", "withdrawn", "withdrawn"]
    assert told["status"] == "partial"


@pytest.mark.requirement("GRID-4")
def test_who_does_not_follow_is_named_and_the_others_do(street: SyncRig) -> None:
    switch = street.rig.meter("A").meter.disconnector
    assert switch is not None
    switch.weld()
    street.rig.meter("B").die()
    result = street.run(street.rig.hes.shed("north", OFF, timeout_s=20.0))
    assert (result["status"], result["verified"]) == ("partial", 1)
    assert [meter["status"] for meter in result["meters"]] == ["failed", "timeout", "ok"]
    assert result["meters"][0]["connected"] is True


@pytest.mark.requirement("GRID-4")
def test_orders_that_wait_are_taken_up_after_a_restart_of_the_head_end(street: SyncRig) -> None:
    service = street.rig.hes.service
    order = service.shedding.order("north", OFF, stagger_s=30.0).order
    service.shedding.stop()
    street.wait(100.0)
    assert _on(street, "ABC") == [False, True, True]
    again = type(service.shedding)(
        service.shedding.store, service.supply, timers=street.rig.clock.loop, now_ms=service.now_ms,
        is_known=lambda _: True, notify=lambda: None, changed=service.changed, prefix="again", trace=street.rig.trace,
    )  # fmt: skip
    street.wait(60.0)
    assert _on(street, "ABC") == [False, False, False]
    assert again.result(order.order_id).status == "done"
    again.stop()


def test_bad_groups_and_orders_are_refused_with_a_reason(street: SyncRig) -> None:
    hes = street.rig.hes
    serial = street.rig.meter("A").serial
    for group, serials, reason in (
        ("west", ["NOBODY"], "has registered"),
        ("west", [serial, serial], "twice"),
        ("west", [serial], "belongs to group 'north'"),
        ("bad name", [serial], "letters"),
    ):
        with pytest.raises(BadInputError, match=reason):
            street.run(hes.define_group(group, serials))
    assert street.run(hes.api.put("/api/shedding/groups/west", json={"serials": []})).status_code == 422
    with pytest.raises(BadInputError, match="no group"):
        street.run(hes.shed("west", OFF))
    assert _post(street, "north", action="explode").status_code == 422
    for body in ({"stagger_s": -1}, {"stagger_s": 1e9}, {"timeout_s": 0}, {"extra": 1}):
        assert _post(street, "north", action="disconnect", **body).status_code == 422
    with pytest.raises(BadInputError, match="stagger_s"):
        hes.service.shedding.order("north", OFF, stagger_s=float("nan"))
    assert street.run(hes.api.get("/api/shedding/orders/none")).status_code == 404
    assert street.run(hes.api.delete("/api/shedding/groups/none")).status_code == 404
    assert street.run(hes.api.delete("/api/shedding/groups/east")).status_code == 204
    assert [item["group"] for item in street.run(hes.api.get("/api/shedding/groups")).json()] == ["north"]


def test_the_console_has_a_page_for_load_shedding_that_loads_nothing_from_elsewhere(street: SyncRig) -> None:
    page = street.run(street.rig.hes.api.get("/shedding"))
    assert page.status_code == 200
    assert "<title>Load shedding" in page.text
    assert ".tally" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


class _Board:
    """What the operator sees and does, without a rig: a frequency by time, and orders that take three seconds."""

    def __init__(self, loop: VirtualLoop, course: list[tuple[float, float]]) -> None:
        self._loop = loop
        self._course = course
        self.orders: list[tuple[float, str, str]] = []

    def hz(self) -> float:
        return next(hz for until_s, hz in self._course if self._loop.time() < until_s)

    async def order(self, group: str, action: SupplyAction, stagger_s: float) -> dict[str, Any]:
        self.orders.append((self._loop.time(), group, action.value))
        await asyncio.sleep(3.0)
        return {"status": "done"}


def _watch(course: list[tuple[float, float]], seconds: float) -> list[tuple[float, str, str]]:
    from twin.grid.shedding import SheddingPlan, Stage, SystemOperator

    loop = VirtualLoop()
    board = _Board(loop, course)
    plan = SheddingPlan((Stage(49.0, 5.0, "a"), Stage(48.5, 0.0, "b")), 49.8, 20.0)
    operator = SystemOperator(plan, board.hz, loop.time, board.order)

    async def main() -> None:
        watching = asyncio.get_running_loop().create_task(operator.watch())
        await asyncio.sleep(seconds)
        watching.cancel()

    run_virtual(main(), loop)
    return board.orders


@pytest.mark.requirement("GRID-4")
def test_a_dip_shorter_than_the_stages_delay_sheds_nobody() -> None:
    assert _watch([(10, 50.0), (14, 48.9), (1e9, 50.0)], 120.0) == []


@pytest.mark.requirement("GRID-4")
def test_stages_follow_the_frequency_and_groups_come_back_in_the_opposite_order() -> None:
    orders = _watch([(10, 50.0), (40, 48.9), (60, 48.2), (100, 49.5), (1e9, 50.0)], 200.0)
    assert [(group, action) for _, group, action in orders] == [
        ("a", "disconnect"), ("b", "disconnect"), ("b", "reconnect"), ("a", "reconnect"),
    ]  # fmt: skip
    times = [at_s for at_s, _, _ in orders]
    assert 15.0 <= times[0] <= 17.0
    assert 40.0 <= times[1] <= 42.0
    assert times[2] >= 120.0


def test_plans_that_contradict_themselves_are_refused() -> None:
    from twin.grid.shedding import plan_from

    good = {"hz": 49.0, "delay_s": 1, "group": "a"}
    for stages, restore_hz, message in (
        ([], 49.8, "stages"),
        ([good, {**good, "group": "b"}], 49.8, "stages"),
        ([good, {**good, "hz": 48.0}], 49.8, "same group"),
        ([good], 49.0, "restore_hz"),
        ([{**good, "hz": float("nan")}], 49.8, "hz"),
        ([{**good, "delay_s": -1}], 49.8, "delay_s"),
        ([{"hz": 49.0, "who": "a"}], 49.8, "a stage has"),
    ):
        with pytest.raises(BadInputError, match=message):
            plan_from(stages, restore_hz)  # type: ignore[arg-type]
