"""Use case VII at the concentrator: fetch, multicast, repair, activation, restarts. Fake meters and mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from dcu_fakes import CONFIG, START_UTC_S, Bench
from dcu_fakes import bench as bench
from firmware_fakes import BLOCK_BYTES, FirmwareShelf, ImageMeter
from firmware_files import STRANGER, VENDOR_PEM, firmware
from hypothesis import given
from hypothesis import strategies as st

from dcu.firmware_record import CAMPAIGN_PREFIX, IMAGE_PREFIX, CampaignRecord, MeterPart
from protocols.headend.firmware import CHUNK_BYTES, CampaignPhase, FirmwareCampaign, MeterProgress

IMAGE = firmware(filler_bytes=40_000)
BLOCKS = -(-len(IMAGE) // BLOCK_BYTES)


def prepare(bench: Bench, count: int, image: bytes = IMAGE) -> tuple[FirmwareShelf, list[ImageMeter]]:
    bench.config = replace(CONFIG, firmware_keys_pem=VENDOR_PEM)
    return FirmwareShelf(bench, image), [ImageMeter(number, bench.mesh) for number in range(1, count + 1)]


def play(
    bench: Bench,
    shelf: FirmwareShelf,
    meters: list[ImageMeter],
    *,
    meanwhile: Callable[[], object] | None = None,
    order: FirmwareCampaign | None = None,
) -> None:
    """All meters registered, one campaign for them, until it has ended."""

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        bench.headend.send(order or shelf.order(*meters))
        if meanwhile is not None:
            meanwhile()
        await bench.until(shelf.ended, 7 * 3600)

    bench.run(body)


@pytest.mark.requirement("UC-VII.1")
def test_blocks_go_to_all_at_once_and_every_meter_ends_with_the_new_version(bench: Bench) -> None:
    shelf, meters = prepare(bench, 4)
    play(bench, shelf, meters)
    assert set(shelf.progress().values()) == {"confirmed"}
    assert [meter.version for meter in meters] == ["5.1.0"] * 4
    assert all(meter.image() == IMAGE for meter in meters)
    assert all(meter.multicast == list(range(BLOCKS)) and meter.unicast == [] for meter in meters)
    last = shelf.reports()[-1]
    assert (last.phase, last.fetched_bytes) == (CampaignPhase.DONE, len(IMAGE))
    assert (last.blocks_total, last.blocks_multicast, last.blocks_unicast) == (BLOCKS, BLOCKS, 0)
    assert [fetch.offset_bytes for fetch in shelf.fetches] == list(range(0, len(IMAGE), CHUNK_BYTES))


def test_nothing_is_activated_while_the_mesh_would_repeat_the_multicasts_to_who_restarts(bench: Bench) -> None:
    shelf, meters = prepare(bench, 2)
    play(bench, shelf, meters)
    sent = [fields for kind, fields in bench.events if kind == "dcu-firmware-phase"]
    assert [item["phase"] for item in sent] == ["preparing", "multicast", "repair", "done"]
    assert all(meter.activations[0] > 120.0 for meter in meters)


@pytest.mark.requirement("UC-VII.2")
def test_what_few_lack_goes_to_them_alone_and_what_many_lack_to_all_again(bench: Bench) -> None:
    shelf, meters = prepare(bench, 4)
    meters[0].deaf = {3, 4, 77}
    play(bench, shelf, meters)
    assert set(shelf.progress().values()) == {"confirmed"}
    assert meters[0].unicast == [3, 4, 77]
    assert all(meter.unicast == [] for meter in meters[1:])


@pytest.mark.requirement("UC-VII.2")
def test_blocks_that_several_meters_lack_are_multicast_again(bench: Bench) -> None:
    shelf, meters = prepare(bench, 3)
    for meter in meters[:2]:
        meter.deaf = {5}
    play(bench, shelf, meters)
    assert meters[2].multicast.count(5) == 1 + 3  # as often as rounds, as they stay deaf
    assert [meter.unicast for meter in meters] == [[5], [5], []]


@pytest.mark.requirement("UC-VII.2")
def test_a_meter_that_joins_late_gets_everything_alone(bench: Bench) -> None:
    shelf, meters = prepare(bench, 3)
    late = meters[2]

    async def body() -> None:
        bench.start()
        await bench.registered(*meters[:2])
        bench.headend.send(shelf.order(*meters))
        await bench.until(lambda: meters[0].version == "5.1.0", 3600)
        await bench.registered(late)
        await bench.until(shelf.ended, 3 * 3600)

    bench.run(body)
    assert late.unicast == list(range(BLOCKS))
    assert set(shelf.progress().values()) == {"confirmed"}


def test_one_meter_needs_no_multicast(bench: Bench) -> None:
    shelf, meters = prepare(bench, 1)
    play(bench, shelf, meters)
    assert meters[0].multicast == []
    assert shelf.progress() == {meters[0].serial: "confirmed"}


def test_a_meter_that_runs_the_version_already_is_left_alone(bench: Bench) -> None:
    shelf, meters = prepare(bench, 2)
    meters[0].version = "5.1.0"
    play(bench, shelf, meters)
    assert meters[0].initiations == 0
    assert set(shelf.progress().values()) == {"confirmed"}


@pytest.mark.parametrize("stop_at", range(6))
def test_a_restart_at_any_stage_carries_on(bench: Bench, stop_at: int) -> None:
    shelf, meters = prepare(bench, 3)
    meters[1].deaf = {9}
    stages: list[Callable[[], bool]] = [
        lambda: len(shelf.fetches) == 2,
        lambda: any(meter.initiations for meter in meters),
        lambda: len(meters[0].multicast) == 100,
        lambda: meters[1].unicast == [9],
        lambda: bool(meters[2].activations),
        lambda: meters[2].version == "5.1.0",
    ]

    async def body() -> None:
        dcu = bench.start()
        await bench.registered(*meters)
        bench.headend.send(shelf.order(*meters))
        await bench.until(stages[stop_at], 3600)
        dcu.halt()
        await asyncio.sleep(30.0)
        bench.start()
        for meter in meters:
            bench.mesh.join(meter)
        await bench.until(shelf.ended, 6 * 3600)

    bench.run(body)
    assert set(shelf.progress().values()) == {"confirmed"}
    assert all(meter.image() == IMAGE and len(meter.activations) == 1 for meter in meters)
    offsets = [fetch.offset_bytes for fetch in shelf.fetches]
    if stop_at == 2:  # in the middle of the multicasts: they go on
        assert all(set(meter.multicast) == set(range(BLOCKS)) for meter in meters)
    assert len(offsets) - len(set(offsets)) <= 1  # no piece that was stored is asked for again
    assert not [name for name in bench.storage.names() if name.startswith((CAMPAIGN_PREFIX, IMAGE_PREFIX))]


def test_a_piece_that_is_lost_is_asked_for_again(bench: Bench) -> None:
    shelf, meters = prepare(bench, 1)
    shelf.lost = {CHUNK_BYTES}
    play(bench, shelf, meters)
    assert [fetch.offset_bytes for fetch in shelf.fetches].count(CHUNK_BYTES) == 2
    assert meters[0].version == "5.1.0"


@pytest.mark.requirement("UC-VII.3")
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"MZ" + IMAGE[2:], "magic: "),
        (IMAGE[:-1], "size: "),
        (IMAGE[:-1] + bytes((IMAGE[-1] ^ 1,)), "hash: "),
        (firmware(signer=STRANGER), "signature: "),
        (firmware("5.2.0"), "model: ihm5000-1p 5.2.0 came, ihm5000-1p 5.1.0 was announced"),
    ],
)
def test_a_bad_image_is_refused_before_a_meter_sees_it(bench: Bench, image: bytes, reason: str) -> None:
    shelf, meters = prepare(bench, 2, image)
    play(bench, shelf, meters)
    last = shelf.reports()[-1]
    assert last.phase is CampaignPhase.REFUSED
    assert last.detail.startswith(f"refused by the concentrator: {reason}")
    assert [meter.initiations for meter in meters] == [0, 0]
    (event,) = bench.headend.events("firmware-refused")
    assert dict(event.details)["reason"].startswith(reason)
    assert not [name for name in bench.storage.names() if name.startswith(IMAGE_PREFIX)]


@pytest.mark.requirement("UC-VII.3")
def test_what_comes_must_be_the_file_that_was_announced(bench: Bench) -> None:
    shelf, meters = prepare(bench, 1)
    play(bench, shelf, meters, order=shelf.order(*meters, sha256=bytes(32)))
    assert shelf.reports()[-1].detail.endswith(
        "what came is not the file that was announced (SHA-256) (docs/firmware-format.md)"
    )


def test_without_a_key_for_firmware_nothing_is_passed_on(bench: Bench) -> None:
    shelf, meters = prepare(bench, 1)
    bench.config = CONFIG
    play(bench, shelf, meters)
    assert "no key for firmware was provisioned here" in shelf.reports()[-1].detail


@pytest.mark.requirement("UC-VII.3")
def test_a_meter_that_refuses_twice_is_told_with_its_own_words(bench: Bench) -> None:
    shelf, meters = prepare(bench, 2, firmware(revision="ANOTHER", filler_bytes=2_000))
    play(bench, shelf, meters)
    assert set(shelf.progress().values()) == {"refused"}
    details = {meter.detail for report in shelf.reports() for meter in report.meters if meter.progress == "refused"}
    assert details == {"refused: hardware: for ANOTHER, this meter is IHM5000-1P-R3 (docs/firmware-format.md)"}
    assert [meter.initiations for meter in meters] == [2, 2]


@pytest.mark.requirement("UC-VII.5")
def test_a_meter_that_has_rolled_back_is_told(bench: Bench) -> None:
    shelf, meters = prepare(bench, 2)
    meters[1].crashes = True
    play(bench, shelf, meters)
    assert list(shelf.progress().values()).count("rolled-back") == 1
    assert [meter.version for meter in meters] == ["5.1.0", "5.0.0"]
    assert len(meters[1].activations) == 1  # it is not tried again by itself


def test_a_meter_that_never_comes_has_failed_at_the_deadline(bench: Bench) -> None:
    shelf, meters = prepare(bench, 2)

    async def body() -> None:
        bench.start()
        await bench.registered(meters[0])
        deadline_utc_ms = round((START_UTC_S + bench.loop.time() + 900.0) * 1000)
        bench.headend.send(shelf.order(*meters, deadline_utc_ms=deadline_utc_ms))
        await bench.until(shelf.ended, 1000)

    bench.run(body)
    assert shelf.progress() == {meters[0].serial: "confirmed", meters[1].serial: "failed"}
    detail = next(meter.detail for meter in shelf.reports()[-1].meters if meter.serial == meters[1].serial)
    assert detail == "was waiting at the deadline; last: no meter with this serial number has registered here"


def test_a_campaign_that_is_delivered_twice_is_run_once(bench: Bench) -> None:
    shelf, meters = prepare(bench, 1)
    again = lambda: bench.headend.send(shelf.order(*meters))  # noqa: E731
    play(bench, shelf, meters, meanwhile=again)
    assert meters[0].initiations == 1


@given(
    st.lists(
        st.builds(
            MeterPart,
            st.text("ABC0123456789", min_size=1, max_size=9),
            st.sampled_from(MeterProgress),
            st.booleans(),
            st.booleans(),
            st.integers(0, 5),
            st.integers(0, 500),
            st.integers(0, 500),
            st.text(max_size=30),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda part: part.serial,
    ),
    st.integers(0, 500),
    st.sampled_from(CampaignPhase),
)
def test_a_campaign_survives_storage(parts: list[MeterPart], next_block: int, phase: CampaignPhase) -> None:
    order = FirmwareCampaign(
        "fw-1", "ihm5000-1p", "5.1.0", 9, bytes(32), tuple(part.serial for part in parts), round(START_UTC_S * 1000)
    )
    record = CampaignRecord(
        order, phase, next_block, multicast_utc_s=12.5, meters={part.serial: part for part in parts}
    )
    assert CampaignRecord.decode(record.encode()) == record
