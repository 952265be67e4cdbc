"""Class 64 over the wire: policy, new keys, certificates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dlms_strategies import data, quick
from dlms_support import (
    CLIENT_TITLE,
    ENERGY,
    KEYS,
    MANAGEMENT,
    METER_TITLE,
    CountedKeys,
    EnergyObject,
    carry,
    client,
)
from hypothesis import given

from protocols.dlms.action import MethodReference
from protocols.dlms.client import ActionDone, AttributeReference, ClientAssociation, ClientState, GetDone, SetDone
from protocols.dlms.data import Data, array, double_long_unsigned, enumerated, octet_string, unsigned
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject, full_access
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import (
    Certificate,
    CertificateAuthority,
    CertificateEntity,
    CertificateStore,
    CertificateType,
)
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.device_identity import DeviceIdentity, by_entity, by_serial
from protocols.dlms.security.key_management import KeyId, agreed_key, agreement_offer, agreement_part, key_transfer
from protocols.dlms.security.keys import Policy, Suite, SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner, Verifier
from protocols.dlms.security_setup import SecuritySetup
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity

NOW_S = 1_790_000_000.0
SETUP = ObisCode.parse("0.0.43.0.0.255")
MASTER = bytes(range(0x60, 0x70))
SIGNATURE, AGREEMENT = CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT
CA = CertificateAuthority(
    "Twin CA",
    DeterministicSigner(new_private_key(CountedKeys("setup authority"))),
    CountedKeys("setup serials"),
    valid_from_utc_s=NOW_S - 60,
    valid_for_s=10**9,
)


class SecuredMeter:
    """A meter of suite 1 with a security setup, and its client."""

    def __init__(self) -> None:
        self.signing = new_private_key(CountedKeys("setup meter signing"))
        client_signing = new_private_key(CountedKeys("setup client signing"))
        self.certificates = self._store(CLIENT_TITLE, client_signing.public_key())
        agreement = new_private_key(CountedKeys("setup meter agreement"))
        self.asymmetric = AsymmetricKeys(DeterministicSigner(self.signing), agreement, self.certificates)
        self.stored: list[object] = []
        identity = DeviceIdentity(
            METER_TITLE,
            self.asymmetric,
            self.certificates,
            CountedKeys("setup meter keys"),
            signer_of=DeterministicSigner,
            on_key=lambda kind, _key: self.stored.append(kind),
        )
        self.security = ServerSecurity(
            METER_TITLE,
            SymmetricKeys(KEYS.encryption, KEYS.authentication, KEYS.broadcast, MASTER),
            MemoryCounterStore(),
            suite=Suite.SUITE_1,
            policy=Policy.AUTHENTICATED,
            client_system_title=CLIENT_TITLE,
            asymmetric=self.asymmetric,
            on_keys=self.stored.append,
        )
        self.setup = SecuritySetup(SETUP, self.security, identity, on_policy=self.stored.append)
        objects: list[CosemObject] = [EnergyObject(ENERGY, 5), self.setup]
        config = AssociationConfig(MANAGEMENT, Mechanism.HIGH_ECDSA, full_access(objects), 1, ciphered=True)
        self.server = CosemServer(objects, [Association(config)], security=self.security, keys=CountedKeys("setup"))
        self.client_signer = DeterministicSigner(client_signing)
        self.client = self.associate()

    @staticmethod
    def _store(title: bytes, key: Any) -> CertificateStore:
        certificates = CertificateStore([CA.certificate], lambda: NOW_S)
        certificates.import_certificate(CA.issue(title, key, SIGNATURE).der)
        return certificates

    def associate(self) -> ClientAssociation:
        association = client(MANAGEMENT, mechanism=Mechanism.HIGH_ECDSA, symmetric_keys=replace(KEYS))
        security = association._security  # noqa: SLF001
        assert security is not None
        security.suite = Suite.SUITE_1
        peers = self._store(METER_TITLE, self.signing.public_key())
        security.asymmetric = AsymmetricKeys(
            self.client_signer, new_private_key(CountedKeys("setup client agreement")), peers
        )
        security.send.advance_to(self.security.least_client_counter)
        carry(self, association, association.associate())  # type: ignore[arg-type]
        assert association.state is ClientState.ASSOCIATED
        return association

    def invoke(self, method_id: int, argument: Data) -> tuple[ActionResult, Any]:
        (done,) = carry(self, self.client, self.client.action(MethodReference(64, SETUP, method_id), argument))  # type: ignore[arg-type]
        assert isinstance(done, ActionDone)
        return done.outcomes[0]

    def read(self, attribute_id: int) -> Data:
        (done,) = carry(self, self.client, self.client.get(AttributeReference(64, SETUP, attribute_id)))  # type: ignore[arg-type]
        assert isinstance(done, GetDone)
        assert isinstance(done.results[0], Data)
        return done.results[0]

    def can_read(self) -> bool:
        request = self.client.get(AttributeReference(3, ENERGY, 2))
        return carry(self, self.client, request) == [GetDone((double_long_unsigned(5),))]  # type: ignore[arg-type]


@pytest.fixture
def meter() -> SecuredMeter:
    return SecuredMeter()


def ok(outcome: tuple[ActionResult, Any]) -> Any:
    assert outcome[0] is ActionResult.SUCCESS
    return outcome[1]


@pytest.mark.requirement("SEC-1")
def test_policy_is_made_stronger_and_never_weaker(meter: SecuredMeter) -> None:
    assert meter.read(2) == enumerated(0x24)
    assert meter.read(3) == enumerated(1)
    assert meter.read(5) == octet_string(METER_TITLE)
    ok(meter.invoke(1, enumerated(Policy.AUTHENTICATED_AND_ENCRYPTED)))
    assert meter.security.policy == Policy.AUTHENTICATED_AND_ENCRYPTED
    assert meter.stored == [Policy.AUTHENTICATED_AND_ENCRYPTED]
    for weaker in (enumerated(0), enumerated(Policy.AUTHENTICATED), enumerated(0x6F), unsigned(0xFF)):
        assert meter.invoke(1, weaker)[0] is not ActionResult.SUCCESS
    reference = AttributeReference(64, SETUP, 2)
    (done,) = carry(meter, meter.client, meter.client.set(reference, enumerated(0)))  # type: ignore[arg-type]
    assert done == SetDone((DataAccessResult.OTHER_REASON,))
    assert meter.security.policy == Policy.AUTHENTICATED_AND_ENCRYPTED


@pytest.mark.requirement("SEC-2")
def test_transferred_keys_hold_after_the_answer(meter: SecuredMeter) -> None:
    fresh = bytes(range(0x80, 0x90))
    ok(meter.invoke(2, key_transfer(MASTER, {KeyId.ENCRYPTION: fresh})))
    assert meter.security.keys.encryption == fresh
    assert [type(item) for item in meter.stored] == [SymmetricKeys]
    meter.client._security.change_keys(SymmetricKeys(fresh, KEYS.authentication))  # type: ignore[union-attr] # noqa: SLF001
    assert meter.can_read()
    for wrong in (key_transfer(fresh, {KeyId.ENCRYPTION: fresh}), array(()), octet_string(fresh)):
        assert meter.invoke(2, wrong)[0] is not ActionResult.SUCCESS
    assert meter.can_read()


@pytest.mark.requirement("SEC-2")
def test_keys_are_agreed(meter: SecuredMeter) -> None:
    ephemeral = new_private_key(CountedKeys("setup client ephemeral"))
    offer = agreement_offer(KeyId.ENCRYPTION, ephemeral, meter.client_signer)
    answer = ok(meter.invoke(3, array((offer,))))
    key_id, public_key = agreement_part(answer.value[0], Verifier(meter.signing.public_key()))
    assert key_id is KeyId.ENCRYPTION
    agreed = agreed_key(ephemeral, public_key, CLIENT_TITLE, METER_TITLE)
    assert meter.security.keys.encryption == agreed
    meter.client._security.change_keys(SymmetricKeys(agreed, KEYS.authentication))  # type: ignore[union-attr] # noqa: SLF001
    assert meter.can_read()
    forged = agreement_offer(KeyId.ENCRYPTION, ephemeral, DeterministicSigner(meter.signing))
    assert meter.invoke(3, array((forged,)))[0] is ActionResult.OTHER_REASON
    assert meter.invoke(3, array(()))[0] is ActionResult.OTHER_REASON
    assert meter.security.keys.encryption == agreed


@pytest.mark.requirement("SEC-2")
def test_new_key_pair_gets_its_certificate_and_comes_into_force(meter: SecuredMeter) -> None:
    assert meter.invoke(5, enumerated(SIGNATURE))[0] is ActionResult.OTHER_REASON
    for kind in (SIGNATURE, AGREEMENT):
        ok(meter.invoke(4, enumerated(kind)))
        request = ok(meter.invoke(5, enumerated(kind))).value
        certificate = CA.issue_for(request, kind)
        ok(meter.invoke(6, octet_string(certificate.der)))
        whose = by_entity(CertificateEntity.SERVER, kind, METER_TITLE)
        assert ok(meter.invoke(7, whose)) == octet_string(certificate.der)
        assert ok(meter.invoke(7, by_serial(certificate))) == octet_string(certificate.der)
    assert meter.stored == [SIGNATURE, AGREEMENT]
    assert meter.asymmetric.signer.public_key().public_numbers() != meter.signing.public_key().public_numbers()
    assert len(meter.read(6).value) == 4
    assert meter.can_read()


@pytest.mark.requirement("SEC-2")
def test_certificates_are_removed_and_foreign_ones_refused(meter: SecuredMeter) -> None:
    stranger = new_private_key(CountedKeys("setup stranger"))
    imposed = CA.issue(METER_TITLE, stranger.public_key(), SIGNATURE)
    foreign = CertificateAuthority(
        "Foreign CA",
        DeterministicSigner(stranger),
        CountedKeys("setup foreign"),
        valid_from_utc_s=NOW_S - 60,
        valid_for_s=10**9,
    ).issue(CLIENT_TITLE, stranger.public_key(), SIGNATURE)
    for wrong in (octet_string(imposed.der), octet_string(foreign.der), octet_string(b"junk")):
        assert meter.invoke(6, wrong)[0] is ActionResult.OTHER_REASON
    assert meter.invoke(6, unsigned(1))[0] is ActionResult.TYPE_UNMATCHED
    assert meter.invoke(8, by_serial(CA.certificate))[0] is ActionResult.OTHER_REASON
    mine = by_entity(CertificateEntity.CLIENT, SIGNATURE, CLIENT_TITLE)
    exported = Certificate.decode(ok(meter.invoke(7, mine)).value)
    assert exported.system_title == CLIENT_TITLE
    ok(meter.invoke(8, mine))
    assert meter.invoke(7, mine)[0] is ActionResult.OTHER_REASON
    assert meter.certificates.signing_key(CLIENT_TITLE) is None


@quick
@given(data)
def test_any_argument_is_taken_or_refused(argument: Data) -> None:
    for method_id in range(1, 10):
        try:
            SHARED.setup.invoke(method_id, argument, Caller(MANAGEMENT))
        except AccessDenied:
            continue


SHARED = SecuredMeter()
