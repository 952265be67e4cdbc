"""The radio on a serial device, or on a unix socket that stands for one. Real time only, no threads."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import termios
import tty
from collections.abc import Callable

from protocols.errors import TwinError

_LOG = logging.getLogger(__name__)
_READ_BYTES = 4096
_WRITE_LIMIT_BYTES = 256 * 1024
SPEEDS = {rate: getattr(termios, f"B{rate}") for rate in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)}


class SerialError(TwinError):
    """The device cannot be opened, or went away."""


class SerialLink:
    """A `ByteLink` over a file descriptor, read and written as it becomes ready.

    What the device does not take is kept, up to 256 KiB; beyond that new bytes are dropped and counted: the RCP
    resynchronises on its next frame. `on_lost(reason)` is called once if the device goes away.

    A UART hands its bytes over a few at a time, and each time costs the processor the same. So the line is left alone
    for `rest_s` after it was read: the first bytes after a silence come at once, and those of a long message together.
    """

    def __init__(
        self, descriptor: int, loop: asyncio.AbstractEventLoop, on_lost: Callable[[str], None], *, rest_s: float = 0.0
    ) -> None:
        """`descriptor` is open for both directions, not blocking; it now belongs to the link."""
        self._descriptor = descriptor
        self._loop = loop
        self._on_lost = on_lost
        self._receiver: Callable[[bytes], None] | None = None
        self._waiting = bytearray()
        self._is_open = True
        self._rest_s = rest_s
        self._resting: asyncio.TimerHandle | None = None
        self.dropped_bytes = 0
        self._listen()

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def write(self, data: bytes) -> None:
        if not self._is_open:
            self.dropped_bytes += len(data)
            return
        if len(self._waiting) + len(data) > _WRITE_LIMIT_BYTES:
            if not self.dropped_bytes:
                _LOG.error("the radio's line takes nothing: bytes are dropped")
            self.dropped_bytes += len(data)
            return
        was_empty = not self._waiting
        self._waiting += data
        if was_empty:
            self._writable()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            if self._resting is not None:
                self._resting.cancel()
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if not data:
            self._lose("end of file")
            return
        if self._rest_s:
            self._loop.remove_reader(self._descriptor)
            self._resting = self._loop.call_later(self._rest_s, self._listen)
        if self._receiver is not None:
            self._receiver(data)

    def _listen(self) -> None:
        self._loop.add_reader(self._descriptor, self._readable)

    def _writable(self) -> None:
        try:
            written = os.write(self._descriptor, self._waiting)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        del self._waiting[:written]
        if self._waiting:
            self._loop.add_writer(self._descriptor, self._writable)
        else:
            self._loop.remove_writer(self._descriptor)

    def _lose(self, reason: str) -> None:
        self.close()
        _LOG.error("the radio's line is lost: %s", reason)
        self._on_lost(reason)


def open_serial(
    device: str,
    speed_baud: int,
    loop: asyncio.AbstractEventLoop,
    on_lost: Callable[[str], None],
    *,
    rest_s: float = 0.0,
) -> SerialLink:
    """The serial device at `device`: raw, 8N1, no flow control. A unix socket is connected to instead.

    Raises SerialError saying what is wrong with it.
    """
    try:
        if stat.S_ISSOCK(os.stat(device).st_mode):  # noqa: PTH116 (the mode is wanted, not a path)
            return SerialLink(_connected(device), loop, on_lost, rest_s=rest_s)
        descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SerialError(f"cannot open {device}: {error.strerror or error}") from error
    try:
        _make_raw(descriptor, device, speed_baud)
    except BaseException:
        os.close(descriptor)
        raise
    return SerialLink(descriptor, loop, on_lost, rest_s=rest_s)


def _connected(path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(path)
        link.setblocking(False)
        return link.detach()


def _make_raw(descriptor: int, device: str, speed_baud: int) -> None:
    speed = SPEEDS.get(speed_baud)
    if speed is None:
        raise SerialError(f"{device}: {speed_baud} baud is not one of {', '.join(map(str, SPEEDS))}")
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        attributes = termios.tcgetattr(descriptor)
        attributes[2] |= termios.CLOCAL | termios.CREAD
        attributes[2] &= ~termios.CRTSCTS
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except termios.error as error:
        code = error.args[0] if error.args else errno.EIO
        raise SerialError(f"{device} is no serial device: {os.strerror(code)}") from error
