"""Security setup, class 64 version 1: policy, key transfer, key agreement, certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from protocols.dlms.data import Data, Readable, Tag, array, enumerated, octet_string
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Attribute, Caller, CosemObject, InterfaceClass, Method
from protocols.dlms.security.certificates import CertificateType
from protocols.dlms.security.device_identity import DeviceIdentity
from protocols.dlms.security.key_management import accept_key_transfer, key_agreement
from protocols.dlms.security.keys import Policy
from protocols.dlms.selective import Selector
from protocols.dlms.server_security import ServerSecurity
from protocols.errors import RemoteProtocolError

T = TypeVar("T")

SECURITY_SETUP = InterfaceClass(
    64,
    1,
    "Security setup",
    (
        Attribute(2, "security_policy", (Tag.ENUM,)),
        Attribute(3, "security_suite", (Tag.ENUM,)),
        Attribute(4, "client_system_title", (Tag.OCTET_STRING,)),
        Attribute(5, "server_system_title", (Tag.OCTET_STRING,)),
        Attribute(6, "certificates", (Tag.ARRAY,)),
    ),
    (
        Method(1, "security_activate"),
        Method(2, "key_transfer"),
        Method(3, "key_agreement"),
        Method(4, "generate_key_pair"),
        Method(5, "generate_certificate_request"),
        Method(6, "import_certificate"),
        Method(7, "export_certificate"),
        Method(8, "remove_certificate"),
    ),
)


class SecuritySetup(CosemObject):
    """A policy can be made stronger, never weaker. Without `identity` (suite 0) there are no methods above 2."""

    INTERFACE = SECURITY_SETUP
    __slots__ = ("_identity", "_methods", "_on_policy", "_security")

    def __init__(
        self,
        obis: ObisCode,
        security: ServerSecurity,
        identity: DeviceIdentity | None = None,
        *,
        on_policy: Callable[[Policy], None] = lambda _policy: None,
    ) -> None:
        """`on_policy` stores a new policy where it survives, before it holds."""
        super().__init__(obis)
        self._security = security
        self._identity = identity
        self._on_policy = on_policy
        self._methods: dict[int, Callable[[Data, Caller], Data | None]] = {
            1: self._activate,
            2: self._transfer,
        }
        if identity is not None:
            self._methods |= {
                3: self._agree,
                4: self._generate,
                5: self._request,
                6: self._import,
                7: self._export,
                8: self._remove,
            }

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
        if attribute_id == 6:
            return array(()) if self._identity is None else self._identity.certificates_data()
        raise AccessDenied(DataAccessResult.OBJECT_UNAVAILABLE)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 2:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if not self._strengthen(value.value):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "a policy is not made weaker")

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        method = self._methods.get(method_id)
        if method is None:
            raise AccessDenied(ActionResult.OBJECT_UNAVAILABLE)
        return method(argument, caller)

    def _strengthen(self, value: int) -> bool:
        """Take a policy that has every bit of the present one."""
        present = int(self._security.policy)
        if value & 0x03 or value & present != present:
            return False
        policy = Policy(value)
        self._on_policy(policy)
        self._security.policy = policy
        return True

    def _activate(self, argument: Data, caller: Caller) -> None:
        if not self._strengthen(_argument(argument, Tag.ENUM)):
            raise AccessDenied(ActionResult.OTHER_REASON, "a policy is not made weaker")

    def _transfer(self, argument: Data, caller: Caller) -> None:
        master_key = self._security.keys.master
        if argument.tag != Tag.ARRAY:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        if master_key is None:
            raise AccessDenied(ActionResult.OBJECT_UNAVAILABLE, "no master key")
        self._security.stage(**_tried(lambda: accept_key_transfer(argument, master_key)))

    def _agree(self, argument: Data, caller: Caller) -> Data:
        title = self._security.client_system_title
        if title is None:
            raise AccessDenied(ActionResult.OTHER_REASON, "no client's system title is known")
        offers, agreed = _tried(lambda: self._own_identity.agree(argument, title))
        self._security.stage(**agreed)
        return key_agreement(offers.value)

    def _generate(self, argument: Data, caller: Caller) -> None:
        kind = _kind(argument)
        _tried(lambda: self._own_identity.generate_key_pair(kind))

    def _request(self, argument: Data, caller: Caller) -> Data:
        kind = _kind(argument)
        return octet_string(_tried(lambda: self._own_identity.certificate_request(kind)))

    def _import(self, argument: Data, caller: Caller) -> None:
        der = _argument(argument, Tag.OCTET_STRING)
        _tried(lambda: self._own_identity.import_certificate(der))

    def _export(self, argument: Data, caller: Caller) -> Data:
        return octet_string(_tried(lambda: self._own_identity.find(argument)).der)

    def _remove(self, argument: Data, caller: Caller) -> None:
        _tried(lambda: self._own_identity.remove(argument))

    @property
    def _own_identity(self) -> DeviceIdentity:
        if self._identity is None:
            raise AccessDenied(ActionResult.OBJECT_UNAVAILABLE)
        return self._identity


def _argument(argument: Data, tag: Tag) -> Any:
    if argument.tag != tag:
        raise AccessDenied(ActionResult.TYPE_UNMATCHED)
    return argument.value


def _kind(argument: Data) -> CertificateType:
    try:
        return CertificateType(_argument(argument, Tag.ENUM))
    except ValueError as error:
        raise AccessDenied(ActionResult.OTHER_REASON, f"certificate type {argument.value}") from error


def _tried(action: Callable[[], T]) -> T:
    """What the client sent may be wrong in itself: then the action fails, for a reason that is not told to it."""
    try:
        return action()
    except RemoteProtocolError as error:
        raise AccessDenied(ActionResult.OTHER_REASON, str(error)) from error
