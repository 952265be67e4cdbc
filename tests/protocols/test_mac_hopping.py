"""Frequency hopping: senders go where receivers listen, broadcasts wait for their slot, drift is followed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_air import KEY, MODE, Air, Node, Sent

from protocols.mesh.channel_function import broadcast_channel
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.mac import ALL_CHANNELS, MacParameters
from protocols.mesh.mac_track import SLOTS, Track
from protocols.mesh.phy import TURNAROUND_S
from protocols.mesh.wisun import FrameType, HeaderElements, PayloadElements, UnicastSchedule, encode_datagram
from protocols.rcp.codes import ChannelFunction, RefusalCode, Status
from protocols.rcp.messages import NO_PAN, Configure, Refused, SetKey, SetTimeSource, Transmit, TransmitDone

DATAGRAM = encode_datagram(bytes(60))
ADVERTISEMENT = PayloadElements(unicast_schedule=UnicastSchedule(channel_function=2)).encode()
HOPPING = {"channel_function": ChannelFunction.DH1CF, "broadcast_schedule_id": 0x4D2}
DAY_S = 86_400.0


def add(air: Air, name: str, *, drift_ppm: float = 0.0, root: bool = False, **configuration: object) -> Node:
    parameters = MacParameters(clock_drift_ppm=drift_ppm)
    return air.add(name, parameters=parameters, broadcast_root=root, **HOPPING, **configuration)


def announce(air: Air, *nodes: Node) -> None:
    """What discovery does: everybody is heard on every channel, secured ones with the broadcast timing."""
    for node in nodes:
        node.tell(Transmit(0, FrameType.PC, None, 1, ADVERTISEMENT))
        air.run(20)


def data(to: Node | None, handle: int = 1) -> Transmit:
    return Transmit(handle, FrameType.DATA, None if to is None else to.eui64, 1, DATAGRAM)


def frames_of(air: Air, kind: FrameType) -> list[Sent]:
    found = []
    for sent in air.sent:
        header, _ = MacHeader.decode(sent.psdu[:-4])
        if HeaderElements.decode(header.header_ies).frame_type is kind:
            found.append(sent)
    return found


@pytest.fixture
def air() -> Air:
    return Air()


@pytest.mark.requirement("NET-3")
@pytest.mark.requirement("OSI-2")
def test_unicast_goes_to_the_receivers_channel_and_uses_many(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n", drift_ppm=15.0)
    announce(air, root, node)
    for handle in range(1, 101):
        node.tell(data(root, handle))
        air.run(0.7)
    done = [message for message in node.done if message.handle]
    assert [message.status for message in done] == [Status.OK] * 100
    assert sum(message.attempts for message in done) <= 105
    assert len({sent.channel for sent in frames_of(air, FrameType.DATA)}) > 50
    assert len(root.received) >= 100


def test_discovery_is_a_burst_over_all_channels(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    root.tell(Transmit(1, FrameType.PA, None, 0, ADVERTISEMENT))
    air.run(20)
    (burst,) = air.sent
    assert burst.channel == ALL_CHANNELS
    assert root.done == [TransmitDone(1, Status.OK, 1)]
    assert [received.frame_type for received in node.received] == [FrameType.PA]
    assert 20 - burst.start_s > 129 * MODE.airtime_s(len(burst.psdu))


def test_nothing_known_of_a_schedule_is_said_at_once(air: Air) -> None:
    node, other = add(air, "n"), add(air, "o")
    node.tell(data(other, 1))
    node.tell(data(None, 2))
    air.run(1)
    assert [done.status for done in node.done] == [Status.NO_SCHEDULE, Status.NO_SCHEDULE]
    assert air.sent == []


@pytest.mark.requirement("NET-3")
def test_broadcasts_wait_for_the_common_slot_and_reach_all(air: Air) -> None:
    root = add(air, "r", root=True)
    nodes = [add(air, name, drift_ppm=drift) for name, drift in (("a", 20.0), ("b", -20.0), ("c", 3.0))]
    announce(air, root)
    for handle in range(1, 41):
        root.tell(data(None, handle))
        nodes[handle % 3].tell(data(None, handle))
        air.run(2.37)
    for node in nodes:
        assert [done.status for done in node.done if done.handle] == [Status.OK] * len(node.done)
        others = 40 + sum(len(other.done) for other in nodes if other is not node)
        heard = [received for received in node.received if received.frame_type is FrameType.DATA]
        assert len(heard) >= 0.9 * others, "two that send in one slot may collide in this simple air"
    for sent in frames_of(air, FrameType.DATA):
        header, _ = MacHeader.decode(sent.psdu[:-4])
        elements = HeaderElements.decode(header.header_ies)
        assert elements.broadcast_slot is not None
        assert elements.broadcast_offset_ms < 255
        assert sent.channel == broadcast_channel(elements.broadcast_slot, 0x4D2, 129)


def test_unicast_keeps_out_of_the_broadcast_dwell(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    announce(air, root, node)
    rng = random.Random(5)
    for handle in range(1, 200):
        node.tell(data(root, handle))
        air.run(rng.uniform(0.3, 0.6))
    for sent in frames_of(air, FrameType.DATA):
        header, _ = MacHeader.decode(sent.psdu[:-4])
        assert HeaderElements.decode(header.header_ies).broadcast_offset_ms >= 255


def test_a_waiting_broadcast_does_not_hold_up_unicasts(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    announce(air, root, node)
    node.tell(data(None, 1))
    while node.done[-1].handle != 1:
        air.run(0.01)
    air.run(0.3)
    for handle, to in ((2, None), (3, None), (4, root), (5, root)):
        node.tell(data(to, handle))
    air.run(3)
    assert [done.handle for done in node.done][-4:] == [4, 5, 2, 3]
    assert {done.status for done in node.done} == {Status.OK}


@pytest.mark.parametrize("quiet_s", [60.0, 3_600.0, DAY_S])
def test_schedules_are_found_again_after_quiet_hours(air: Air, quiet_s: float) -> None:
    root, node = add(air, "r", root=True, drift_ppm=-20.0), add(air, "n", drift_ppm=20.0)
    announce(air, root, node)
    for handle in range(1, 30):
        node.tell(data(root, handle))
        air.run(60.0)
    air.run(quiet_s)
    for handle in range(100, 110):
        node.tell(data(root, handle))
        root.tell(data(node, handle))
        air.run(3.0)
    for peer in (root, node):
        late = [done for done in peer.done if done.handle >= 100]
        assert [done.status for done in late] == [Status.OK] * 10, "drift of 40 ppm was learned from traffic"


def test_a_burst_of_the_rebooted_peer_makes_it_known_again(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    announce(air, root, node)
    root.mac.power_off()
    air.run(40)
    root.mac.power_on()
    root.tell(Configure(root.eui64, pan_id=0x1234, broadcast_root=True, **HOPPING))
    root.tell(SetKey(1, KEY, 10_000))
    announce(air, root)
    node.tell(data(root, 7))
    air.run(2)
    assert node.done[-1].status is Status.OK


def test_forged_timing_does_not_move_a_trusted_neighbour(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    forger = air.add("f", key=None, parameters=MacParameters(clock_drift_ppm=0.0), **HOPPING)
    announce(air, root, node)
    node.tell(data(root, 1))
    air.run(2)
    forger.tell(Configure(root.eui64, pan_id=0x1234, **HOPPING))
    forger.tell(Transmit(1, FrameType.PA, None, 0, ADVERTISEMENT))
    air.spoil = lambda sent, receiver: sent.psdu if receiver is not root or sent.sender != "f" else None
    air.run(10)
    node.tell(data(root, 2))
    air.run(2)
    assert [(done.status, done.attempts) for done in node.done if done.handle == 2] == [(Status.OK, 1)]


def test_the_time_source_is_followed_and_nobody_else(air: Air) -> None:
    root, node, other = add(air, "r", root=True), add(air, "n"), add(air, "o")
    announce(air, root)
    node.tell(SetTimeSource(root.eui64))
    other.tell(Configure(other.eui64, pan_id=0x1234, broadcast_root=True, **HOPPING))
    announce(air, other)
    root.tell(data(None, 3))
    air.run(3)
    assert any(received.source == root.eui64 and received.destination is None for received in node.received[-1:])


def test_configuring_again_keeps_the_phase_and_another_pan_forgets_its_slots(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n", pan_id=NO_PAN)
    node.tell(Configure(node.eui64, pan_id=0x1234, **HOPPING))
    announce(air, root, node)
    node.tell(Configure(node.eui64, pan_id=0x1234, **HOPPING))
    node.tell(data(None, 1))
    air.run(3)
    assert node.done[-1].status is Status.OK
    node.tell(Configure(node.eui64, pan_id=0x7777, **HOPPING))
    node.tell(data(None, 2))
    air.run(3)
    assert node.done[-1].status is Status.NO_SCHEDULE


def test_schedule_without_room_for_unicast_is_refused(air: Air) -> None:
    node = add(air, "n")
    node.tell(Configure(node.eui64, broadcast_interval_ms=300, channel_function=ChannelFunction.DH1CF))
    assert node.messages[-1] == Refused(Configure.TYPE, RefusalCode.OUT_OF_RANGE)


def test_acknowledgement_comes_on_the_frames_channel_even_over_a_slots_end(air: Air) -> None:
    root, node = add(air, "r", root=True), add(air, "n")
    announce(air, root, node)
    big = Transmit(1, FrameType.DATA, root.eui64, 1, encode_datagram(bytes(1500)))
    for _ in range(10):
        node.tell(big)
        air.run(2)
    assert [done.status for done in node.done if done.handle] == [Status.OK] * 10
    for sent, ack in zip(frames_of(air, FrameType.DATA), frames_of(air, FrameType.ACK), strict=True):
        assert ack.channel == sent.channel
        assert ack.start_s == pytest.approx(sent.start_s + MODE.airtime_s(len(sent.psdu)) + TURNAROUND_S)


@given(
    st.floats(-100, 100),
    st.floats(0, SLOTS - 1),
    st.lists(st.floats(1, 2000), min_size=40, max_size=60),
)
def test_track_learns_the_rate_of_another_crystal(drift_ppm: float, start: float, gaps_s: list[float]) -> None:
    period_s = 0.255

    def truth(local_s: float) -> float:
        return (start + local_s * (1 + drift_ppm * 1e-6) / period_s) % SLOTS

    def as_told(local_s: float) -> float:
        return (int(truth(local_s) * 256) + 0.5) / 256 % SLOTS

    now = 0.0
    track = Track(period_s, now, as_told(now))
    for gap_s in [*gaps_s, 700.0, 700.0, 700.0]:
        now += gap_s
        track.sample(now, as_told(now))
    assert track.rate_ppm == pytest.approx(drift_ppm, abs=5.0)
    later = now + 3_600.0
    error = (track.position_at(later) - truth(later) + SLOTS / 2) % SLOTS - SLOTS / 2
    assert abs(error) * period_s < 0.025
