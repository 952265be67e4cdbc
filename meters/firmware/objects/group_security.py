"""Security setup of the broadcast association: class 64, 0-0:43.0.1*255."""

from __future__ import annotations

from meters.firmware.objects.classes import SECURITY_SETUP
from protocols.dlms.data import Data, Readable, array, enumerated, octet_string
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.security.key_management import GROUP_FIELDS, accept_key_transfer
from protocols.dlms.selective import Selector
from protocols.dlms.server import ServerSecurity
from protocols.errors import RemoteProtocolError

GROUP_SECURITY_SETUP = ObisCode.parse("0-0:43.0.1*255")
_KEY_TRANSFER = 2


class GroupSecuritySetupObject(CosemObject):
    """The two keys that a concentrator's meters share: broadcast encryption key and its authentication key.

    They come by key_transfer, wrapped under this meter's master key. Until then broadcasts are under the meter's own.
    Policy, suite and titles are those of the unicast setup.
    """

    INTERFACE = SECURITY_SETUP
    __slots__ = ("_security",)

    def __init__(self, obis: ObisCode, security: ServerSecurity) -> None:
        super().__init__(obis)
        self._security = security

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        security = self._security
        values: dict[int, Data] = {
            2: enumerated(security.policy),
            3: enumerated(security.suite),
            4: octet_string(security.client_system_title or b""),
            5: octet_string(security.system_title),
            6: array(()),
        }
        return values[attribute_id]

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        master = self._security.keys.master
        if method_id != _KEY_TRANSFER:
            raise AccessDenied(ActionResult.READ_WRITE_DENIED, "a group's setup takes keys, and nothing else")
        if master is None:
            raise AccessDenied(ActionResult.OTHER_REASON, "this meter has no master key")
        try:
            keys = accept_key_transfer(argument, master)
        except RemoteProtocolError as error:
            raise AccessDenied(ActionResult.OTHER_REASON, str(error)) from None
        if not keys.keys() <= GROUP_FIELDS.keys():
            raise AccessDenied(ActionResult.OTHER_REASON, "a group has a broadcast and an authentication key only")
        self._security.stage(**{GROUP_FIELDS[key_id]: key for key_id, key in keys.items()})
        return None
