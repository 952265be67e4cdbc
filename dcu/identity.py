"""The concentrator's own keys and certificates, and what it believes of a meter's (security suite 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.certificates import Certificate, CertificateStore, CertificateType
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import Signer
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.headend.messages import MeterCredentials

SignerFactory = Callable[[ec.EllipticCurvePrivateKey], Signer]


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What provisioning gives a concentrator that is to prove itself by certificates; PEM texts.

    `certificates_pem` holds the authorities that it trusts and its own certificate for `signing_key_pem`, whose subject
    is its system title.
    """

    signing_key_pem: str = field(repr=False)
    agreement_key_pem: str = field(repr=False)
    certificates_pem: str = field(repr=False)


class ClientKeys:
    """An identity in use. `utc_s` is the concentrator's wall clock, `make_signer` how it signs."""

    def __init__(
        self, identity: DeviceIdentity, system_title: bytes, *, utc_s: Callable[[], float], make_signer: SignerFactory
    ) -> None:
        """Raises BadInputError that names the field, for keys or certificates that cannot be read, and where no
        certificate certifies the signing key. Never shows a key."""
        signing = private_key("signing_key_pem", identity.signing_key_pem)
        self._agreement = private_key("agreement_key_pem", identity.agreement_key_pem)
        self._signer = make_signer(signing)
        self._utc_s = utc_s
        try:
            found = Certificate.decode_pem(identity.certificates_pem)
        except RemoteProtocolError as error:
            raise BadInputError(str(error), key="certificates_pem") from None
        self._authorities = [item for item in found if item.is_authority]
        self._certificate = _own_certificate(found, system_title, signing.public_key())

    def trust(self, credentials: MeterCredentials) -> MeterTrust:
        """What is known of one meter's certificates so far."""
        return MeterTrust(credentials, self._authorities, self._utc_s)

    def towards(self, trust: MeterTrust) -> AsymmetricKeys:
        """Keys for a session with the meter that `trust` is about."""
        return AsymmetricKeys(self._signer, self._agreement, trust, self._certificate.der)


class MeterTrust:
    """A `PeerKeys` for one meter: certificates that the head-end gave, and the one that the meter brings itself.

    `refusal` says, for people, why its signing key was not given when it was asked for; empty if it was.
    """

    def __init__(
        self, credentials: MeterCredentials, authorities: list[Certificate], utc_s: Callable[[], float]
    ) -> None:
        self._title = credentials.system_title
        self._store = CertificateStore(authorities, utc_s)
        self._shipped: ec.EllipticCurvePublicKey | None = None
        self._doubt = "the meter has shown no certificate"
        self.refusal = ""
        for pem in (credentials.signing_certificate_pem, credentials.agreement_certificate_pem):
            if pem is not None:
                self._take_shipped(pem)

    def begin(self) -> None:
        """A new attempt: nothing has been refused in it yet."""
        self.refusal = ""

    @property
    def certificate(self) -> Certificate | None:
        """The one for its signing key, if it is trusted now."""
        found = self._store.find(self._title, CertificateType.DIGITAL_SIGNATURE)
        return None if found is None or self._store.distrust(found) is not None else found

    # PeerKeys

    def signing_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        found = self._store.signing_key(title)
        if found is None and not self._doubt:
            self._doubt = "its certificate is not trusted: it is outside its validity"
        self.refusal = self._doubt
        return None if self.refusal else found

    def agreement_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        return self._store.agreement_key(title)

    def offered(self, title: bytes, certificate: bytes) -> None:
        """The certificate that the meter brought in its AARE."""
        try:
            offered = Certificate.decode(certificate)
        except RemoteProtocolError:
            self._doubt = "its certificate cannot be read"
            return
        self._doubt = self._judge(title, offered)
        if not self._doubt:
            self._store.import_certificate(certificate)

    def _judge(self, title: bytes, certificate: Certificate) -> str:
        reason = self._store.distrust(certificate)
        if reason is not None:
            return f"its certificate is not trusted: {reason}"
        if certificate.system_title != title or certificate.is_authority:
            return "its certificate is of another device"
        if certificate.kind is not CertificateType.DIGITAL_SIGNATURE:
            return "its certificate is not for signatures"
        if self._shipped is not None and not is_same_key(self._shipped, certificate.public_key):
            return "its certificate is for another key than the head-end was told"
        return ""

    def _take_shipped(self, pem: str) -> None:
        try:
            found = Certificate.decode_pem(pem)
        except RemoteProtocolError:
            self._doubt = "the certificate that the head-end gave cannot be read"
            return
        for certificate in found:
            is_signing = certificate.kind is CertificateType.DIGITAL_SIGNATURE
            if is_signing:
                self._shipped = certificate.public_key
                self._doubt = self._judge(self._title, certificate)
            if not is_signing or not self._doubt:
                self._import(certificate)

    def _import(self, certificate: Certificate) -> None:
        try:
            self._store.import_certificate(certificate.der)
        except RemoteProtocolError as error:
            self._doubt = self._doubt or str(error)


def is_same_key(first: ec.EllipticCurvePublicKey, second: ec.EllipticCurvePublicKey) -> bool:
    """Whether two public keys are the same point."""
    return first.public_numbers() == second.public_numbers()


def private_key(name: str, pem: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key out of PEM. Raises BadInputError with `name` as its key; never shows the text."""
    try:
        key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    except (ValueError, TypeError) as error:
        # The cause may quote the text: it stays out.
        raise BadInputError(f"not an unencrypted private key in PEM ({type(error).__name__})", key=name) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInputError("not a key on the curve P-256", key=name)
    return key


def _own_certificate(found: list[Certificate], title: bytes, key: ec.EllipticCurvePublicKey) -> Certificate:
    for item in found:
        is_own = item.system_title == title and item.kind is CertificateType.DIGITAL_SIGNATURE
        if is_own and is_same_key(item.public_key, key):
            return item
    raise BadInputError("no certificate for the signing key and the system title", key="certificates_pem")
