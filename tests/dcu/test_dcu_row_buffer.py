"""The concentrator's row buffer over power cuts, and bundles that stay until they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dcu.bundles import BundleStore
from dcu.config import CollectionPolicy
from dcu.row_buffer import RowBuffer, TableKey
from dcu.storage import MemoryStorage, StorageError
from dcu.tasks import TaskGroup
from protocols.headend.bulk import Bundle, BundleAck, BundlePart, BundleStatus
from twin.clock.virtual import VirtualLoop

KEY = TableKey("IHM1", "ihm5000-1p 5.0.0", "1-0:99.1.0*255")
LOG = TableKey("IHM1", "ihm5000-1p 5.0.0", "0-0:99.98.1*255")


def rows(*numbers: int) -> list[bytes]:
    return [bytes((2, 1, 17, number)) for number in numbers]


def test_rows_and_marks_survive_a_restart() -> None:
    storage = MemoryStorage()
    buffer = RowBuffer(storage)
    assert buffer.add(KEY, rows(1, 2), pushed=True) == 2
    assert buffer.add(KEY, rows(2, 3), mark_s=100) == 1
    again = RowBuffer(storage)
    assert again.table(KEY).rows == rows(1, 2, 3)
    assert (again.table(KEY).pushed, again.mark_s("IHM1", KEY.obis)) == (2, 100)


def test_a_mark_outlives_a_change_of_firmware() -> None:
    buffer = RowBuffer(MemoryStorage())
    buffer.add(KEY, [], mark_s=100)
    buffer.add(TableKey(KEY.serial, "ihm5000-1p 5.1.0", KEY.obis), [], mark_s=200)
    assert buffer.mark_s(KEY.serial, KEY.obis) == 200


def test_what_came_while_a_bundle_was_made_stays() -> None:
    storage = MemoryStorage()
    buffer = RowBuffer(storage)
    buffer.add(KEY, rows(1, 2), mark_s=50)
    taken = buffer.snapshot()
    buffer.add(KEY, rows(3), mark_s=60)
    buffer.add(LOG, rows(9))
    buffer.drop(taken)
    for seen in (buffer, RowBuffer(storage)):
        assert seen.table(KEY).rows == rows(3)
        assert seen.table(LOG).rows == rows(9)
        assert seen.mark_s("IHM1", KEY.obis) == 60


@pytest.mark.requirement("UC-IV.2")
def test_no_cut_of_an_append_loses_a_row_that_was_kept_before() -> None:
    storage = MemoryStorage()
    RowBuffer(storage).add(KEY, rows(1, 2), mark_s=7)
    kept = storage.read("rows") or b""
    RowBuffer(storage).add(LOG, rows(3))
    whole = storage.read("rows") or b""
    for size in range(len(kept), len(whole)):
        torn = MemoryStorage()
        torn.write("rows", whole[:size])
        buffer = RowBuffer(torn)
        assert buffer.table(KEY).rows == rows(1, 2)
        assert buffer.add(LOG, rows(3)) == 1
        assert RowBuffer(torn).table(LOG).rows == rows(3)


class FullStorage(MemoryStorage):
    is_full = False

    def write(self, name: str, data: bytes) -> None:
        if self.is_full:
            raise StorageError("full")
        super().write(name, data)


def test_rows_stay_when_the_storage_refuses_to_forget_them() -> None:
    storage = FullStorage()
    buffer = RowBuffer(storage)
    buffer.add(KEY, rows(1))
    storage.is_full = True
    with pytest.raises(StorageError):
        buffer.drop(buffer.snapshot())
    assert buffer.table(KEY).rows == rows(1)


class Headend:
    """Takes parts; answers when it is told to."""

    def __init__(self) -> None:
        self.parts: list[BundlePart] = []
        self.events: list[str] = []

    def send(self, message: Any) -> int:
        self.parts.append(message)
        return len(self.parts)

    def report(self, kind: str, **_: Any) -> None:
        self.events.append(kind)


class Bench:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.storage = MemoryStorage()
        self.headend = Headend()
        self.store = self.restart()

    def restart(self) -> BundleStore:
        policy = CollectionPolicy(ack_timeout_s=60.0, refused_retry_s=600.0)
        tasks = TaskGroup(self.loop, lambda kind, **fields: None)
        headend: Any = self.headend
        self.store = BundleStore(
            policy, headend=headend, storage=self.storage, tasks=tasks, trace=lambda kind, **fields: None
        )
        self.store.start()
        return self.store

    def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            self.loop.run_until_complete(body())
            assert self.loop.unhandled == []
        finally:
            self.loop.close()


def bundle(identifier: str) -> Bundle:
    return Bundle("dcu-1", identifier, 0, ())


@pytest.mark.requirement("UC-IV.2")
def test_a_bundle_is_sent_again_until_it_is_acknowledged_and_only_then_dropped() -> None:
    bench = Bench()

    async def body() -> None:
        bench.store.keep(bundle("b-1"))
        await asyncio.sleep(10)
        assert bench.headend.parts == []  # off line
        bench.store.online(True)
        await asyncio.sleep(130)
        assert [part.bundle_id for part in bench.headend.parts] == ["b-1"] * 3
        bench.restart().online(True)
        await asyncio.sleep(1)
        assert len(bench.headend.parts) == 4
        assert len(bench.store.waiting) == 1
        bench.store.acknowledged(BundleAck("b-1", BundleStatus.STORED))
        await asyncio.sleep(1)
        assert bench.store.waiting == []

    bench.run(body)


def test_bundles_go_in_their_order_and_a_refused_one_is_kept() -> None:
    bench = Bench()

    async def body() -> None:
        bench.store.keep(bundle("b-1"))
        bench.store.keep(bundle("b-2"))
        bench.store.online(True)
        await asyncio.sleep(1)
        bench.store.acknowledged(BundleAck("b-1", BundleStatus.REFUSED, detail="cannot be read"))
        await asyncio.sleep(1)
        assert bench.headend.events == ["bundle-refused"]
        await asyncio.sleep(600)
        assert [part.bundle_id for part in bench.headend.parts] == ["b-1", "b-2"]
        bench.store.acknowledged(BundleAck("b-2", BundleStatus.STORED))
        await asyncio.sleep(1)
        assert len(bench.store.waiting) == 1

    bench.run(body)


def test_an_acknowledgement_of_another_bundle_drops_nothing() -> None:
    bench = Bench()

    async def body() -> None:
        bench.store.keep(bundle("b-1"))
        bench.store.online(True)
        await asyncio.sleep(1)
        bench.store.acknowledged(BundleAck("b-7", BundleStatus.STORED))
        await asyncio.sleep(1)
        assert len(bench.store.waiting) == 1

    bench.run(body)
