"""Profiles, gaps, bundles and clocks at the head-end, without transports."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from protocols.errors import BadInputError
from protocols.headend.bulk import (
    Bundle,
    BundleAck,
    BundleStatus,
    MeterTables,
    ProfileChunk,
    ProfileEnd,
    ProfileRequest,
    ProfileStatus,
    Table,
    TableColumn,
    TableRow,
)
from protocols.headend.bundle import pack_bundle, split_bundle
from protocols.headend.messages import (
    DcuState,
    DcuStatus,
    Message,
    MeterCredentials,
    Registration,
    channel_of,
    decode_message,
    encode_message,
)
from protocols.headend.time_check import ClockQuery, ClockReport, TimeSource
from protocols.headend.topics import Topic
from twin.clock.virtual import VirtualLoop
from twin.hes.api import create_app
from twin.hes.profile_marks import find_gaps, marks
from twin.hes.profile_views import clock_view
from twin.hes.service import HesService
from twin.hes.store import MEMORY_URL, Store
from twin.hes.vault import KeyVault

SERIAL, EUI64, TITLE = "IHM1", bytes(8), bytes(range(8))
START_S = 1_772_323_200
PERIOD_S = 1800
COLUMN = TableColumn("1-0:1.8.0*255", 3, 2, "Wh")


def row(index: int, status: int = 0, value: int | None = None) -> TableRow:
    number = Decimal(1000 + index if value is None else value)
    return TableRow((number,), (START_S + index * PERIOD_S) * 1000, 0, status)


def table(*rows: TableRow) -> Table:
    return Table("load", "1-0:99.1.0*255", PERIOD_S, (COLUMN,), rows)


class Bench:
    """A head-end with one registered meter; what it publishes is in `sent`."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.sent: list[Message] = []
        self.store = Store(MEMORY_URL, KeyVault(bytes(32)))
        self.hes = HesService(
            self.store,
            timers=self.loop,
            utc_s=lambda: START_S + self.loop.time(),
            publish=self._publish,
            rng=random.Random(1),
            trace=lambda kind, **fields: None,
        )
        self.store.add_shipment(EUI64, MeterCredentials(SERIAL, TITLE, 0, bytes(16), bytes(16)))
        self.say(Registration("reg-1", SERIAL, EUI64, TITLE, "L", "M", "H", "F", 0, 5, (), START_S * 1000))
        self.say(DcuStatus(DcuState.ONLINE))

    def _publish(self, topic: str, payload: bytes) -> None:
        self.sent.append(decode_message(payload))

    def say(self, message: Message, dcu_id: str = "dcu-1") -> None:
        self.hes.handle(Topic(dcu_id, channel_of(message)).encode(), encode_message(message))

    def request(self) -> Any:
        return self.hes.profiles.request(SERIAL, "load", START_S * 1000, (START_S + 86_399) * 1000)

    def chunk(self, request_id: str, *rows: TableRow) -> None:
        self.say(ProfileChunk(request_id, SERIAL, START_S * 1000, (START_S + 43_200) * 1000, table(*rows)))

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]

    def rows(self) -> list[Any]:
        return self.hes.profiles.store.rows(SERIAL, "load")


@pytest.mark.requirement("UC-III.1")
def test_parts_are_stored_once_and_progress_shows() -> None:
    bench = Bench()
    record = bench.request()
    (asked,) = bench.of(ProfileRequest)
    assert (asked.id, asked.candidates) == (record.request_id, ("1-0:99.1.0*255",))
    for _ in range(2):
        bench.chunk(record.request_id, row(0), row(1))
    half = bench.hes.profiles.store.request(record.request_id)
    assert half is not None
    assert (half.rows, half.duplicates, half.status) == (2, 2, "pending")
    assert half.covered_utc_ms == (START_S + 43_200) * 1000
    bench.say(ProfileEnd(record.request_id, SERIAL, ProfileStatus.OK, START_S * 1000, 2))
    done = bench.hes.profiles.store.request(record.request_id)
    assert done is not None
    assert (done.status, done.covered_utc_ms) == ("ok", done.to_utc_ms)
    assert len(bench.rows()) == 2


