"""Ports of a meter that runs by itself: the DLMS wrapper over TCP and UDP, HDLC on a serial line."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import termios
import tty
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from meters.meter import Meter
from protocols.dlms.hdlc.server import HdlcServer, HdlcServerConfig
from protocols.dlms.wrapper import Wpdu, WrapperDecoder
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.meter_identity import SERVER_SAP
from twin.errors import RigError

logger = logging.getLogger(__name__)

_LARGEST_APDU_BYTES = 4096
HDLC_PHYSICAL_ADDRESS = 17


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A place to listen at, as `--listen` gives it. For `hdlc` the host is a serial device, or `PTY` for a new one."""

    scheme: str
    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Raises BadInputError if `text` is not `tcp://HOST:PORT`, `udp://HOST:PORT` or `hdlc:DEVICE`."""
        scheme, _, device = text.partition(":")
        if scheme == "hdlc" and device:
            return cls(scheme, device.removeprefix("//"))
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError as error:
            raise BadInputError(f"{text!r}: {error}", key="--listen") from None
        if scheme not in ("tcp", "udp") or not host or port is None or parts.path or parts.query:
            raise BadInputError(f"{text!r} is not tcp://HOST:PORT, udp://HOST:PORT or hdlc:PTY", key="--listen")
        return cls(scheme, host, port)

    def __str__(self) -> str:
        if self.scheme == "hdlc":
            return f"hdlc:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(slots=True)
class OpenPort:
    """A port that listens: where it really is, and how to close it."""

    address: ListenAddress
    close: Callable[[], Awaitable[None]]


class TcpSession(asyncio.Protocol):
    """One client's connection: whole wrapper PDUs in, answers out. Out of step is the end of it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._decoder = WrapperDecoder(_LARGEST_APDU_BYTES)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        try:
            wpdus = self._decoder.feed(data)
        except RemoteProtocolError as error:
            logger.warning("%s: %s; closed", transport.get_extra_info("peername"), error)
            transport.abort()
            return
        for wpdu in wpdus:
            answer = _answer(self._meter, wpdu, self)
            if answer is not None:
                transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._meter.close_channel(self)
        self._transport = None


class UdpPort(asyncio.DatagramProtocol):
    """Wrapper PDUs in datagrams; a client is its address."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's datagram transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            wpdu = Wpdu.decode(data)
        except RemoteProtocolError as error:
            logger.warning("%s: %s; dropped", addr, error)
            return
        answer = _answer(self._meter, wpdu, addr)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


def _answer(meter: Meter, wpdu: Wpdu, channel: object) -> bytes | None:
    answer = meter.handle_apdu(wpdu.source_port, wpdu.destination_port, wpdu.apdu, channel=channel)
    return None if answer is None else Wpdu(wpdu.destination_port, wpdu.source_port, answer).encode()


async def open_port(address: ListenAddress, meter: Meter) -> OpenPort:
    """Listen for clients of `meter`. Raises RigError if the address cannot be had."""
    try:
        return await {"tcp": _open_tcp, "udp": _open_udp, "hdlc": _open_hdlc}[address.scheme](address, meter)
    except (OSError, termios.error) as error:
        raise RigError(f"cannot listen at {address}: {getattr(error, 'strerror', None) or error}") from error


async def _open_tcp(address: ListenAddress, meter: Meter) -> OpenPort:
    sessions: set[asyncio.BaseTransport] = set()

    class Session(TcpSession):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            sessions.add(transport)
            self._own = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            sessions.discard(self._own)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(meter), address.host, address.port)
    port = server.sockets[0].getsockname()[1]

    async def close() -> None:
        server.close()
        for transport in list(sessions):
            transport.close()
        await server.wait_closed()

    return OpenPort(ListenAddress("tcp", address.host, port), close)


async def _open_udp(address: ListenAddress, meter: Meter) -> OpenPort:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: UdpPort(meter), local_addr=(address.host, address.port))
    port = transport.get_extra_info("sockname")[1]

    async def close() -> None:
        transport.close()

    return OpenPort(ListenAddress("udp", address.host, port), close)


class HdlcPort:
    """HDLC on a terminal's file descriptor: bytes in, frames out, and the link's time-outs."""

    def __init__(self, meter: Meter, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        self._meter = meter
        self._descriptor = descriptor
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        config = HdlcServerConfig(physical_address=HDLC_PHYSICAL_ADDRESS, logical_devices=(SERVER_SAP,))
        self._server = HdlcServer(config, self._handle, on_disconnect=self._disconnected)
        loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._descriptor)

    def _handle(self, client_sap: int, server_sap: int, apdu: bytes, now: float) -> bytes | None:
        return self._meter.handle_apdu(client_sap, server_sap, apdu, channel=("hdlc", client_sap))

    def _disconnected(self, client_sap: int) -> None:
        self._meter.close_channel(("hdlc", client_sap))

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            return  # nobody has the other end of the pseudo-terminal open
        answer = self._server.receive(data, self._loop.time())
        while answer:
            answer = answer[os.write(self._descriptor, answer) :]
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._server.next_timer()
        self._timer = None if when is None else self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._server.handle_timer(self._loop.time())
        self._arm()


async def _open_hdlc(address: ListenAddress, meter: Meter) -> OpenPort:
    """A serial device, or a new pseudo-terminal whose other end is the address to connect to."""
    kept: list[int] = []
    if address.host.upper() == "PTY":
        descriptor, other = pty.openpty()
        tty.setraw(other)
        kept.append(other)  # with this end open, a client may come and go
        name = os.ttyname(other)
    else:
        descriptor, name = os.open(address.host, os.O_RDWR | os.O_NOCTTY), address.host
        tty.setraw(descriptor)
    port = HdlcPort(meter, descriptor, asyncio.get_running_loop())

    async def close() -> None:
        port.close()
        for end in kept:
            os.close(end)

    return OpenPort(ListenAddress("hdlc", name), close)
