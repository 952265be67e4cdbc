"""The meter's keys and secrets as its firmware keeps them: provisioned ones, and what clients have put in their place.

Changed keys live in the parameters partition and win over the provisioned ones from the next start on.
"""

from __future__ import annotations

import enum

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from meters.firmware.storage import RecordStore
from meters.keys import MeterKeys
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.server import Association
from protocols.errors import RemoteProtocolError

_POLICY = "security/policy"
_KEY_BYTES = 16


class KeyId(enum.IntEnum):
    """Key identifiers of class 64, method key_transfer."""

    UNICAST_ENCRYPTION = 0
    BROADCAST_ENCRYPTION = 1
    AUTHENTICATION = 2
    MASTER = 3


FIELDS = {
    KeyId.UNICAST_ENCRYPTION: "encryption",
    KeyId.BROADCAST_ENCRYPTION: "broadcast",
    KeyId.AUTHENTICATION: "authentication",
    KeyId.MASTER: "master",
}


class SecretStore:
    """Reads and changes the secrets of one meter."""

    def __init__(self, keys: MeterKeys, parameters: RecordStore) -> None:
        self._provisioned = keys
        self._parameters = parameters

    def symmetric(self) -> SymmetricKeys:
        keys = self._provisioned
        return SymmetricKeys(
            encryption=self._current(KeyId.UNICAST_ENCRYPTION, keys.encryption_key),
            authentication=self._current(KeyId.AUTHENTICATION, keys.authentication_key),
            broadcast=self._current(KeyId.BROADCAST_ENCRYPTION, keys.broadcast_key) or None,
            master=self._current(KeyId.MASTER, keys.master_key) or None,
        )

    def policy(self) -> Policy:
        saved = self._parameters.get(_POLICY)
        return Policy.AUTHENTICATED_AND_ENCRYPTED if saved is None else Policy(saved[0])

    def set_policy(self, policy: Policy) -> None:
        self._parameters.put(_POLICY, bytes((policy,)))

    def association_secret(self, instance: int, provisioned: bytes) -> bytes:
        saved = self._parameters.get(f"security/secret/{instance}")
        return provisioned if saved is None else saved

    def change_secret(self, association: Association, secret: bytes) -> None:
        """Keep a new secret of an association; it is asked for from the next AARQ on."""
        self._parameters.put(f"security/secret/{association.config.instance}", secret)
        association.secret = secret

    def keep(self, keys: SymmetricKeys) -> None:
        """Store a whole set of keys: after a power cut all of them are there, or none."""
        values = {key_id: getattr(keys, field) for key_id, field in FIELDS.items()}
        self._parameters.put_many({_name(key_id): value for key_id, value in values.items() if value is not None})

    def _current(self, key_id: KeyId, provisioned: bytes) -> bytes:
        saved = self._parameters.get(_name(key_id))
        return provisioned if saved is None else saved


def unwrap_keys(wrapped: list[tuple[KeyId, bytes]], master: bytes | None) -> dict[str, bytes]:
    """New keys by their name in SymmetricKeys, unwrapped with the master key.

    Raises RemoteProtocolError if one is not wrapped with it, or has another size.
    """
    if master is None:
        raise RemoteProtocolError("this meter has no master key", spec="IEC 62056-6-2, class 64")
    try:
        fresh = {FIELDS[key_id]: aes_key_unwrap(master, blob) for key_id, blob in wrapped}
    except (InvalidUnwrap, ValueError):
        raise RemoteProtocolError("not wrapped with the master key", spec="RFC 3394") from None
    if any(len(key) != _KEY_BYTES for key in fresh.values()):
        raise RemoteProtocolError("a key of another size", spec="IEC 62056-6-2, class 64")
    return fresh


def _name(key_id: KeyId) -> str:
    return f"security/key/{int(key_id)}"
