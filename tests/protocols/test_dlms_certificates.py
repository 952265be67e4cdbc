"""Certificates: issued, requested, imported, removed; and refused where they must be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from dlms_strategies import quick
from dlms_support import CLIENT_TITLE, KEYS, MANAGEMENT, METER_TITLE, CountedKeys, Meter, carry, client
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.client import Associated, Refused
from protocols.dlms.enums import Mechanism
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import (
    Certificate,
    CertificateAuthority,
    CertificateStore,
    CertificateType,
    decode_request,
    encode_request,
)
from protocols.dlms.security.keys import Suite
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner
from protocols.errors import RemoteProtocolError

NOW_S = 1_790_000_000.0
YEAR_S = 365 * 86_400.0
SIGNATURE, AGREEMENT = CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT


def authority(name: str = "Twin CA") -> CertificateAuthority:
    signer = DeterministicSigner(new_private_key(CountedKeys(f"authority {name}")))
    return CertificateAuthority(
        name, signer, CountedKeys(f"serials {name}"), valid_from_utc_s=NOW_S - 60, valid_for_s=20 * YEAR_S
    )


def device_key(name: str) -> ec.EllipticCurvePrivateKey:
    return new_private_key(CountedKeys(f"device {name}"))


CA, FOREIGN_CA = authority(), authority("Foreign CA")
KEY = device_key("meter")


def test_certificate_says_whose_key_for_what_and_until_when() -> None:
    certificate = CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE, valid_for_s=YEAR_S)
    again = Certificate.decode(certificate.der)
    assert again == certificate
    assert again.system_title == METER_TITLE
    assert again.kind is SIGNATURE
    assert again.public_key.public_numbers() == KEY.public_key().public_numbers()
    assert again.issuer_name == "Twin CA"
    assert not again.is_authority
    assert CA.certificate.is_authority
    assert again.is_valid_at(NOW_S)
    assert not again.is_valid_at(NOW_S + YEAR_S)
    assert Certificate.decode_pem(again.pem() + CA.certificate.pem()) == [again, CA.certificate]


def test_signatures_satisfy_an_independent_verifier() -> None:
    certificate = CA.issue(METER_TITLE, KEY.public_key(), AGREEMENT)
    verify = getattr(x509.Certificate, "verify_directly_issued_by", None)
    if verify is None:
        pytest.skip("this release of cryptography cannot verify a chain by itself")
    verify(certificate.parsed, CA.certificate.parsed)
    verify(CA.certificate.parsed, CA.certificate.parsed)
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        verify(certificate.parsed, FOREIGN_CA.certificate.parsed)


def test_same_seed_gives_the_same_bytes() -> None:
    assert authority().certificate == CA.certificate
    first, second = (authority().issue(METER_TITLE, KEY.public_key(), SIGNATURE) for _ in range(2))
    assert first.der == second.der


def store(*authorities: CertificateAuthority, now_s: float = NOW_S) -> CertificateStore:
    return CertificateStore([item.certificate for item in authorities], lambda: now_s)


@pytest.mark.requirement("SEC-2")
def test_certificates_are_imported_found_and_removed() -> None:
    certificates = store(CA)
    signing = CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE)
    certificates.import_certificate(signing.der)
    certificates.import_certificate(CA.issue(METER_TITLE, device_key("other").public_key(), AGREEMENT).der)
    assert len(certificates.certificates) == 3
    assert certificates.find(METER_TITLE, SIGNATURE) == signing
    assert certificates.signing_key(METER_TITLE) is not None
    assert certificates.agreement_key(METER_TITLE) is not None
    assert certificates.signing_key(CLIENT_TITLE) is None
    assert certificates.remove(signing.serial_number, signing.issuer_name)
    assert not certificates.remove(signing.serial_number, signing.issuer_name)
    assert certificates.signing_key(METER_TITLE) is None


@pytest.mark.requirement("UC-I.3")
def test_foreign_expired_and_forged_certificates_are_refused() -> None:
    certificates = store(CA)
    foreign = FOREIGN_CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE)
    namesake = authority("another Twin CA")
    namesake._name = "Twin CA"  # noqa: SLF001 (an authority that claims the name of ours)
    claimed = namesake.issue(METER_TITLE, KEY.public_key(), SIGNATURE)
    expired = CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE, valid_for_s=30)
    for certificate in (foreign, claimed, expired, CA.certificate):
        with pytest.raises(RemoteProtocolError):
            certificates.import_certificate(certificate.der)
    good = bytearray(CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE).der)
    good[-1] ^= 1
    with pytest.raises(RemoteProtocolError):
        certificates.import_certificate(bytes(good))
    with pytest.raises(RemoteProtocolError):
        Certificate.decode_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


@pytest.mark.requirement("UC-I.3")
def test_certificate_that_expires_is_not_trusted_any_more() -> None:
    now_s = [NOW_S]
    certificates = CertificateStore([CA.certificate], lambda: now_s[0])
    certificates.import_certificate(CA.issue(METER_TITLE, KEY.public_key(), SIGNATURE, valid_for_s=YEAR_S).der)
    assert certificates.signing_key(METER_TITLE) is not None
    now_s[0] += 2 * YEAR_S
    assert certificates.signing_key(METER_TITLE) is None


@pytest.mark.requirement("SEC-2")
def test_request_is_signed_with_its_own_key_and_becomes_a_certificate() -> None:
    request = encode_request(METER_TITLE, DeterministicSigner(KEY))
    name, public_key = decode_request(request)
    assert bytes.fromhex(name) == METER_TITLE
    assert public_key.public_numbers() == KEY.public_key().public_numbers()
    certificate = CA.issue_for(request, AGREEMENT)
    assert (certificate.system_title, certificate.kind) == (METER_TITLE, AGREEMENT)
    damaged = bytearray(request)
    damaged[-1] ^= 1
    with pytest.raises(RemoteProtocolError):
        CA.issue_for(bytes(damaged), AGREEMENT)


@quick
@given(st.binary(max_size=120), st.integers(0, 400), st.integers(0, 255))
def test_junk_is_no_certificate_and_no_request(junk: bytes, position: int, value: int) -> None:
    damaged = bytearray(CA.certificate.der)
    damaged[position % len(damaged)] = value
    for decode in (Certificate.decode, decode_request, store(CA).import_certificate):
        for candidate in (junk, bytes(damaged)):
            try:
                decode(candidate)
            except RemoteProtocolError:
                continue


def equipped(name: str, title: bytes, issuer: CertificateAuthority, trusted: CertificateAuthority) -> AsymmetricKeys:
    """One end with a key, its certificate, and no peer's: those come with the AARQ and the AARE."""
    signing, agreement = device_key(f"{name} signing"), device_key(f"{name} agreement")
    certificate = issuer.issue(title, signing.public_key(), SIGNATURE)
    return AsymmetricKeys(DeterministicSigner(signing), agreement, store(trusted), certificate.der)


@pytest.mark.parametrize(
    ("client_ca", "meter_ca", "outcome"),
    [(CA, CA, Associated), (FOREIGN_CA, CA, Refused), (CA, FOREIGN_CA, Refused)],
    ids=["both of one authority", "foreign client", "foreign meter"],
)
@pytest.mark.requirement("UC-I.1")
def test_association_by_certificates(
    client_ca: CertificateAuthority, meter_ca: CertificateAuthority, outcome: type[Any]
) -> None:
    meter = Meter(mechanism=Mechanism.HIGH_ECDSA)
    meter.security.suite = Suite.SUITE_1
    meter.security.asymmetric = equipped("meter", METER_TITLE, meter_ca, CA)
    association = client(MANAGEMENT, mechanism=Mechanism.HIGH_ECDSA, symmetric_keys=replace(KEYS))
    security = association._security  # noqa: SLF001
    assert security is not None
    security.suite, security.asymmetric = Suite.SUITE_1, equipped("client", CLIENT_TITLE, client_ca, CA)
    (event,) = carry(meter, association, association.associate())
    assert isinstance(event, outcome)
