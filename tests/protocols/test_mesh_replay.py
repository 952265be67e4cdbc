"""Replay protection that outlives a power cut on the receiving side, and whose clock a hopping radio follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_bench import GROUP_KEY, Bench, eui

from protocols.mesh.config import RadioSettings
from protocols.mesh.replay_floors import CAPACITY, ReplayFloors
from protocols.rcp.codes import ChannelFunction
from protocols.rcp.messages import HostMessage, SetKey, SetReplayFloor, SetTimeSource

floors = st.dictionaries(st.tuples(st.binary(min_size=8, max_size=8), st.integers(1, 4)), st.integers(0, 2**32 - 2))


@given(floors)
def test_floors_survive_their_storage(heard: dict[tuple[bytes, int], int]) -> None:
    first = ReplayFloors()
    for (source, index), counter in list(heard.items())[-CAPACITY:]:
        first.note(source, index, counter)
    for index in range(1, 5):
        first.for_key(index, GROUP_KEY)
    second = ReplayFloors(first.encode())
    for index in range(1, 5):
        told = {
            (floor.source, floor.key_index): floor.minimum_frame_counter for floor in second.for_key(index, GROUP_KEY)
        }
        wanted = {key: counter + 1 for key, counter in list(heard.items())[-CAPACITY:] if key[1] == index}
        assert told == wanted


@given(st.binary(max_size=200))
def test_damaged_storage_is_as_good_as_none(stored: bytes) -> None:
    ReplayFloors(stored).for_key(1, GROUP_KEY)


def test_floors_of_a_key_that_was_replaced_are_forgotten() -> None:
    kept = ReplayFloors()
    kept.for_key(1, GROUP_KEY)
    kept.note(eui(1), 1, 77)
    assert ReplayFloors(kept.encode()).for_key(1, bytes(16)) == []


class Watched(Bench):
    """Notes what the hosts tell their radios."""

    told: list[tuple[int, HostMessage]]

    def settle(self, number: int) -> None:
        self.told = getattr(self, "told", [])
        node, radio = self.nodes[number], self.radios[number]
        for message in node.take_messages():
            self.told.append((number, message))
            radio.take(message)
        super().settle(number)


@pytest.mark.requirement("NET-3")
def test_a_node_tells_its_radio_after_a_power_cut_what_it_had_heard() -> None:
    bench = Watched([(0, 1), (1, 2)])
    bench.power_on_all()
    bench.run_until(bench.joined, 60)
    highest = max(frame.frame_counter for _, number, frame in bench.frames if number == 0 and frame.key_index)
    stored = bench.nodes[1].replay_floors
    bench.power_off(1)
    bench.told.clear()
    bench.power_on(1, replay_floors=stored)
    told = [message for number, message in bench.told if number == 1]
    assert isinstance(told[1], SetKey)
    assert SetReplayFloor(eui(0), 1, highest + 1) in told[2:]
    bench.run_until(bench.joined, 120)


def test_a_hopping_node_follows_the_clock_of_its_parent() -> None:
    bench = Watched([(0, 1), (0, 2), (1, 3), (2, 3)])
    for number in range(4):
        radio = RadioSettings(channel_function=ChannelFunction.DH1CF)
        bench.power_on(number, radio=radio)
    bench.run_until(bench.joined, 120)
    parent = bench.nodes[3].parent
    assert [m for number, m in bench.told if number == 3 and isinstance(m, SetTimeSource)][-1] == SetTimeSource(parent)
    bench.power_off(1 if parent == eui(1) else 2)
    bench.send(3, 0, b"which shows that the parent is gone")
    bench.run_until(lambda: bench.nodes[3].parent not in (parent, None), 300)
    last = [m for number, m in bench.told if number == 3 and isinstance(m, SetTimeSource)][-1]
    assert last == SetTimeSource(bench.nodes[3].parent)