def test_two_rows_of_one_moment_that_say_something_else_are_both_kept() -> None:
    bench = Bench()
    record = bench.request()
    bench.chunk(record.request_id, row(3), row(3, value=7))
    assert len(bench.rows()) == 2


def test_answers_of_another_concentrator_or_for_another_meter_are_dropped() -> None:
    bench = Bench()
    record = bench.request()
    chunk = ProfileChunk(record.request_id, SERIAL, 0, 1, table(row(0)))
    bench.say(chunk, dcu_id="dcu-2")
    bench.say(replace(chunk, serial="IHM2"))
    bench.say(replace(chunk, request_id="profile-none"))
    bench.say(replace(chunk, table=replace(chunk.table, name="daily")))
    assert bench.rows() == []
    assert bench.hes.profiles.counters.rejected == 4


def test_a_request_ends_at_its_deadline_and_what_cannot_be_asked_is_refused() -> None:
    bench = Bench()
    record = bench.request()
    bench.loop.run_until_complete(bench.hes.profiles.wait(record.request_id))
    assert bench.loop.time() == pytest.approx(1800.0)
    ended = bench.hes.profiles.store.request(record.request_id)
    assert ended is not None
    assert ended.status == "timeout"
    profiles = bench.hes.profiles
    with pytest.raises(BadInputError, match="no profile 'nothing'"):
        profiles.request(SERIAL, "nothing", 0, 1)
    with pytest.raises(BadInputError, match="must not be after"):
        profiles.request(SERIAL, "load", 2, 1)
    assert profiles.request("NOBODY", "load", 0, 1).status == "unknown-meter"
    bench.loop.close()


@pytest.mark.requirement("UC-III.2")
def test_gaps_are_found_and_explained_by_the_row_behind_them() -> None:
    bench = Bench()
    record = bench.request()
    bench.chunk(record.request_id, row(0), row(1), row(5, status=0xC4), row(6, status=0x24), row(9, status=0x02))
    rows = bench.rows()
    gaps = find_gaps(rows, PERIOD_S, START_S * 1000, (START_S + 12 * PERIOD_S) * 1000)
    assert [(gap.missing, gap.cause) for gap in gaps] == [(3, "power-failure"), (2, "clock-change"), (3, "unknown")]
    assert [marks(item) for item in rows[2:]] == [
        ("power-down", "power-up", "data-not-valid"),
        ("clock-adjusted", "data-not-valid"),
        ("clock-invalid",),
    ]
    assert find_gaps(rows[:2], PERIOD_S, START_S * 1000, (START_S + PERIOD_S) * 1000) == []
    assert find_gaps(rows, 0) == []


def test_the_rest_interface_shows_rows_marks_gaps_and_refuses_what_is_wrong() -> None:
    bench = Bench()
    record = bench.request()
    bench.chunk(record.request_id, row(0), row(3, status=0x40))

    async def scene() -> None:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(bench.hes)), base_url="http://hes")
        shown = (await client.get(f"/api/meters/{SERIAL}/profiles/load")).json()
        assert [item["values"] for item in shown["rows"]] == [["1000"], ["1003"]]
        assert shown["rows"][1]["marks"] == ["power-up"]
        assert [(gap["missing"], gap["cause"]) for gap in shown["gaps"]] == [(2, "power-failure")]
        assert shown["columns"][0]["name"] == "active_energy_import"
        progress = (await client.get(f"/api/profile-requests/{record.request_id}")).json()
        assert progress["progress"] == pytest.approx(0.5, abs=0.01)
        assert (await client.get(f"/api/meters/{SERIAL}/profiles/none")).status_code == 404
        assert (await client.get("/api/profile-requests/none")).status_code == 404
        body = {"from": "2026-03-01T00:00:00", "to": "2026-03-02T00:00:00Z"}
        answer = await client.post(f"/api/meters/{SERIAL}/profiles/load/requests", json=body)
        assert answer.status_code == 422
        await client.aclose()

    bench.loop.run_until_complete(scene())
    bench.loop.close()


