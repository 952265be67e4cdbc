"""Disconnections, reconnections and trips at the head-end: what is asked, and what comes twice, late or by mistake."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from protocols.headend.messages import (
    KeyPurpose,
    Message,
    MeterCredentials,
    PublicKey,
    Registration,
    decode_message,
    encode_message,
)
from protocols.headend.supply import SupplyAction, SupplyRequest, SupplyResponse, SupplyStatus
from protocols.headend.topics import Channel, Topic
from protocols.headend.trips import TripReport
from protocols.leakage_protection import Refusal
from twin.clock.clocks import VirtualClock
from twin.hes.api import create_app
from twin.hes.service import HesService
from twin.hes.store import MEMORY_URL, Store
from twin.hes.vault import KeyVault

EUI64, TITLE, SERIAL = bytes.fromhex("0249484d00000001"), bytes.fromhex("49484d0000000001"), "IHM0001"
TRIP = TripReport(
    "trip.1", SERIAL, 1, 2, "ac", 1_772_323_200_000, 1_772_323_201_000, 0, 0, 30_000, 100, 30_100, 50_000, 8000, 20, 2,
    bytes.fromhex("000005dcfa24"),
)  # fmt: skip


class HesBench:
    """The service with one registered meter; what it publishes is kept."""

    def __init__(self) -> None:
        self.clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.sent: list[Message] = []
        self.service = HesService(
            Store(MEMORY_URL, KeyVault(bytes(32))),
            timers=self.clock.loop,
            utc_s=self.clock.utc_s,
            publish=self._publish,
            rng=random.Random(1),
            trace=lambda kind, /, **fields: None,
        )
        self.api = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(self.service)), base_url="http://hes")
        self.service.store.add_shipment(EUI64, MeterCredentials(SERIAL, TITLE, 0, bytes(16), bytes(16)))
        key = PublicKey(KeyPurpose.SIGNING, bytes(64))
        self.arrive(
            Registration("r1", SERIAL, EUI64, TITLE, "LDN", "m", "h", "f", 0, 5, (key,), 1_772_323_200_000),
            Channel.REGISTRATION,
        )

    def _publish(self, topic: str, payload: bytes) -> int:
        self.sent.append(decode_message(payload, Topic.decode(topic).channel))
        return 1

    def arrive(self, message: Message, channel: Channel, dcu_id: str = "dcu-1") -> None:
        self.service.handle(Topic(dcu_id, channel).encode(), encode_message(message))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.clock.loop.run_until_complete(work)

    def ask(self, body: dict[str, Any], *, wait: bool = False) -> httpx.Response:
        answer: httpx.Response = self.run(
            self.api.post(f"/api/meters/{SERIAL}/supply", params={"wait": str(wait).lower()}, json=body)
        )
        return answer

    def get(self, path: str) -> Any:
        return self.run(self.api.get(path)).json()

    @property
    def request(self) -> SupplyRequest:
        (found,) = [item for item in self.sent if isinstance(item, SupplyRequest)]
        return found


@pytest.fixture
def hes() -> HesBench:
    return HesBench()


def _answer(request: SupplyRequest, status: SupplyStatus, **more: Any) -> SupplyResponse:
    return SupplyResponse(request.id, request.serial, request.line, status, 1_772_323_200_000, **more)


def test_a_refusal_reaches_the_operator_with_its_reason_and_is_taken_once(hes: HesBench) -> None:
    asked = hes.ask({"action": "reconnect", "line": 2})
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    assert (hes.request.line, hes.request.action) == (2, SupplyAction.RECONNECT)
    refused = _answer(hes.request, SupplyStatus.REFUSED, connected=False, reason=Refusal.LOCKED_OUT, detail="why")
    for message in (refused, refused, replace(refused, status=SupplyStatus.OK, reason=None)):
        hes.arrive(message, Channel.RESPONSE)
    (shown,) = hes.get("/api/supply-requests")
    assert (shown["status"], shown["reason"], shown["detail"], shown["connected"]) == (
        "refused", "locked-out", "why", False,
    )  # fmt: skip
    assert hes.service.supply.counters.late == 2
    assert hes.get(f"/api/supply-requests/{asked.json()['request_id']}") == shown


def test_answers_of_another_concentrator_line_or_request_are_dropped(hes: HesBench) -> None:
    hes.ask({"action": "disconnect"})
    right = _answer(hes.request, SupplyStatus.OK, connected=False)
    hes.arrive(right, Channel.RESPONSE, dcu_id="dcu-2")
    for wrong in (replace(right, line=3), replace(right, request_id="supply-x"), replace(right, serial="IHM0002")):
        hes.arrive(wrong, Channel.RESPONSE)
    assert hes.service.supply.counters.rejected == 4
    assert hes.get("/api/supply-requests")[0]["status"] == "pending"


def test_without_an_answer_the_operator_gets_a_time_out_at_the_deadline(hes: HesBench) -> None:
    started_s = hes.clock.now()
    answer = hes.ask({"action": "disconnect", "timeout_s": 20}, wait=True).json()
    assert (answer["status"], answer["connected"]) == ("timeout", None)
    assert hes.clock.now() - started_s == pytest.approx(20.0)
    assert hes.request.deadline_utc_ms < round(1000 * hes.clock.utc_s())


@pytest.mark.parametrize(
    "body", [{}, {"action": "explode"}, {"action": "reconnect", "line": 0}, {"action": "reconnect", "more": 1}]
)
def test_a_request_that_makes_no_sense_is_refused_and_not_sent(hes: HesBench, body: dict[str, Any]) -> None:
    assert hes.ask(body).status_code == 422
    assert not [item for item in hes.sent if isinstance(item, SupplyRequest)]


def test_a_revoked_meter_is_not_switched(hes: HesBench) -> None:
    hes.service.revoke(SERIAL, "stolen")
    assert hes.ask({"action": "reconnect"}).json()["status"] == "refused"
    assert not [item for item in hes.sent if isinstance(item, SupplyRequest)]


@pytest.mark.requirement("SAF-7")
def test_a_trip_that_comes_twice_is_one_and_one_of_a_new_flash_is_another(hes: HesBench) -> None:
    later = replace(TRIP, id="trip.2", time_utc_ms=TRIP.time_utc_ms + 60_000)
    for message in (TRIP, TRIP, replace(TRIP, id="again"), later):
        hes.arrive(message, Channel.EVENT)
    shown = hes.get("/api/trips")
    assert [(item["number"], item["time_utc"]) for item in shown] == [
        (1, "2026-03-01T00:01:00.000Z"),
        (1, "2026-03-01T00:00:00.000Z"),
    ]
    assert [event["kind"] for event in hes.get("/api/events")] == ["leakage-trip", "leakage-trip"]
    assert hes.get(f"/api/trips/{shown[1]['trip_id']}")["samples_ma"] == [0.0, 30.0, -30.0]
    assert hes.get("/api/trips?serial=NOBODY") == []


def test_the_console_page_is_whole(hes: HesBench) -> None:
    page = hes.run(hes.api.get("/supply")).text
    assert "Leakage trips" in page
    assert "{{" not in page
    assert 'href="/supply"' in hes.run(hes.api.get("/")).text
