"""Firmware at the head-end: what is accepted, what is refused and why, campaigns and their reports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest
from firmware_files import STRANGER, TRUSTED, firmware

from protocols.headend.firmware import (
    CampaignPhase,
    FirmwareCampaign,
    FirmwareChunk,
    FirmwareFetch,
    FirmwareMeterReport,
    FirmwareReport,
    MeterProgress,
)
from protocols.headend.messages import (
    Message,
    MeterCredentials,
    Registration,
    channel_of,
    decode_message,
    encode_message,
)
from protocols.headend.topics import Topic
from twin.clock.virtual import VirtualLoop
from twin.hes.api import create_app
from twin.hes.service import HesService
from twin.hes.store import MEMORY_URL, Store
from twin.hes.vault import KeyVault

START_S = 1_772_323_200
IMAGE = firmware(filler_bytes=3_000)
MODEL = "ihm5000-1p"


class Bench:
    """A head-end with three meters of the image's model at two concentrators, and one of another model."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.sent: list[tuple[str, Message]] = []
        self.store = Store(MEMORY_URL, KeyVault(bytes(32)))
        self.hes = HesService(
            self.store,
            timers=self.loop,
            utc_s=lambda: START_S + self.loop.time(),
            publish=self._publish,
            rng=random.Random(1),
            trace=lambda kind, **fields: None,
            firmware_keys=TRUSTED,
        )
        self.api = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(self.hes)), base_url="http://hes")
        for number, (dcu_id, model) in enumerate(
            [("dcu-1", MODEL), ("dcu-1", MODEL), ("dcu-2", MODEL), ("dcu-1", "ihm5000-3p")], 1
        ):
            eui64, title, serial = number.to_bytes(8, "big"), bytes(7) + bytes((number,)), f"IHM{number}"
            self.store.add_shipment(eui64, MeterCredentials(serial, title, 0, bytes(16), bytes(16)))
            registration = Registration(
                f"reg-{number}", serial, eui64, title, "L", model, "H", "5.0.0", 0, 5, (), START_S * 1000
            )
            self.say(registration, dcu_id)
        self.sent.clear()

    def _publish(self, topic: str, payload: bytes) -> None:
        self.sent.append((Topic.decode(topic).dcu_id, decode_message(payload)))

    def say(self, message: Message, dcu_id: str = "dcu-1") -> None:
        self.hes.handle(Topic(dcu_id, channel_of(message)).encode(), encode_message(message))

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.sent if isinstance(message, kind)]

    def run(self, body: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(body)

    async def upload(self, data: bytes) -> httpx.Response:
        return await self.api.post("/api/firmware", content=data, headers={"Content-Type": "application/octet-stream"})

    async def order(self, **body: Any) -> Any:
        """Upload the image and begin a campaign."""
        image_id = (await self.upload(IMAGE)).json()["image_id"]
        response = await self.api.post(f"/api/firmware/{image_id}/campaigns", json=body)
        assert response.status_code == 202, response.text
        return response.json()


def report(campaign_id: str, number: int, *meters: FirmwareMeterReport, **changes: Any) -> FirmwareReport:
    fields: dict[str, Any] = {"time_utc_ms": START_S * 1000, "phase": CampaignPhase.REPAIR, "fetched_bytes": 7}
    return FirmwareReport(campaign_id, number, **(fields | changes), meters=meters)


@pytest.mark.requirement("UC-VII.1")
def test_a_good_file_is_kept_once_and_listed() -> None:
    bench = Bench()

    async def body() -> None:
        first, second = await bench.upload(IMAGE), await bench.upload(IMAGE)
        assert (first.status_code, first.json()) == (201, second.json())
        (listed,) = (await bench.api.get("/api/firmware")).json()
        assert (listed["model"], listed["version"], listed["size_bytes"]) == (MODEL, "5.1.0", len(IMAGE))
        assert (await bench.api.get("/firmware")).status_code == 200

    bench.run(body())


@pytest.mark.requirement("UC-VII.3")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "magic: "),
        (b"\x7fELF" + IMAGE[4:], "magic: "),
        (IMAGE[:-1], "size: "),
        (IMAGE + b"\0", "size: "),
        (IMAGE[:-1] + bytes((IMAGE[-1] ^ 1,)), "hash: "),
        (firmware(signer=STRANGER), "signature: "),
    ],
)
def test_a_bad_file_is_refused_with_its_reason_and_not_kept(data: bytes, reason: str) -> None:
    bench = Bench()

    async def body() -> None:
        response = await bench.upload(data)
        assert response.status_code == 422
        assert f"the firmware file is refused: {reason}" in response.json()["detail"]
        assert (await bench.api.get("/api/firmware")).json() == []

    bench.run(body())


