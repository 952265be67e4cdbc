"""The two UDP ports of a PTP slave, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 2048


class UdpPtpPort:
    """See `dcu.ptp.PtpPort`. Bound to the grandmaster's own port numbers, as PTP has it, unless `local` says others.

    Only the grandmaster is heard. A datagram that cannot be sent is lost, as on the wire. Raises OSError when the ports
    cannot be had.
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, int],
        loop: asyncio.AbstractEventLoop,
        *,
        local: tuple[int, int] | None = None,
    ) -> None:
        self._loop = loop
        self._receiver: Callable[[bytes], None] | None = None
        self._sockets: list[socket.socket] = []
        try:
            for remote_port, local_port in zip(ports, local or ports, strict=True):
                self._sockets.append(_bound(host, remote_port, local_port))
        except OSError:
            self.close()
            raise
        for opened in self._sockets:
            loop.add_reader(opened.fileno(), self._read, opened)

    @property
    def local_ports(self) -> tuple[int, int]:
        """Those that it is bound to: event, general."""
        event, general = (opened.getsockname()[1] for opened in self._sockets)
        return event, general

    def send(self, data: bytes, *, is_event: bool) -> None:
        try:
            self._sockets[0 if is_event else 1].send(data)
        except OSError as error:
            _LOG.debug("a PTP message was not sent: %s", error.strerror or error)

    def on_datagram(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def close(self) -> None:
        for opened in self._sockets:
            self._loop.remove_reader(opened.fileno())
            opened.close()
        self._sockets.clear()

    def _read(self, ready: socket.socket) -> None:
        try:
            data = ready.recv(_MOST_BYTES)
        except OSError:
            return  # such as a refusal that an earlier datagram met
        if self._receiver is not None:
            self._receiver(data)


def _bound(host: str, remote_port: int, local_port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.bind(("", local_port))
        opened.connect((host, remote_port))
    except OSError:
        opened.close()
        raise
    return opened
