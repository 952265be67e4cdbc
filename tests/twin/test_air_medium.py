"""The medium, under a fake MAC that only notes what it gets."""

from __future__ import annotations

import random

import pytest

from protocols.errors import LocalProtocolError
from protocols.mesh.mac import ALL_CHANNELS
from twin.air.interference import Interferer
from twin.air.medium import Medium
from twin.air.obstacles import Position
from twin.air.propagation import LogDistance, Propagation, Shadowing, UnitDisc, sensitivity_dbm
from twin.air.stations import Station, Transmission
from twin.air.statistics import Loss
from twin.clock.virtual import StalledError, VirtualLoop

BYTE_S = 8 / 50_000
FRAME = bytes(range(100))
FRAME_S = len(FRAME) * BYTE_S


class FakeMac:
    """An ordinary user of the radio: listens on one channel, keeps what it hears."""

    def __init__(self, station: Station, channel: int | None = 0) -> None:
        self.station = station
        self.channel = channel
        self.heard: list[tuple[float, bytes]] = []
        self.rss_dbm: list[int] = []
        self.done_at: list[float] = []
        station.user = self

    def listening_channel(self, now: float) -> int | None:
        return self.channel

    def receive(self, psdu: bytes, rss_dbm: int, channel: int, lqi: int, start_s: float) -> None:
        assert channel == self.channel
        assert 0 <= lqi <= 255
        self.heard.append((start_s, psdu))
        self.rss_dbm.append(rss_dbm)

    def transmit_done(self) -> None:
        self.done_at.append(self.station.medium.timers.time())


class Bench:
    def __init__(self, propagation: Propagation | None = None, seed: int = 1, channel_count: int = 4) -> None:
        self.loop = VirtualLoop()
        ground = propagation or LogDistance(sensitivity_dbm(50_000.0), shadowing=Shadowing(b"key"))
        self.medium = Medium(
            self.loop, random.Random(seed), ground, lambda size: size * BYTE_S, channel_count=channel_count
        )

    def node(self, x_m: float, y_m: float = 0.0, channel: int | None = 0) -> FakeMac:
        name = f"n{len(self.medium.stations)}"
        return FakeMac(self.medium.attach(name, name.encode().rjust(8), Position(x_m, y_m)), channel)

    def send_at(self, when: float, mac: FakeMac, psdu: bytes = FRAME, channel: int = 0) -> None:
        self.loop.call_at(when, mac.station.transmit, psdu, channel)

    def run(self) -> None:
        with pytest.raises(StalledError):
            self.loop.run_forever()
        assert self.loop.unhandled == []


def test_frame_reaches_everyone_who_listens_in_range_when_it_ends() -> None:
    bench = Bench()
    a, b, deaf, far = bench.node(0), bench.node(100), bench.node(50, channel=1), bench.node(500)
    bench.send_at(1.0, a)
    bench.run()
    assert b.heard == [(1.0, FRAME)]
    assert deaf.heard == []
    assert far.heard == []
    assert a.heard == []
    assert a.done_at == [pytest.approx(1.0 + FRAME_S)]
    assert deaf.station.statistics.lost == {Loss.NOT_LISTENING: 1}


@pytest.mark.requirement("NET-1")
def test_nothing_is_ever_heard_beyond_400_m() -> None:
    bench = Bench()
    a, near, beyond = bench.node(0), bench.node(310), bench.node(400.5)
    a.station.tx_power_dbm = 60.0
    for n in range(50):
        bench.send_at(float(n), a)
    bench.run()
    assert len(near.heard) == 50
    assert beyond.heard == []
    assert bench.medium.energy_mw(beyond.station, 0) == 0.0