def test_a_campaign_goes_to_every_concentrator_that_has_meters_of_the_model() -> None:
    bench = Bench()

    async def body() -> None:
        views = await bench.order()
        assert [(view["dcu_id"], [meter["serial"] for meter in view["meters"]]) for view in views] == [
            ("dcu-1", ["IHM1", "IHM2"]),
            ("dcu-2", ["IHM3"]),
        ]
        orders = bench.of(FirmwareCampaign)
        assert [order.serials for order in orders] == [("IHM1", "IHM2"), ("IHM3",)]
        assert {order.size_bytes for order in orders} == {len(IMAGE)}

    bench.run(body())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"serials": ["IHM9"]}, "no meter 'IHM9' has registered"),
        ({"serials": ["IHM4"]}, "the image is for model ihm5000-1p, meter IHM4 is ihm5000-3p"),
        ({"dcu_id": "dcu-9"}, "no meter would get this image"),
        ({"timeout_s": 1}, "must be 60 to"),
        ({"activate_at": "2020-01-01T00:00:00Z"}, "must lie between now and the time-out"),
        ({"serials": []}, "at least 1 item"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(body: dict[str, Any], said: str) -> None:
    bench = Bench()

    async def ask() -> None:
        image_id = (await bench.upload(IMAGE)).json()["image_id"]
        response = await bench.api.post(f"/api/firmware/{image_id}/campaigns", json=body)
        assert response.status_code == 422
        assert said in response.json()["detail"]
        assert (await bench.api.post("/api/firmware/none/campaigns")).status_code == 422
        assert (await bench.api.get("/api/firmware-campaigns/none")).status_code == 404
        assert bench.of(FirmwareCampaign) == []

    bench.run(ask())


def test_pieces_go_to_the_concentrator_that_was_ordered_and_to_nobody_else() -> None:
    bench = Bench()

    async def body() -> None:
        await bench.order(serials=["IHM1"])
        (order,) = bench.of(FirmwareCampaign)
        bench.say(FirmwareFetch(order.id, 100, 50))
        bench.say(FirmwareFetch(order.id, 100, 50), "dcu-2")
        bench.say(FirmwareFetch("firmware-x", 100, 50))
        bench.say(FirmwareFetch(order.id, len(IMAGE), 50))
        (chunk,) = bench.of(FirmwareChunk)
        assert (chunk.offset_bytes, chunk.data) == (100, IMAGE[100:150])
        assert bench.hes.counters.rejected_messages == 3

    bench.run(body())


def test_reports_are_kept_whatever_their_order_and_old_ones_change_nothing() -> None:
    bench = Bench()

    async def body() -> None:
        await bench.order(dcu_id="dcu-1")
        (order,) = bench.of(FirmwareCampaign)
        one = FirmwareMeterReport("IHM1", MeterProgress.INITIATED, 3)
        two = FirmwareMeterReport("IHM2", MeterProgress.REFUSED, 9, detail="refused: hash")
        bench.say(
            report(order.id, 2, replace(one, progress=MeterProgress.CONFIRMED, blocks=9), phase=CampaignPhase.DONE)
        )
        bench.say(report(order.id, 1, one, two))
        bench.say(report(order.id, 3, one), "dcu-2")
        view = (await bench.api.get(f"/api/firmware-campaigns/{order.id}")).json()
        assert [(meter["progress"], meter["blocks"]) for meter in view["meters"]] == [("confirmed", 9), ("refused", 9)]
        assert (view["phase"], view["meters"][1]["detail"]) == ("done", "refused: hash")
        assert view["ended_utc"] is not None

    bench.run(body())


def test_who_waits_hears_of_the_end() -> None:
    bench = Bench()

    async def body() -> None:
        await bench.order(dcu_id="dcu-2")
        (order,) = bench.of(FirmwareCampaign)
        waiting = asyncio.ensure_future(bench.hes.firmware.wait(order.id))
        await asyncio.sleep(1.0)
        bench.say(report(order.id, 1), "dcu-2")
        await asyncio.sleep(1.0)
        assert not waiting.done()
        bench.say(report(order.id, 2, phase=CampaignPhase.DONE), "dcu-2")
        assert (await waiting).phase == "done"

    bench.run(body())
