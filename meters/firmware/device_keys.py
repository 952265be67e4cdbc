"""The meter's own key pairs and certificates, and those of its clients (security suite 1)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meters.firmware.storage import RecordStore
from meters.keys import MeterKeys
from protocols.dlms.security.agreement import encode_public_key, new_private_key
from protocols.dlms.security.certificates import (
    Certificate,
    CertificateStore,
    CertificateType,
    encode_request,
)
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.ports import KeySource

_CERTIFICATES = "certificate/"
_MAX_CERTIFICATES = 8
_KINDS = (CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT)


class DeviceKeys:
    """Provisioned keys and certificates, and what clients have put in their place; changes survive in flash.

    A new key pair is used once its certificate has been imported. Raises BadInputError if a provisioned certificate
    cannot be read.
    """

    def __init__(
        self, keys: MeterKeys, parameters: RecordStore, utc_s: Callable[[], float], key_source: KeySource
    ) -> None:
        self._title = keys.system_title
        self._parameters = parameters
        self._key_source = key_source
        self._private = {
            CertificateType.DIGITAL_SIGNATURE: self._load("signing", keys.signing_key_pem),
            CertificateType.KEY_AGREEMENT: self._load("agreement", keys.agreement_key_pem),
        }
        self._pending: dict[CertificateType, ec.EllipticCurvePrivateKey] = {}
        self._own: dict[CertificateType, Certificate] = {}
        try:
            provisioned = Certificate.decode_pem(keys.certificates_pem)
        except RemoteProtocolError as error:
            raise BadInputError(str(error), key="certificates_pem") from None
        self.store = CertificateStore([item for item in provisioned if item.is_authority], utc_s)
        saved = [parameters.get(name) for name in parameters.names(_CERTIFICATES)]
        for certificate in [item.der for item in provisioned if not item.is_authority] + [der for der in saved if der]:
            self._take(certificate)
        self.asymmetric = self._asymmetric()

    @property
    def own(self) -> list[Certificate]:
        return list(self._own.values())

    def public_point(self, kind: CertificateType) -> bytes:
        """The public key of a kind, x and y of 32 bytes each; empty if there is none."""
        key = self._private[kind]
        return b"" if key is None else encode_public_key(key.public_key())

    def generate(self, kind: CertificateType) -> None:
        """Draw a new key pair; the present one is used until the new one has a certificate."""
        self._pending[kind] = new_private_key(self._key_source)

    def request(self, kind: CertificateType) -> bytes:
        """A certificate request (DER) for the newest key pair. Raises RemoteProtocolError if there is none."""
        key = self._pending.get(kind) or self._private.get(kind)
        if key is None:
            raise RemoteProtocolError("there is no key pair of that kind", spec="IEC 62056-6-2, class 64")
        return encode_request(self._title, DeterministicSigner(key))

    def import_certificate(self, der: bytes) -> None:
        """Keep a certificate, a client's or one for a key of this meter. Raises RemoteProtocolError if it is not
        trusted, or certifies a key that this meter has not."""
        certificate = Certificate.decode(der)
        if certificate.system_title == self._title:
            self._import_own(certificate)
        else:
            self.store.import_certificate(der)
        names = self._parameters.names(_CERTIFICATES)
        name = _name(certificate)
        if name not in names and len(names) >= _MAX_CERTIFICATES:
            raise RemoteProtocolError(f"there is room for {_MAX_CERTIFICATES} certificates")
        self._parameters.put(name, der)

    def remove(self, serial_number: int, issuer_name: str) -> bool:
        """Forget a client's certificate; False if there is none such."""
        found = next((item for item in self.store.certificates if item.serial_number == serial_number), None)
        if found is None or not self.store.remove(serial_number, issuer_name):
            return False
        self._parameters.delete(_name(found))
        return True

    def all(self) -> list[Certificate]:
        """Own certificates, authorities, clients'."""
        return [*self.own, *self.store.certificates]

    def _import_own(self, certificate: Certificate) -> None:
        reason = self.store.distrust(certificate)
        if reason is not None:
            raise RemoteProtocolError(f"a certificate that is not trusted: {reason}")
        kind = certificate.kind
        for key in (self._pending.get(kind), self._private.get(kind)):
            if key is not None and _same_key(key.public_key(), certificate.public_key):
                self._parameters.put(f"private/{int(kind)}", _private_bytes(key))
                self._private[kind] = key
                self._pending.pop(kind, None)
                self._own[kind] = certificate
                self._refresh()
                return
        raise RemoteProtocolError("a certificate for a key that this meter has not")

    def _take(self, der: bytes) -> None:
        """Take a certificate at the start. One that has expired since is not used, and not an error."""
        try:
            certificate = Certificate.decode(der)
            key = self._private.get(certificate.kind)
            if certificate.system_title == self._title:
                if key is not None and _same_key(key.public_key(), certificate.public_key):
                    self._own[certificate.kind] = certificate
            else:
                self.store.import_certificate(der)
        except RemoteProtocolError:
            return

    def _asymmetric(self) -> AsymmetricKeys | None:
        signing, agreement = (self._private[kind] for kind in _KINDS)
        if signing is None or agreement is None:
            return None
        own = self._own.get(CertificateType.DIGITAL_SIGNATURE)
        der = None if own is None else own.der
        return AsymmetricKeys(DeterministicSigner(signing), agreement, self.store, der)

    def _refresh(self) -> None:
        fresh = self._asymmetric()
        if fresh is not None and self.asymmetric is not None:
            self.asymmetric.signer = fresh.signer
            self.asymmetric.agreement = fresh.agreement
            self.asymmetric.certificate = fresh.certificate

    def _load(self, name: str, provisioned_pem: str) -> ec.EllipticCurvePrivateKey | None:
        kind = _KINDS[0] if name == "signing" else _KINDS[1]
        saved = self._parameters.get(f"private/{int(kind)}")
        if saved is not None:
            return ec.derive_private_key(int.from_bytes(saved, "big"), ec.SECP256R1())
        if not provisioned_pem:
            return None
        key = serialization.load_pem_private_key(provisioned_pem.encode("ascii"), password=None)
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


def _same_key(first: ec.EllipticCurvePublicKey, second: ec.EllipticCurvePublicKey) -> bool:
    return first.public_numbers() == second.public_numbers()


def _name(certificate: Certificate) -> str:
    title = certificate.system_title or b""
    return f"{_CERTIFICATES}{title.hex()}/{int(certificate.kind)}"
