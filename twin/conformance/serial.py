"""Serial lines that speak HDLC: in memory to a meter of ours, or a device (a serial port, a pty)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Callable
from typing import Protocol

from meters.meter import Meter
from protocols.dlms.hdlc.client import ApduReceived, Connected, Disconnected, HdlcClient, HdlcClientConfig, Write
from protocols.dlms.hdlc.frames import HdlcAddress
from protocols.dlms.hdlc.server import HdlcServer, HdlcServerConfig
from protocols.ports import Cancellable
from twin.conformance.targets import Saps
from twin.errors import RigError

RESPONSE_S = 2.0
_SPEED = termios.B9600
_CHUNK_BYTES = 4096


class SerialLine(Protocol):
    """Bytes to and fro."""

    def write(self, data: bytes) -> None: ...

    async def read(self, timeout_s: float) -> bytes:
        """What has come, at least a byte of it; empty if nothing comes within `timeout_s`."""
        ...

    def close(self) -> None: ...


class _Inbox:
    """Received bytes, for whoever waits for them."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def put(self, data: bytes) -> None:
        if data:
            self._chunks.put_nowait(data)

    async def read(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._chunks.get()
        except TimeoutError:
            return b""


class MemoryLine:
    """A line with a meter of ours at its other end: its secondary station, on the run's timers."""

    def __init__(self, meter: Meter, saps: Saps) -> None:
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox()
        self._timer: Cancellable | None = None
        config = HdlcServerConfig(physical_address=saps.physical or 0, logical_devices=(saps.server,))
        self._server = HdlcServer(config, self._serve, on_disconnect=self._ended)

    def _serve(self, client_sap: int, server_sap: int, apdu: bytes, now: float) -> bytes | None:
        return self._meter.handle_apdu(client_sap, server_sap, apdu, channel=(id(self), client_sap))

    def _ended(self, client_sap: int) -> None:
        self._meter.close_channel((id(self), client_sap))

    def write(self, data: bytes) -> None:
        self._inbox.put(self._server.receive(data, self._loop.time()))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._server.next_timer()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._server.handle_timer(self._loop.time())
        self._set_timer()

    async def read(self, timeout_s: float) -> bytes:
        return await self._inbox.read(timeout_s)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class DeviceLine:
    """A serial port or a pty, 9600 baud where that means something, 8 bits, no parity."""

    def __init__(self, device: str) -> None:
        """Raises RigError if the device cannot be used."""
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox()
        self._outgoing = bytearray()
        try:
            self._descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise RigError(f"cannot open {device}: {error.strerror}") from error
        try:
            tty.setraw(self._descriptor)
            attributes = termios.tcgetattr(self._descriptor)
            attributes[4] = attributes[5] = _SPEED
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
        except termios.error as error:
            os.close(self._descriptor)
            raise RigError(f"{device} is no serial line: {error.args[-1]}") from error
        self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the other end of a pty is gone
            data = b""
        if not data:
            self._loop.remove_reader(self._descriptor)
        self._inbox.put(data)

    def write(self, data: bytes) -> None:
        self._outgoing += data
        self._on_writable()

    def _on_writable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = os.write(self._descriptor, self._outgoing)
            del self._outgoing[:sent]
        if self._outgoing:
            self._loop.add_writer(self._descriptor, self._on_writable)
        else:
            self._loop.remove_writer(self._descriptor)

    async def read(self, timeout_s: float) -> bytes:
        return await self._inbox.read(timeout_s)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)


class HdlcPort:
    """One line that all links of a run share: a client address has one link at a time, and a new one ends it."""

    def __init__(self, line: SerialLine, saps: Saps) -> None:
        self.line = line
        self.saps = saps
        self.owners: dict[tuple[int, int], HdlcLink] = {}


class HdlcLink:
    """APDUs over HDLC: a primary station for each client that speaks on this link."""

    def __init__(self, port: HdlcPort) -> None:
        self._port = port
        self._stations: dict[tuple[int, int], HdlcClient] = {}
        self._loop = asyncio.get_running_loop()

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        key = (client_sap, server_sap)
        station = self._stations.get(key)
        if station is None:
            server = server_address(self._port.saps, server_sap)
            station = HdlcClient(HdlcClientConfig(HdlcAddress(client_sap), server, response_s=RESPONSE_S))
            self._port.owners[key] = self
            if await self._run(station, station.connect(self._loop.time()), Connected) is None:
                return None
            self._stations[key] = station
        event = await self._run(station, station.send(apdu, self._loop.time()), ApduReceived)
        if event is None:
            self._stations.pop(key, None)
        return event.apdu if isinstance(event, ApduReceived) else None

    async def _run(self, station: HdlcClient, first: bytes, due: type[object]) -> object | None:
        """Until the event that is due, or the end of the link (None)."""
        line = self._port.line
        line.write(first)
        while True:
            timer_s = station.next_timer()
            wait_s = RESPONSE_S if timer_s is None else max(timer_s - self._loop.time(), 0.0)
            data = await line.read(wait_s)
            now = self._loop.time()
            for event in station.receive(data, now) if data else station.handle_timer(now):
                if isinstance(event, Write):
                    line.write(event.data)
                elif isinstance(event, due):
                    return event
                elif isinstance(event, Disconnected):
                    return None

    async def unasked(self, timeout_s: float) -> bytes | None:
        """A secondary station only speaks when it is asked."""
        return None

    async def close(self) -> None:
        for key, station in self._stations.items():
            if self._port.owners.get(key) is self:
                del self._port.owners[key]
                await self._run(station, station.disconnect(self._loop.time()), Disconnected)
        self._stations.clear()


class BorrowedLine:
    """A line that somebody else closes."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line

    def write(self, data: bytes) -> None:
        self._line.write(data)

    async def read(self, timeout_s: float) -> bytes:
        return await self._line.read(timeout_s)

    def close(self) -> None:
        """It stays open."""


def server_address(saps: Saps, server_sap: int) -> HdlcAddress:
    """The meter's address: of one byte unless the target has a physical address."""
    return HdlcAddress(server_sap, saps.physical)


LineOpener = Callable[[], SerialLine]
