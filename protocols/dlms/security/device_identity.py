"""A device's own key pairs with their certificates, and those of its peers (class 64, methods 3 to 8)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.data import Data, Tag, array, enumerated, octet_string, structure
from protocols.dlms.security.agreement import encode_public_key, new_private_key
from protocols.dlms.security.certificates import (
    Certificate,
    CertificateEntity,
    CertificateStore,
    CertificateType,
    encode_request,
)
from protocols.dlms.security.key_management import KeyId, agreed_key, agreement_offer, agreement_part
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import Signer
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource

_BY_ENTITY, _BY_SERIAL = 0, 1
_OWN_KINDS = (CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT)


class DeviceIdentity:
    """`asymmetric` holds what is in force: a new key pair takes the place of the old one when its certificate is
    imported. `on_key(kind, key)` and `on_certificates()` are called after every change, to store it where it survives.
    """

    def __init__(
        self,
        system_title: bytes,
        asymmetric: AsymmetricKeys,
        certificates: CertificateStore,
        keys: KeySource,
        *,
        signer_of: Callable[[ec.EllipticCurvePrivateKey], Signer],
        on_key: Callable[[CertificateType, ec.EllipticCurvePrivateKey], None] = lambda _kind, _key: None,
        on_certificates: Callable[[], None] = lambda: None,
    ) -> None:
        self._title = system_title
        self._asymmetric = asymmetric
        self._certificates = certificates
        self._keys = keys
        self._signer_of = signer_of
        self._on_key = on_key
        self._on_certificates = on_certificates
        self._pending: dict[CertificateType, ec.EllipticCurvePrivateKey] = {}

    # own keys

    def generate_key_pair(self, kind: CertificateType) -> None:
        """Raises RemoteProtocolError for a kind that this device has no use for."""
        if kind not in _OWN_KINDS:
            raise RemoteProtocolError(f"no key pair of kind {kind.name}")
        self._pending[kind] = new_private_key(self._keys)

    def certificate_request(self, kind: CertificateType) -> bytes:
        """A PKCS #10 request for the new key pair. Raises RemoteProtocolError if none was generated."""
        key = self._pending.get(kind)
        if key is None:
            raise RemoteProtocolError(f"no new key pair of kind {kind.name}")
        return encode_request(self._title, self._signer_of(key))

    def import_certificate(self, der: bytes) -> Certificate:
        """A peer's, or this device's for its new key pair. Raises RemoteProtocolError if it is not to be trusted, or
        is of a key that this device does not have."""
        certificate = Certificate.decode(der)
        if certificate.system_title == self._title:
            self._check_own(certificate)
        self._certificates.import_certificate(der)
        if certificate.system_title == self._title:
            self._take_into_force(certificate)
        self._on_certificates()
        return certificate

    def _check_own(self, certificate: Certificate) -> None:
        key = self._pending.get(certificate.kind)
        known = encode_public_key(certificate.public_key)
        if key is not None and encode_public_key(key.public_key()) == known:
            return
        current = {
            CertificateType.DIGITAL_SIGNATURE: self._asymmetric.signer.public_key(),
            CertificateType.KEY_AGREEMENT: self._asymmetric.agreement.public_key(),
        }.get(certificate.kind)
        if current is None or encode_public_key(current) != known:
            raise RemoteProtocolError("a certificate of this device for a key that it does not have")

    def _take_into_force(self, certificate: Certificate) -> None:
        kind, key = certificate.kind, self._pending.pop(certificate.kind, None)
        if kind is CertificateType.DIGITAL_SIGNATURE:
            self._asymmetric.certificate = certificate.der
        if key is None:
            return
        self._on_key(kind, key)
        if kind is CertificateType.DIGITAL_SIGNATURE:
            self._asymmetric.signer = self._signer_of(key)
        else:
            self._asymmetric.agreement = key

    # certificates

    def certificates_data(self) -> Data:
        """Attribute `certificates`: an array of certificate_info."""
        return array(self._info(certificate) for certificate in self._certificates.certificates)

    def _info(self, certificate: Certificate) -> Data:
        return structure(
            enumerated(self._entity(certificate)),
            enumerated(certificate.kind),
            octet_string(_serial(certificate)),
            octet_string(certificate.issuer_name.encode()),
            octet_string(certificate.common_name.encode()),
            octet_string(b""),
        )

    def _entity(self, certificate: Certificate) -> CertificateEntity:
        if certificate.is_authority:
            return CertificateEntity.CERTIFICATION_AUTHORITY
        return CertificateEntity.SERVER if certificate.system_title == self._title else CertificateEntity.CLIENT

    def find(self, identification: Data) -> Certificate:
        """By certificate_identification. Raises RemoteProtocolError if it is malformed, or there is none such."""
        for certificate in self._certificates.certificates:
            if self._is_meant(certificate, identification):
                return certificate
        raise RemoteProtocolError("there is no such certificate")

    def remove(self, identification: Data) -> None:
        """Forget a certificate. Raises RemoteProtocolError if there is none such, or it is an authority's."""
        certificate = self.find(identification)
        if not self._certificates.remove(certificate.serial_number, certificate.issuer_name):
            raise RemoteProtocolError("an authority's certificate stays")
        self._on_certificates()

    def _is_meant(self, certificate: Certificate, identification: Data) -> bool:
        kind, options = _parts(identification, (Tag.ENUM, Tag.STRUCTURE))
        if kind == _BY_ENTITY:
            entity, certificate_type, title = _parts(
                Data(Tag.STRUCTURE, options), (Tag.ENUM, Tag.ENUM, Tag.OCTET_STRING)
            )
            is_title = certificate.system_title == title or (not title and certificate.is_authority)
            return (self._entity(certificate), certificate.kind) == (entity, certificate_type) and is_title
        if kind == _BY_SERIAL:
            serial, issuer = _parts(Data(Tag.STRUCTURE, options), (Tag.OCTET_STRING, Tag.OCTET_STRING))
            return _serial(certificate) == serial and certificate.issuer_name.encode() == issuer
        raise RemoteProtocolError(f"certificate identification {kind}")

    # keys agreed with a client

    def agree(self, argument: Data, client_title: bytes) -> tuple[Data, dict[str, bytes]]:
        """key_agreement, Ephemeral Unified Model: what to return, and the keys by their name in SymmetricKeys.

        Raises RemoteProtocolError if anything in `argument` is not right, and then agrees on nothing.
        """
        verifier = self._asymmetric.verifier(client_title)
        if verifier is None:
            raise RemoteProtocolError("no trusted signing key of the client")
        if argument.tag != Tag.ARRAY or not argument.value:
            raise RemoteProtocolError("key agreement data is not an array of keys")
        offers, agreed = [], {}
        for item in argument.value:
            key_id, public_key = agreement_part(item, verifier)
            if key_id is KeyId.MASTER:
                raise RemoteProtocolError("the master key is not agreed")
            ephemeral = new_private_key(self._keys)
            offers.append(agreement_offer(key_id, ephemeral, self._asymmetric.signer))
            agreed[key_id.field_name] = agreed_key(ephemeral, public_key, client_title, self._title)
        return array(offers), agreed


def by_entity(entity: CertificateEntity, kind: CertificateType, title: bytes) -> Data:
    """certificate_identification by whose it is."""
    options = structure(enumerated(entity), enumerated(kind), octet_string(title))
    return structure(enumerated(_BY_ENTITY), options)


def by_serial(certificate: Certificate) -> Data:
    """certificate_identification by serial number and issuer."""
    options = structure(octet_string(_serial(certificate)), octet_string(certificate.issuer_name.encode()))
    return structure(enumerated(_BY_SERIAL), options)


def _serial(certificate: Certificate) -> bytes:
    number = certificate.serial_number
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _parts(data: Data, tags: tuple[Tag, ...]) -> list[object]:
    if data.tag != Tag.STRUCTURE or tuple(item.tag for item in data.value) != tags:
        raise RemoteProtocolError("not a certificate identification")
    return [item.value for item in data.value]
