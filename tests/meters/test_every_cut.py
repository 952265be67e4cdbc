"""Power is cut at every single flash operation of a profile row, an event, a counter and a month's end.

Nothing that was there before is lost, and the new is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from meter_bench import CLIENT_TITLE, METER_TITLE, Bench, constant

from meters.keys import MeterKeys
from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, Tag
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import MemoryCounterStore
from twin.clock.seeds import Seeds

KEYS = MeterKeys.generate(Seeds(1).keys("keys"), system_title=METER_TITLE, client_system_title=CLIENT_TITLE)
LOAD, DAILY, BILLING, LOG = "1-0:99.1.0*255", "1-0:99.2.0*255", "0-0:98.1.0*255", "0-0:99.98.0*255"
ENERGY = "1-0:1.8.0*255"
READ = AttributeReference(3, ObisCode.parse(ENERGY), 2)
SHIFT = MethodReference(8, ObisCode.parse("0-0:1.0.0*255"), 6)
PROGRESS = (0.0, 0.5)
"""Before the operation has touched a bit, and in its middle: a torn page. Its end is the next operation's beginning."""

Rows = dict[str, list[Any]]


def fresh(minutes: float) -> Bench:
    """A meter that has run since the end of the last half hour, up to `minutes` before the next one."""
    bench = Bench(load=constant(700.0), keys=KEYS)
    bench.run(5400 - 60 * minutes)
    return bench


@dataclass(frozen=True)
class Contents:
    """What a client finds: rows by profile and log, the energy register."""

    rows: Rows
    energy_wh: int


def contents(bench: Bench) -> Contents:
    client = bench.client("reader")
    found = {obis: client.get(7, obis) for obis in (LOAD, DAILY, BILLING, LOG)}
    return Contents(found, client.get(3, ENERGY))


def cuts(prepare: Callable[[], Bench], act: Callable[[Bench], object]) -> Iterator[tuple[Bench, Contents]]:
    """Each cut: the meter after the power has come back, and what it held before."""
    whole = prepare()
    first = whole.meter.flash.operations
    act(whole)
    count = whole.meter.flash.operations - first
    assert count >= 2
    for operation in range(count):
        for progress in PROGRESS:
            bench = prepare()
            before = contents(bench)
            bench.meter.flash.fail_power_at(bench.meter.flash.operations + operation, progress)
            act(bench)
            assert not bench.meter.running, (operation, progress)
            bench.meter.power_on()
            assert bench.meter.running, (operation, progress)
            yield bench, before


def without_ours(rows: list[Any], before: list[Any]) -> list[Any]:
    """The rows behind those of before, which must be there as they were."""
    assert rows[: len(before)] == before
    return rows[len(before) :]


@pytest.mark.requirement("HW-6", "UC-IV.2")
def test_a_profile_row_is_there_whole_or_not_at_all() -> None:
    seen = set()
    for bench, before in cuts(lambda: fresh(0.5), lambda b: b.run(60)):
        after = contents(bench)
        added = without_ours(after.rows[LOAD], before.rows[LOAD])
        assert len(added) <= 1
        seen.add(len(added))
        for row in added:
            assert row[2] >= before.rows[LOAD][-1][2]
        # 700 W: what was counted since the checkpoint a quarter of an hour ago at the most.
        assert before.energy_wh - 700 / 4 - 1 <= after.energy_wh <= before.energy_wh + 700 / 60 + 1
    assert seen == {0, 1}


@pytest.mark.requirement("HW-6")
def test_an_event_is_there_whole_or_not_at_all() -> None:
    """The clock is set by a client: two events, whose row numbers never repeat."""

    def set_clock(bench: Bench) -> None:
        client = bench.client("management")
        if client.is_associated and bench.meter.running:
            client.carry(client.association.action(SHIFT, Data(Tag.LONG, 100)))

    seen = set()
    for bench, before in cuts(lambda: fresh(10), set_clock):
        codes = [row[1] for row in without_ours(contents(bench).rows[LOG], before.rows[LOG])]
        adjusted = [code for code in codes if code in (4, 5)]
        assert adjusted in ([], [4], [4, 5])
        assert codes[-1] == 2, "the power-up is noted last"
        seen.add(len(adjusted))
    assert {0, 1} <= seen


@pytest.mark.requirement("HW-6", "SEC-1")
def test_a_counter_never_goes_back() -> None:
    """What was accepted before a cut, in or before the write that reserves more, is a replay afterwards; what the meter
    has sent is never sent again."""

    def prepare() -> Bench:
        bench = Bench(load=constant(700.0), keys=KEYS)
        bench.client("management")
        return bench

    answered = 0

    def converse(bench: Bench) -> None:
        nonlocal answered
        answered = 0
        store = MemoryCounterStore()
        store.save("send", 5_000)
        client = bench.client("management", store=store)
        while bench.meter.running and client.is_associated and answered < 70:
            answered += bool(client.carry(client.association.get(READ)))

    answers = set()
    for bench, _ in cuts(prepare, converse):
        answers.add(answered)
        least = bench.client("public").get(1, "0-0:43.1.0*255")
        if answered:
            assert least > 5_000 + answered
        store = MemoryCounterStore()
        store.save("send", max(least - 1, 1))
        assert not bench.client("management", store=store).is_associated
        store.save("send", least)
        assert bench.client("management", store=store).is_associated
    assert max(answers) > 50


@pytest.mark.requirement("HW-6", "UC-III.2")
def test_a_months_end_is_there_whole_or_not_at_all() -> None:
    """Load, daily and monthly rows, and maxima that begin anew: dozens of writes in one second."""

    def prepare() -> Bench:
        bench = Bench(load=constant(700.0), keys=KEYS)
        midnight = datetime(2026, 3, 31, 21, tzinfo=UTC).timestamp()  # 24:00 in Nairobi
        bench.meter.rtc.set(midnight - 30)
        bench.run(1)
        return bench

    totals = set()
    for bench, before in cuts(prepare, lambda b: b.run(60)):
        after = contents(bench)
        added = [len(without_ours(after.rows[name], before.rows[name])) for name in (LOAD, DAILY, BILLING)]
        assert max(added) <= 1
        totals.add(tuple(added))
    assert (0, 0, 0) in totals
    assert (1, 1, 1) in totals
