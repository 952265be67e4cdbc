"""Security suite 1 on the meter: certificates, mutual signatures, agreed keys, and all of it kept in flash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from meter_bench import CLIENT_TITLE, METER_TITLE, START, Bench, Client

from meters.keys import MeterKeys
from protocols.dlms.data import array, enumerated, octet_string, structure
from protocols.dlms.enums import ActionResult, Mechanism
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import Certificate, CertificateAuthority, CertificateStore, CertificateType
from protocols.dlms.security.key_management import KeyId, agreed_key, agreement_offer, agreement_part
from protocols.dlms.security.keys import SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner, Verifier
from twin.clock.seeds import SeededKeys

SECURITY = (64, "0-0:43.0.0*255")
SERIAL = (1, "0-0:96.1.0*255")
YEAR_S = 365 * 86_400.0
SIGNING, AGREEMENT = CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT


def private(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def authority(name: str, source: SeededKeys) -> CertificateAuthority:
    signer = DeterministicSigner(new_private_key(source))
    return CertificateAuthority(name, signer, source, valid_from_utc_s=START.timestamp() - 86_400, valid_for_s=YEAR_S)


class Plant:
    """A certification authority, a meter that it has certified, and a client likewise."""

    def __init__(self, *, client_authority: str = "run", client_valid_s: float = YEAR_S) -> None:
        source = SeededKeys(b"plant")
        self.authority = authority("run", source)
        keys = MeterKeys.generate(source, system_title=METER_TITLE, client_system_title=CLIENT_TITLE, suite=1)
        own = [
            self.authority.issue(METER_TITLE, private(pem).public_key(), kind)
            for pem, kind in ((keys.signing_key_pem, SIGNING), (keys.agreement_key_pem, AGREEMENT))
        ]
        pem = "".join(item.pem() for item in (self.authority.certificate, *own))
        self.bench = Bench(keys=replace(keys, certificates_pem=pem))
        issuer = self.authority if client_authority == "run" else authority(client_authority, source)
        self.signing, agreement = new_private_key(source), new_private_key(source)
        certificate = issuer.issue(CLIENT_TITLE, self.signing.public_key(), SIGNING, valid_for_s=client_valid_s)
        peers = CertificateStore([self.authority.certificate], self.bench.clock.utc_s)
        self.asymmetric = AsymmetricKeys(DeterministicSigner(self.signing), agreement, peers, certificate.der)

    def client(self, **changes: Any) -> Client:
        return self.bench.client("management", mechanism=Mechanism.HIGH_ECDSA, asymmetric=self.asymmetric, **changes)


@pytest.mark.requirement("UC-I.1")
@pytest.mark.requirement("SEC-1")
def test_meter_and_client_prove_themselves_by_certificates() -> None:
    client = Plant().client()
    assert client.is_associated
    assert client.get(*SERIAL) == b"IHM00000001"
    assert client.get(*SECURITY, 3) == 1


@pytest.mark.requirement("UC-I.3")
def test_foreign_and_expired_certificates_are_refused() -> None:
    assert not Plant(client_authority="elsewhere").client().is_associated
    plant = Plant(client_valid_s=2 * 86_400)
    assert plant.client().is_associated
    plant.bench.run(2 * 86_400)
    assert not plant.client().is_associated


@pytest.mark.requirement("SEC-2")
def test_certificates_are_listed_imported_exported_and_removed() -> None:
    plant = Plant()
    client = plant.client()
    assert [(row[0], row[1]) for row in client.get(*SECURITY, 6)][:2] == [(0, 0), (0, 1)]
    other = b"OAMDCU02"
    certificate = plant.authority.issue(other, plant.signing.public_key(), SIGNING)
    assert client.call(*SECURITY, 6, octet_string(certificate.der)) is ActionResult.SUCCESS
    foreign = authority("elsewhere", SeededKeys(b"x")).issue(other, plant.signing.public_key(), SIGNING)
    assert client.call(*SECURITY, 6, octet_string(foreign.der)) is ActionResult.OTHER_REASON
    assert client.call(*SECURITY, 6, octet_string(b"junk")) is ActionResult.OTHER_REASON
    plant.bench.meter.power_off()
    plant.bench.meter.power_on()
    client = plant.client()
    which = structure(enumerated(0), structure(enumerated(1), enumerated(0), octet_string(other)))
    assert client.call(*SECURITY, 7, which) is ActionResult.SUCCESS
    assert client.returned.value == certificate.der
    assert client.call(*SECURITY, 8, which) is ActionResult.SUCCESS
    assert client.call(*SECURITY, 7, which) is ActionResult.OTHER_REASON
    own = structure(enumerated(0), structure(enumerated(0), enumerated(0), octet_string(METER_TITLE)))
    assert client.call(*SECURITY, 8, own) is ActionResult.OTHER_REASON


@pytest.mark.requirement("SEC-2")
def test_new_key_pair_is_used_once_it_has_a_certificate() -> None:
    plant = Plant()
    client = plant.client()
    before = client.get(1, "0-0:96.50.2*255")
    assert client.call(*SECURITY, 4, enumerated(0)) is ActionResult.SUCCESS
    assert client.call(*SECURITY, 5, enumerated(0)) is ActionResult.SUCCESS
    fresh = plant.authority.issue_for(client.returned.value, SIGNING)
    client = plant.client()
    assert client.is_associated
    assert client.call(*SECURITY, 6, octet_string(fresh.der)) is ActionResult.SUCCESS
    plant.asymmetric.peers = CertificateStore([plant.authority.certificate], plant.bench.clock.utc_s)
    assert plant.client().is_associated
    plant.bench.meter.power_off()
    plant.bench.meter.power_on()
    client = plant.client()
    assert client.is_associated
    assert (
        Certificate.decode(fresh.der).public_key.public_numbers()
        != private(plant.bench.keys.signing_key_pem).public_key().public_numbers()
    )
    assert client.get(1, "0-0:96.50.2*255") != before


@pytest.mark.requirement("SEC-2")
def test_keys_are_agreed_by_ephemeral_ecdh() -> None:
    plant = Plant()
    client = plant.client()
    ephemeral = {key: new_private_key(SeededKeys(bytes((key,)))) for key in (KeyId.ENCRYPTION, KeyId.AUTHENTICATION)}
    offers = [agreement_offer(key, own, plant.asymmetric.signer) for key, own in ephemeral.items()]
    assert client.call(*SECURITY, 3, array(offers)) is ActionResult.SUCCESS
    verifier = Verifier(private(plant.bench.keys.signing_key_pem).public_key())
    parts = dict(agreement_part(item, verifier) for item in client.returned.value)
    agreed = {key.field_name: agreed_key(own, parts[key], CLIENT_TITLE, METER_TITLE) for key, own in ephemeral.items()}
    new = SymmetricKeys(agreed["encryption"], agreed["authentication"])
    assert not plant.client().is_associated
    assert plant.client(keys=new).is_associated
    plant.bench.meter.power_off()
    plant.bench.meter.power_on()
    assert plant.client(keys=new).get(*SERIAL) == b"IHM00000001"
