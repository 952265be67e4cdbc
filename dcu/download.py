"""Fetching an update over the network: an HTTP/1.0 GET (RFC 1945), as large as an update may be and no larger.

The serial line carries some kilobytes a second; a technician's laptop, or the satellite terminal's network, carries an
archive in seconds. Where it comes from does not matter: its signature is checked before anything of it is used.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from dcu.update import MAX_ARCHIVE_BYTES, UpdateError

_OK = b"200"
_HEAD_BYTES_MAX = 16 * 1024
_PIECE_BYTES = 64 * 1024


async def download(url: str, *, timeout_s: float = 600.0) -> bytes:
    """The body behind an `http://` address. Raises UpdateError that says why there is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise UpdateError(f"{url!r} is no address: {error}") from None
    if parts.scheme != "http" or host is None:
        raise UpdateError(f"{url!r} is no http:// address")
    target = parts.path or "/"
    if not target.isascii() or any(character <= " " for character in target + host):
        raise UpdateError(f"{url!r} has characters that an address does not have")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=_HEAD_BYTES_MAX)
            try:
                writer.write(f"GET {target} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode("ascii"))
                return await _body(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise UpdateError(f"{host}:{port} did not send it within {timeout_s:g} s") from None
    except OSError as error:
        raise UpdateError(f"{host}:{port} cannot be reached: {error.strerror or error}") from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise UpdateError(f"{host}:{port} does not speak HTTP") from None


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    version, _, rest = status.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest.startswith(_OK):
        raise UpdateError(f"the server answers {status[:80].decode('latin-1')!r}")
    body = bytearray()
    while piece := await reader.read(_PIECE_BYTES):
        body += piece
        if len(body) > MAX_ARCHIVE_BYTES:
            raise UpdateError(f"the archive is longer than {MAX_ARCHIVE_BYTES} bytes")
    announced = _content_length(fields)
    if announced is not None and announced != len(body):
        raise UpdateError(f"the archive ends after {len(body)} of {announced} bytes")
    return bytes(body)


def _content_length(fields: list[bytes]) -> int | None:
    for field in fields:
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None
