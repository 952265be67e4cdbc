"""Broadcast to a group: keys that all share, brought to each under its own master key; counters that never repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from dcu_fakes import START_UTC_S, Bench
from dcu_fakes import bench as bench
from hypothesis import given
from hypothesis import strategies as st
from profile_fakes import GROUP_KEYS, ProfileMeter, group_of

from dcu.broadcast import BROADCAST_SAP, GroupSealer, set_clock
from dcu.storage import MemoryStorage
from protocols.dlms.security.ciphering import unwrap_general
from protocols.dlms.wrapper import Wpdu

_KEY_TRANSFER_BYTES = 80


class Recorder:
    """Listens to what goes to the meters: broadcast datagrams, and unicast ones of the size of a key transfer."""

    def __init__(self) -> None:
        self.broadcasts: list[bytes] = []
        self.unicasts = 0

    def __call__(self, datagram: bytes) -> bytes:
        if Wpdu.decode(datagram).source_port == BROADCAST_SAP:
            self.broadcasts.append(datagram)
        elif len(datagram) > _KEY_TRANSFER_BYTES:
            self.unicasts += 1
        return datagram


def run(bench: Bench, meters: list[ProfileMeter], body: Callable[[Any], Any]) -> None:
    async def whole() -> None:
        dcu = bench.start()
        await bench.registered(*meters)
        await body(dcu)

    bench.run(whole)


def counter_of(datagram: bytes) -> int:
    _, sealed = unwrap_general(Wpdu.decode(datagram).apdu)
    return int.from_bytes(sealed[1:5], "big")


@pytest.mark.requirement("UC-VI.2")
def test_one_datagram_sets_all_clocks(bench: Bench) -> None:
    meters = [ProfileMeter(number) for number in (1, 2, 3)]
    listener = Recorder()

    async def body(dcu: Any) -> None:
        await dcu.synchronize_clocks()
        bench.mesh.down = listener
        for number, meter in enumerate(meters):
            meter.offset_s = 30.0 * (number + 1)
        await dcu.synchronize_clocks()

    run(bench, meters, body)
    assert len(set(listener.broadcasts)) == 1
    assert len(listener.broadcasts) == len(meters)
    assert all(meter.shifts == [] and set(meter.sets) == {BROADCAST_SAP} for meter in meters)
    assert all(abs(meter.offset_s) < 1.0 for meter in meters)


@pytest.mark.requirement("SEC-2")
def test_keys_are_brought_once_and_restarts_know_it(bench: Bench) -> None:
    meter = ProfileMeter(1)

    async def body(dcu: Any) -> None:
        await dcu.synchronize_clocks()
        assert dcu.counters()["group"]["admitted"] == 1
        await dcu.stop()
        again = bench.start()
        bench.mesh.join(meter, restarted=True)
        meter.restart()
        await bench.until(lambda: again.counters()["registration"]["registered"] == 1, 120)
        meter.offset_s = 40.0
        await again.synchronize_clocks()
        assert again.counters()["group"]["admitted"] == 0

    run(bench, [meter], body)
    assert meter.symmetric is not None
    assert (meter.symmetric.broadcast, meter.symmetric.broadcast_authentication) == GROUP_KEYS
    assert meter.symmetric.authentication == meter.keys.authentication
    assert meter.shifts == []
    assert abs(meter.offset_s) < 1.0


@pytest.mark.requirement("UC-VI.4")
def test_what_was_sent_before_a_meter_came_in_cannot_be_played_to_it(bench: Bench) -> None:
    first, late = ProfileMeter(1), ProfileMeter(2)
    listener = Recorder()

    async def body(dcu: Any) -> None:
        bench.mesh.down = listener
        await dcu.synchronize_clocks()
        captured = listener.broadcasts[-1]
        bench.headend.known(late)
        bench.mesh.join(late)
        await bench.until(lambda: dcu.counters()["registration"]["registered"] == 2, 120)
        await dcu.synchronize_clocks()
        await asyncio.sleep(2000)
        sets = len(late.sets)
        assert late.datagram(captured, bench.loop.time()) is None
        assert len(late.sets) == sets
        assert late.server.refusals["replay"] == 1

    run(bench, [first], body)
    assert abs(late.offset_s) < 1.0


def test_who_takes_no_keys_is_left_out_and_not_asked_again(bench: Bench) -> None:
    old, wrong, good = ProfileMeter(1), ProfileMeter(2), ProfileMeter(3)
    old.has_group_setup = False
    wrong.master_key = b"\x77" * 16
    old.restart()
    wrong.restart()
    wrong.master_key = b"\x78" * 16  # what the head-end believes
    listener = Recorder()

    async def body(dcu: Any) -> None:
        await dcu.synchronize_clocks()
        assert dcu.counters()["group"]["unable"] == 2
        bench.mesh.down = listener
        for meter in (old, wrong, good):
            meter.offset_s = 100.0
        await dcu.synchronize_clocks()
        assert dcu.counters()["group"]["unable"] == 2

    run(bench, [old, wrong, good], body)
    assert old.shifts == wrong.shifts == [-100]
    assert good.shifts == []
    assert all(abs(meter.offset_s) < 1.0 for meter in (old, wrong, good))


def test_a_request_that_gets_lost_while_a_meter_is_brought_in_is_made_up_for(bench: Bench) -> None:
    meter = ProfileMeter(1)
    lost: list[bytes] = []

    def lose_first(datagram: bytes) -> bytes | None:
        if Wpdu.decode(datagram).source_port == BROADCAST_SAP and not lost:
            lost.append(datagram)
            return None
        return datagram

    async def body(dcu: Any) -> None:
        bench.mesh.down = lose_first
        await dcu.synchronize_clocks()
        assert dcu.counters()["group"]["admitted"] == 1

    run(bench, [meter], body)
    assert len(lost) == 1


@pytest.mark.requirement("SEC-1")
@given(st.lists(st.one_of(st.sampled_from([0, 1]), st.just("restart"), st.just("leap")), max_size=30))
def test_counters_of_a_group_never_repeat(steps: list[object]) -> None:
    storage, group = MemoryStorage(), group_of(b"\x01" * 16)
    sealer = GroupSealer(group, storage, b"OAMDCU01")
    used: list[int] = []
    for step in steps:
        if step == "restart":
            sealer = GroupSealer(group, storage, b"OAMDCU01")
        elif step == "leap":
            sealer.leap()
        else:
            used.append(counter_of(sealer.datagram(set_clock(START_UTC_S), int(str(step)))))
    assert used == sorted(set(used))


def test_keys_of_a_group_are_not_shown() -> None:
    group = group_of(b"\x01" * 16)
    shown = repr(group) + group.name
    assert all(key.hex() not in shown and repr(key) not in shown for key in (*GROUP_KEYS, group.wrapped_broadcast_key))
    assert group.name == group_of(b"\x02" * 16).name != group_of(b"\x01" * 16, (b"\x42" * 16, b"\x44" * 16)).name
