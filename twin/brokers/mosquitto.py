"""A real mosquitto on a free port of the loopback interface, with generated configuration and access rules."""

from __future__ import annotations

import asyncio
import base64
import getpass
import hashlib
import logging
import shutil
import socket
from pathlib import Path

from protocols.errors import LocalProtocolError
from protocols.ports import KeySource
from twin.brokers.access import AccessRules
from twin.brokers.tls import Identity
from twin.errors import RigError

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
_ATTEMPTS = 5
_PBKDF2_ITERATIONS = 101
_FALLBACKS = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


def find_mosquitto() -> str | None:
    """Path of the program, or None if it is not installed. Debian keeps it outside an ordinary user's PATH."""
    found = shutil.which("mosquitto")
    return found or next((path for path in _FALLBACKS if Path(path).exists()), None)


class MosquittoBroker:
    """One mosquitto process. `start` returns when it listens; `stop` ends this process and no other.

    With `tls`, it takes TLS 1.3 only, requires a client certificate, and takes its common name for the user.
    """

    def __init__(
        self, folder: Path, access: AccessRules, key_source: KeySource, *, tls: Identity | None = None
    ) -> None:
        self._folder = folder
        self._access = access
        self._key_source = key_source
        self._tls = tls
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; LocalProtocolError before the first start."""
        if not self._port:
            raise LocalProtocolError("the broker was not started yet")
        return HOST, self._port

    async def start(self) -> None:
        """Start, on the same port as before if there was one.

        Raises RigError when mosquitto is not installed or does not start, with what it said.
        """
        program = find_mosquitto()
        if program is None:
            raise RigError("mosquitto is not installed; install the Debian package mosquitto, or use --broker memory")
        if not self._port:
            self._forget_earlier_run()
        said = ""
        for _ in range(_ATTEMPTS):
            port = self._port or _free_port()
            said = await self._try(program, port)
            if not said:
                self._port = port
                return
        raise RigError(f"mosquitto does not start: {said}")

    async def stop(self) -> None:
        """End the process and wait for its end. Sessions and retained messages are kept for the next start."""
        process = self._process
        if process is None:
            return
        self._process = None
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._log_task is not None:
            await self._log_task
            self._log_task = None

    def _forget_earlier_run(self) -> None:
        """Sessions and messages that another run left in the folder are not this one's."""
        for name in ("mosquitto.db", "mosquitto.log"):
            (self._folder / name).unlink(missing_ok=True)

    async def _try(self, program: str, port: int) -> str:
        """Start once; empty when it runs, or what it said when it did not."""
        self._write_files(port)
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            str(self._folder / "mosquitto.conf"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        lines: list[str] = []
        try:
            await asyncio.wait_for(_until_running(process, lines), START_TIMEOUT_S)
        except (TimeoutError, EOFError):
            if process.returncode is None:
                process.kill()
            await process.wait()
            return "; ".join(lines[-3:]) or "it said nothing"
        self._process = process
        self._log_task = asyncio.create_task(self._keep_log(process, lines))
        return ""

    async def _keep_log(self, process: asyncio.subprocess.Process, lines: list[str]) -> None:
        """What mosquitto says goes to a file, so that its pipe never fills."""
        assert process.stderr is not None
        with (self._folder / "mosquitto.log").open("a", encoding="utf-8") as log:
            for line in lines:
                log.write(line + "\n")
            while line_bytes := await process.stderr.readline():
                log.write(line_bytes.decode(errors="replace"))
                log.flush()

    # configuration

    def _write_files(self, port: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        password_file, acl_file = self._folder / "mosquitto.passwd", self._folder / "mosquitto.acl"
        for path, text in (
            (password_file, self._passwords()),
            (acl_file, self._rules()),
            (self._folder / "mosquitto.conf", self._configuration(port, password_file, acl_file)),
        ):
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")

    def _configuration(self, port: int, password_file: Path, acl_file: Path) -> str:
        lines = [
            f"listener {port} {HOST}",
            "allow_anonymous false",
            f"acl_file {acl_file.absolute()}",
            "persistence true",
            f"persistence_location {self._folder.absolute()}/",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "log_type information",
            "max_inflight_messages 20",
            "max_queued_messages 100000",
            # Without it, a mosquitto that root starts becomes another user, who may not read these files.
            f"user {getpass.getuser()}",
        ]
        if self._tls is None:
            lines.append(f"password_file {password_file.absolute()}")
        else:
            lines += [
                f"cafile {self._tls.ca.absolute()}",
                f"certfile {self._tls.certificate.absolute()}",
                f"keyfile {self._tls.private_key.absolute()}",
                "tls_version tlsv1.3",
                "require_certificate true",
                "use_identity_as_username true",
            ]
        return "\n".join(lines) + "\n"

    def _passwords(self) -> str:
        """mosquitto_passwd's format: PBKDF2 with SHA-512, `$7$iterations$salt$hash`."""
        lines = []
        for client in self._access.clients:
            salt = self._key_source.random_bytes(12)
            digest = hashlib.pbkdf2_hmac("sha512", client.password.encode(), salt, _PBKDF2_ITERATIONS)
            encoded = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
            lines.append(f"{client.username}:$7${_PBKDF2_ITERATIONS}${encoded}")
        return "\n".join(lines) + "\n"

    def _rules(self) -> str:
        blocks = []
        for client in self._access.clients:
            lines = [f"user {client.username}"]
            lines += [f"topic write {topic_filter}" for topic_filter in client.writes]
            lines += [f"topic read {topic_filter}" for topic_filter in client.reads]
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks) + "\n"


async def _until_running(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    """Read the log until mosquitto says that it runs. Raises EOFError if it ends before."""
    assert process.stderr is not None
    while line_bytes := await process.stderr.readline():
        line = line_bytes.decode(errors="replace").rstrip()
        lines.append(line)
        if line.endswith(" running"):
            return
    raise EOFError


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
