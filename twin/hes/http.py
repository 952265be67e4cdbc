"""The REST interface and the console on a socket, for people: uvicorn on the run's real loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI

from twin.errors import RigError


@asynccontextmanager
async def serve_http(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """Serve `app` while the block runs; gives host and port, where port 0 picks a free one.

    Signals stay with the caller. Raises RigError when uvicorn is missing or the port cannot be had.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise RigError("uvicorn is not installed; install openami-twin[hes]") from error

    class Server(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self.ready = asyncio.Event()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.ready.set()

    listener = _listen(host, port)
    server = Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if not server.ready.is_set():
            raise RigError("the HTTP server ended before it listened")
        yield host, int(listener.getsockname()[1])
    finally:
        ready.cancel()
        server.should_exit = True
        await serving
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RigError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
