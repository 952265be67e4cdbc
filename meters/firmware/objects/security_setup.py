"""Security setup: class 64."""

from __future__ import annotations

from meters.firmware.objects.classes import SECURITY_SETUP
from meters.firmware.security import KeyId, SecretStore, unwrap_keys
from protocols.dlms.data import Data, Readable, Tag, array, enumerated, octet_string
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.security.keys import Policy
from protocols.dlms.selective import Selector
from protocols.dlms.server import ServerSecurity
from protocols.errors import RemoteProtocolError


class SecuritySetupObject(CosemObject):
    """What protects the meter's ciphered associations. A policy can only be made stronger."""

    INTERFACE = SECURITY_SETUP
    __slots__ = ("_secrets", "_security")

    def __init__(self, obis: ObisCode, security: ServerSecurity, secrets: SecretStore) -> None:
        super().__init__(obis)
        self._security = security
        self._secrets = secrets

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        security = self._security
        if attribute_id == 2:
            return enumerated(security.policy)
        if attribute_id == 3:
            return enumerated(security.suite)
        if attribute_id == 4:
            return octet_string(security.client_system_title or b"")
        if attribute_id == 5:
            return octet_string(security.system_title)
        return array(())

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 2:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if not self._strengthen(value.value):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "a policy is not made weaker")

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        if method_id == 1:
            if argument.tag != Tag.ENUM:
                raise AccessDenied(ActionResult.TYPE_UNMATCHED)
            if not self._strengthen(argument.value):
                raise AccessDenied(ActionResult.OTHER_REASON, "a policy is not made weaker")
        elif method_id == 2:
            self._transfer(argument)
        else:
            raise AccessDenied(ActionResult.OBJECT_UNAVAILABLE)
        return None

    def _strengthen(self, value: int) -> bool:
        """Take a policy that has every bit of the present one."""
        policy = Policy(value & ~0x03)
        if value & 0x03 or policy & self._security.policy != self._security.policy:
            return False
        self._secrets.set_policy(policy)
        self._security.policy = policy
        return True

    def _transfer(self, argument: Data) -> None:
        if argument.tag != Tag.ARRAY or not argument.value:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        try:
            fresh = unwrap_keys([_wrapped_key(item) for item in argument.value], self._security.keys.master)
        except RemoteProtocolError as error:
            raise AccessDenied(ActionResult.OTHER_REASON, str(error)) from None
        self._security.stage(**fresh)


def _wrapped_key(item: Data) -> tuple[KeyId, bytes]:
    tags = [part.tag for part in item.value] if item.tag == Tag.STRUCTURE else []
    if tags != [Tag.ENUM, Tag.OCTET_STRING]:
        raise AccessDenied(ActionResult.TYPE_UNMATCHED)
    key_id, wrapped = item.value
    try:
        return KeyId(key_id.value), wrapped.value
    except ValueError:
        raise AccessDenied(ActionResult.OTHER_REASON, f"there is no key {key_id.value}") from None
