"""Faults on a running rig: a counted drop or a clear answer, never a traceback or a lost reading."""

import random
from collections.abc import Callable

import pytest

from protocols.mesh.checksum import append_fcs
from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]
SMALL = "refusals"
_TAKEN = ("rx_delivered", "rx_acks")


@pytest.fixture
def small(twin_rig: MakeRig) -> SyncRig:
    rig = twin_rig(SMALL, seed=5)
    rig.registered()
    return rig


def _mac(rig: SyncRig, name: str) -> dict[str, int]:
    return dict(rig.rig.air.radio(name).mac.counters)


def _dropped(counters: dict[str, int]) -> int:
    """Receptions that the MAC gave up, for whatever reason."""
    return sum(count for name, count in counters.items() if name.startswith("rx_") and name not in _TAKEN)


def _captured_frames(rig: SyncRig) -> list[bytes]:
    frames: list[bytes] = []
    rig.rig.air.medium.on_air.append(lambda transmission: frames.append(transmission.psdu))
    return frames


def test_random_truncated_and_bit_flipped_frames_are_counted_and_readings_go_on(small: SyncRig) -> None:
    frames = _captured_frames(small)
    assert small.read("good").is_ok
    rng, air, before = random.Random(3), small.rig.air, _mac(small, "DCU")
    for frame in (frames * 40)[:40]:
        flipped = bytearray(frame)
        flipped[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        for junk in (rng.randbytes(rng.randrange(1, 120)), frame[: rng.randrange(1, len(frame))], bytes(flipped)):
            air.inject(junk, "good", 0)
            small.wait(0.2)
    after = _mac(small, "DCU")
    assert _dropped(after) - _dropped(before) >= 100
    assert small.read("good").is_ok
    assert small.rig.unhandled == []


def test_forged_frames_with_a_right_checksum_are_refused_and_counted(small: SyncRig) -> None:
    frames = _captured_frames(small)
    assert small.read("good").is_ok
    rng, before = random.Random(4), _mac(small, "DCU")
    long_frames = [frame for frame in frames if len(frame) > 60]
    for frame in (long_frames * 30)[:30]:
        body = bytearray(frame[:-4])
        body[rng.randrange(len(body) - 20, len(body))] ^= 0x40
        small.rig.air.inject(append_fcs(bytes(body), 4), "good", 0)
        small.wait(0.2)
    after = _mac(small, "DCU")
    refused = sum(after.get(name, 0) - before.get(name, 0) for name in ("rx_bad_mic", "rx_replayed", "rx_malformed"))
    assert refused >= 10, after
    assert small.read("good").is_ok
    assert small.rig.unhandled == []


def test_replayed_frames_change_nothing(small: SyncRig) -> None:
    frames = _captured_frames(small)
    assert small.read("good").is_ok
    recorded, before = list(frames), _mac(small, "DCU")
    for frame in recorded:
        small.rig.air.inject(frame, "good", 0)
        small.wait(0.3)
    assert _mac(small, "DCU").get("rx_replayed", 0) > before.get("rx_replayed", 0)
    assert small.read("good").is_ok


def test_an_unknown_meter_gets_a_clear_answer(small: SyncRig) -> None:
    response = small.run(small.rig.hes.api.post("/api/meters/NOSUCH1/readings", params={"wait": "true"}, json={}))
    assert response.status_code in (200, 404, 422)
    assert "NOSUCH1" in response.text or "unknown" in response.text


def test_a_broker_that_goes_away_loses_no_reading(small: SyncRig) -> None:
    small.run(small.rig.broker.stop())
    asked = small.run(_start_reading(small))
    small.wait(20)
    small.run(small.rig.broker.start())
    small.wait(90)
    request = small.rig.hes.store.request(asked)
    assert request is not None
    assert request.status == "ok", request.detail
    assert small.rig.unhandled == []


async def _start_reading(small: SyncRig) -> str:
    serial = small.rig.meter("good").serial
    response = await small.rig.hes.api.post(f"/api/meters/{serial}/readings", json={"timeout_s": 110})
    identifier: str = response.json()["request_id"]
    return identifier


def test_an_uplink_that_is_cut_for_a_while_loses_no_reading(small: SyncRig) -> None:
    backhaul = small.rig.backhaul
    assert backhaul is not None
    asked = small.run(_start_reading(small))
    small.wait(0.4)
    backhaul.cut()
    small.wait(15)
    backhaul.restore()
    small.wait(95)
    request = small.rig.hes.store.request(asked)
    assert request is not None
    assert request.status == "ok", request.detail


def test_a_concentrator_that_loses_its_power_comes_back_with_its_meters(small: SyncRig) -> None:
    small.rig.dcu.cut_power()
    small.wait(10)
    small.rig.dcu.start()
    assert small.until(lambda: small.rig.mesh.operational("good"), timeout_s=120)
    small.wait(60)
    assert small.read("good", timeout_s=90).is_ok
    assert len(small.rig.hes.meters()) == 1
