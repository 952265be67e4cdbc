"""What the parts of a rig make of certificates: provisioning, the head-end's judgement, the guest's configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcu.config import DcuConfig
from dcu.config_file import load
from meters.keys import MeterKeys
from protocols.dlms.security.agreement import encode_public_key
from protocols.dlms.security.certificates import Certificate, CertificateStore
from protocols.headend.messages import (
    KeyPurpose,
    MeterCredentials,
    PublicKey,
    Registration,
    RegistrationStatus,
)
from twin.clock.seeds import SeededKeys, Seeds
from twin.hes.store import MEMORY_URL, Store
from twin.hes.vault import KeyVault
from twin.rigs.authority import RunAuthority, Standing
from twin.rigs.brokers import BrokerAccess
from twin.rigs.dlms_identity import certified
from twin.rigs.provisioning import Provision, provision
from twin.rigs.qemu.dcu import guest_provisioning
from twin.scenarios.loading import load_scenario

START_S = 1_772_438_400.0
EUI64, TITLE = bytes.fromhex("0249484d00000001"), b"INH\0\0\0\0\1"
AUTHORITY = RunAuthority.for_run(SeededKeys(b"authority"), start_utc_s=START_S, repeatable=True)
KEYS = MeterKeys.generate(SeededKeys(b"meter"), system_title=TITLE, suite=1)
OTHER = MeterKeys.generate(SeededKeys(b"other"), system_title=TITLE, suite=1)


def parts(seed: int, *, repeatable: bool = True) -> Provision:
    keys = Seeds(seed).keys
    authority = RunAuthority.for_run(keys("authority"), start_utc_s=START_S, repeatable=repeatable)
    return certified(provision(load_scenario("certificates").scenario, keys("provisioning")), authority, keys)


def test_virtual_runs_repeat_their_certificates_byte_for_byte() -> None:
    assert parts(1) == parts(1)
    assert parts(1) != parts(2)
    first, second = parts(1, repeatable=False), parts(1, repeatable=False)
    assert first.dcu_identity != second.dcu_identity


def test_meters_of_suite_0_run_without_certificates() -> None:
    keys = Seeds(1).keys
    plain = provision(load_scenario("refusals").scenario, keys("provisioning"))
    assert certified(plain, AUTHORITY, keys) is plain


@pytest.mark.requirement("UC-I.3")
def test_standing_of_a_certificate_is_what_the_scenario_says() -> None:
    provisioned = {item.settings.name: item for item in parts(1).meters}
    for name, doubt in (
        ("certified", None),
        ("counterfeit", "no authority that is trusted issued it"),
        ("expired", "it is outside its validity"),
    ):
        trusted, own, _ = Certificate.decode_pem(provisioned[name].keys.certificates_pem)
        assert CertificateStore([trusted], lambda: START_S).distrust(own) == doubt
        assert encode_public_key(own.public_key) == provisioned[name].keys.public_key_points()[0]
    counterfeit, told = provisioned["counterfeit"], provisioned["counterfeit"].shipped_certificates
    assert counterfeit.headend_keys is not None
    assert counterfeit.headend_keys.encryption_key == counterfeit.keys.encryption_key
    assert told is not None
    assert encode_public_key(told.signing.public_key) != counterfeit.keys.public_key_points()[0]


def certificate(keys: MeterKeys = KEYS, standing: Standing = Standing.VALID) -> str:
    return AUTHORITY.certify(TITLE, keys.signing_key_pem, keys.agreement_key_pem, standing).signing.pem()


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(MEMORY_URL, KeyVault(bytes(32)))
    shipped = MeterCredentials("IHM5000001", TITLE, 1, bytes(16), bytes(16), signing_certificate_pem=certificate())
    made.add_shipment(EUI64, shipped)
    yield made
    made.close()


def registration() -> Registration:
    return Registration(
        id="r1",
        serial="IHM5000001",
        eui64=EUI64,
        system_title=TITLE,
        logical_device_name="INH0000000000001",
        model="ihm5000-1p",
        hardware_revision="R3",
        firmware_version="5.0.0",
        security_suite=1,
        authentication_mechanism=7,
        public_keys=(PublicKey(KeyPurpose.SIGNING, KEYS.public_key_points()[0]),),
        time_utc_ms=0,
        signing_certificate_pem=certificate(),
    )


@pytest.mark.requirement("UC-I.2")
def test_head_end_registers_what_agrees_with_the_shipment(store: Store) -> None:
    message = registration()
    assert store.register("dcu-1", message, 0).status is RegistrationStatus.REGISTERED
    (row,) = store.meters()
    assert row.signing_certificate_pem == message.signing_certificate_pem


@pytest.mark.requirement("UC-I.3")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda item: replace(item, security_suite=0), "security suite is lower"),
        (lambda item: replace(item, signing_certificate_pem=None), "no certificate"),
        (lambda item: replace(item, signing_certificate_pem="junk"), "cannot be read"),
        (lambda item: replace(item, signing_certificate_pem=certificate(OTHER)), "not the one that was shipped"),
        (lambda item: replace(item, public_keys=()), "not the one that was shipped"),
    ],
    ids=["lower suite", "no certificate", "junk", "another key", "key not shown"],
)
def test_head_end_refuses_what_does_not(store: Store, change: Callable[[Registration], Registration], why: str) -> None:
    judgement = store.register("dcu-1", change(registration()), 0)
    assert judgement.status is RegistrationStatus.REFUSED
    assert why in judgement.detail
    assert store.meters() == []


def test_guest_is_provisioned_with_the_identity(tmp_path: Path) -> None:
    provisioned = parts(1)
    config = DcuConfig(
        dcu_id="IHM4000-0001",
        eui64=provisioned.dcu_eui64,
        system_title=provisioned.dcu_system_title,
        link_key=provisioned.link_key.key,
        identity=provisioned.dcu_identity,
    )
    broker = BrokerAccess("127.0.0.1", 1883, "IHM4000-0001", "password")
    path = tmp_path / "dcu.json"
    path.write_text(json.dumps(guest_provisioning(config, broker).config))
    assert load(path).dcu.identity == provisioned.dcu_identity
