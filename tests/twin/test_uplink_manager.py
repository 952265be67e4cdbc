"""The uplink manager on real MQTT packets over two emulated links: when it changes its way, and when it returns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from dcu.config import UplinkPolicy
from dcu.outbox import Outbox, OutgoingMessage, Priority
from dcu.storage import MemoryStorage, StorageError
from dcu.uplink import UplinkListener
from dcu.uplink_manager import EVENT_CHANGED, MOVES, Cause, UplinkManager, Way
from dcu.uplink_probe import CLIENT_SUFFIX, UplinkProbe
from protocols.errors import LocalProtocolError
from twin.backhaul.link import Backhaul
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.clock.virtual import VirtualLoop, run_virtual

TOPIC = "openami/v1/dcu/dcu-1/event"
RULES = AccessRules((dcu_client("dcu-1", "one"), headend_client("head")))
POLICY = UplinkPolicy()


class FakeModem:
    """Ready or not, as the test says; it counts how often it was told that it carried nothing."""

    def __init__(self) -> None:
        self.is_ready = True
        self.carried = 0

    def carried_nothing(self) -> None:
        self.carried += 1

    def describe(self) -> dict[str, str]:
        return {"state": "ready" if self.is_ready else "searching"}


class FullStorage(MemoryStorage):
    """A storage that is full while the test says so."""

    is_full = False

    def write(self, name: str, data: bytes) -> None:
        self._take()
        super().write(name, data)

    def append(self, name: str, data: bytes) -> None:
        self._take()
        super().append(name, data)

    def _take(self) -> None:
        if self.is_full:
            raise StorageError("no space left on device")


@dataclass
class Bench:
    loop: VirtualLoop
    policy: UplinkPolicy = POLICY
    received: list[bytes] = field(default_factory=list)
    sessions: list[bool] = field(default_factory=list)
    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = self.loop
        self.broker = MemoryBroker(loop, RULES)
        self.satellite = Backhaul(loop, random.Random(1), "satellite", name="satellite")
        self.cellular = Backhaul(loop, random.Random(2), "4g", name="cellular")
        links = {Way.SATELLITE.value: self.satellite, Way.CELLULAR.value: self.cellular}
        options = ClientOptions("dcu-1", "dcu-1", "one")
        probing = replace(options, client_id="dcu-1" + CLIENT_SUFFIX, clean_session=True)
        self.modem = FakeModem()
        self.storage = FullStorage()
        self.manager = UplinkManager(
            self.policy,
            self.broker.routed_uplink(links, options, random.Random(3)),
            self.modem,
            probe=UplinkProbe(
                lambda way: self.broker.uplink(links[way], probing, random.Random(4)),
                timeout_s=self.policy.probe_timeout_s,
            ),
            loop=loop,
            trace=lambda kind, /, **fields: None,
        )
        self.manager.report = lambda kind, details: self.events.append((kind, details))
        self.outbox = Outbox(self.manager, self.storage, limit_bytes=1 << 20, trace=lambda kind, /, **fields: None)
        lan = Backhaul(loop, random.Random(5), "lan", name="lan")
        self.headend = self.broker.uplink(lan, ClientOptions("hes", "hes", "head"), random.Random(6))

    def start(self) -> None:
        ignore = UplinkListener(
            lambda _: None, lambda _: None, lambda _, data: self.received.append(data), lambda _: None
        )
        self.headend.subscribe("openami/v1/dcu/+/event")
        self.headend.start(ignore)
        listener = UplinkListener(
            self.sessions.append, lambda _: None, lambda _topic, _data: None, self.outbox.confirmed
        )
        self.manager.start(listener)
        self.outbox.open()

    def put(self, number: int, size_bytes: int = 200) -> None:
        payload = b"%06d" % number + b"." * (size_bytes - 6)
        self.outbox.put(OutgoingMessage(f"m{number}", TOPIC, payload, Priority.EVENT))

    def numbers(self) -> list[int]:
        return [int(data[:6]) for data in self.received]

    def moves(self) -> list[str]:
        return [f"{details['to']}: {details['reason']}" for kind, details in self.events if kind == EVENT_CHANGED]


def play(script: Callable[[Bench], Awaitable[None]], policy: UplinkPolicy = POLICY) -> Bench:
    loop = VirtualLoop()
    bench = Bench(loop, policy)

    async def main() -> None:
        bench.start()
        await asyncio.sleep(10)
        await script(bench)
        bench.manager.stop()
        bench.headend.stop()

    run_virtual(main(), loop)
    return bench


@pytest.mark.requirement("NET-5")
def test_the_satellite_is_first_and_cellular_the_fall_back_and_back() -> None:
    async def script(bench: Bench) -> None:
        assert (bench.manager.way, bench.manager.is_connected) == (Way.SATELLITE, True)
        bench.satellite.cut()
        await asyncio.sleep(180)
        assert (bench.manager.way, bench.manager.is_connected) == (Way.CELLULAR, True)
        bench.satellite.restore()
        await asyncio.sleep(900)
        assert (bench.manager.way, bench.manager.is_connected) == (Way.SATELLITE, True)

    bench = play(script)
    assert bench.moves() == ["cellular: no-connection", "satellite: preferred-is-back"]
    assert bench.sessions == [False, True, True], "the session is taken up again each time"


@pytest.mark.requirement("NET-5")
@pytest.mark.parametrize("cut_after_s", [0.0, 0.1, 0.3, 0.31, 0.5, 1.0, 2.0])
def test_messages_under_way_arrive_once_and_in_order_by_the_other_way(cut_after_s: float) -> None:
    async def script(bench: Bench) -> None:
        for number in range(60):
            bench.put(number)
        await asyncio.sleep(cut_after_s)
        bench.satellite.cut()
        for number in range(60, 80):
            bench.put(number)
        await asyncio.sleep(300)

    bench = play(script)
    assert bench.outbox.waiting_count == 0
    assert list(dict.fromkeys(bench.numbers())) == list(range(80)), (
        "in order, but for repetitions under their identifier"
    )
    assert bench.moves()[:1] == ["cellular: stalled"]


def test_a_way_on_which_nothing_is_confirmed_is_left_before_mqtt_notices() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        bench.put(1)
        await asyncio.sleep(POLICY.stalled_s + 3)
        assert bench.manager.way is Way.CELLULAR
        await asyncio.sleep(5)
        assert bench.numbers() == [1]

    play(script)


def test_a_slow_way_that_moves_is_not_left() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.set_profile("2g")
        for number in range(40):
            bench.put(number, size_bytes=12_000)  # 5 s each at 20 kb/s
        await asyncio.sleep(400)
        assert bench.numbers() == list(range(40))

    bench = play(script)
    assert bench.moves() == []


def test_without_a_ready_modem_the_satellite_is_tried_on_and_on() -> None:
    async def script(bench: Bench) -> None:
        bench.modem.is_ready = False
        bench.satellite.cut()
        bench.put(1)
        await asyncio.sleep(600)
        assert bench.manager.way is Way.SATELLITE
        bench.modem.is_ready = True
        bench.manager.modem_changed()
        await asyncio.sleep(POLICY.give_up_s + 5)
        assert bench.manager.way is Way.CELLULAR
        assert bench.numbers() == [1]

    play(script)


def test_a_modem_that_lost_its_network_is_left_for_the_satellite() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        await asyncio.sleep(180)
        assert bench.manager.way is Way.CELLULAR
        bench.satellite.restore()
        bench.modem.is_ready = False
        bench.cellular.cut()
        bench.manager.modem_changed()
        await asyncio.sleep(POLICY.give_up_s + 5)
        assert (bench.manager.way, bench.manager.is_connected) == (Way.SATELLITE, True)

    bench = play(script)
    assert bench.moves()[-1] == "satellite: detached"
    assert bench.modem.carried == 0


def test_a_network_that_carries_nothing_is_told_to_the_modem() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        bench.cellular.cut()
        await asyncio.sleep(600)

    bench = play(script)
    assert bench.modem.carried >= 5
    assert len(set(bench.moves())) >= 2, "both ways are tried in turn"


def test_a_glimpse_of_the_satellite_does_not_bring_it_back_and_flapping_makes_careful() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        await asyncio.sleep(180)
        bench.satellite.restore()
        await asyncio.sleep(POLICY.probe_s)
        bench.satellite.cut()
        await asyncio.sleep(600)
        assert bench.manager.way is Way.CELLULAR
        times: list[float] = []
        for _ in range(3):
            bench.satellite.restore()
            start = bench.loop.time()
            while bench.manager.way is not Way.SATELLITE:  # noqa: ASYNC110 (virtual time)
                await asyncio.sleep(5)
            times.append(bench.loop.time() - start)
            bench.satellite.cut()
            bench.put(len(times))
            await asyncio.sleep(180)
            assert bench.manager.way is Way.CELLULAR
        assert times[2] > times[1] + 3 * POLICY.probe_s - 30 > times[1]

    bench = play(script)
    assert bench.numbers() == [1, 2, 3]


@pytest.mark.requirement("UC-IV.2")
def test_a_full_storage_is_said_and_loses_nothing_that_was_acknowledged() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        bench.cellular.cut()
        for number in range(10):
            bench.put(number)
        bench.storage.is_full = True
        for number in range(10, 20):
            bench.put(number)
        await asyncio.sleep(3600)
        assert bench.outbox.counters.storage_errors >= 1
        assert bench.outbox.waiting_count == 20
        reopened = Outbox(bench.manager, bench.storage, limit_bytes=1 << 20, trace=lambda kind, /, **fields: None)
        assert reopened.waiting_count == 10, "what was on storage before it was full is there after a power cut"
        bench.storage.is_full = False
        bench.put(20)
        reopened = Outbox(bench.manager, bench.storage, limit_bytes=1 << 20, trace=lambda kind, /, **fields: None)
        assert reopened.waiting_count == 21, "and the rest follows when there is room"
        bench.satellite.restore()
        await asyncio.sleep(120)

    bench = play(script)
    assert list(dict.fromkeys(bench.numbers())) == list(range(21))


def test_a_day_of_messages_writes_a_bounded_number_of_bytes() -> None:
    async def script(bench: Bench) -> None:
        bench.satellite.cut()
        bench.cellular.cut()
        for number in range(288):
            bench.put(number)
            await asyncio.sleep(300)
        bench.satellite.restore()
        await asyncio.sleep(300)

    bench = play(script)
    assert bench.numbers() == list(range(288))
    size_bytes = 288 * (200 + len(TOPIC) + 60)
    assert bench.storage.bytes_written < 2 * size_bytes, "about once in, and a note that it is gone"


def test_the_table_of_moves_lacks_only_what_cannot_be() -> None:
    missing = {(way, cause) for way in Way for cause in Cause} - set(MOVES)
    assert missing == {(Way.SATELLITE, Cause.DETACHED), (Way.SATELLITE, Cause.PREFERRED_IS_BACK)}


def test_an_unknown_way_is_refused() -> None:
    loop = VirtualLoop()
    client = Bench(loop).broker.routed_uplink(
        {"a": Backhaul(loop, random.Random(1), "lan")}, ClientOptions("dcu-1", "dcu-1", "one"), random.Random(1)
    )
    with pytest.raises(LocalProtocolError, match="no way 'b'"):
        client.route("b")
