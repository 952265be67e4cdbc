"""Meters' keys at rest: encrypted under a key of the concentrator's provisioning, never in plain on storage."""

from __future__ import annotations

import logging

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dcu.storage import Storage, StorageError
from protocols.errors import RemoteProtocolError
from protocols.headend.messages import Credentials, CredentialsStatus, MeterCredentials, decode_message, encode_message
from protocols.headend.topics import Channel
from protocols.ports import KeySource

_LOG = logging.getLogger(__name__)
_PREFIX = "credentials."
_NONCE_BYTES = 12


class CredentialVault:
    """What the head-end granted, by the meter's EUI-64. A restart without an uplink can still read its meters.

    A record is a random nonce and the AES-128-GCM of the granting message, bound to the meter's address. One that
    does not verify is dropped: the head-end is asked again.
    """

    def __init__(self, storage: Storage, provisioned_key: bytes, key_source: KeySource) -> None:
        self._storage = storage
        self._key_source = key_source
        derived = HKDF(SHA256(), 16, salt=None, info=b"openami dcu credentials at rest").derive(provisioned_key)
        self._cipher = AESGCM(derived)
        self._known: dict[bytes, MeterCredentials] = {}

    def find(self, eui64: bytes) -> MeterCredentials | None:
        known = self._known.get(eui64)
        if known is None:
            known = self._load(eui64)
            if known is not None:
                self._known[eui64] = known
        return known

    def keep(self, eui64: bytes, credentials: MeterCredentials) -> None:
        """Remember what was granted; with a storage that refuses, until the next restart."""
        if self.find(eui64) == credentials:
            return
        self._known[eui64] = credentials
        granted = Credentials("vault", eui64, CredentialsStatus.GRANTED, credentials)
        nonce = self._key_source.random_bytes(_NONCE_BYTES)
        try:
            self._storage.write(_name(eui64), nonce + self._cipher.encrypt(nonce, encode_message(granted), eui64))
        except StorageError as error:
            _LOG.error("credentials of %s are kept until the next restart only: %s", eui64.hex(), error)

    def forget(self, eui64: bytes) -> None:
        self._known.pop(eui64, None)
        try:
            self._storage.delete(_name(eui64))
        except StorageError as error:
            _LOG.error("credentials of %s could not be deleted: %s", eui64.hex(), error)

    def _load(self, eui64: bytes) -> MeterCredentials | None:
        record = self._storage.read(_name(eui64))
        if record is None:
            return None
        try:
            plain = self._cipher.decrypt(record[:_NONCE_BYTES], record[_NONCE_BYTES:], eui64)
            message = decode_message(plain, Channel.CREDENTIALS)
        except (InvalidTag, ValueError, RemoteProtocolError):
            _LOG.error("stored credentials of %s do not verify and were dropped", eui64.hex())
            return None
        return message.meter if isinstance(message, Credentials) else None


def _name(eui64: bytes) -> str:
    return _PREFIX + eui64.hex()
