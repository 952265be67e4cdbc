"""The stores on flash survive a power cut at every operation, before, inside and after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meters.firmware.partitions import PARTITIONS, FlashPartition, PartitionView, StorageError, check_partitions
from meters.firmware.row_log import RowLog
from meters.firmware.storage import RecordStore
from meters.hardware.flash import Flash, FlashGeometry, PowerLostError
from protocols.dlms.security.counters import ReceiveCounter, SendCounter
from protocols.errors import LocalProtocolError

SMALL = FlashGeometry(page_bytes=32, pages_per_block=8, block_count=8)
WHOLE = FlashPartition("whole", offset_bytes=0, size_bytes=SMALL.size_bytes)
PROGRESS = (0.0, 0.2, 0.5, 0.9, 1.0)


def view(flash: Flash) -> PartitionView:
    return PartitionView(flash, WHOLE)


def store(flash: Flash) -> RecordStore:
    return RecordStore(view(flash), area_blocks=2)


def log(flash: Flash) -> RowLog:
    return RowLog(view(flash), row_bytes=20)


def cut_points(script: Callable[[Flash], None]) -> list[tuple[int, float]]:
    """Every operation of `script` on a new flash, with every progress."""
    flash = Flash(SMALL)
    script(flash)
    return [(operation, progress) for operation in range(flash.operations) for progress in PROGRESS]


def test_partitions_fit_the_smallest_device_and_do_not_overlap() -> None:
    check_partitions(PARTITIONS, FlashGeometry(block_count=512))
    with pytest.raises(LocalProtocolError, match="overlaps"):
        check_partitions((WHOLE, WHOLE), SMALL)


def test_values_are_there_after_a_restart() -> None:
    flash = Flash(SMALL)
    first = store(flash)
    first.put_many({"a": b"1", "b": b"2" * 50})
    first.put("a", b"3")
    first.delete("b")
    again = store(flash)
    assert again.get("a") == b"3"
    assert again.get("b") is None
    assert again.names() == ["a"]
    assert again.damaged_records == 0


def test_unchanged_value_costs_no_write() -> None:
    flash = Flash(SMALL)
    records = store(flash)
    records.put("a", b"1")
    operations = flash.operations
    records.put("a", b"1")
    assert flash.operations == operations


def test_areas_are_used_in_turn_so_that_wear_is_spread() -> None:
    flash = Flash(SMALL)
    records = store(flash)
    for value in range(2000):
        records.save("counter", value)
    counts = [flash.erase_count(block) for block in range(SMALL.block_count)]
    assert max(counts) - min(counts) <= 1
    assert store(flash).load("counter") == 1999


@pytest.mark.requirement("HW-6")
def test_power_cut_at_every_point_leaves_the_old_or_the_new_value() -> None:
    def script(flash: Flash, done: list[int]) -> None:
        records = store(flash)
        for value in range(60):
            records.put_many({"x": bytes([value]) * 9, "y": bytes([value]) * 5})
            done.append(value)

    for operation, progress in cut_points(lambda flash: script(flash, [])):
        flash = Flash(SMALL)
        done: list[int] = []
        flash.fail_power_at(operation, progress)
        with pytest.raises(PowerLostError):
            script(flash, done)
        flash.power_up()
        after = store(flash)
        x, y = after.get("x"), after.get("y")
        acknowledged = done[-1] if done else None
        if x is None:
            assert acknowledged is None
            assert y is None
        else:
            assert y is not None
            assert x[0] == y[0]
            assert x[0] in ((0,) if acknowledged is None else (acknowledged, acknowledged + 1))
        after.put("x", b"again")
        assert store(flash).get("x") == b"again"


@pytest.mark.requirement("SEC-1")
def test_power_cut_at_every_point_never_lets_an_old_counter_be_accepted_or_sent_again() -> None:
    def script(flash: Flash, received: list[int], sent: list[int]) -> None:
        records = store(flash)
        receive, send = ReceiveCounter(records, "receive", reserve=3), SendCounter(records, "send", reserve=3)
        for value in range(0, 120, 2):
            receive.accept(value)
            received.append(value)
            sent.append(send.next())

    for operation, progress in cut_points(lambda flash: script(flash, [], [])):
        flash = Flash(SMALL)
        received: list[int] = []
        sent: list[int] = []
        flash.fail_power_at(operation, progress)
        with pytest.raises(PowerLostError):
            script(flash, received, sent)
        flash.power_up()
        after = store(flash)
        assert not any(ReceiveCounter(after, "receive").is_fresh(value) for value in received)
        assert SendCounter(after, "send").next() not in sent


def test_a_disturbed_record_does_not_hide_those_behind_it() -> None:
    flash = Flash(SMALL)
    records = store(flash)
    for value in range(5):
        records.save(f"counter {value}", value)
    flash.flip_bit(16 + 30, 3)
    again = store(flash)
    assert again.damaged_records >= 1
    assert again.load("counter 4") == 4
    again.save("counter 5", 5)
    assert store(flash).load("counter 5") == 5


def test_bad_blocks_are_left_out() -> None:
    flash = Flash(SMALL)
    flash.mark_bad(2)
    records = store(flash)
    for value in range(300):
        records.save("counter", value)
        if value == 150:
            flash.mark_bad(0)
    assert store(flash).load("counter") == 299


def test_store_says_when_it_can_hold_no_more() -> None:
    flash = Flash(SMALL)
    records = store(flash)
    records.put("a", b"x" * 300)
    with pytest.raises(StorageError, match="live records"):
        records.put("b", b"x" * 300)
    assert store(flash).get("a") == b"x" * 300
    for block in range(SMALL.block_count):
        flash.mark_bad(block)
    with pytest.raises(StorageError, match="no good area"):
        records.put("c", b"x")


# rows


def row(number: int) -> bytes:
    return number.to_bytes(4, "big") * 5


def test_rows_stay_in_order_and_the_oldest_go_first() -> None:
    flash = Flash(SMALL)
    rows = log(flash)
    for number in range(200):
        assert rows.append(row(number)) == number
    again = log(flash)
    assert again.capacity <= len(again) <= again.capacity + 10
    assert [content for _, content in again.rows()] == [row(number) for number in range(again.first, 200)]
    assert again.row(again.first - 1) is None
    assert again.append(row(200)) == 200


def test_cleared_log_is_empty_and_numbers_go_on() -> None:
    flash = Flash(SMALL)
    rows = log(flash)
    for number in range(50):
        rows.append(row(number))
    rows.clear()
    assert len(rows) == 0
    assert len(log(flash)) == 0
    assert log(flash).append(row(1)) == 50


@pytest.mark.requirement("HW-6")
def test_power_cut_at_every_point_loses_no_row_that_was_acknowledged() -> None:
    def script(flash: Flash, done: list[int]) -> None:
        rows = log(flash)
        for number in range(100):
            rows.append(row(number))
            done.append(number)

    for operation, progress in cut_points(lambda flash: script(flash, [])):
        flash = Flash(SMALL)
        done: list[int] = []
        flash.fail_power_at(operation, progress)
        with pytest.raises(PowerLostError):
            script(flash, done)
        flash.power_up()
        after = log(flash)
        found = [int.from_bytes(content[:4], "big") for _, content in after.rows()]
        newest = done[-1] if done else -1
        kept = range(max(0, newest - after.capacity + 1), newest + 1)
        assert set(kept) <= set(found)
        assert found == sorted(set(found))
        assert set(found) <= set(range(newest + 2))
        after.append(row(777))
        assert list(log(flash).rows())[-1][1] == row(777)


def test_log_goes_on_when_blocks_fail() -> None:
    flash = Flash(SMALL)
    rows = log(flash)
    for number in range(300):
        rows.append(row(number))
        if number in (30, 120):
            flash.mark_bad(number // 30)
    found = [int.from_bytes(content[:4], "big") for _, content in log(flash).rows()]
    assert found[-1] == 299
    assert found == list(range(found[0], 300))
