"""Certificates of meters and clients: X.509 on P-256, the system title in hex as common name.

Everything is signed through the `Signer` port, so that a virtual run's certificates are the same bytes every time.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from protocols.dlms.ber import tlv
from protocols.dlms.security.signing import Signer
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource

_ECDSA_WITH_SHA256 = bytes.fromhex("300A06082A8648CE3D040302")
_SERIAL_BYTES = 16
_SPEC = "RFC 5280"
_TEMPLATE_KEY = ec.derive_private_key(1, ec.SECP256R1())
"""Signs what is only a form for the bytes to be signed; no secret."""
_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    LookupError,
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for bytes that are no certificate."""


class CertificateType(enum.IntEnum):
    """certificate_type of class 64."""

    DIGITAL_SIGNATURE = 0
    KEY_AGREEMENT = 1
    TLS = 2
    OTHER = 3


class CertificateEntity(enum.IntEnum):
    """certificate_entity of class 64."""

    SERVER = 0
    CLIENT = 1
    CERTIFICATION_AUTHORITY = 2
    OTHER = 3


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with what DLMS asks of it. Two are equal if their bytes are."""

    der: bytes

    @classmethod
    def decode(cls, der: bytes) -> Certificate:
        """Raises RemoteProtocolError if `der` is no certificate of a P-256 key."""
        certificate = cls(der)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what the library only warns of is malformed all the same
                key = certificate.parsed.public_key()
                _ = (certificate.common_name, certificate.issuer_name, certificate.kind, certificate.is_authority)
                _validity(certificate.parsed)
        except _UNREADABLE as error:
            raise RemoteProtocolError("not a certificate", spec=_SPEC) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise RemoteProtocolError("a certificate whose key is not on P-256", spec=_SPEC)
        return certificate

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        key = self.parsed.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise RemoteProtocolError("a certificate whose key is not elliptic", spec=_SPEC)
        return key

    @property
    def common_name(self) -> str:
        return _common_name(self.parsed.subject)

    @property
    def issuer_name(self) -> str:
        return _common_name(self.parsed.issuer)

    @property
    def serial_number(self) -> int:
        return self.parsed.serial_number

    @property
    def system_title(self) -> bytes | None:
        """From the common name; None if that is no system title."""
        name = self.common_name
        try:
            title = bytes.fromhex(name)
        except ValueError:
            return None
        return title if len(title) == 8 else None

    @property
    def kind(self) -> CertificateType:
        """By its key usage."""
        parsed = self.parsed
        try:
            usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            return CertificateType.OTHER
        if usage.digital_signature and usage.key_agreement:
            return CertificateType.TLS
        if usage.digital_signature:
            return CertificateType.DIGITAL_SIGNATURE
        return CertificateType.KEY_AGREEMENT if usage.key_agreement else CertificateType.OTHER

    @property
    def is_authority(self) -> bool:
        try:
            return self.parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    def is_valid_at(self, utc_s: float) -> bool:
        """`utc_s` in seconds since 1970-01-01 UTC."""
        first, last = _validity(self.parsed)
        return first.timestamp() <= utc_s <= last.timestamp()

    def is_signed_by(self, issuer: Certificate) -> bool:
        parsed = self.parsed
        if parsed.issuer != issuer.parsed.subject:
            return False
        try:
            issuer.public_key.verify(parsed.signature, parsed.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, *_UNREADABLE):
            return False
        return True

    def pem(self) -> str:
        return self.parsed.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @classmethod
    def decode_pem(cls, text: str) -> list[Certificate]:
        """Every certificate in `text`. Raises RemoteProtocolError if one of them is none."""
        end = "-----END CERTIFICATE-----"
        found = []
        for part in text.split(end)[:-1]:
            try:
                parsed = x509.load_pem_x509_certificate((part[part.find("-----BEGIN") :] + end).encode())
            except _UNREADABLE as error:
                raise RemoteProtocolError("not a PEM certificate", spec=_SPEC) from error
            found.append(cls.decode(parsed.public_bytes(serialization.Encoding.DER)))
        return found


def _common_name(name: x509.Name) -> str:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    value = names[0].value if names else ""
    return value if isinstance(value, str) else value.decode("ascii", "replace")


def _validity(parsed: x509.Certificate) -> tuple[datetime, datetime]:
    if hasattr(parsed, "not_valid_before_utc"):  # cryptography 42 and later
        return parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return parsed.not_valid_before.replace(tzinfo=UTC), parsed.not_valid_after.replace(tzinfo=UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signed(to_be_signed: bytes, signer: Signer) -> bytes:
    """The DER of a certificate or request: its content, the algorithm, the signature."""
    signature = signer.sign(to_be_signed)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    bits = b"\x00" + utils.encode_dss_signature(r, s)
    return tlv(0x30, to_be_signed + _ECDSA_WITH_SHA256 + tlv(0x03, bits))


_USAGES = {
    CertificateType.DIGITAL_SIGNATURE: (True, False),
    CertificateType.KEY_AGREEMENT: (False, True),
    CertificateType.TLS: (True, True),
}


def _key_usage(kind: CertificateType, *, is_authority: bool) -> x509.KeyUsage:
    signature, agreement = (False, False) if is_authority else _USAGES[kind]
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=agreement,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


class CertificateAuthority:
    """Issues certificates for devices. Its own is self-signed."""

    def __init__(
        self, name: str, signer: Signer, keys: KeySource, *, valid_from_utc_s: float, valid_for_s: float
    ) -> None:
        self._name = name
        self._signer = signer
        self._keys = keys
        self._valid_from_utc_s = valid_from_utc_s
        self._valid_for_s = valid_for_s
        self.certificate = self._issue(name, signer.public_key(), CertificateType.OTHER, None, is_authority=True)

    def issue(
        self,
        system_title: bytes,
        public_key: ec.EllipticCurvePublicKey,
        kind: CertificateType,
        *,
        valid_for_s: float | None = None,
    ) -> Certificate:
        """A certificate for a device's key, valid from the authority's own beginning on."""
        return self._issue(system_title.hex().upper(), public_key, kind, valid_for_s, is_authority=False)

    def issue_for(self, request: bytes, kind: CertificateType) -> Certificate:
        """A certificate for a PKCS #10 request (DER). Raises RemoteProtocolError if the request is malformed or not
        signed with its own key."""
        common_name, public_key = decode_request(request)
        return self._issue(common_name, public_key, kind, None, is_authority=False)

    def _issue(
        self,
        common_name: str,
        public_key: ec.EllipticCurvePublicKey,
        kind: CertificateType,
        valid_for_s: float | None,
        *,
        is_authority: bool,
    ) -> Certificate:
        first_s = self._valid_from_utc_s
        last_s = first_s + (self._valid_for_s if valid_for_s is None else valid_for_s)
        serial = int.from_bytes(self._keys.random_bytes(_SERIAL_BYTES), "big") >> 1 | 1
        form = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(self._name))
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(datetime.fromtimestamp(first_s, UTC))
            .not_valid_after(datetime.fromtimestamp(last_s, UTC))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(_key_usage(kind, is_authority=is_authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._signer.public_key()), critical=False
            )
            .sign(_TEMPLATE_KEY, hashes.SHA256())
        )
        return Certificate(_signed(form.tbs_certificate_bytes, self._signer))


def encode_request(system_title: bytes, signer: Signer) -> bytes:
    """A PKCS #10 request (DER) for the signer's key."""
    public_key = signer.public_key()
    form = x509.CertificateSigningRequestBuilder().subject_name(_name(system_title.hex().upper()))
    content = form.sign(_TEMPLATE_KEY, hashes.SHA256()).tbs_certrequest_bytes
    form_key = _spki(_TEMPLATE_KEY.public_key())
    return _signed(content.replace(form_key, _spki(public_key)), signer)


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def decode_request(request: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Common name and key of a PKCS #10 request. Raises RemoteProtocolError if it is not signed with that key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = x509.load_der_x509_csr(request)
            key = parsed.public_key()
            is_right = parsed.is_signature_valid
            common_name = _common_name(parsed.subject)
    except _UNREADABLE as error:
        raise RemoteProtocolError("not a certificate request", spec="RFC 2986") from error
    if not is_right or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RemoteProtocolError("a certificate request that its key did not sign", spec="RFC 2986")
    return common_name, key


class CertificateStore:
    """Trusted authorities and the certificates of peers: a `PeerKeys` that verifies.

    `utc_s` tells the time in seconds since 1970-01-01 UTC: what has expired is not trusted any more.
    """

    def __init__(self, authorities: Iterable[Certificate], utc_s: Callable[[], float]) -> None:
        self._authorities = list(authorities)
        self._utc_s = utc_s
        self._certificates: dict[tuple[bytes, CertificateType], Certificate] = {}

    @property
    def certificates(self) -> list[Certificate]:
        """Authorities first, then peers in the order of their import."""
        return [*self._authorities, *self._certificates.values()]

    def import_certificate(self, der: bytes) -> Certificate:
        """Keep a peer's certificate. Raises RemoteProtocolError if no trusted authority issued it, it has expired, or
        its subject is no system title."""
        certificate = Certificate.decode(der)
        title = certificate.system_title
        if title is None or certificate.is_authority:
            raise RemoteProtocolError("a certificate whose subject is no system title", spec=_SPEC)
        reason = self.distrust(certificate)
        if reason is not None:
            raise RemoteProtocolError(f"a certificate that is not trusted: {reason}", spec=_SPEC)
        self._certificates[title, certificate.kind] = certificate
        return certificate

    def distrust(self, certificate: Certificate) -> str | None:
        """Why a certificate is not trusted now; None if it is."""
        now_s = self._utc_s()
        if not certificate.is_valid_at(now_s):
            return "it is outside its validity"
        issuers = [item for item in self._authorities if certificate.is_signed_by(item)]
        if not issuers:
            return "no authority that is trusted issued it"
        if not any(item.is_valid_at(now_s) for item in issuers):
            return "its issuer is outside its validity"
        return None

    def remove(self, serial_number: int, issuer_name: str) -> bool:
        """Forget a peer's certificate; False if there is none such."""
        for key, certificate in self._certificates.items():
            if certificate.serial_number == serial_number and certificate.issuer_name == issuer_name:
                del self._certificates[key]
                return True
        return False

    def find(self, title: bytes, kind: CertificateType) -> Certificate | None:
        return self._certificates.get((title, kind))

    # PeerKeys

    def signing_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        return self._trusted_key(title, CertificateType.DIGITAL_SIGNATURE)

    def agreement_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        return self._trusted_key(title, CertificateType.KEY_AGREEMENT)

    def offered(self, title: bytes, certificate: bytes) -> None:
        """Keep it if it is to be trusted and of this peer; what is not is as if it had not come."""
        try:
            if Certificate.decode(certificate).system_title == title:
                self.import_certificate(certificate)
        except RemoteProtocolError:
            return

    def _trusted_key(self, title: bytes, kind: CertificateType) -> ec.EllipticCurvePublicKey | None:
        certificate = self._certificates.get((title, kind))
        if certificate is None or self.distrust(certificate) is not None:
            return None
        return certificate.public_key
