"""The maker's side of the concentrator's own update: the key that signs archives, and the ways to the concentrator.

Over the maintenance line an archive travels at some 15 kB/s: the emulated UART hands over one byte at a time, and each
costs the host a turn of the emulator and of the guest's kernel. Over the network it is there in seconds.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from twin.rigs.qemu.lines import MaintenanceLine

_PIECE_BYTES = 24 * 1024
_ANSWER_TIMEOUT_S = 120.0
_DOWNLOAD_TIMEOUT_S = 650.0
_LOG = logging.getLogger(__name__)


class UpdateKey:
    """The key of the run that signs updates; it is never written. Real randomness: guests live in real time."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_pem(self) -> str:
        """What provisioning gives to the concentrator."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    def sign(self, archive: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER."""
        return self._key.sign(archive, ec.ECDSA(hashes.SHA256()))


async def install(line: MaintenanceLine, archive: bytes, signature: bytes) -> str:
    """Send an update.tar.gz over the line and have it put on trial for the next start; gives its slot.

    Raises RigError with the concentrator's reason if it refuses, TimeoutError if it does not answer.
    """
    for offset in range(0, len(archive), _PIECE_BYTES):
        data = base64.b64encode(archive[offset : offset + _PIECE_BYTES]).decode("ascii")
        await line.ask("upload", timeout_s=_ANSWER_TIMEOUT_S, offset=offset, data=data)
    return await _put_on_trial(line, signature)


async def install_over_network(line: MaintenanceLine, host: str, archive: bytes, signature: bytes) -> str:
    """The same with the archive fetched from this process, which the concentrator reaches as `host`."""
    async with _served(archive) as port:
        url = f"http://{host}:{port}/update.tar.gz"
        await line.ask("download", timeout_s=_DOWNLOAD_TIMEOUT_S, url=url)
    return await _put_on_trial(line, signature)


async def _put_on_trial(line: MaintenanceLine, signature: bytes) -> str:
    signed = base64.b64encode(signature).decode("ascii")
    answer = await line.ask("install", timeout_s=_ANSWER_TIMEOUT_S, signature=signed)
    return str(answer["slot"])


@asynccontextmanager
async def _served(content: bytes) -> AsyncIterator[int]:
    """A port of the loopback interface on which HTTP answers with the content, whatever is asked for."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode("ascii"))
            writer.write(content)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError) as error:
            _LOG.debug("the concentrator went away from its download: %s", error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
