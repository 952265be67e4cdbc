import asyncio
import random
import socket
import sys
import time

import pytest

from twin.clock.seeds import Seeds
from twin.clock.virtual import StalledError, VirtualLoop, VirtualTimeError, run_virtual


def test_a_day_of_waiting_costs_no_real_time() -> None:
    loop = VirtualLoop()
    started = time.perf_counter()
    run_virtual(asyncio.sleep(86_400), loop)
    assert loop.time() == 86_400
    assert time.perf_counter() - started < 60  # a generous guard, not a benchmark


def test_timers_of_one_instant_run_in_the_order_in_which_they_were_set() -> None:
    loop, order = VirtualLoop(), []

    async def main() -> None:
        for number in range(50):
            loop.call_at(1.0, order.append, number)
        await asyncio.sleep(2)

    run_virtual(main(), loop)
    assert order == list(range(50))


def test_random_timers_run_in_time_order_and_cancelled_ones_never() -> None:
    rng, loop = random.Random(5), VirtualLoop()
    ran: list[float] = []

    async def main() -> None:
        handles = [loop.call_at(rng.uniform(0, 100), lambda: ran.append(loop.time())) for _ in range(2000)]
        for handle in handles[::2]:
            handle.cancel()
        await asyncio.sleep(101)

    run_virtual(main(), loop)
    assert len(ran) == 1000
    assert ran == sorted(ran)


def test_timeouts_and_tasks_work_in_virtual_time() -> None:
    loop = VirtualLoop()

    async def main() -> list[float]:
        times = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        times.append(loop.time())
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3))
            group.create_task(asyncio.sleep(7))
        times.append(loop.time())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1)
        times.append(loop.time())
        return times

    assert run_virtual(main(), loop) == [2.5, 9.5, 10.5]


def test_a_run_in_which_nothing_can_happen_is_an_error_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.sleep(4)
        await asyncio.Event().wait()

    with pytest.raises(StalledError, match="stands still at 4"):
        run_virtual(main(), VirtualLoop())


async def _thread(loop: VirtualLoop) -> None:
    await asyncio.to_thread(print)


async def _connection(loop: VirtualLoop) -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def _server(loop: VirtualLoop) -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def _datagrams(loop: VirtualLoop) -> None:
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def _process(loop: VirtualLoop) -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "")


async def _descriptor(loop: VirtualLoop) -> None:
    with socket.socket() as endpoint:
        loop.add_reader(endpoint, print)


@pytest.mark.parametrize(
    ("attempt", "what"),
    [(_thread, "a thread"), (_connection, "a socket"), (_server, "a socket"), (_datagrams, "a socket"),
     (_process, "a subprocess"), (_descriptor, "waiting for a file descriptor")],
)  # fmt: skip
def test_what_lives_in_real_time_is_refused_by_name(attempt: object, what: str) -> None:
    loop = VirtualLoop()
    with pytest.raises(VirtualTimeError, match=f"{what} is not possible on the virtual clock.*--clock real"):
        run_virtual(attempt(loop), loop)  # type: ignore[operator]


def test_an_exception_that_nobody_caught_is_kept() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    run_virtual(main(), loop)
    assert [type(context["exception"]) for context in loop.unhandled] == [ZeroDivisionError]


def test_closing_cancels_what_still_waits_and_lets_it_clean_up() -> None:
    loop, cleaned = VirtualLoop(), []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            cleaned.append(True)

    async def main() -> None:
        loop.create_task(background())
        await asyncio.sleep(1)

    run_virtual(main(), loop)
    assert cleaned == [True]


def test_streams_of_one_seed_repeat_and_do_not_move_each_other() -> None:
    first, second = Seeds(7), Seeds(7)
    second.stream("another consumer").random()
    assert first.stream("air").random() == second.stream("air").random()
    assert first.stream("air").random() != first.stream("mac").random()
    assert first.keys("a").random_bytes(40) == second.keys("a").random_bytes(40)
    assert Seeds(8).keys("a").random_bytes(40) != first.keys("a").random_bytes(40)
