"""The runner: RCP bytes, a radio that restarts, lost bytes, one timer."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from mesh_bench import GROUP_KEY, PREFIX, eui

from protocols.errors import LocalProtocolError
from protocols.mesh.config import LinkKey, MeshConfig, Role
from protocols.mesh.events import Dropped, DropReason, Joined, Left, MeshEvent
from protocols.mesh.join import JoinState
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import BENCH
from protocols.mesh.wisun import FrameType
from protocols.rcp.codes import ResetReason, Status
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import (
    Configure,
    HostMessage,
    RadioMessage,
    Ready,
    Received,
    Reset,
    SetKey,
    Transmit,
    TransmitDone,
    decode_host_message,
)


class Handle:
    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """Timers whose time moves when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sequence = 0
        self._timers: list[tuple[float, int, Handle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        self._sequence += 1
        handle = Handle(callback, args)
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def pending(self) -> int:
        return sum(handle.callback is not None for _, _, handle in self._timers)

    def run_until(self, end: float) -> None:
        while self._timers and self._timers[0][0] <= end:
            self.now, _, handle = heapq.heappop(self._timers)
            if handle.callback is not None:
                handle.callback(*handle.args)
        self.now = end


class Line:
    """A byte link to a scripted radio that acknowledges everything at once, unless it is told to be deaf."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.messages: list[HostMessage] = []
        self.deaf = False
        self.peer: Line | None = None
        self._decoder = FrameDecoder()
        self._to_host: Callable[[bytes], None] = lambda _data: None

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._to_host = callback

    def write(self, data: bytes) -> None:
        if self.deaf:
            return
        for frame in self._decoder.feed(data):
            message = decode_host_message(frame)
            self.messages.append(message)
            if isinstance(message, Reset):
                self.clock.call_at(self.clock.now, self.say, Ready(reason=ResetReason.REQUESTED))
            elif isinstance(message, Transmit):
                self.clock.call_at(self.clock.now + 0.02, self._sent, message)

    def _sent(self, message: Transmit) -> None:
        self.say(TransmitDone(message.handle, Status.OK, 1, 1000))
        if self.peer is not None:
            source = next(m.eui64 for m in self.messages if isinstance(m, Configure))
            pan_id = next(m.pan_id for m in reversed(self.messages) if isinstance(m, Configure))
            frame = Received(
                message.frame_type,
                source,
                message.destination,
                pan_id,
                message.key_index,
                1,
                -60,
                255,
                0,
                0,
                message.payload_ies,
            )
            self.peer.say(frame)

    def say(self, message: RadioMessage) -> None:
        data = encode_frame(message.encode())
        # Cut anyhow: how bytes are grouped means nothing.
        for start in range(0, len(data), 7):
            self._to_host(data[start : start + 7])

    def junk(self, data: bytes) -> None:
        self._to_host(data)


def config(number: int, **changes: object) -> MeshConfig:
    root = number == 0
    fields: dict[str, object] = {
        "eui64": eui(number),
        "network_name": "runner",
        "keys": (LinkKey(1, GROUP_KEY),),
        "frame_counter": 5000,
        "role": Role.ROOT if root else Role.ROUTER,
        "pan_id": 7 if root else None,
        "prefix": PREFIX if root else None,
    }
    return MeshConfig(**(fields | changes))  # type: ignore[arg-type]


class Pair:
    """A root and a node, their radios joined."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines = [Line(self.clock), Line(self.clock)]
        self.lines[0].peer, self.lines[1].peer = self.lines[1], self.lines[0]
        self.events: list[list[MeshEvent]] = [[], []]
        self.runners = [
            MeshRunner(
                config(number),
                BENCH,
                timers=self.clock,
                link=self.lines[number],
                rng=random.Random(number),
                on_event=self.events[number].append,
            )
            for number in (0, 1)
        ]

    def join(self) -> None:
        for runner in self.runners:
            runner.start()
        self.clock.run_until(self.clock.now + 30.0)
        assert [runner.node.state for runner in self.runners] == [JoinState.OPERATIONAL] * 2


def test_the_radio_is_reset_configured_and_given_the_key_with_its_counter() -> None:
    pair = Pair()
    pair.runners[0].start()
    pair.clock.run_until(0.0)
    reset, configure, key = pair.lines[0].messages[:3]
    assert isinstance(reset, Reset)
    assert isinstance(configure, Configure)
    assert (configure.eui64, configure.pan_id, configure.broadcast_root) == (eui(0), 7, True)
    assert key == SetKey(1, GROUP_KEY, 5000)


def test_datagrams_reach_the_handler_of_their_port() -> None:
    pair = Pair()
    got: list[tuple[bytes, int, bytes]] = []
    pair.runners[0].bind_udp(4059, lambda *args: got.append(args))
    pair.join()
    root = pair.runners[1].node.root_address
    assert root is not None
    pair.runners[1].send_udp(4059, root, 4059, b"reading")
    pair.clock.run_until(pair.clock.now + 1.0)
    assert got == [(pair.runners[1].node.address, 4059, b"reading")]


def test_a_port_is_bound_once() -> None:
    runner = Pair().runners[0]
    runner.bind_udp(4059, lambda *_: None)
    with pytest.raises(LocalProtocolError, match="4059"):
        runner.bind_udp(4059, lambda *_: None)


def test_the_reset_is_repeated_until_the_radio_answers() -> None:
    pair = Pair()
    pair.lines[0].deaf = True
    pair.runners[0].start()
    pair.clock.run_until(5.0)
    assert pair.runners[0].node.state is JoinState.OFF
    pair.lines[0].deaf = False
    pair.clock.run_until(7.0)
    assert pair.runners[0].node.state is JoinState.OPERATIONAL


def test_a_radio_that_restarts_is_configured_again_with_a_leap_of_the_counter() -> None:
    pair = Pair()
    pair.join()
    before = len(pair.lines[1].messages)
    counter = pair.runners[1].node.frame_counter
    pair.lines[1].say(Ready())
    assert any(isinstance(event, Left) for event in pair.events[1])
    again = [message for message in pair.lines[1].messages[before:] if isinstance(message, SetKey)]
    assert [key.frame_counter > counter for key in again] == [True]
    pair.clock.run_until(pair.clock.now + 30.0)
    assert sum(isinstance(event, Joined) for event in pair.events[1]) == 2


def test_junk_and_half_frames_on_the_line_change_nothing() -> None:
    pair = Pair()
    pair.join()
    rng = random.Random(3)
    for _ in range(50):
        pair.lines[1].junk(rng.randbytes(rng.randrange(60)))
        pair.lines[1].junk(encode_frame(rng.randbytes(rng.randrange(1, 60))))
    assert pair.runners[1].node.counters["rcp_malformed"] > 0
    pair.clock.run_until(pair.clock.now + 10.0)
    assert pair.runners[1].node.state is JoinState.OPERATIONAL


def test_a_stopped_runner_has_no_timer_and_ignores_the_radio() -> None:
    pair = Pair()
    pair.join()
    pair.runners[1].stop()
    pair.runners[0].stop()
    pair.clock.run_until(pair.clock.now + 1.0)
    assert pair.clock.pending() == 0
    assert pair.runners[1].node.state is JoinState.OFF
    assert isinstance(pair.lines[1].messages[-1], Reset)
    pair.join()


def test_a_radio_that_stops_answering_does_not_stop_the_node() -> None:
    pair = Pair()
    pair.join()
    pair.lines[1].deaf = True
    root = pair.runners[1].node.root_address
    assert root is not None
    for _ in range(100):
        pair.runners[1].send_udp(4059, root, 4059, b"x")
    dropped = [event.reason for event in pair.events[1] if isinstance(event, Dropped)]
    assert DropReason.QUEUE_FULL in dropped
    pair.clock.run_until(pair.clock.now + 400.0)
    assert pair.runners[1].node.counters["transmit_done_missing"] > 0
    pair.lines[1].deaf = False
    pair.clock.run_until(pair.clock.now + 300.0)
    assert pair.runners[1].node.state is JoinState.OPERATIONAL


def test_discovery_frames_go_out_unsecured_but_for_the_configuration() -> None:
    pair = Pair()
    pair.join()
    for line in pair.lines:
        for message in line.messages:
            if isinstance(message, Transmit):
                is_open = message.frame_type in (FrameType.PA, FrameType.PAS, FrameType.PCS)
                assert (message.key_index == 0) is is_open


def test_a_radio_that_boots_while_it_is_reset_is_configured_once() -> None:
    pair = Pair()
    pair.runners[0].start()
    pair.lines[0].say(Ready(reason=ResetReason.POWER_ON))
    pair.clock.run_until(1.0)
    assert sum(isinstance(message, SetKey) for message in pair.lines[0].messages) == 1
    assert pair.runners[0].node.counters["radio_restarts"] == 0
