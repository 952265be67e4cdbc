"""The maintenance interface: a serial line inside the cabinet, over which a concentrator is given its identity.

JSON objects, one a line, each with an `id` that the answer repeats:

    {"id": 1, "command": "status"}
    {"id": 2, "command": "provision", "config": {...}, "files": {"ca.pem": "..."}, "utc_s": 1772470000.0}
    {"id": 3, "command": "forget"}
    {"id": 4, "command": "upload", "offset": 0, "data": "<base64>"}       an update.tar.gz, piece by piece
    {"id": 4, "command": "download", "url": "http://192.0.2.1:8000/update.tar.gz"}         or whole, over the network
    {"id": 5, "command": "install", "signature": "<base64>"}              ECDSA P-256 with SHA-256, DER
    {"id": 6, "command": "restart"}
    {"id": 7, "command": "clock"}        its time at this moment, and what it believes of it

    {"id": 1, "ok": true, ...}        {"id": 2, "ok": false, "error": "..."}

`config` is what `dcu.config_file` reads; `files` are the PEM files that it names. What comes over the line is never
logged: it holds keys. What is asked about the mesh is in `dcu.mesh_commands`. Every request is answered once; one that
takes its time does not hold up those behind it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from protocols.errors import TwinError
from protocols.ports import ByteLink

_LOG = logging.getLogger(__name__)
MAX_LINE_BYTES = 256 * 1024
_QUIET = ("status", "clock")
"""Asked again and again by whoever watches."""

Command = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries out a request, and gives the fields of its answer. A TwinError becomes an answer with `ok` false."""
Job = Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
"""A command that takes its time."""
Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""Runs a coroutine on the loop, under a name."""


class MaintenancePort:
    """Answers the lines that come over a link. Lines that are too long or no JSON objects are counted and refused.

    `jobs` are commands that take their time; they are run by `spawn`.
    """

    def __init__(
        self,
        link: ByteLink,
        commands: Mapping[str, Command],
        jobs: Mapping[str, Job] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self._link = link
        self._commands = commands
        self._jobs = {} if jobs is None or spawn is None else jobs
        self._spawn = spawn
        self._line = bytearray()
        self._is_skipping = False
        self.counters: Counter[str] = Counter()
        link.on_data(self._received)

    def _received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for part in lines:
            self._line += part
            line, self._line = bytes(self._line), bytearray()
            if self._is_skipping:
                self._is_skipping = False
            elif line.strip():
                self._answer(line)
        self._line += rest
        if len(self._line) > MAX_LINE_BYTES:
            self._line.clear()
            if not self._is_skipping:
                self._is_skipping = True
                self._refuse(None, f"the line is longer than {MAX_LINE_BYTES} bytes")

    def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            self._refuse(None, "the line is not JSON")
            return
        if not isinstance(request, dict):
            self._refuse(None, "the line is no JSON object")
            return
        number = request.pop("id", None)
        name = request.pop("command", None)
        command = self._commands.get(name) if isinstance(name, str) else None
        job = self._jobs.get(name) if isinstance(name, str) else None
        if command is None and job is None:
            self._refuse(number, f"no such command; there are {', '.join((*self._commands, *self._jobs))}")
            return
        _LOG.log(logging.DEBUG if name in _QUIET else logging.INFO, "maintenance: %s", name)
        if job is not None and self._spawn is not None:
            self._spawn(self._answer_later(number, job, request), f"maintenance {name}")
        elif command is not None:
            try:
                self._done(number, command(request))
            except TwinError as error:
                self._refuse(number, str(error))

    async def _answer_later(self, number: object, job: Job, request: dict[str, Any]) -> None:
        try:
            self._done(number, await job(request))
        except TwinError as error:
            self._refuse(number, str(error))

    def _done(self, number: object, fields: dict[str, Any]) -> None:
        self.counters["answered"] += 1
        self._send({"id": number, "ok": True, **fields})

    def _refuse(self, number: object, reason: str) -> None:
        self.counters["refused"] += 1
        _LOG.warning("maintenance: refused: %s", reason)
        self._send({"id": number, "ok": False, "error": reason})

    def _send(self, answer: dict[str, Any]) -> None:
        self._link.write(json.dumps(answer).encode() + b"\n")
