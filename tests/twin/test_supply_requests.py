"""The operator's disconnection and reconnection, from REST through broker, concentrator and mesh to the contacts."""

from collections.abc import Callable

import pytest

from protocols.errors import BadInputError
from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]


@pytest.fixture
def small(twin_rig: MakeRig) -> SyncRig:
    rig = twin_rig("refusals", seed=5)
    rig.registered()
    return rig


def _closed(rig: SyncRig, name: str) -> bool:
    disconnector = rig.rig.meter(name).meter.disconnector
    assert disconnector is not None
    return disconnector.is_closed()


def test_an_operator_opens_and_closes_a_line_and_gets_the_contacts_read_back(small: SyncRig) -> None:
    serial = small.rig.meter("good").serial
    opened = small.run(small.rig.hes.disconnect(serial))
    assert (opened.status, opened.connected, opened.detail) == ("ok", False, "")
    assert not _closed(small, "good")
    again = small.run(small.rig.hes.disconnect(serial))
    assert (again.status, again.detail) == ("ok", "it was disconnected already")
    closed = small.run(small.rig.hes.reconnect(serial))
    assert (closed.status, closed.connected) == ("ok", True)
    assert _closed(small, "good")


def test_a_line_that_the_meter_has_not_and_a_meter_that_nobody_knows(small: SyncRig) -> None:
    serial = small.rig.meter("good").serial
    assert small.run(small.rig.hes.disconnect(serial, line=5)).status == "undefined"
    unknown = small.run(small.rig.hes.disconnect("NOBODY"))
    assert (unknown.status, unknown.connected) == ("unknown-meter", None)
    with pytest.raises(BadInputError, match="line"):
        small.run(small.rig.hes.reconnect(serial, line=9))


def test_a_meter_without_power_ends_in_a_time_out_and_is_not_switched_later(small: SyncRig) -> None:
    meter = small.rig.meter("good")
    meter.die()
    result = small.run(small.rig.hes.disconnect(meter.serial, timeout_s=15.0))
    assert result.status == "timeout"
    assert result.elapsed_s <= 15.1
    meter.power_on()
    small.wait(120.0)
    assert _closed(small, "good")
    assert small.rig.unhandled == []


def test_welded_contacts_are_reported_as_failed(small: SyncRig) -> None:
    meter = small.rig.meter("good")
    assert meter.meter.disconnector is not None
    meter.meter.disconnector.weld()
    result = small.run(small.rig.hes.disconnect(meter.serial))
    assert (result.status, result.connected, result.detail) == ("failed", True, "the contacts do not open")
