"""Security setup: class 64."""

from __future__ import annotations

from meters.firmware.device_keys import DeviceKeys
from meters.firmware.objects.classes import SECURITY_SETUP
from meters.firmware.security import SecretStore
from protocols.dlms.data import Data, Readable, Tag, array, enumerated, octet_string, structure
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import Certificate, CertificateEntity, CertificateType
from protocols.dlms.security.key_management import (
    accept_key_transfer,
    agreed_key,
    agreement_offer,
    agreement_part,
    key_agreement,
)
from protocols.dlms.security.keys import Policy
from protocols.dlms.selective import Selector
from protocols.dlms.server import ServerSecurity
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource

_KNOWN_BITS = 0xFC


class SecuritySetupObject(CosemObject):
    """What protects the meter's ciphered associations. A policy can only be made stronger."""

    INTERFACE = SECURITY_SETUP
    __slots__ = ("_device", "_key_source", "_secrets", "_security")

    def __init__(
        self,
        obis: ObisCode,
        security: ServerSecurity,
        secrets: SecretStore,
        device: DeviceKeys,
        key_source: KeySource,
    ) -> None:
        super().__init__(obis)
        self._security = security
        self._secrets = secrets
        self._device = device
        self._key_source = key_source

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
        return array(self._described(certificate) for certificate in self._device.all())

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 2:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if not self._strengthen(value.value):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "a policy is not made weaker")

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        methods = {
            1: self._activate,
            2: self._transfer,
            3: self._agree,
            4: self._generate,
            5: self._request,
            6: self._import,
            7: self._export,
            8: self._remove,
        }
        try:
            return methods[method_id](argument)
        except RemoteProtocolError as error:
            raise AccessDenied(ActionResult.OTHER_REASON, str(error)) from None

    def _activate(self, argument: Data) -> None:
        if argument.tag != Tag.ENUM:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        if not self._strengthen(argument.value):
            raise AccessDenied(ActionResult.OTHER_REASON, "a policy is not made weaker")

    def _strengthen(self, value: int) -> bool:
        """Take a policy that has every bit of the present one."""
        present = int(self._security.policy)
        if value & ~_KNOWN_BITS or value & present != present:
            return False
        self._secrets.set_policy(Policy(value))
        self._security.policy = Policy(value)
        return True

    def _transfer(self, argument: Data) -> None:
        master = self._security.keys.master
        if master is None:
            raise RemoteProtocolError("this meter has no master key")
        keys = accept_key_transfer(argument, master)
        self._security.stage(**{key_id.field_name: key for key_id, key in keys.items()})

    def _agree(self, argument: Data) -> Data:
        asymmetric, title = self._security.asymmetric, self._security.client_system_title
        if asymmetric is None or title is None or argument.tag != Tag.ARRAY:
            raise RemoteProtocolError("no asymmetric keys, or no known client")
        verifier = asymmetric.verifier(title)
        if verifier is None:
            raise RemoteProtocolError("the client's certificate is not trusted")
        parts = [agreement_part(item, verifier) for item in argument.value]
        own = [(key_id, new_private_key(self._key_source), peer) for key_id, peer in parts]
        fresh = {
            key_id.field_name: agreed_key(private, peer, title, self._security.system_title)
            for key_id, private, peer in own
        }
        self._security.stage(**fresh)
        return key_agreement([agreement_offer(key_id, private, asymmetric.signer) for key_id, private, _ in own])

    def _generate(self, argument: Data) -> None:
        self._device.generate(_kind(argument))

    def _request(self, argument: Data) -> Data:
        return octet_string(self._device.request(_kind(argument)))

    def _import(self, argument: Data) -> None:
        if argument.tag != Tag.OCTET_STRING:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        self._device.import_certificate(argument.value)

    def _export(self, argument: Data) -> Data:
        return octet_string(self._find(argument).der)

    def _remove(self, argument: Data) -> None:
        found = self._find(argument)
        if not self._device.remove(found.serial_number, found.issuer_name):
            raise RemoteProtocolError("this certificate cannot be removed")

    def _find(self, argument: Data) -> Certificate:
        """The certificate with an identification: by entity, type and system title, or by serial number and issuer."""
        if argument.tag != Tag.STRUCTURE or len(argument.value) != 2 or argument.value[1].tag != Tag.STRUCTURE:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        kind, (*options,) = argument.value[0].value, argument.value[1].value
        values = [item.value for item in options]
        for certificate in self._device.all():
            if kind == 0 and len(values) == 3:
                if values[1:] == [int(certificate.kind), certificate.system_title]:
                    return certificate
            elif kind == 1 and len(values) == 2 and values == [_serial(certificate), _issuer(certificate)]:
                return certificate
        raise RemoteProtocolError("there is no such certificate")

    def _described(self, certificate: Certificate) -> Data:
        if certificate.is_authority:
            entity = CertificateEntity.CERTIFICATION_AUTHORITY
        elif certificate.system_title == self._security.system_title:
            entity = CertificateEntity.SERVER
        else:
            entity = CertificateEntity.CLIENT
        return structure(
            enumerated(entity),
            enumerated(certificate.kind),
            octet_string(_serial(certificate)),
            octet_string(_issuer(certificate)),
            octet_string(certificate.common_name.encode()),
            octet_string(b""),
        )


def _serial(certificate: Certificate) -> bytes:
    number = certificate.serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _issuer(certificate: Certificate) -> bytes:
    return certificate.issuer_name.encode()


def _kind(argument: Data) -> CertificateType:
    if argument.tag != Tag.ENUM or argument.value not in (0, 1):
        raise AccessDenied(ActionResult.TYPE_UNMATCHED, "0 for signatures, 1 for key agreement")
    return CertificateType(argument.value)
