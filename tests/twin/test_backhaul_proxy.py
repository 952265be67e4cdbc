"""The proxy that puts an emulated link between real sockets. Times are the link's least, never the machine's."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from twin.backhaul.link import Backhaul
from twin.backhaul.profiles import BackhaulProfile
from twin.backhaul.proxy import QUEUE_LIMIT_BYTES, BackhaulProxy

PATIENCE_S = 60.0
QUICK = BackhaulProfile("quick", 0.1, 0.0, 8e6, 8e6, 0.0)


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, int]]:
    """Sends back what comes, and ends a connection behind a `!`."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                if data.endswith(b"!"):
                    break
        await end(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield host, port
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def play(script: Callable[[BackhaulProxy, Backhaul], Awaitable[None]], profile: BackhaulProfile = QUICK) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        link = Backhaul(loop, random.Random(1), profile)
        async with asyncio.timeout(PATIENCE_S), echo_server() as target:
            proxy = BackhaulProxy(link, target, loop)
            await proxy.start()
            try:
                await script(proxy, link)
            finally:
                await proxy.stop()

    asyncio.run(main())


def test_bytes_come_back_in_order_and_not_before_the_round_trip() -> None:
    async def script(proxy: BackhaulProxy, link: Backhaul) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(*proxy.address)
        data = random.Random(2).randbytes(200_000)
        start = loop.time()
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        # The opening of the connection and the data: two round trips, and the bits of one direction.
        assert loop.time() - start >= 2 * QUICK.round_trip_s + len(data) * 8 / QUICK.up_bps
        await end(writer)

    play(script)


def test_loss_is_mended() -> None:
    async def script(proxy: BackhaulProxy, link: Backhaul) -> None:
        reader, writer = await asyncio.open_connection(*proxy.address)
        data = random.Random(3).randbytes(40_000)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        assert sum(usage.lost_packets for usage in link.usage.values()) > 0
        await end(writer)

    play(script, BackhaulProfile("lossy", 0.01, 0.0, 8e6, 8e6, 0.1))


def test_during_an_outage_nothing_passes_and_afterwards_everything() -> None:
    async def script(proxy: BackhaulProxy, link: Backhaul) -> None:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        link.cut()
        writer.write(b"during")
        answer = asyncio.create_task(reader.readexactly(6))
        done, _ = await asyncio.wait([answer], timeout=0.5)
        assert not done
        link.restore()
        assert await answer == b"during"
        await end(writer)

    play(script)


def test_a_slow_link_slows_its_writer_down() -> None:
    async def script(proxy: BackhaulProxy, link: Backhaul) -> None:
        link.cut()
        _, writer = await asyncio.open_connection(*proxy.address)
        socket = writer.transport.get_extra_info("socket")
        total = 64 << 20
        writer.write(bytes(total))
        before = -1
        while writer.transport.get_write_buffer_size() != before:
            before = writer.transport.get_write_buffer_size()
            await asyncio.sleep(0.2)
        assert before > total - (32 << 20), "the kernel's buffers and the proxy's are full, and no more is taken"
        assert socket is not None
        writer.transport.abort()
        await end(writer)

    play(script)


def test_the_far_end_s_close_comes_behind_its_last_bytes() -> None:
    async def script(proxy: BackhaulProxy, link: Backhaul) -> None:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"last words!")
        assert await reader.read() == b"last words!"
        await end(writer)

    play(script)


def test_nobody_at_the_far_end_ends_the_connection() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        link = Backhaul(loop, random.Random(1), QUICK)
        async with asyncio.timeout(PATIENCE_S):
            async with echo_server() as target:
                pass  # it is gone
            proxy = BackhaulProxy(link, target, loop)
            await proxy.start()
            reader, writer = await asyncio.open_connection(*proxy.address)
            assert await reader.read() == b""
            await end(writer)
            await proxy.stop()

    asyncio.run(main())


def test_the_queue_s_limit_leaves_room_for_a_packet() -> None:
    assert QUEUE_LIMIT_BYTES > 2 * 1360
