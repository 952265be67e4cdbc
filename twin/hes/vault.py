"""Keeps meters' keys wrapped: the database alone opens nothing."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from protocols.errors import BadInputError


class KeyVault:
    """AES key wrap (RFC 3394) under one key of 16, 24 or 32 bytes, which stays in memory."""

    def __init__(self, key: bytes) -> None:
        if len(key) not in (16, 24, 32):
            raise BadInputError("a vault key has 16, 24 or 32 bytes", key="vault_key")
        self._key = key

    def wrap(self, key: bytes) -> bytes:
        return aes_key_wrap(self._key, key)

    def derive(self, purpose: str) -> bytes:
        """A key of 16 bytes for a purpose, the same at each start: HKDF (RFC 5869) with SHA-256."""
        return HKDF(SHA256(), 16, salt=None, info=b"openami hes " + purpose.encode()).derive(self._key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises BadInputError when the database was written under another vault key."""
        try:
            return aes_key_unwrap(self._key, wrapped)
        except InvalidUnwrap:
            raise BadInputError("the database was written under another vault key", key="vault_key") from None
