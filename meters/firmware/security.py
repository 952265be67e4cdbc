"""The meter's keys and secrets as its firmware keeps them: provisioned ones, and what clients have put in their place.

Changed keys live in the parameters partition and win over the provisioned ones from the next start on.
"""

from __future__ import annotations

from meters.firmware.storage import RecordStore
from meters.keys import MeterKeys
from protocols.dlms.security.key_management import KeyId
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.server import Association

_POLICY = "security/policy"
_GROUP_AUTHENTICATION = "security/group/authentication"


class SecretStore:
    """Reads and changes the secrets of one meter."""

    def __init__(self, keys: MeterKeys, parameters: RecordStore) -> None:
        self._provisioned = keys
        self._parameters = parameters

    def symmetric(self) -> SymmetricKeys:
        keys = self._provisioned
        return SymmetricKeys(
            encryption=self._current(KeyId.ENCRYPTION, keys.encryption_key),
            authentication=self._current(KeyId.AUTHENTICATION, keys.authentication_key),
            broadcast=self._current(KeyId.BROADCAST, keys.broadcast_key) or None,
            master=self._current(KeyId.MASTER, keys.master_key) or None,
            broadcast_authentication=self._parameters.get(_GROUP_AUTHENTICATION),
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
        values = {_name(key_id): getattr(keys, key_id.field_name) for key_id in KeyId}
        values[_GROUP_AUTHENTICATION] = keys.broadcast_authentication
        self._parameters.put_many({name: value for name, value in values.items() if value is not None})

    def _current(self, key_id: KeyId, provisioned: bytes) -> bytes:
        saved = self._parameters.get(_name(key_id))
        return provisioned if saved is None else saved


def _name(key_id: KeyId) -> str:
    return f"security/key/{int(key_id)}"
