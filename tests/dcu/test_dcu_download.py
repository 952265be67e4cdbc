"""Fetching an update over the network: whole, or an error that says why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dcu.download import download
from dcu.update import MAX_ARCHIVE_BYTES, UpdateError

_OK = b"HTTP/1.0 200 OK\r\n"


def fetched(answer: bytes, path: str = "/update.tar.gz", timeout_s: float = 30.0, *, hangs: bool = False) -> bytes:
    """What `download` gives from a server that says `answer`, and then closes the connection unless it `hangs`."""
    asked: list[bytes] = []

    async def run() -> bytes:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            if hangs:
                await ended.wait()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            got = await download(f"http://127.0.0.1:{port}{path}", timeout_s=timeout_s)
        finally:
            ended.set()
            server.close()
        assert asked == [f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()]
        return got

    return asyncio.run(run())


@pytest.mark.parametrize("fields", [b"", b"Server: any\r\ncontent-length: 200000\r\n"])
def test_the_whole_body_arrives(fields: bytes) -> None:
    body = bytes(range(250)) * 800
    assert fetched(_OK + fields + b"\r\n" + body) == body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_OK + b"Content-Length: 11\r\n\r\n0123456789", "after 10 of 11 bytes"),
        (_OK + b"\r\n" + bytes(MAX_ARCHIVE_BYTES + 1), "longer than"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        (b"SSH-2.0-dropbear\r\n\r\n", "SSH-2.0"),
        (b"HTTP/1.0 200 OK", "does not speak HTTP"),
        (bytes(64 * 1024), "does not speak HTTP"),
        (b"", "does not speak HTTP"),
    ],
)
def test_a_server_that_sends_something_else_is_an_error(answer: bytes, said: str) -> None:
    with pytest.raises(UpdateError, match=said):
        fetched(answer)


def test_a_server_that_hangs_is_given_up() -> None:
    with pytest.raises(UpdateError, match=r"did not send it within 0\.05 s"):
        fetched(_OK, timeout_s=0.05, hangs=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "update.tar.gz",
        "https://host/x",
        "file:///etc/passwd",
        "http://",
        "http://host:99999/",
        "http://[/",
        "http://h/a b",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UpdateError, match="address"):
        asyncio.run(download(url))


def test_a_line_break_does_not_get_into_the_request() -> None:
    """The library strips it, or it is refused; a second request is never made of it."""

    async def run(attempt: Callable[[], Awaitable[bytes]]) -> None:
        with pytest.raises(UpdateError):
            await attempt()

    asyncio.run(run(lambda: download("http://127.0.0.1:1/x\r\nDELETE / HTTP/1.0")))


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(UpdateError, match=r"127\.0\.0\.1:1 cannot be reached"):
        asyncio.run(download("http://127.0.0.1:1/update.tar.gz"))