@pytest.mark.requirement("NET-1")
def test_300_m_in_the_open_delivers_nine_in_ten_over_many_links_and_frames() -> None:
    sent = received = 0
    for pair in range(40):
        bench = Bench(LogDistance(sensitivity_dbm(50_000.0), shadowing=Shadowing(bytes((pair, 1)))), seed=pair)
        a, b = bench.node(0), bench.node(300)
        for n in range(25):
            bench.send_at(float(n), a, bytes(250))
        bench.run()
        sent, received = sent + 25, received + len(b.heard)
    assert received / sent >= 0.9


def test_equal_frames_that_overlap_destroy_each_other() -> None:
    bench = Bench(UnitDisc(150.0))
    a, middle, c = bench.node(0), bench.node(100), bench.node(200)
    bench.send_at(1.0, a)
    bench.send_at(1.0 + FRAME_S / 2, c)
    bench.run()
    assert middle.heard == []
    assert middle.station.statistics.lost == {Loss.COLLISION: 2}


@pytest.mark.parametrize("near_starts_s", [0.99, 1.0, 1.005])
def test_much_stronger_frame_is_captured_whichever_came_first(near_starts_s: float) -> None:
    bench = Bench()
    far, near, sink = bench.node(300), bench.node(20, 10), bench.node(0)
    bench.send_at(1.0, far)
    bench.send_at(near_starts_s, near, FRAME[::-1])
    bench.run()
    assert sink.heard == [(near_starts_s, FRAME[::-1])]


def test_frames_that_only_touch_do_not_collide() -> None:
    bench = Bench(UnitDisc(150.0))
    a, middle, c = bench.node(0), bench.node(100), bench.node(200)
    bench.send_at(1.0, a)
    bench.send_at(1.0 + FRAME_S, c)
    bench.run()
    assert len(middle.heard) == 2


def test_other_channel_does_not_disturb() -> None:
    bench = Bench(UnitDisc(150.0))
    a, middle, c = bench.node(0), bench.node(100), bench.node(200)
    bench.send_at(1.0, a)
    bench.send_at(1.0, c, channel=1)
    bench.run()
    assert middle.heard == [(1.0, FRAME)]


def test_radio_that_sends_hears_nothing_meanwhile() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.send_at(1.0, a)
    bench.send_at(1.0 + FRAME_S / 2, b, channel=1)
    bench.run()
    assert b.heard == []
    assert b.station.statistics.lost == {Loss.HALF_DUPLEX: 1}


def test_radio_that_begins_to_send_as_a_frame_ends_has_heard_it() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.loop.call_at(1.0 + FRAME_S, b.station.transmit, FRAME, 0)
    bench.send_at(1.0, a)
    bench.run()
    assert b.heard == [(1.0, FRAME)]
    assert a.heard == [(1.0 + FRAME_S, FRAME)]


def test_channel_is_busy_for_those_in_range_and_only_during_the_frame() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b, far = bench.node(0), bench.node(100), bench.node(300)
    seen: list[tuple[bool, bool, bool]] = []

    def look() -> None:
        seen.append((b.station.is_clear(0), b.station.is_clear(1), far.station.is_clear(0)))

    bench.send_at(1.0, a)
    for when in (0.5, 1.0 + FRAME_S / 2, 1.0 + 2 * FRAME_S):
        bench.loop.call_at(when, look)
    bench.run()
    assert seen == [(True, True, True), (False, True, True), (True, True, True)]


def test_receiving_is_seen_by_who_listened_from_the_beginning() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b, elsewhere = bench.node(0), bench.node(100), bench.node(50, channel=2)
    seen: list[tuple[bool, bool, bool]] = []
    bench.send_at(1.0, a)
    for when in (0.5, 1.0 + FRAME_S / 2, 2.0):
        bench.loop.call_at(
            when,
            lambda: seen.append((b.station.is_receiving(), elsewhere.station.is_receiving(), a.station.is_receiving())),
        )
    bench.run()
    assert seen == [(False, False, False), (True, False, False), (False, False, False)]


