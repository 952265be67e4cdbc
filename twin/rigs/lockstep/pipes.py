"""The two FIFOs between simulator and guest. Reading blocks, in the host's time, up to a limit.

This is the one place where a virtual run waits for something outside itself. It does not make the run depend on the
host's speed: what is read is the same however long it took, and a guest that takes too long ends the run.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from twin.rigs.lockstep.protocol import HEAD_BYTES, MESSAGE_BYTES, Message, body_bytes, decode

TO_HOST, TO_GUEST = "to_host", "to_guest"


class GuestSilentError(Exception):
    """The guest did not answer within the limit of the host's time."""


class GuestGoneError(Exception):
    """The emulator has ended."""


class Pipes:
    """Both directions, in a folder in which the emulator runs. `close` ends them."""

    def __init__(self, folder: Path) -> None:
        for name in (TO_HOST, TO_GUEST):
            os.mkfifo(folder / name)
        # Opened in ways that never block, so that neither side has to come first.
        self._in = os.open(folder / TO_HOST, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._out = os.open(folder / TO_GUEST, os.O_RDWR | os.O_CLOEXEC)
        self._buffer = b""
        self.waited_s = 0.0
        """Host's time spent waiting for the guest."""

    def send(self, message: Message) -> None:
        # Longer than a FIFO is at once: the guest waits for all of it, so that this ends.
        data = memoryview(message.encode())
        while data:
            data = data[os.write(self._out, data) :]

    def receive(self, ended: int, limit_s: float) -> Message:
        """The next message. `ended` is a descriptor that becomes readable when the emulator has ended.

        Raises GuestSilentError, after which it may be asked again, GuestGoneError, or RemoteProtocolError for bytes
        that are no message.
        """
        started = time.perf_counter()
        try:
            self._fill(HEAD_BYTES, ended, started + limit_s)
            size = HEAD_BYTES + body_bytes(self._buffer[:HEAD_BYTES])
            self._fill(size, ended, started + limit_s)
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            return decode(message)
        finally:
            self.waited_s += time.perf_counter() - started

    def _fill(self, size: int, ended: int, deadline: float) -> None:
        """Until that many bytes are there. What has come stays if it does not succeed."""
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while len(self._buffer) < size:
            left_s = deadline - time.perf_counter()
            ready = dict(poll.poll(max(0, left_s * 1000))) if left_s > 0 else {}
            if ready.get(self._in, 0) & select.POLLIN:
                self._buffer += os.read(self._in, MESSAGE_BYTES)
            elif ended in ready:
                raise GuestGoneError
            elif not ready:
                raise GuestSilentError
            else:
                # The writing end was closed and the emulator is about to end, or the agent opens its pipe again.
                select.select([ended], [], [], min(0.01, max(left_s, 0)))

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)
