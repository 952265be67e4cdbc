"""The certification authority of a run: one for the meters, the concentrator and whatever else must prove itself.

Identity is made for each run, from its key source; nothing of it is in an image, a snapshot or a file of this project.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import Certificate, CertificateAuthority, CertificateType
from protocols.dlms.security.signing import DeterministicSigner, RandomSigner, Signer
from protocols.errors import LocalProtocolError
from protocols.ports import KeySource

SignerFactory = Callable[[ec.EllipticCurvePrivateKey], Signer]
"""How a run signs: `DeterministicSigner` (RFC 6979) where it must repeat itself, `RandomSigner` else."""

_HOUR_S = 3600.0
BEFORE_START_S = 24 * _HOUR_S
"""How long before the run's start the authority begins."""
VALID_FOR_S = 30 * 365 * 24 * _HOUR_S
EXPIRED_FOR_S = _HOUR_S
"""How long before the run's start an expired certificate ended."""


class Standing(enum.StrEnum):
    """What a device's certificates are worth to the others of the run."""

    VALID = "valid"
    FOREIGN = "foreign"
    """Issued by an authority that nobody trusts."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class DeviceCertificates:
    """One device's certificates for DLMS."""

    signing: Certificate
    agreement: Certificate

    def pem(self, *authorities: Certificate) -> str:
        """As `certificates_pem` of a key file has them: authorities first, then the device's own."""
        return "".join(item.pem() for item in (*authorities, self.signing, self.agreement))


@dataclass(frozen=True, slots=True)
class RunAuthority:
    """Issues certificates. `make_signer` says how this run signs."""

    trusted: CertificateAuthority
    foreign: CertificateAuthority
    make_signer: SignerFactory = field(repr=False)

    @classmethod
    def for_run(cls, keys: KeySource, *, start_utc_s: float, repeatable: bool) -> RunAuthority:
        """`start_utc_s` is the run's beginning in seconds since 1970 UTC; `repeatable` gives the same bytes from the
        same keys."""
        make_signer: SignerFactory = DeterministicSigner if repeatable else RandomSigner

        def authority(name: str) -> CertificateAuthority:
            return CertificateAuthority(
                name,
                make_signer(new_private_key(keys)),
                keys,
                valid_from_utc_s=float(int(start_utc_s - BEFORE_START_S)),
                valid_for_s=VALID_FOR_S,
            )

        return cls(authority("openami run CA"), authority("foreign CA"), make_signer)

    @property
    def certificate(self) -> Certificate:
        """What every device trusts."""
        return self.trusted.certificate

    def issue(
        self,
        name: bytes,
        public_key: ec.EllipticCurvePublicKey,
        kind: CertificateType,
        standing: Standing = Standing.VALID,
    ) -> Certificate:
        """A certificate whose subject is `name`, 8 bytes: a system title or an EUI-64."""
        authority = self.foreign if standing is Standing.FOREIGN else self.trusted
        valid_for_s = BEFORE_START_S - EXPIRED_FOR_S if standing is Standing.EXPIRED else None
        return authority.issue(name, public_key, kind, valid_for_s=valid_for_s)

    def certify(
        self, system_title: bytes, signing_key_pem: str, agreement_key_pem: str, standing: Standing = Standing.VALID
    ) -> DeviceCertificates:
        """Certificates for a device's two DLMS keys."""
        signing, agreement = public_key_of(signing_key_pem), public_key_of(agreement_key_pem)
        return DeviceCertificates(
            self.issue(system_title, signing, CertificateType.DIGITAL_SIGNATURE, standing),
            self.issue(system_title, agreement, CertificateType.KEY_AGREEMENT, standing),
        )


def public_key_of(private_key_pem: str) -> ec.EllipticCurvePublicKey:
    """Raises LocalProtocolError for a key that is not elliptic."""
    key = serialization.load_pem_private_key(private_key_pem.encode("ascii"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalProtocolError("a key that is not elliptic")
    return key.public_key()


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """PKCS #8 without encryption, for a device's own storage."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode("ascii")