def test_jammer_silences_its_channel_while_it_lasts() -> None:
    bench = Bench()
    a, b = bench.node(0), bench.node(100)
    jammer = Interferer(Position(100, 5), 14.0, 0, 2.0, 4.0)
    bench.medium.add_interferer(jammer)
    clear: list[bool] = []
    bench.loop.call_at(3.0, lambda: clear.append(b.station.is_clear(0)))
    bench.loop.call_at(3.0, lambda: clear.append(b.station.is_clear(1)))
    for when in (1.0, 3.1, 5.0):
        bench.send_at(when, a)
    bench.run()
    assert [start for start, _ in b.heard] == [1.0, 5.0]
    assert clear == [False, True]
    assert b.station.statistics.lost == {Loss.JAMMED: 1}


def test_jammer_on_every_channel_can_be_stopped() -> None:
    bench = Bench()
    a, b = bench.node(0), bench.node(100)
    jammer = Interferer(Position(100, 5), 14.0, None, 0.0)
    bench.medium.add_interferer(jammer)
    bench.send_at(1.0, a)
    bench.loop.call_at(2.0, jammer.stop, 2.0)
    bench.send_at(3.0, a)
    bench.run()
    assert [start for start, _ in b.heard] == [3.0]


def test_configured_loss_is_one_way_and_exact_at_its_ends() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.medium.set_configured_loss(a.station, b.station, 1.0)
    bench.send_at(1.0, a)
    bench.send_at(2.0, b)
    bench.loop.call_at(3.0, bench.medium.set_configured_loss, a.station, b.station, 0.0)
    bench.send_at(4.0, a)
    bench.run()
    assert [start for start, _ in b.heard] == [4.0]
    assert [start for start, _ in a.heard] == [2.0]
    assert b.station.statistics.lost == {Loss.CONFIGURED: 1}


def test_configured_loss_is_kept_near_its_share() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.medium.set_configured_loss(a.station, b.station, 0.2)
    for n in range(1000):
        bench.send_at(float(n), a)
    bench.run()
    assert 750 < len(b.heard) < 850


def test_attenuated_direction_makes_an_asymmetric_link() -> None:
    bench = Bench()
    a, b = bench.node(0), bench.node(100)
    bench.medium.set_extra_loss_db(a.station, b.station, 60.0)
    bench.send_at(1.0, a)
    bench.send_at(2.0, b)
    bench.run()
    assert b.heard == []
    assert [start for start, _ in a.heard] == [2.0]


def test_power_cut_breaks_the_frame_off() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.send_at(1.0, a)
    bench.loop.call_at(1.0 + FRAME_S / 2, bench.medium.power_off, a.station)
    bench.run()
    assert b.heard == []
    assert a.done_at == []


def test_radio_hears_nothing_without_power_nor_the_rest_of_a_frame_after_it() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(100)
    bench.medium.power_off(b.station)
    bench.send_at(1.0, a)
    bench.send_at(2.0, a)
    bench.loop.call_at(2.0 + FRAME_S / 2, bench.medium.power_on, b.station)
    bench.send_at(3.0, a)
    bench.run()
    assert [start for start, _ in b.heard] == [3.0]


def test_sending_without_power_or_twice_at_once_is_our_bug() -> None:
    bench = Bench(UnitDisc(150.0))
    a, _ = bench.node(0), bench.node(100)
    a.station.transmit(FRAME, 0)
    with pytest.raises(LocalProtocolError, match="while it sends"):
        a.station.transmit(FRAME, 0)
    bench.medium.power_off(a.station)
    with pytest.raises(LocalProtocolError, match="without power"):
        a.station.transmit(FRAME, 0)


def test_moved_node_is_heard_where_it_is_now_and_keeps_its_counters() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(300)

    def move(x_m: float) -> None:
        b.station.position = Position(x_m, 0)
        bench.medium.changed()

    for when in (1.0, 3.0, 5.0):
        bench.send_at(when, a)
    bench.loop.call_at(2.0, move, 100.0)
    bench.loop.call_at(4.0, move, 120.0)
    bench.run()
    assert [start for start, _ in b.heard] == [3.0, 5.0]
    assert [link.statistics.received for link in bench.medium.links_of(a.station)] == [2]


