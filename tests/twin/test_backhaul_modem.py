"""The concentrator's modem driver on the emulated modem: what a bench does to it, and what is made of that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from dcu.config import ModemPolicy, SimSlot
from dcu.modem import ModemDriver, ModemState
from protocols.at import Technology
from protocols.errors import BadInputError
from twin.backhaul.link import Backhaul
from twin.backhaul.modem import Modem, ModemLine
from twin.clock.virtual import VirtualLoop, run_virtual

POLICY = ModemPolicy()


@dataclass
class Bench:
    loop: VirtualLoop
    policy: ModemPolicy = POLICY
    changes: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = Backhaul(self.loop, random.Random(1), "4g", name="cellular")
        self.modem = Modem(self.loop, self.link)
        self.driver = ModemDriver(
            self.modem.line, self.policy, loop=self.loop, on_change=self.changed, trace=lambda kind, /, **fields: None
        )
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def changed(self) -> None:
        self.changes.append(self.driver.describe())
        for condition, done in self._waiting:
            if condition() and not done.done():
                done.set_result(None)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> float:
        """The time that it took. Raises TimeoutError."""
        start = self.loop.time()
        if not condition():
            done = self.loop.create_future()
            self._waiting.append((condition, done))
            async with asyncio.timeout(timeout_s):
                await done
        return self.loop.time() - start


def play(script: Callable[[Bench], Awaitable[None]], policy: ModemPolicy = POLICY) -> Bench:
    loop = VirtualLoop()
    bench = Bench(loop, policy)

    async def main() -> None:
        task = loop.create_task(bench.driver.run())
        try:
            await script(bench)
        finally:
            task.cancel()
            await asyncio.wait([task])

    run_virtual(main(), loop)
    return bench


async def ready(bench: Bench, slot: int = 0) -> None:
    await bench.until(lambda: bench.driver.is_ready and bench.driver.slot == slot, 300)


def test_it_attaches_and_opens_the_way() -> None:
    async def script(bench: Bench) -> None:
        assert not bench.link.is_up
        await ready(bench)
        assert bench.link.is_up
        assert bench.link.profile.name == "4g"
        assert bench.driver.describe() == {"sim": "1", "state": "ready", "technology": "4g"}
        assert (bench.driver.operator, bench.driver.rss_dbm) == ("Safaricom", -77)

    play(script)


@pytest.mark.requirement("HW-4")
def test_technology_drops_with_the_signal_and_recovers() -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        for lost, left in ((Technology.G4, Technology.G3), (Technology.G3, Technology.G2)):
            bench.modem.signal(0, lost, None)
            await bench.until(lambda left=left: bench.driver.technology is left, 10)  # type: ignore[misc]
            assert bench.link.is_up
            assert bench.link.profile.name == left.value
        bench.modem.restore_network(0)
        await bench.until(lambda: bench.driver.technology is Technology.G4, 10)

    play(script)


@pytest.mark.requirement("HW-4")
@pytest.mark.parametrize("verb", ["lose_network", "remove_sim"])
def test_a_sim_without_network_or_card_gives_way_to_the_other(verb: str) -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        getattr(bench.modem, verb)(0)
        await bench.until(lambda: bench.driver.is_ready and bench.driver.slot == 1, 200)
        assert bench.modem.slot == 1
        assert bench.modem.carries

    play(script)


def test_a_locked_sim_is_opened_by_its_pin() -> None:
    async def script(bench: Bench) -> None:
        bench.modem.lock_sim(0, "4711")
        await ready(bench)
        assert bench.modem.slot == 0

    play(script, replace(POLICY, sims=(SimSlot(pin="4711"), SimSlot())))


def test_a_wrong_pin_is_tried_once_only() -> None:
    async def script(bench: Bench) -> None:
        bench.modem.lock_sim(0, "4711")
        await ready(bench, slot=1)
        bench.modem.lose_network(1)
        await asyncio.sleep(3600)
        bench.modem.restore_network(1)
        await asyncio.sleep(900)
        assert bench.driver.is_ready
        assert bench.driver.slot == 1

    bench = play(script, replace(POLICY, sims=(SimSlot(pin="0000"), SimSlot())))
    assert bench.modem.pin_tries_left(0) == 2, "a third would have locked the card"


def test_a_pin_is_never_shown() -> None:
    policy = replace(POLICY, sims=(SimSlot(pin="4711"), SimSlot()))
    assert "4711" not in repr(policy)


def test_what_carries_nothing_is_avoided_and_tried_again() -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        bench.modem.kill_data(0, Technology.G4)
        assert not bench.link.is_up
        bench.driver.carried_nothing()
        await bench.until(lambda: bench.driver.technology is Technology.G3, 30)
        assert bench.link.is_up
        bench.modem.revive_data(0)
        waited_s = await bench.until(lambda: bench.driver.technology is Technology.G4, 1200)
        assert waited_s == pytest.approx(POLICY.forbid_technology_s, abs=60)

    play(script)


def test_when_no_technology_carries_anything_the_other_sim_is_taken() -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        bench.modem.kill_data(0)
        for expected in (Technology.G3, Technology.G2):
            bench.driver.carried_nothing()
            await bench.until(lambda expected=expected: bench.driver.technology is expected, 30)  # type: ignore[misc]
        bench.driver.carried_nothing()
        await ready(bench, slot=1)
        assert bench.driver.technology is Technology.G4
        assert bench.modem.carries

    play(script)


def test_a_silent_modem_is_said_and_started_anew_when_it_answers() -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        bench.modem.hang()
        await bench.until(lambda: bench.driver.state is ModemState.SILENT, 60)
        await asyncio.sleep(600)
        bench.modem.power_off()
        bench.modem.power_on()
        await ready(bench)

    bench = play(script)
    assert bench.driver.counters["timeouts"] > 10


def test_without_any_network_the_slots_take_turns_with_growing_patience() -> None:
    async def script(bench: Bench) -> None:
        for slot in (0, 1):
            bench.modem.lose_network(slot)
        await asyncio.sleep(3600)
        early = bench.driver.counters["sim_switches"]
        await asyncio.sleep(6 * 3600)
        assert bench.driver.state is ModemState.SEARCHING
        assert 5 <= bench.driver.counters["sim_switches"] - early < 6 * early
        for slot in (0, 1):
            bench.modem.restore_network(slot)
        assert await bench.until(lambda: bench.driver.is_ready, 60) < 30

    play(script)


def test_noise_and_half_lines_do_not_confuse_it() -> None:
    async def script(bench: Bench) -> None:
        await ready(bench)
        line = bench.modem.line
        assert isinstance(line, ModemLine)
        for noise in (b"\xff\x00\x80", b"\r\n+CREG: \r\n", b'\r\n+CEREG: "\r\n', b"+CME ERROR: x\r\n", b"OK\r\nOK\r\n"):
            line.deliver(noise)
        await asyncio.sleep(120)
        assert bench.driver.is_ready

    bench = play(script)
    assert bench.driver.counters["malformed"] >= 2


def test_a_slot_that_is_not_there_is_refused() -> None:
    loop = VirtualLoop()
    modem = Modem(loop, Backhaul(loop, random.Random(1), "4g"))
    with pytest.raises(BadInputError, match="slots 0 and 1"):
        modem.remove_sim(2)


def ask(modem: Modem, loop: VirtualLoop, *commands: str) -> bytes:
    said: list[bytes] = []
    modem.line.on_data(said.append)

    async def main() -> None:
        await asyncio.sleep(6)  # until it is registered
        for command in commands:
            modem.line.write(command.encode() + b"\r")
            await asyncio.sleep(6)

    run_virtual(main(), loop)
    return b"".join(said)


@pytest.mark.parametrize(
    ("commands", "answer"),
    [
        (["ATE0", "AT"], b"\r\nOK\r\n"),
        (["AT+NOSUCH"], b"\r\nERROR\r\n"),
        (["AT+CPIN?"], b"\r\n+CPIN: READY\r\n\r\nOK\r\n"),
        (["AT+CMEE=1", "AT+CGACT=1,1"], b"\r\n+CME ERROR: 3\r\n"),
        (["AT+CSQ"], b"\r\n+CSQ: 18,99\r\n"),
        (["AT+CEREG=2", "AT+CEREG?"], b'\r\n+CEREG: 2,1,"1A2B","1C0FFEE",7\r\n'),
        (["AT+COPS?"], b'\r\n+COPS: 0,0,"Safaricom",7\r\n'),
        (["AT+CSUS=1", "AT+CSUS?"], b"\r\n+CSUS: 1\r\n"),
        (["AT+WS46=12", "AT+WS46?"], b"\r\n+WS46: 12\r\n"),
        (["AT+CREG=9"], b"\r\nERROR\r\n"),
        (['AT+CGDCONT=1,"IP"'], b"\r\nERROR\r\n"),
        (['AT+CPIN="'], b"\r\nERROR\r\n"),
    ],
)
def test_commands_are_answered_as_a_modem_answers_them(commands: list[str], answer: bytes) -> None:
    loop = VirtualLoop()
    modem = Modem(loop, Backhaul(loop, random.Random(1), "4g"))
    assert answer in ask(modem, loop, *commands)
