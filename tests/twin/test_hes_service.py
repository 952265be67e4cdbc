"""The head-end behind an in-memory broker, asked over its REST interface, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dcu.uplink import UplinkListener
from protocols.errors import BadInputError
from protocols.headend.messages import (
    Credentials,
    CredentialsRequest,
    CredentialsStatus,
    DcuState,
    DcuStatus,
    Event,
    EventKind,
    Message,
    MissingReason,
    MissingValue,
    ReadingRequest,
    ReadingResponse,
    ReadingStatus,
    ReadingValue,
    Registration,
    RegistrationAck,
    RegistrationStatus,
    channel_of,
    decode_message,
    encode_message,
)
from protocols.headend.topics import Channel, Topic, dcu_subscriptions
from twin.backhaul.link import Backhaul
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.clock.clocks import VirtualClock
from twin.errors import RigError
from twin.hes.hes import Hes
from twin.hes.store import Store
from twin.hes.vault import KeyVault

EUI64 = bytes.fromhex("0249484d00000001")
TITLE = bytes.fromhex("49484d0000000001")
KEY = bytes(range(16))
SERIAL = "IHM0001"
NOW_MS = 1_772_323_200_000


class FakeDcu:
    """A concentrator that answers reading requests as it is told to."""

    def __init__(self, bench: Bench) -> None:
        self.received: list[Message] = []
        self.answer: Callable[[ReadingRequest], Message | None] = _good_answer
        options = ClientOptions("dcu-1", username="dcu-1", password="d")
        self.uplink = bench.broker.uplink(bench.link, options, random.Random(5))
        for topic_filter in dcu_subscriptions("dcu-1"):
            self.uplink.subscribe(topic_filter)
        self.uplink.start(UplinkListener(lambda _: None, lambda _: None, self._message, lambda _: None))

    def send(self, message: Message) -> None:
        self.uplink.publish(Topic("dcu-1", channel_of(message)).encode(), encode_message(message))

    def _message(self, topic: str, payload: bytes) -> None:
        message = decode_message(payload, Topic.decode(topic).channel)
        self.received.append(message)
        if isinstance(message, ReadingRequest):
            answer = self.answer(message)
            if answer is not None:
                self.send(answer)


class Bench:
    def __init__(self, store_url: str = "sqlite://") -> None:
        self.clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
        rules = AccessRules((dcu_client("dcu-1", "d"), headend_client("h")))
        self.broker = MemoryBroker(self.clock.loop, rules)
        self.link = Backhaul(self.clock.loop, random.Random(1), "satellite")
        lan = Backhaul(self.clock.loop, random.Random(2), "lan")
        options = ClientOptions("hes", username="hes", password="h")
        self.events: list[tuple[str, dict[str, object]]] = []
        self.hes = Hes(
            self.clock,
            uplink=self.broker.uplink(lan, options, random.Random(3)),
            rng=random.Random(4),
            trace=lambda kind, **fields: self.events.append((kind, fields)),
            vault_key=bytes(32),
            store_url=store_url,
        )
        self.dcu = FakeDcu(self)

    def ship(self, serial: str = SERIAL, eui64: bytes = EUI64) -> None:
        self.hes.add_shipment(serial, eui64=eui64, system_title=TITLE, encryption_key=KEY, authentication_key=KEY[::-1])

    async def registered(self) -> None:
        """A meter that is known, has registered, and a head-end that is on line."""
        self.ship()
        self.hes.start()
        self.dcu.send(registration())
        await self.hes.wait_registered([SERIAL], timeout_s=60)


def play(scene: Callable[[Bench], Coroutine[Any, Any, None]], store_url: str = "sqlite://") -> Bench:
    bench = Bench(store_url)

    async def main() -> None:
        try:
            await scene(bench)
        finally:
            bench.dcu.uplink.stop()
            await bench.hes.stop()

    bench.clock.run(main())
    assert bench.clock.loop.unhandled == []
    return bench


def registration(number: int = 1, **changes: Any) -> Registration:
    message = Registration(
        id=f"reg-{number}",
        serial=SERIAL,
        eui64=EUI64,
        system_title=TITLE,
        logical_device_name="IHM0001",
        model="ihm5000-1p",
        hardware_revision="A1",
        firmware_version="1.0.0",
        security_suite=0,
        authentication_mechanism=5,
        public_keys=(),
        time_utc_ms=NOW_MS,
    )
    return replace(message, **changes)


def _good_answer(request: ReadingRequest) -> ReadingResponse:
    units = {"1-0:1.8.0*255": ("123456", "Wh"), "1-0:32.7.0*255": ("230.10", "V"), "1-0:31.7.0*255": ("4.52", "A")}
    values = tuple(
        ReadingValue(item.obis, Decimal(units[item.obis][0]), units[item.obis][1])
        for item in request.objects
        if item.obis in units
    )
    missing = tuple(
        MissingValue(item.obis, MissingReason.UNDEFINED) for item in request.objects if item.obis not in units
    )
    return ReadingResponse(
        request.id, request.serial, ReadingStatus.OK, NOW_MS + 5, values, missing, NOW_MS, attempts=1
    )


@pytest.mark.requirement("UC-I.1")
def test_known_meter_gets_credentials_and_is_registered() -> None:
    async def scene(bench: Bench) -> None:
        bench.ship()
        bench.hes.start()
        bench.dcu.send(CredentialsRequest("c-1", EUI64, NOW_MS))
        await asyncio.sleep(10)
        [given] = bench.dcu.received
        assert isinstance(given, Credentials)
        assert given.meter is not None
        assert given.meter.encryption_key == KEY
        bench.dcu.send(registration())
        await bench.hes.wait_registered([SERIAL], timeout_s=30)
        await asyncio.sleep(5)
        assert bench.dcu.received[-1] == RegistrationAck("reg-1", EUI64, RegistrationStatus.REGISTERED)

    play(scene)


@pytest.mark.requirement("UC-I.2")
def test_registration_data_is_shown_by_the_interface() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        meter = (await bench.hes.api.get(f"/api/meters/{SERIAL}")).json()
        assert meter["eui64"] == EUI64.hex()
        assert meter["hardware_revision"] == "A1"
        assert meter["state"] == "registered"
        assert meter["first_registered_utc"].startswith("2026-03-01T00:00:")

    play(scene)


@pytest.mark.requirement("UC-I.3")
def test_unknown_meter_is_refused_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(bench: Bench) -> None:
        bench.hes.start()
        for _ in range(2):
            bench.dcu.send(CredentialsRequest("c-1", EUI64, NOW_MS))
        bench.dcu.send(registration())
        await asyncio.sleep(20)
        given = [message for message in bench.dcu.received if isinstance(message, Credentials)]
        assert [message.status for message in given] == [CredentialsStatus.UNKNOWN] * 2
        ack = bench.dcu.received[-1]
        assert isinstance(ack, RegistrationAck)
        assert ack.status is RegistrationStatus.REFUSED
        assert [event.kind for event in bench.hes.events()] == ["meter-unknown", "meter-refused"]
        assert bench.hes.meters() == []

    with caplog.at_level(logging.WARNING):
        play(scene)
    assert sum("refused meter" in record.message for record in caplog.records) == 2
    assert KEY.hex() not in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"serial": "OTHER"}, "serial number"),
        ({"system_title": bytes(8)}, "system title"),
        ({"eui64": bytes(8)}, "no shipment"),
    ],
)
def test_registration_that_contradicts_the_shipment_is_refused(change: dict[str, Any], reason: str) -> None:
    async def scene(bench: Bench) -> None:
        bench.ship()
        bench.hes.start()
        bench.dcu.send(registration(**change))
        await asyncio.sleep(10)
        ack = bench.dcu.received[-1]
        assert isinstance(ack, RegistrationAck)
        assert ack.status is RegistrationStatus.REFUSED
        assert reason in ack.detail
        assert bench.hes.meters() == []

    play(scene)


@pytest.mark.requirement("UC-I.4")
def test_power_recovery_and_repeated_delivery_leave_one_row() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.send(registration(1))
        bench.dcu.send(registration(2, firmware_version="1.0.1"))
        bench.dcu.send(registration(2, firmware_version="1.0.1"))
        await asyncio.sleep(20)
        [meter] = bench.hes.meters()
        assert meter.registrations == 2
        assert meter.firmware_version == "1.0.1"
        assert [row.status for row in bench.hes.registrations(SERIAL)] == ["registered", "updated"]
        acks = [message for message in bench.dcu.received if isinstance(message, RegistrationAck)]
        assert [ack.status for ack in acks] == ["registered", "registered", "updated", "updated"]

    play(scene)


@pytest.mark.requirement("UC-II.1")
def test_on_demand_reading_comes_back_as_json() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        result = await bench.hes.read_meter(SERIAL)
        assert result.is_ok
        assert result.values["voltage_l1"].value == Decimal("230.10")
        assert result.values["active_energy_import"].display == "123.456 kWh"
        assert result.elapsed_s > 0.6, "the satellite takes its time"
        shown = {item["name"]: item["value"] for item in result.json["values"]}
        assert shown == {"active_energy_import": 123456.0, "voltage_l1": 230.1, "current_l1": 4.52}
        assert {item["reason"] for item in result.json["missing"]} == {"undefined"}
        assert len(bench.hes.readings(SERIAL)) == 3

    play(scene)


@pytest.mark.requirement("UC-II.2")
def test_silent_concentrator_is_a_clear_time_out_at_the_deadline() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.answer = lambda _: None
        result = await bench.hes.read_meter(SERIAL, timeout_s=30)
        assert result.status == "timeout"
        assert result.detail == "no answer from the concentrator before the deadline"
        assert result.elapsed_s == pytest.approx(30, abs=0.01)
        await asyncio.sleep(600)
        requests = [message for message in bench.dcu.received if isinstance(message, ReadingRequest)]
        assert len(requests) == 1, "a request is not repeated"
        assert requests[0].deadline_utc_ms < NOW_MS + 60_000

    play(scene)


@pytest.mark.requirement("UC-II.2")
def test_answer_after_the_deadline_changes_nothing() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        kept: list[ReadingRequest] = []
        bench.dcu.answer = lambda request: kept.append(request)
        result = await bench.hes.read_meter(SERIAL, timeout_s=5)
        bench.dcu.send(_good_answer(kept[0]))
        await asyncio.sleep(10)
        assert result.status == "timeout"
        shown = (await bench.hes.api.get(f"/api/requests/{result.request_id}")).json()
        assert shown["status"] == "timeout"
        assert bench.hes.readings() == []
        assert bench.hes.service.counters.late_responses == 1

    play(scene)


def test_time_out_that_the_concentrator_reports_is_passed_on() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.answer = lambda request: ReadingResponse(
            request.id, request.serial, ReadingStatus.TIMEOUT, NOW_MS, attempts=3, detail="meter did not answer"
        )
        result = await bench.hes.read_meter(SERIAL)
        assert (result.status, result.detail) == ("timeout", "meter did not answer")
        assert result.json["attempts"] == 3

    play(scene)


def test_repeated_answer_is_stored_once() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()

        def twice(request: ReadingRequest) -> ReadingResponse:
            bench.dcu.send(_good_answer(request))
            return _good_answer(request)

        bench.dcu.answer = twice
        assert (await bench.hes.read_meter(SERIAL)).is_ok
        await asyncio.sleep(5)
        assert len(bench.hes.readings()) == 3
        assert bench.hes.service.counters.repeated_messages == 1

    play(scene)


@pytest.mark.parametrize(
    "forge",
    [
        lambda answer: replace(answer, serial="OTHER"),
        lambda answer: replace(answer, request_id="read-0-1"),
        lambda answer: replace(answer, values=(ReadingValue("1-0:99.9.9*255", Decimal(1), ""),), missing=()),
        lambda answer: replace(answer, values=answer.values[:1] * 2, missing=()),
    ],
)
def test_answer_that_does_not_fit_its_request_is_dropped(forge: Callable[[ReadingResponse], ReadingResponse]) -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.answer = lambda request: forge(_good_answer(request))
        result = await bench.hes.read_meter(SERIAL, timeout_s=10)
        assert result.status == "timeout"
        assert bench.hes.readings() == []
        assert bench.hes.service.counters.rejected_messages == 1

    play(scene)


def test_unregistered_and_revoked_meters_are_not_asked() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        assert (await bench.hes.read_meter("NOBODY")).status == "unknown-meter"
        bench.hes.revoke(SERIAL)
        assert (await bench.hes.read_meter(SERIAL)).status == "refused"
        await asyncio.sleep(5)
        told = bench.dcu.received[-1]
        assert isinstance(told, Credentials)
        assert told.status is CredentialsStatus.REVOKED
        bench.dcu.send(CredentialsRequest("c-9", EUI64, NOW_MS))
        await asyncio.sleep(5)
        answer = bench.dcu.received[-1]
        assert isinstance(answer, Credentials)
        assert answer.meter is None
        with pytest.raises(BadInputError, match="no shipment"):
            bench.hes.revoke("NOBODY")

    play(scene)


def test_events_are_kept_once_and_change_the_meters_state() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        lost = Event("e-1", EventKind.METER_LOST, NOW_MS, eui64=EUI64, details=(("reason", "no route"),))
        bench.dcu.send(lost)
        bench.dcu.send(lost)
        await asyncio.sleep(5)
        [event] = bench.hes.events()
        assert (event.source, event.kind) == ("dcu-1", "meter-lost")
        assert bench.hes.meters()[0].state == "unreachable"
        bench.dcu.send(Event("e-2", EventKind.METER_RECOVERED, NOW_MS, serial=SERIAL))
        await asyncio.sleep(5)
        assert bench.hes.meters()[0].state == "registered"
        shown = (await bench.hes.api.get("/api/events", params={"kind": "meter-lost"})).json()
        assert shown[0]["details"] == {"reason": "no route"}

    play(scene)


def test_concentrators_and_health_are_shown() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.send(DcuStatus(DcuState.ONLINE, "0.1.0", time_utc_ms=NOW_MS))
        await asyncio.sleep(5)
        [dcu] = (await bench.hes.api.get("/api/dcus")).json()
        assert (dcu["dcu_id"], dcu["state"], dcu["firmware_version"]) == ("dcu-1", "online", "0.1.0")
        health = (await bench.hes.api.get("/api/health")).json()
        assert (health["status"], health["meters"], health["dcus_online"]) == ("ok", 1, 1)

    play(scene)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"type":"x"}', bytes(range(256)), b'{"type":"event"}'])
def test_junk_from_the_broker_is_counted(payload: bytes) -> None:
    async def scene(bench: Bench) -> None:
        bench.hes.service.handle("openami/v1/dcu/dcu-1/event", payload)
        bench.hes.service.handle("somewhere/else", payload)
        assert bench.hes.service.counters.rejected_messages == 2

    play(scene)


def test_time_out_says_that_the_concentrator_is_off_line() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.answer = lambda _: None
        bench.dcu.send(DcuStatus(DcuState.OFFLINE))
        await asyncio.sleep(5)
        result = await bench.hes.read_meter(SERIAL, timeout_s=5)
        assert result.status == "timeout"
        assert result.detail.startswith("concentrator dcu-1 is off line since 2026-03-01T00:00:")

    play(scene)


def test_message_schemas_are_published() -> None:
    async def scene(bench: Bench) -> None:
        schemas = (await bench.hes.api.get("/api/schemas")).json()
        assert schemas["openami/v1/dcu/{dcu_id}/request"][0]["title"] == "reading-request"
        assert len(schemas) == len(Channel)

    play(scene)


def test_bad_requests_are_problems_in_json() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        cases = [
            (await bench.hes.api.get("/api/meters/NOBODY"), 404, "NOBODY"),
            (await bench.hes.api.get("/api/requests/none"), 404, "none"),
            (await bench.hes.api.get("/nowhere"), 404, "Not Found"),
            (await bench.hes.api.get("/api/readings?since=yesterday"), 422, "since"),
            (await bench.hes.api.post(f"/api/meters/{SERIAL}/readings", json={"quantities": ["x"]}), 422, "'x'"),
            (await bench.hes.api.post(f"/api/meters/{SERIAL}/readings", json={"quantities": []}), 422, "at least one"),
            (await bench.hes.api.post(f"/api/meters/{SERIAL}/readings", json={"timeout_s": 0}), 422, "timeout_s"),
            (await bench.hes.api.post(f"/api/meters/{SERIAL}/readings", json={"extra": 1}), 422, "extra"),
        ]
        for response, status, words in cases:
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert words in response.json()["detail"]
        with pytest.raises(BadInputError, match="x"):
            await bench.hes.read_meter(SERIAL, quantities=["x"])

    play(scene)


def test_readings_can_be_filtered_and_polled() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        started = await bench.hes.api.post(f"/api/meters/{SERIAL}/readings")
        assert (started.status_code, started.json()["status"]) == (202, "pending")
        await asyncio.sleep(10)
        polled = (await bench.hes.api.get(f"/api/requests/{started.json()['request_id']}")).json()
        assert polled["status"] == "ok"
        only = (await bench.hes.api.get("/api/readings", params={"name": "voltage_l1"})).json()
        assert [item["display"] for item in only] == ["230.10 V"]
        later = await bench.hes.api.get("/api/readings", params={"since": "2026-03-02T00:00:00"})
        assert later.json() == []
        assert len((await bench.hes.api.get("/api/requests")).json()) == 1

    play(scene)


def test_interface_describes_itself_and_serves_the_console() -> None:
    async def scene(bench: Bench) -> None:
        paths = (await bench.hes.api.get("/api/openapi.json")).json()["paths"]
        assert {"/api/meters", "/api/meters/{serial}/readings", "/api/requests/{request_id}", "/api/health"} <= set(
            paths
        )
        page = await bench.hes.api.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "http://" not in page.text
        assert "https://" not in page.text

    play(scene)


def test_waiting_for_a_meter_that_never_comes_names_it() -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        with pytest.raises(RigError, match=r"IHM0002$"):
            await bench.hes.wait_registered([SERIAL, "IHM0002"], timeout_s=30)

    play(scene)


def test_database_holds_no_key_in_clear_and_is_the_same_for_the_same_run(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        await bench.registered()
        assert (await bench.hes.read_meter(SERIAL)).is_ok

    def run(name: str) -> bytes:
        play(scene, f"sqlite:///{tmp_path / name}")
        return (tmp_path / name).read_bytes()

    first, second = run("a.sqlite"), run("b.sqlite")
    assert first == second
    assert KEY not in first
    assert KEY.hex().encode() not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sqlite", "b.sqlite"]


def test_pending_request_times_out_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mdms.sqlite'}"

    async def first(bench: Bench) -> None:
        await bench.registered()
        bench.dcu.answer = lambda _: None
        await bench.hes.api.post(f"/api/meters/{SERIAL}/readings", json={"timeout_s": 30})

    async def second(bench: Bench) -> None:
        await asyncio.sleep(60)
        [request] = bench.hes.store.requests()
        assert request.status == "timeout"

    play(first, url)
    play(second, url)


def test_unusable_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(
        "no database, but some text that is longer than a header of SQLite is, which has 100"
    )
    for url in (
        f"sqlite:///{tmp_path / 'text'}",
        "nonsense",
        "nosuch://x",
        f"sqlite:///{tmp_path / 'no' / 'folder.sqlite'}",
    ):
        with pytest.raises(BadInputError, match="database"):
            Store(url, KeyVault(bytes(32)))
    with pytest.raises(BadInputError, match="vault key"):
        KeyVault(b"short")
