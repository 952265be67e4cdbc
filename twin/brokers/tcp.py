"""Connections over TCP or TLS on a real loop: a connector for clients, and our broker served to anyone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from twin.brokers.broker import Broker
from twin.brokers.transport import Transport, TransportHandler


class _TcpEnd(asyncio.Protocol):
    """One end of a TCP connection, as `Transport`."""

    def __init__(self, opened: Callable[[_TcpEnd], TransportHandler]) -> None:
        self._opened = opened
        self._handler: TransportHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._is_open = True

    def write(self, data: bytes) -> None:
        if self._is_open and self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        self._is_open = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_open:
            self._handler = self._opened(self)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_open and self._handler is not None:
            self._handler.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open and self._handler is not None:
            self._is_open = False
            self._handler.lost("closed by the peer" if exc is None else str(exc))


class TcpConnector:
    """`twin.brokers.transport.Connector` to a broker at `host` and `port`, by TLS if a context is given."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    def open(
        self, handler: TransportHandler, opened: Callable[[Transport], None], failed: Callable[[str], None]
    ) -> Callable[[], None]:
        def made(end: _TcpEnd) -> TransportHandler:
            self._loop.call_soon(begin, end)
            return handler

        def begin(end: _TcpEnd) -> None:
            if not given_up:
                opened(end)

        async def connect() -> None:
            try:
                await self._loop.create_connection(lambda: end, self._host, self._port, ssl=self._tls)
            except OSError as error:
                if not given_up:
                    failed(f"no connection to {self._host}:{self._port}: {error.strerror or error}")

        def give_up() -> None:
            given_up.append(True)
            task.cancel()
            end.abort()

        given_up: list[bool] = []
        end = _TcpEnd(made)
        task = self._loop.create_task(connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return give_up


async def serve_broker(broker: Broker, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Serve our broker over TCP. Port 0 picks a free one; the caller closes the server."""

    def accepted(end: _TcpEnd) -> TransportHandler:
        connection = broker.attach(end)
        return TransportHandler(received=connection.received, lost=connection.lost)

    return await asyncio.get_running_loop().create_server(lambda: _TcpEnd(accepted), host, port)


def address_of(server: asyncio.Server) -> tuple[str, int]:
    """Where a server listens."""
    host, port = server.sockets[0].getsockname()[:2]
    return str(host), int(port)