def test_node_that_comes_later_is_heard_too() -> None:
    bench = Bench(UnitDisc(150.0))
    a, _ = bench.node(0), bench.node(100)
    bench.send_at(1.0, a)
    late: list[FakeMac] = []
    bench.loop.call_at(2.0, lambda: late.append(bench.node(-50)))
    bench.send_at(3.0, a)
    bench.run()
    assert [start for start, _ in late[0].heard] == [3.0]


def test_burst_reaches_listeners_of_every_channel_and_takes_its_airtime() -> None:
    bench = Bench(UnitDisc(150.0), channel_count=4)
    a, listeners = bench.node(0), [bench.node(50 + n, channel=n) for n in range(4)]
    bench.send_at(1.0, a, channel=ALL_CHANNELS)
    bench.run()
    assert [listener.heard for listener in listeners] == [[(1.0, FRAME)]] * 4
    assert a.done_at == [pytest.approx(1.0 + 4 * FRAME_S)]
    assert a.station.statistics.airtime_s == pytest.approx(4 * FRAME_S)


def test_burst_and_frame_collide_only_while_the_burst_is_on_that_channel() -> None:
    bench = Bench(UnitDisc(150.0), channel_count=4)
    a, c = bench.node(0), bench.node(200)
    middle, third = bench.node(100, channel=0), bench.node(101, channel=3)
    bench.send_at(1.0, a, channel=ALL_CHANNELS)
    bench.send_at(1.0 + 2.5 * FRAME_S, c, channel=0)
    bench.send_at(1.0 + 3.6 * FRAME_S, c, channel=3)
    bench.run()
    assert [psdu for _, psdu in middle.heard] == [FRAME, FRAME]
    assert third.heard == []


def test_same_seed_gives_the_same_receptions_and_another_does_not() -> None:
    def heard(seed: int) -> list[float]:
        bench = Bench(seed=seed)
        a, b = bench.node(0), bench.node(390)
        for n in range(200):
            bench.send_at(float(n), a)
        bench.run()
        return [start for start, _ in b.heard]

    assert heard(1) == heard(1)
    assert heard(1) != heard(2)
    assert 0 < len(heard(1)) < 200


def test_observers_see_each_transmission_once_at_its_start() -> None:
    bench = Bench(UnitDisc(150.0))
    seen: list[tuple[float, bytes]] = []

    def observe(transmission: Transmission) -> None:
        seen.append((transmission.start_s, transmission.psdu))

    bench.medium.on_air.append(observe)
    a, _, _ = bench.node(0), bench.node(100), bench.node(120)
    bench.send_at(1.0, a)
    bench.run()
    assert seen == [(1.0, FRAME)]


def test_duty_cycle_counts_airtime() -> None:
    bench = Bench(UnitDisc(150.0))
    a, _ = bench.node(0), bench.node(100)
    for n in range(10):
        bench.send_at(float(n), a)
    bench.run()
    assert a.station.statistics.airtime_s == pytest.approx(10 * FRAME_S)
    assert a.station.statistics.duty_cycle(100.0) == pytest.approx(10 * FRAME_S / 100.0)
    assert a.station.statistics.worst_hour_duty_cycle == pytest.approx(10 * FRAME_S / 3600.0)


def test_injected_frame_from_a_place_is_heard_around_it() -> None:
    bench = Bench(UnitDisc(150.0))
    a, b = bench.node(0), bench.node(300)
    bench.loop.call_at(1.0, bench.medium.emit_at, Position(50, 0), FRAME, 0)
    bench.run()
    assert a.heard == [(1.0, FRAME)]
    assert b.heard == []
