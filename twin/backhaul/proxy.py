"""A link for real sockets: a TCP listener whose connections travel over an emulated link to another address.

Real time only, in user space. What a client writes is taken from its socket only as fast as the link carries it away,
so that it sees the link's back-pressure as it would see it in its own TCP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from twin.backhaul.link import Backhaul, LinkEnd
from twin.brokers.transport import Transport, TransportHandler

_LOG = logging.getLogger(__name__)
QUEUE_LIMIT_BYTES = 32 * 1024
"""How much one connection may have on the link before nothing more is read from its socket."""


class _Socket(asyncio.Protocol):
    """A real connection whose bytes go to a transport over the link, and the other way round.

    What comes over the link before the real connection is there is kept; what comes the other way waits in its socket.
    """

    def __init__(self, opened: Callable[[_Socket], None], ended: Callable[[_Socket], None]) -> None:
        self._opened = opened
        self._ended = ended
        self._socket: asyncio.Transport | None = None
        self._link: Transport | None = None
        self._for_socket = bytearray()
        self._has_ended = False

    # the real side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        waiting, self._for_socket = bytes(self._for_socket), bytearray()
        transport.write(waiting)
        if self._has_ended:
            transport.close()
        elif self._link is None:
            transport.pause_reading()  # until there is a way for it
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        if self._link is not None:
            self._link.write(data)
            self._throttle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish()

    def finish(self) -> None:
        """There is no real connection, or no more: the link's side learns of it behind what was written."""
        self._socket, self._has_ended = None, True
        if self._link is not None:
            self._link.close()
            self._link = None
        self._ended(self)

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    # the link's side

    def join(self, link: Transport) -> None:
        """The link's transport is there: what waits in the socket may come."""
        if self._has_ended:
            link.close()
            return
        self._link = link
        self._go_on()

    def handler(self) -> TransportHandler:
        return TransportHandler(received=self._deliver, lost=self.end)

    def end(self, reason: str) -> None:
        """The link's side has ended: the real connection is closed behind what was delivered."""
        self._link, self._has_ended = None, True
        if self._socket is not None:
            self._socket.close()

    def _deliver(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.write(data)
        else:
            self._for_socket += data

    def _throttle(self) -> None:
        link = self._link
        if self._socket is None or not isinstance(link, LinkEnd) or link.pending_bytes <= QUEUE_LIMIT_BYTES:
            return
        self._socket.pause_reading()
        link.when_drained(QUEUE_LIMIT_BYTES // 2, self._go_on)

    def _go_on(self) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()


class BackhaulProxy:
    """Listens on the loopback interface and carries every connection over `link` to `target`."""

    def __init__(self, link: Backhaul, target: tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._open: dict[_Socket, None] = {}
        self._emptied = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._connector = link.connector(self._arrived)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens. Only between `start` and `stop`."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Port 0 picks a free one. Raises OSError if it cannot listen there."""
        self._server = await self._loop.create_server(lambda: _Socket(self._accepted, self._forget), host, port)

    async def stop(self) -> None:
        """Every connection ends at once."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._open):
            connection.abort()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._open:
            self._emptied.clear()
            await self._emptied.wait()
        if server is not None:
            await server.wait_closed()

    def _accepted(self, near: _Socket) -> None:
        """A client has connected: open a connection over the link."""
        self._open[near] = None
        self._connector.open(near.handler(), near.join, near.end)

    def _arrived(self, transport: Transport) -> TransportHandler:
        """A connection has come over the link: connect it to the target."""
        far = _Socket(lambda _: None, self._forget)
        far.join(transport)
        self._open[far] = None
        task = self._loop.create_task(self._connect(far), name="backhaul proxy")
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return far.handler()

    async def _connect(self, far: _Socket) -> None:
        try:
            await self._loop.create_connection(lambda: far, *self._target)
        except OSError as error:
            _LOG.warning("nobody listens at %s:%d: %s", *self._target, error.strerror or error)
            far.finish()
        except asyncio.CancelledError:
            far.finish()
            raise

    def _forget(self, connection: _Socket) -> None:
        self._open.pop(connection, None)
        if not self._open:
            self._emptied.set()
