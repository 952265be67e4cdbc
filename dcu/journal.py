"""An append-only record file that sees a torn tail, for what changes often: few bytes written a change.

A record is `length u32, CRC-32 u32 over the body, body`, big-endian. Reading stops at the first record that is not
whole: it was being written when the power went.
"""

from __future__ import annotations

import zlib

from dcu.storage import Storage, StorageError
from protocols.errors import LocalProtocolError

_HEADER_BYTES = 8
MAX_BODY_BYTES = 1 << 24


class Journal:
    """Records under one name of a `Storage`.

    `loaded` holds the records found at the start; the owner takes them and keeps the live ones itself. After a torn or
    refused write `is_damaged` is set: only `rewrite` works then.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name
        data = storage.read(name) or b""
        self.loaded, self.size_bytes = _split(data)
        self.is_damaged = self.size_bytes != len(data)

    def append(self, *bodies: bytes) -> None:
        """Durable when it returns, in one write. Raises StorageError when the medium refuses.

        Raises LocalProtocolError when the journal is damaged: what follows a torn record would not be read back.
        """
        if self.is_damaged:
            raise LocalProtocolError(f"record {self._name} has a torn tail and must be rewritten first")
        data = b"".join(_frame(body) for body in bodies)
        try:
            self._storage.append(self._name, data)
        except StorageError:
            self.is_damaged = True
            raise
        self.size_bytes += len(data)

    def rewrite(self, bodies: list[bytes]) -> None:
        """Replace everything at once: the old records or the new ones survive a power cut."""
        data = b"".join(_frame(body) for body in bodies)
        self._storage.write(self._name, data)
        self.size_bytes = len(data)
        self.is_damaged = False


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise LocalProtocolError(f"a journal record of {len(body)} bytes is beyond {MAX_BODY_BYTES}")
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def _split(data: bytes) -> tuple[list[bytes], int]:
    """The whole records of `data`, and how many bytes they take."""
    records: list[bytes] = []
    offset = 0
    while offset + _HEADER_BYTES <= len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        checksum = int.from_bytes(data[offset + 4 : offset + _HEADER_BYTES], "big")
        body = data[offset + _HEADER_BYTES : offset + _HEADER_BYTES + length]
        if len(body) != length or zlib.crc32(body) != checksum:
            break
        records.append(body)
        offset += _HEADER_BYTES + length
    return records, offset
