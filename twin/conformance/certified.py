"""Certificates for an emulated meter and for the tester, of one authority that both trust (security suite 1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meters.keys import MeterKeys
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import CertificateAuthority, CertificateStore, CertificateType
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner
from protocols.errors import LocalProtocolError
from protocols.ports import KeySource
from twin.clock.clocks import RunClock

_DAY_S = 86_400.0
VALID_FOR_S = 365 * _DAY_S
SIGNING, AGREEMENT = CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT


@dataclass(frozen=True, slots=True)
class Certified:
    """The authority, and the client that it has certified. `signing` is the client's private key."""

    authority: CertificateAuthority
    client: AsymmetricKeys = field(repr=False)
    signing: ec.EllipticCurvePrivateKey = field(repr=False)
    meter_signing_key: ec.EllipticCurvePublicKey


def new_authority(name: str, source: KeySource, clock: RunClock) -> CertificateAuthority:
    """An authority that begins a day before now and is valid for a year."""
    signer = DeterministicSigner(new_private_key(source))
    return CertificateAuthority(name, signer, source, valid_from_utc_s=clock.utc_s() - _DAY_S, valid_for_s=VALID_FOR_S)


def certify(keys: MeterKeys, source: KeySource, clock: RunClock) -> tuple[MeterKeys, Certified]:
    """The meter's keys with its certificates and the authority's, and a client that it trusts."""
    authority = new_authority("Conformance", source, clock)
    own = {
        kind: authority.issue(keys.system_title, _public_key(pem), kind)
        for kind, pem in ((SIGNING, keys.signing_key_pem), (AGREEMENT, keys.agreement_key_pem))
    }
    pem = "".join(item.pem() for item in (authority.certificate, *own.values()))
    peers = CertificateStore([authority.certificate], clock.utc_s)
    for certificate in own.values():
        peers.import_certificate(certificate.der)
    signing, agreement = new_private_key(source), new_private_key(source)
    certificate = authority.issue(keys.client_system_title, signing.public_key(), SIGNING)
    client = AsymmetricKeys(DeterministicSigner(signing), agreement, peers, certificate.der)
    certified = Certified(authority, client, signing, _public_key(keys.signing_key_pem))
    return replace(keys, certificates_pem=pem), certified


def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalProtocolError("a key that is not elliptic")
    return key.public_key()
