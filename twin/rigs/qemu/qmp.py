"""A client of QEMU's machine protocol: one command at a time over a unix socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from twin.errors import RigError

_LIMIT_BYTES = 4 * 1024 * 1024


class Qmp:
    """A connection to a running QEMU. Use `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, path: Path) -> Qmp:
        """Raises OSError while QEMU does not listen yet."""
        reader, writer = await asyncio.open_unix_connection(str(path), limit=_LIMIT_BYTES)
        client = cls(reader, writer)
        await client._read()  # the greeting
        await client.execute("qmp_capabilities")
        return client

    async def execute(self, command: str, **arguments: object) -> Any:
        """The command's return value. Raises RigError if QEMU refuses it or is gone."""
        async with self._turn:
            request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
            try:
                self._writer.write(json.dumps(request).encode() + b"\n")
                await self._writer.drain()
                while True:
                    answer = await self._read()
                    if "return" in answer:
                        return answer["return"]
                    if "error" in answer:
                        raise RigError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
            except OSError as error:
                raise RigError(f"QEMU went away during {command}: {error}") from error

    async def monitor(self, line: str) -> None:
        """A line of the human monitor; what it answers is an error. Raises RigError with it."""
        said = await self.execute("human-monitor-command", **{"command-line": line})
        if said.strip():
            raise RigError(f"QEMU says to {line!r}: {said.strip()}")

    def close(self) -> None:
        self._writer.close()

    async def _read(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise RigError("QEMU went away")
        answer: dict[str, Any] = json.loads(line)
        return answer
