"""The concentrator's `/opt`, to whoever is at it with files of his own: one port, whatever holds the partition."""

from __future__ import annotations

from typing import Protocol


class Opt(Protocol):
    """`fill` returns when there is no room left, `clear` when what it wrote is gone again."""

    async def fill(self) -> None: ...

    async def clear(self) -> None: ...


class Shell(Protocol):
    """Runs a command in a guest. Raises RigError if it fails, or does not end in time."""

    async def __call__(self, command: str, *, timeout_s: float) -> str: ...


class GuestOpt:
    """That of a machine, by its shell. What it writes does not compress, as UBIFS does that."""

    _FILLER, _PIECE = "/opt/filler", "/tmp/piece"  # noqa: S108 (the guest's)
    _PIECE_KB, _REST_BYTES = 1024, 4096
    _TIMEOUT_S = 3000.0

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def fill(self) -> None:
        """Takes minutes: the chip is written whole. Raises RigError if there is room even so."""
        await self._run(f"dd if=/dev/urandom of={self._PIECE} bs=1k count={self._PIECE_KB} 2>/dev/null")
        for command in (f"cat {self._PIECE}", f"head -c {self._REST_BYTES} {self._PIECE}"):
            await self._run(f"while {command} >> {self._FILLER}; do :; done 2>/dev/null; sync")
        await self._run(f"rm {self._PIECE}; test $(df -k /opt | tail -n 1 | awk '{{print $4}}') = 0")

    async def clear(self) -> None:
        await self._run(f"rm -f {self._FILLER} && sync")

    async def _run(self, command: str) -> None:
        await self._shell(command, timeout_s=self._TIMEOUT_S)
