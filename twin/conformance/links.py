"""How APDUs get to the target and back: in memory, over TCP and over UDP. Real bytes of the wrapper in every case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from protocols.dlms.wrapper import Wpdu, WrapperDecoder
from protocols.errors import RemoteProtocolError
from twin.errors import RigError

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 5.0


class Link(Protocol):
    """One channel to the target: what a client of it sends and gets. An association lives on one link."""

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        """The answer, or None if none came in time or the target has closed the channel."""
        ...

    async def unasked(self, timeout_s: float) -> bytes | None:
        """The next APDU that the target sends by itself, None if none comes within `timeout_s`."""
        ...

    async def close(self) -> None: ...


class MemoryLink:
    """The wrapper's bytes through a function, for a meter in this process. No answer is known at once."""

    def __init__(self, deliver: Callable[[bytes], bytes | None], closed: Callable[[], None]) -> None:
        self._deliver = deliver
        self._closed = closed
        self._pushed: asyncio.Queue[bytes] = asyncio.Queue()

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        answer = self._deliver(Wpdu(client_sap, server_sap, apdu).encode())
        await asyncio.sleep(0)
        return None if answer is None else check_ports(Wpdu.decode(answer), client_sap, server_sap)

    def push(self, apdu: bytes) -> None:
        """The meter sends by itself."""
        self._pushed.put_nowait(apdu)

    async def unasked(self, timeout_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pushed.get()
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._closed()


def check_ports(wpdu: Wpdu, client_sap: int, server_sap: int) -> bytes:
    """The APDU of an answer. Raises RemoteProtocolError if it is not between these access points."""
    if (wpdu.source_port, wpdu.destination_port) != (server_sap, client_sap):
        raise RemoteProtocolError(
            f"an answer from {wpdu.source_port} to {wpdu.destination_port}, not from {server_sap} to {client_sap}",
            spec="IEC 62056-47",
        )
    return wpdu.apdu


class _QueuedLink:
    """What TCP and UDP have in common: received wrapper PDUs in a queue, None at the end of the channel."""

    def __init__(self, answer_timeout_s: float) -> None:
        self._received: asyncio.Queue[Wpdu | RemoteProtocolError | None] = asyncio.Queue()
        self._answer_timeout_s = answer_timeout_s
        self._is_closed = False

    async def _answer(self, client_sap: int, server_sap: int) -> bytes | None:
        wpdu = await self._next(self._answer_timeout_s)
        return None if wpdu is None else check_ports(wpdu, client_sap, server_sap)

    async def unasked(self, timeout_s: float) -> bytes | None:
        wpdu = await self._next(timeout_s)
        return None if wpdu is None else wpdu.apdu

    async def _next(self, timeout_s: float) -> Wpdu | None:
        if self._is_closed and self._received.empty():
            return None
        try:
            async with asyncio.timeout(timeout_s):
                item = await self._received.get()
        except TimeoutError:
            return None
        if isinstance(item, RemoteProtocolError):
            raise item
        return item

    def _drop_stale(self) -> None:
        """What came too late for an earlier request answers no later one."""
        while not self._received.empty():
            self._received.get_nowait()


class TcpLink(_QueuedLink, asyncio.Protocol):
    """The wrapper over one TCP connection."""

    def __init__(self, answer_timeout_s: float) -> None:
        super().__init__(answer_timeout_s)
        self._decoder = WrapperDecoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for wpdu in self._decoder.feed(data):
                self._received.put_nowait(wpdu)
        except RemoteProtocolError as error:
            self._received.put_nowait(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        self._received.put_nowait(None)

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        if self._transport is None or self._is_closed:
            return None
        self._drop_stale()
        self._transport.write(Wpdu(client_sap, server_sap, apdu).encode())
        return await self._answer(client_sap, server_sap)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class UdpLink(_QueuedLink, asyncio.DatagramProtocol):
    """The wrapper in datagrams from one local port."""

    def __init__(self, answer_timeout_s: float) -> None:
        super().__init__(answer_timeout_s)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's datagram transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            self._received.put_nowait(Wpdu.decode(data))
        except RemoteProtocolError as error:
            self._received.put_nowait(error)

    def error_received(self, exc: Exception) -> None:
        """The host says that nobody listens there: no answer will come."""
        self._received.put_nowait(None)

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        if self._transport is None:
            return None
        self._drop_stale()
        self._transport.sendto(Wpdu(client_sap, server_sap, apdu).encode())
        return await self._answer(client_sap, server_sap)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def open_tcp(host: str, port: int, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> TcpLink:
    """Raises RigError if nobody takes the connection."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, link = await loop.create_connection(lambda: TcpLink(answer_timeout_s), host, port)
    except TimeoutError:
        raise RigError(f"nobody answers at tcp://{host}:{port} within {CONNECT_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise RigError(f"cannot connect to tcp://{host}:{port}: {error.strerror or error}") from error
    return link


async def open_udp(host: str, port: int, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> UdpLink:
    """Raises RigError if the address cannot be used."""
    loop = asyncio.get_running_loop()
    try:
        _, link = await loop.create_datagram_endpoint(lambda: UdpLink(answer_timeout_s), remote_addr=(host, port))
    except OSError as error:
        raise RigError(f"cannot use udp://{host}:{port}: {error.strerror or error}") from error
    return link
