"""Timers of real-time runs on a host that is late."""

import asyncio
import time

from twin.clock.paced import PacedTimers


def test_an_answer_is_not_overtaken_by_its_time_out_when_the_host_is_late() -> None:
    loop = asyncio.new_event_loop()
    timers, happened = PacedTimers(loop), []

    async def main() -> None:
        start = timers.time()

        def request() -> None:
            timers.call_at(timers.time() + 0.010, time_out)
            timers.call_at(timers.time() + 0.002, work)

        def work() -> None:
            time.sleep(0.05)  # the host is busy with something else
            timers.call_at(timers.time() + 0.002, answer)

        def answer() -> None:
            happened.append(("answer", round(timers.time() - start, 6)))

        def time_out() -> None:
            happened.append(("time-out", round(timers.time() - start, 6)))
            done.set()

        done = asyncio.Event()
        timers.call_at(start + 0.001, request)
        await done.wait()

    loop.run_until_complete(main())
    loop.close()
    assert happened == [("answer", 0.005), ("time-out", 0.011)]


def test_time_never_goes_back_and_cancelled_timers_do_not_run() -> None:
    loop = asyncio.new_event_loop()
    timers, seen = PacedTimers(loop), []

    async def main() -> None:
        start = timers.time()
        handles = [timers.call_at(start + 0.001 * n, lambda: seen.append(timers.time())) for n in range(30)]
        for handle in handles[::3]:
            handle.cancel()
        for _ in range(20):
            time.sleep(0.003)  # noqa: ASYNC251 (the busy host)
            seen.append(timers.time())
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    assert len(seen) == 40
    assert seen == sorted(seen)


def test_an_error_in_a_callback_is_reported_and_the_others_run() -> None:
    loop = asyncio.new_event_loop()
    timers, reported, ran = PacedTimers(loop), [], []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def main() -> None:
        start = timers.time()
        timers.call_at(start + 0.001, lambda: 1 / 0)
        timers.call_at(start + 0.002, ran.append, 1)
        await asyncio.sleep(0.02)

    loop.run_until_complete(main())
    loop.close()
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert ran == [1]
