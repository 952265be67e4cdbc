"""The mesh's group keys at rest: wrapped under a key of the concentrator's provisioning, never in plain on storage."""

from __future__ import annotations

import logging

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from dcu.storage import Storage, StorageError
from protocols.mesh.config import KEY_BYTES, LinkKey

_LOG = logging.getLogger(__name__)
_RECORD = "group-keys"
_ENTRY_BYTES = 1 + KEY_BYTES
_BLOCK_BYTES = 8


class GroupKeyStore:
    """What a restart needs: all group keys, and which of them frames are sent under. AES key wrap (RFC 3394)."""

    def __init__(self, storage: Storage, provisioned: LinkKey) -> None:
        self._storage = storage
        self._provisioned = provisioned
        self._kek = HKDF(SHA256(), 16, salt=None, info=b"openami dcu group keys at rest").derive(provisioned.key)

    def load(self) -> tuple[tuple[LinkKey, ...], int]:
        """Keys and active index: those of the last rotation, or the provisioned one where there was none."""
        stored = self._storage.read(_RECORD)
        if stored is None:
            return (self._provisioned,), self._provisioned.index
        try:
            plain = aes_key_unwrap(self._kek, stored)
        except (InvalidUnwrap, ValueError):
            _LOG.error("the stored group keys cannot be unwrapped: the mesh starts with the provisioned one")
            return (self._provisioned,), self._provisioned.index
        active, count = plain[0], plain[1]
        entries = [plain[at : at + _ENTRY_BYTES] for at in range(2, 2 + count * _ENTRY_BYTES, _ENTRY_BYTES)]
        return tuple(LinkKey(entry[0], entry[1:]) for entry in entries), active

    def save(self, keys: tuple[LinkKey, ...], active_index: int) -> None:
        plain = bytes((active_index, len(keys))) + b"".join(bytes((item.index,)) + item.key for item in keys)
        plain += bytes(-len(plain) % _BLOCK_BYTES)
        try:
            self._storage.write(_RECORD, aes_key_wrap(self._kek, plain))
        except StorageError as error:
            _LOG.error("group keys are kept until the next restart only: %s", error)
