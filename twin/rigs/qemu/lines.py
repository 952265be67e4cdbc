"""Serial lines of the guest, seen from the host: unix sockets that QEMU listens on."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.ports import ByteLink
from twin.errors import RigError

_LOG = logging.getLogger(__name__)
_KEPT_BYTES = 256 * 1024


class SerialSocket(asyncio.Protocol):
    """One serial line: what the guest sends is given to `on_data`; `write` sends to the guest."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._receiver: Callable[[bytes], None] | None = None

    @classmethod
    async def connect(cls, path: Path) -> SerialSocket:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(cls, str(path))
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver(data)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def write(self, data: bytes) -> None:
        """Bytes for the guest; lost if the machine is off."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        self._receiver = None
        if self._transport is not None:
            self._transport.close()


def bridge(line: SerialSocket, device: ByteLink) -> None:
    """Join the guest's serial line to a device beside the guest, such as the radio's host end."""
    line.on_data(device.write)
    device.on_data(line.write)


@dataclass(frozen=True, slots=True)
class Done:
    """A shell command that has ended."""

    output: str
    status: int


class Console:
    """The guest's console: its text, and a shell on it."""

    def __init__(self, line: ByteLink) -> None:
        self._line = line
        self._text = ""
        self._follower: Callable[[bytes], None] | None = None
        self._more = asyncio.Event()
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()
        line.on_data(self._received)

    def _received(self, data: bytes) -> None:
        self._text = (self._text + data.decode("utf-8", errors="replace"))[-_KEPT_BYTES:]
        self._more.set()
        if self._follower is not None:
            self._follower(data)

    def follow(self, callback: Callable[[bytes], None]) -> None:
        """Give everything that the console says from now on to `callback`, too."""
        self._follower = callback

    @property
    def text(self) -> str:
        """The last of what the console said."""
        return self._text

    async def wait_for(self, pattern: str, *, timeout_s: float) -> re.Match[str]:
        """Until the console's text matches. Raises RigError with its end if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found = re.search(pattern, self._text)
                    if found:
                        return found
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise RigError(f"no {pattern!r} on the console in {timeout_s:g} s; its end:\n{self.tail()}") from None

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self._text.splitlines()[-lines:])

    async def run(self, command: str, *, timeout_s: float = 30.0) -> str:
        """The output of a shell command in the guest. Raises RigError if it fails, or does not end in time."""
        done = await self.execute(command, timeout_s=timeout_s)
        if done.status:
            raise RigError(f"`{command}` in the guest ended with {done.status}: {done.output.strip()[-300:]}")
        return done.output

    async def execute(self, command: str, *, timeout_s: float = 30.0) -> Done:
        """Run a shell command in the guest, whatever its status. Raises RigError if it does not end in time."""
        async with self._turn:
            number = next(self._numbers)
            # The mark is put together by the shell, so that the echo of the command does not contain it.
            self._line.write(f"\necho @{number}'<@'; {command}; echo @{number}\">$?@\"\n".encode())
            found = await self.wait_for(rf"(?s)@{number}<@\r?\n(.*?)@{number}>(\d+)@", timeout_s=timeout_s)
        return Done(found[1].replace("\r\n", "\n"), int(found[2]))


class MaintenanceLine:
    """The host's end of the maintenance interface: requests and their answers, one JSON object a line."""

    def __init__(self, line: ByteLink) -> None:
        self._line = line
        self._rest = b""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        line.on_data(self._received)

    def _received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                answer = json.loads(line)
                future = self._waiting.get(answer.get("id"))
            except (ValueError, AttributeError):
                _LOG.debug("the maintenance line says something that is no answer")
                continue
            # Until the daemon has its line, the guest's terminal echoes what is sent to it: that is no answer.
            if future is not None and not future.done() and "ok" in answer:
                future.set_result(answer)

    async def ask(self, command: str, *, timeout_s: float = 20.0, **fields: object) -> dict[str, Any]:
        """One request. Raises TimeoutError without an answer, RigError if it is refused."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._line.write(json.dumps({"id": number, "command": command, **fields}).encode() + b"\n")
            answer = await asyncio.wait_for(future, timeout_s)
        finally:
            del self._waiting[number]
        if not answer.get("ok"):
            raise RigError(f"the concentrator refuses {command!r}: {answer.get('error')}")
        found: dict[str, Any] = answer
        return found

    async def wait_until_ready(self, *, timeout_s: float) -> dict[str, Any]:
        """Until the daemon answers; gives its status. Raises RigError if it does not in time."""
        patience_s = 2.0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self.ask("status", timeout_s=patience_s)
                    except TimeoutError:
                        patience_s = min(1.5 * patience_s, 30.0)  # a host with little time makes a slow guest
        except TimeoutError:
            raise RigError(f"the concentrator's daemon does not answer within {timeout_s:g} s") from None
