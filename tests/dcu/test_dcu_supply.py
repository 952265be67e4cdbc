"""Switching lines and collecting trips at the concentrator: once each, by their deadline, whatever comes twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dcu_fakes import START_UTC_S, Bench, DataObject, FakeMeter, Values, bench

from dcu.meter_trips import announced_trips
from protocols.dlms.data import (
    Data,
    array,
    boolean,
    double_long_unsigned,
    enumerated,
    octet_string,
    structure,
    unsigned,
)
from protocols.dlms.enums import ActionResult
from protocols.dlms.notification import DataNotification
from protocols.dlms.objects import AccessDenied, Attribute, Caller, CosemObject, InterfaceClass, Method
from protocols.errors import RemoteProtocolError
from protocols.headend.supply import SupplyAction, SupplyRequest, SupplyResponse, SupplyStatus
from protocols.leakage_protection import (
    TRIP_PUSH,
    ProtectionState,
    Refusal,
    SafetyState,
    disconnect_control,
    protection_state,
)

__all__ = ["bench"]


class Control(Values):
    """A relay that does what it is told, unless the protection holds it open."""

    INTERFACE = InterfaceClass(
        70, 0, "Disconnect control", (Attribute(2, "output_state"), Attribute(3, "control_state")),
        (Method(1, "remote_disconnect"), Method(2, "remote_reconnect")),
    )  # fmt: skip
    __slots__ = ("meter",)

    def __init__(self, meter: SwitchedMeter) -> None:
        self.meter = meter
        super().__init__(
            disconnect_control(1), {2: lambda: boolean(meter.closed), 3: lambda: enumerated(meter.control_state)}
        )

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        meter = self.meter
        meter.actions.append(method_id)
        if method_id == 1:
            meter.closed, meter.control_state = meter.is_welded, 0
            if meter.is_welded:
                raise AccessDenied(ActionResult.OTHER_REASON)
        elif meter.protection.state is SafetyState.LOCKED_OUT:
            raise AccessDenied(ActionResult.OTHER_REASON)
        elif meter.protection.refusal is Refusal.NONE:
            meter.closed, meter.control_state = True, 1
        return None


class SwitchedMeter(FakeMeter):
    def __init__(self, number: int) -> None:
        self.closed, self.control_state, self.is_welded = True, 1, False
        self.protection = ProtectionState(SafetyState.CLOSED)
        self.actions: list[int] = []
        super().__init__(number)

    def _objects(self) -> list[CosemObject]:
        state = DataObject(protection_state(1), {2: lambda: self.protection.to_data()})
        return [*super()._objects(), Control(self), state]


def _ask(bench: Bench, meter: FakeMeter, request_id: str, action: SupplyAction, deadline_s: float = 30.0) -> None:
    deadline_ms = round((START_UTC_S + bench.loop.time() + deadline_s) * 1000)
    bench.headend.send(SupplyRequest(request_id, meter.serial, 1, action, deadline_ms))


async def _answer(bench: Bench, request_id: str) -> SupplyResponse:
    def answers() -> list[Any]:
        return [item for item in bench.headend.of(SupplyResponse) if item.request_id == request_id]

    await bench.until(answers, 60)
    (answer,) = answers()
    assert isinstance(answer, SupplyResponse)
    return answer


def test_a_line_is_opened_and_closed_once_however_often_the_request_comes(bench: Bench) -> None:
    meter = SwitchedMeter(3)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        for _ in range(3):
            _ask(bench, meter, "open", SupplyAction.DISCONNECT)
        opened = await _answer(bench, "open")
        assert (opened.status, opened.connected) == (SupplyStatus.OK, False)
        _ask(bench, meter, "close", SupplyAction.RECONNECT)
        closed = await _answer(bench, "close")
        assert (closed.status, closed.connected) == (SupplyStatus.OK, True)
        await asyncio.sleep(30)
        assert meter.actions == [1, 2]

    bench.run(body)


@pytest.mark.parametrize(
    ("state", "refusal", "actions"),
    [
        (SafetyState.TRIPPED, Refusal.LEAKAGE_PERSISTS, [1, 2]),
        (SafetyState.LOCKED_OUT, Refusal.LOCKED_OUT, [1, 2]),
    ],
)
def test_what_the_meters_protection_refuses_is_told_with_its_reason(
    bench: Bench, state: SafetyState, refusal: Refusal, actions: list[int]
) -> None:
    meter = SwitchedMeter(3)
    meter.closed, meter.control_state, meter.protection = False, 2, ProtectionState(state, refusal)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        _ask(bench, meter, "close", SupplyAction.RECONNECT)
        answer = await _answer(bench, "close")
        assert (answer.status, answer.connected, answer.reason) == (SupplyStatus.REFUSED, False, refusal)
        assert meter.actions == actions

    bench.run(body)


def test_welded_contacts_are_a_failure_and_not_a_success(bench: Bench) -> None:
    meter = SwitchedMeter(3)
    meter.is_welded = True

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        _ask(bench, meter, "open", SupplyAction.DISCONNECT)
        answer = await _answer(bench, "open")
        assert (answer.status, answer.connected) == (SupplyStatus.FAILED, True)

    bench.run(body)


def test_a_meter_out_of_reach_is_not_switched_after_the_deadline(bench: Bench) -> None:
    meter = SwitchedMeter(3)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.lose(meter)
        _ask(bench, meter, "open", SupplyAction.DISCONNECT, deadline_s=10.0)
        _ask(bench, meter, "late", SupplyAction.DISCONNECT, deadline_s=-1.0)
        assert (await _answer(bench, "late")).status is SupplyStatus.TIMEOUT
        assert (await _answer(bench, "open")).status is SupplyStatus.TIMEOUT
        bench.mesh.join(meter)
        await asyncio.sleep(120)
        assert meter.actions == []

    bench.run(body)


def test_a_meter_without_a_relay_has_no_such_line(bench: Bench) -> None:
    meter = FakeMeter(4)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        _ask(bench, meter, "open", SupplyAction.DISCONNECT)
        assert (await _answer(bench, "open")).status is SupplyStatus.UNDEFINED

    bench.run(body)


def _push(trips: Data, name: bytes = bytes(TRIP_PUSH)) -> bytes:
    body = structure(octet_string(b"LDN"), octet_string(name), octet_string(bytes(12)), trips)
    return DataNotification(1, body).encode()


def test_an_announcement_names_its_trips_and_what_is_none_is_told_apart() -> None:
    trips = array(structure(double_long_unsigned(number), unsigned(1)) for number in (4, 5))
    assert announced_trips(_push(trips)) == [4, 5]
    assert announced_trips(_push(array(()))) == []
    assert announced_trips(_push(trips, b"\0\0\x19\x09\0\xff")) is None
    assert announced_trips(DataNotification(1, unsigned(3)).encode()) is None
    for malformed in (unsigned(1), array((unsigned(1),)), array((structure(unsigned(1)),)), array((structure(),))):
        with pytest.raises(RemoteProtocolError):
            announced_trips(_push(malformed))
