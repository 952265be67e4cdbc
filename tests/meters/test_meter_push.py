"""Pushes: what they carry, when, and that each row goes out once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from meter_bench import Bench, constant

from protocols.dlms.data import integer, long_unsigned, unsigned
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.notification import DataNotification

PUSH = (40, "0-0:25.9.0*255")


class Listener:
    """The concentrator's end: takes notifications before they are protected, or refuses them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.reachable = True
        self.received: list[tuple[float, DataNotification]] = []
        self.attach()

    def attach(self) -> None:
        firmware = self.bench.meter.firmware
        assert firmware is not None
        for pusher in firmware.services.pushers:
            pusher.bind(firmware.services.find, self.take)

    def take(self, apdu: bytes) -> bool:
        if self.reachable:
            self.received.append((self.bench.clock.utc_s(), DataNotification.decode(apdu)))
        return self.reachable

    def rows(self) -> list[datetime]:
        bodies: list[Any] = [notification.body.plain() for _, notification in self.received]
        return [DateTime.decode(row[0]).to_datetime().astimezone(UTC) for body in bodies for row in body[-1]]


@pytest.fixture
def listener() -> Listener:
    return Listener(Bench(load=constant(500.0)))


@pytest.mark.requirement("UC-IV.1")
def test_rows_of_the_day_are_pushed_behind_midnight_at_a_random_moment(listener: Listener) -> None:
    listener.bench.run(13 * 3600.0)
    sent_s = [moment for moment, _ in listener.received]
    midnight_s = datetime(2026, 3, 2, 21, tzinfo=UTC).timestamp()
    assert midnight_s < sent_s[0] < midnight_s + 600
    body: Any = listener.received[0][1].body.plain()
    assert body[0] == b"INH00IHM00000001"
    assert body[3] == pytest.approx(6000, abs=90)
    assert len(listener.rows()) == 24
    listener.bench.run(24 * 3600.0)
    rows = listener.rows()
    assert len(rows) == len(set(rows)) == 72
    assert rows == sorted(rows)


@pytest.mark.requirement("UC-IV.2")
def test_what_could_not_be_sent_goes_out_with_the_next_push_also_after_a_restart(listener: Listener) -> None:
    bench = listener.bench
    bench.run(13 * 3600.0)
    listener.reachable = False
    bench.run(24 * 3600.0)
    bench.meter.power.cut()
    bench.run(1)
    bench.meter.power_on()
    listener.attach()
    listener.reachable = True
    bench.run(24 * 3600.0)
    rows = listener.rows()
    assert len(rows) == len(set(rows)) == 24 + 96
    assert max(later - earlier for earlier, later in pairwise(rows)) == timedelta(minutes=30)


def test_a_push_is_tried_again_until_there_is_a_way(listener: Listener) -> None:
    bench = listener.bench
    management = bench.client("management")
    assert management.set(*PUSH, 5, long_unsigned(0)) is DataAccessResult.SUCCESS
    assert management.set(*PUSH, 6, unsigned(2)) is DataAccessResult.SUCCESS
    assert management.set(*PUSH, 7, long_unsigned(10)) is DataAccessResult.SUCCESS
    listener.reachable = False
    assert management.call(*PUSH, 1, integer(0)) is ActionResult.SUCCESS
    bench.run(15)
    listener.reachable = True
    bench.run(10)
    assert len(listener.received) == 1


def test_without_a_mesh_there_is_nowhere_to_push_to() -> None:
    bench = Bench()
    assert bench.client("management").call(*PUSH, 1, integer(0)) is ActionResult.TEMPORARY_FAILURE