def _bundle(*rows: TableRow) -> bytes:
    return pack_bundle(Bundle("dcu-1", "b-1", START_S * 1000, (MeterTables(SERIAL, (table(*rows),), 1),)))


@pytest.mark.requirement("UC-IV.2")
def test_a_bundle_is_acknowledged_when_it_is_whole_and_again_when_it_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocols.headend.bundle.MAX_PART_BYTES", 50)
    bench = Bench()
    parts = list(split_bundle("b-1", _bundle(row(0), row(1))))
    assert len(parts) > 2
    for part in reversed(parts[1:]):
        bench.say(part)
        bench.say(part)
    assert bench.of(BundleAck) == []
    assert bench.rows() == []
    bench.say(parts[0])
    assert len(bench.rows()) == 2
    for part in parts:
        bench.say(part)
    acks = bench.of(BundleAck)
    assert [(ack.status, ack.rows) for ack in acks] == [(BundleStatus.STORED, 2)] * 2
    assert len(bench.rows()) == 2


def test_a_bundle_that_is_not_what_its_parts_say_is_refused_and_stores_nothing() -> None:
    bench = Bench()
    (part,) = split_bundle("b-1", _bundle(row(0)))
    bench.say(replace(part, sha256=bytes(32)))
    (other,) = split_bundle("b-2", _bundle(row(0)))
    bench.say(other)
    bench.say(part, dcu_id="dcu-2")
    assert [ack.status for ack in bench.of(BundleAck)] == [BundleStatus.REFUSED] * 3
    assert bench.rows() == []
    bench.say(part)
    assert bench.of(BundleAck)[-1].status is BundleStatus.STORED


@pytest.mark.requirement("UC-VI.5")
def test_a_clock_is_flagged_only_if_the_round_trip_cannot_explain_it() -> None:
    bench = Bench()

    def compare(dcu_ahead_ms: int, way_ms: int) -> bool:
        bench.hes.clocks.check("dcu-1")
        query = bench.of(ClockQuery)[-1]
        there = query.sent_utc_ms + dcu_ahead_ms
        report = ClockReport(query.id, query.sent_utc_ms, there, there, TimeSource.GPS)
        bench.loop.run_until_complete(asyncio.sleep(way_ms / 1000))
        bench.say(report)
        record = bench.store.profiles.clock("dcu-1")
        assert record is not None
        return record.is_flagged

    assert not compare(0, 100)
    assert compare(5_000, 100)
    assert not compare(2_000, 3_000)
    assert [event.kind for event in bench.store.events()] == ["dcu-clock-wrong", "dcu-clock-right"]
    late = bench.hes.counters.late_responses
    bench.say(ClockReport("clock-old", 0, 0, 0, TimeSource.GPS))
    assert bench.hes.counters.late_responses == late + 1
    bench.loop.close()


@pytest.mark.requirement("UC-VI.1")
def test_what_a_concentrator_in_holdover_says_of_its_clock_is_kept_and_shown() -> None:
    bench = Bench()
    bench.hes.clocks.check("dcu-1")
    query = bench.of(ClockQuery)[-1]
    now_ms = query.sent_utc_ms
    bench.say(ClockReport(query.id, now_ms, now_ms, now_ms, TimeSource.HOLDOVER, holdover_s=7200, uncertainty_ms=11))
    record = bench.store.profiles.clock("dcu-1")
    assert record is not None
    shown = clock_view(record)
    assert (shown.source, shown.holdover_s, shown.uncertainty_ms) == ("holdover", 7200, 11)
    bench.loop.close()
