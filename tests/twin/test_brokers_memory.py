"""The in-memory broker over emulated links, in virtual time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from dcu.uplink import UplinkListener, Will
from protocols.errors import LocalProtocolError
from twin.backhaul.link import Backhaul, Way
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions, MqttClient, State
from twin.brokers.memory import MemoryBroker
from twin.clock.virtual import VirtualLoop

RULES = AccessRules((dcu_client("dcu-1", "one"), headend_client("head")))
EVENT = "openami/v1/dcu/dcu-1/event"
STATUS = "openami/v1/dcu/dcu-1/status"
REQUEST = "openami/v1/dcu/dcu-1/request"


@dataclass
class Log:
    """What a client was told, in order."""

    connected: list[bool] = field(default_factory=list)
    disconnected: list[str] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)

    def listener(self) -> UplinkListener:
        return UplinkListener(
            connected=self.connected.append,
            disconnected=self.disconnected.append,
            message=lambda topic, payload: self.messages.append((topic, payload)),
            confirmed=self.confirmed.append,
        )


class Bench:
    """A broker, a concentrator behind `profile`, a head-end on a LAN."""

    def __init__(self, profile: str = "4g", seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.broker = MemoryBroker(self.loop, RULES)
        self.link = Backhaul(self.loop, random.Random(seed), profile)
        self.lan = Backhaul(self.loop, random.Random(seed + 1), "lan")
        self.dcu = self.client(self.link, "dcu-1", "one", seed + 2)
        self.hes = self.client(self.lan, "hes", "head", seed + 3)
        self.dcu_log, self.hes_log = Log(), Log()

    def client(self, link: Backhaul, name: str, password: str, seed: int) -> MqttClient:
        options = ClientOptions(name, username=name, password=password)
        return self.broker.uplink(link, options, random.Random(seed))

    def start(self) -> None:
        self.hes.subscribe("openami/v1/dcu/+/event")
        self.hes.subscribe("openami/v1/dcu/+/status")
        self.hes.start(self.hes_log.listener())
        self.dcu.subscribe(REQUEST)
        self.dcu.start(self.dcu_log.listener(), Will(STATUS, b"offline"))

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


def test_a_message_reaches_the_headend_and_is_confirmed() -> None:
    bench = Bench()
    bench.start()
    message_id = bench.dcu.publish(EVENT, b"x")
    bench.run(5)
    assert bench.hes_log.messages == [(EVENT, b"x")]
    assert bench.dcu_log.confirmed == [message_id]
    assert bench.dcu_log.connected == [False]


@pytest.mark.parametrize("profile", ["satellite", "2g"])
def test_messages_survive_loss_in_order(profile: str) -> None:
    bench = Bench(profile)
    bench.start()
    for number in range(200):
        bench.dcu.publish(EVENT, b"%d" % number)
    bench.run(600)
    assert [payload for _, payload in bench.hes_log.messages] == [b"%d" % number for number in range(200)]
    assert len(bench.dcu_log.confirmed) == 200
    assert bench.link.usage[Way.UP].lost_packets > 0


def test_slow_link_charges_for_the_bytes() -> None:
    bench = Bench("2g")
    bench.link.set_profile("2g")
    bench.start()
    bench.run(10)
    bench.dcu.publish(EVENT, bytes(100_000))
    bench.run(38)
    assert bench.hes_log.messages == []
    bench.run(60)
    assert len(bench.hes_log.messages) == 1


def test_nothing_is_lost_or_doubled_across_an_outage() -> None:
    bench = Bench("satellite")
    bench.start()
    bench.run(10)
    bench.link.cut()
    for number in range(300):
        bench.dcu.publish(EVENT, b"%d" % number)
    bench.run(3600)
    assert not bench.dcu.is_connected
    assert (STATUS, b"offline") in bench.hes_log.messages
    bench.link.restore()
    bench.run(600)
    events = [payload for topic, payload in bench.hes_log.messages if topic == EVENT]
    assert list(dict.fromkeys(events)) == [b"%d" % number for number in range(300)]
    assert sorted(bench.dcu_log.confirmed) == list(range(1, 301))
    assert bench.dcu_log.connected[0] is False
    assert bench.dcu_log.connected[-1] is True, "the session is resumed"


def test_request_waits_for_a_concentrator_that_is_away() -> None:
    bench = Bench("satellite")
    bench.start()
    bench.run(10)
    bench.link.cut()
    bench.run(300)
    bench.hes.publish(REQUEST, b"read")
    bench.run(60)
    assert bench.dcu_log.messages == []
    bench.link.restore()
    bench.run(120)
    assert bench.dcu_log.messages == [(REQUEST, b"read")]


def test_broker_that_goes_away_and_comes_back_loses_nothing() -> None:
    bench = Bench()
    bench.start()
    bench.run(5)
    bench.broker.stop()
    message_id = bench.dcu.publish(EVENT, b"kept")
    bench.run(30)
    assert bench.dcu_log.disconnected
    assert bench.dcu_log.confirmed == []
    bench.broker.start()
    bench.run(120)
    assert bench.dcu_log.confirmed == [message_id]
    assert bench.hes_log.messages == [(EVENT, b"kept")]


def test_power_cut_publishes_the_will_and_an_orderly_stop_does_not() -> None:
    bench = Bench()
    bench.start()
    bench.run(5)
    bench.dcu.abort()
    bench.run(200)
    assert bench.hes_log.messages == [(STATUS, b"offline")]
    other = Bench()
    other.start()
    other.run(5)
    other.dcu.stop()
    other.run(200)
    assert other.hes_log.messages == []
    assert other.dcu.state is State.STOPPED


def test_topic_that_is_subscribed_while_away_is_heard_after_a_resumption() -> None:
    bench = Bench()
    bench.start()
    bench.run(5)
    bench.link.cut()
    bench.run(300)
    bench.dcu.subscribe("openami/v1/dcu/dcu-1/credentials")
    bench.link.restore()
    bench.run(120)
    assert bench.dcu_log.connected == [False, True]
    bench.hes.publish("openami/v1/dcu/dcu-1/credentials", b"keys")
    bench.run(10)
    assert bench.dcu_log.messages == [("openami/v1/dcu/dcu-1/credentials", b"keys")]


def test_wrong_password_is_told_and_tried_again_with_back_off() -> None:
    bench = Bench()
    log = Log()
    stranger = bench.client(bench.lan, "dcu-1", "wrong", 9)
    stranger.start(log.listener())
    bench.run(600)
    assert set(log.disconnected) == {"broker refused the connection: not authorized"}
    assert 8 <= len(log.disconnected) <= 30


def test_a_client_is_started_once() -> None:
    bench = Bench()
    bench.start()
    with pytest.raises(LocalProtocolError):
        bench.dcu.start(bench.dcu_log.listener())


def test_same_seed_gives_the_same_run() -> None:
    def story(seed: int) -> tuple[int, list[int], float]:
        bench = Bench("satellite", seed)
        bench.start()
        for number in range(50):
            bench.dcu.publish(EVENT, b"%d" % number)
        bench.run(60)
        return bench.link.usage[Way.UP].sent_bytes, bench.dcu_log.confirmed, bench.loop.events_run

    assert story(7) == story(7)
    assert story(7) != story(8)
