"""What the bench counts on the air: frames down to a node are those of the nodes that are not below it."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from protocols.mesh.ieee802154 import MacFrameType, MacHeader
from twin.air.obstacles import Position
from twin.air.stations import Transmission
from twin.clock.clocks import VirtualClock
from twin.rigs.folder import EventTrace
from twin.rigs.mesh_view import MeshView

_ADDRESSES = {name: bytes(7) + bytes((number,)) for number, name in enumerate(("dcu", "relay", "child"), 1)}


def _view() -> tuple[MeshView, EventTrace]:
    trace = EventTrace(io.StringIO(), VirtualClock(datetime(2026, 7, 1, tzinfo=UTC)))
    return MeshView({address: name for name, address in _ADDRESSES.items()}, "dcu", trace), trace


def _send(view: MeshView, source: str, destination: str) -> None:
    header = MacHeader(
        MacFrameType.DATA, 1, _ADDRESSES[destination], _ADDRESSES[source], pan_id_compression=True, ack_request=True
    )
    view.observe(Transmission(None, Position(0, 0), 14, header.encode() + b"body", 3, 0.0, 0.01, 0.01, []))


def test_frames_of_a_child_on_its_own_way_up_are_not_counted() -> None:
    view, trace = _view()
    trace("mesh.parent", node="child", parent=_ADDRESSES["relay"].hex(), previous=None)
    _send(view, "child", "relay")
    assert view.frames_down_to("relay") == 0
    _send(view, "dcu", "relay")
    _send(view, "relay", "child")
    assert view.frames_down_to("relay") == 1
    assert view.frames_down_to("child") == 1


def test_a_child_that_has_left_or_lost_its_power_was_a_child() -> None:
    view, trace = _view()
    trace("mesh.parent", node="child", parent=_ADDRESSES["relay"].hex(), previous=None)
    _send(view, "child", "relay")
    trace("mesh.parent", node="child", parent=_ADDRESSES["dcu"].hex(), previous=_ADDRESSES["relay"].hex())
    assert view.frames_down_to("relay") == 0
    trace("mesh.join", node="child", state="off")
    assert view.frames_down_to("relay") == 0
