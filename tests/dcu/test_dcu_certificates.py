"""Use case I under security suite 1: the concentrator and its meters prove themselves by certificates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dcu_fakes import CLIENT_TITLE, CONFIG, ENERGY, START_UTC_S, Bench, DataObject, FakeMeter

import dcu.daemon
from dcu.config import DcuConfig
from dcu.config_file import load
from dcu.identity import ClientKeys, DeviceIdentity
from protocols.dlms.data import double_long_unsigned, octet_string
from protocols.dlms.enums import Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import CosemObject, full_access
from protocols.dlms.security.agreement import encode_public_key, new_private_key
from protocols.dlms.security.certificates import Certificate, CertificateAuthority, CertificateStore, CertificateType
from protocols.dlms.security.keys import Policy, Suite
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity
from protocols.errors import BadInputError
from protocols.headend import messages as m
from protocols.meter_identity import SIGNING_PUBLIC_KEY
from twin.clock.seeds import SeededKeys

DAY_S = 86_400.0
SIGNING, AGREEMENT = CertificateType.DIGITAL_SIGNATURE, CertificateType.KEY_AGREEMENT
SOURCE = SeededKeys(b"certificates")


def authority(name: str) -> CertificateAuthority:
    signer = DeterministicSigner(new_private_key(SOURCE))
    return CertificateAuthority(name, signer, SOURCE, valid_from_utc_s=START_UTC_S - DAY_S, valid_for_s=3650 * DAY_S)


TRUSTED, FOREIGN = authority("trusted"), authority("foreign")
METER_KEY, OTHER_KEY, AGREEMENT_KEY, DCU_KEY = (new_private_key(SOURCE) for _ in range(4))


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def identity(issuer: CertificateAuthority = TRUSTED) -> DeviceIdentity:
    own = issuer.issue(CLIENT_TITLE, DCU_KEY.public_key(), SIGNING)
    return DeviceIdentity(pem(DCU_KEY), pem(AGREEMENT_KEY), TRUSTED.certificate.pem() + own.pem())


class CertifiedMeter(FakeMeter):
    """A meter of suite 1. Verbs: `restart` with another `certificate` or `key`."""

    def __init__(self, number: int = 1) -> None:
        self.key = METER_KEY
        self.shown_key = METER_KEY
        self.certificate: Certificate | None = None
        super().__init__(number)

    def certify(self, issuer: CertificateAuthority = TRUSTED, **changes: Any) -> Certificate:
        """A certificate for this meter's key, unless `title`, `key`, `kind` or `valid_for_s` say otherwise."""
        title, key = changes.get("title", self.title), changes.get("key", self.key)
        kind, valid_for_s = changes.get("kind", SIGNING), changes.get("valid_for_s")
        return issuer.issue(title, key.public_key(), kind, valid_for_s=valid_for_s)

    def restart(self) -> None:
        self._restarts += 1
        counter = DataObject(
            ObisCode.parse("0-0:43.1.0*255"), {2: lambda: double_long_unsigned(security.least_client_counter)}
        )
        objects: list[CosemObject] = [item for item in self._objects() if item.obis != SIGNING_PUBLIC_KEY]
        objects.append(
            DataObject(SIGNING_PUBLIC_KEY, {2: octet_string(encode_public_key(self.shown_key.public_key()))})
        )
        objects.append(counter)
        peers = CertificateStore([TRUSTED.certificate], lambda: START_UTC_S)
        der = None if self.certificate is None else self.certificate.der
        security = ServerSecurity(
            self.title,
            self.keys,
            self._store,
            suite=Suite.SUITE_1,
            policy=Policy.AUTHENTICATED_AND_ENCRYPTED,
            client_system_title=CLIENT_TITLE,
            asymmetric=AsymmetricKeys(DeterministicSigner(self.key), AGREEMENT_KEY, peers, der),
        )
        management = AssociationConfig(1, Mechanism.HIGH_ECDSA, full_access(objects), 1, ciphered=True)
        public = AssociationConfig(16, Mechanism.NONE, full_access([counter]), 2)
        self.server = CosemServer(
            objects,
            [Association(public), Association(management)],
            security=security,
            keys=SeededKeys(self.eui64 + bytes((self._restarts,))),
        )

    def shipped(self, certificate: Certificate | None = None) -> m.MeterCredentials:
        """What the head-end gives of it."""
        told = None if certificate is None else certificate.pem()
        return replace(self.credentials(), security_suite=1, signing_certificate_pem=told)


@pytest.fixture
def make_bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[DcuConfig], Bench]:
    def make(config: DcuConfig) -> Bench:
        made = Bench(config)
        monkeypatch.setattr(dcu.daemon, "BorderRouter", made.mesh.router)
        return made

    return make


@pytest.fixture
def bench(make_bench: Callable[[DcuConfig], Bench]) -> Bench:
    return make_bench(replace(CONFIG, identity=identity()))


@pytest.fixture
def meter() -> CertifiedMeter:
    return CertifiedMeter()


def join(bench: Bench, meter: CertifiedMeter, told: Certificate | None = None, *, restarted: bool = False) -> None:
    bench.headend.shipment[meter.eui64] = meter.shipped(told)
    bench.mesh.join(meter, restarted=restarted)


async def refused(bench: Bench) -> dict[str, str]:
    """The first refusal that the head-end hears of."""
    await bench.until(lambda: bench.headend.events("meter-refused"), 120)
    return dict(bench.headend.events("meter-refused")[0].details)


@pytest.mark.requirement("UC-I.1")
@pytest.mark.requirement("UC-I.2")
@pytest.mark.parametrize("brought", [True, False], ids=["brought by the meter", "given by the head-end"])
def test_meter_with_a_trusted_certificate_is_registered_and_read(
    bench: Bench, meter: CertifiedMeter, brought: bool
) -> None:
    certificate = meter.certify()
    meter.certificate = certificate if brought else None
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter, None if brought else certificate)
        await bench.until(lambda: bench.state(meter) == "registered", 60)
        registration = bench.headend.rows[meter.serial]
        assert (registration.security_suite, registration.authentication_mechanism) == (1, 7)
        assert registration.signing_certificate_pem == certificate.pem()
        assert registration.public_keys[0].key == encode_public_key(METER_KEY.public_key())
        bench.headend.request("r1", meter, 20, ENERGY)
        await bench.until(lambda: bench.headend.responses("r1"), 30)
        assert bench.headend.responses("r1")[0].values[0].value == meter.energy_wh

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": FOREIGN}, "no authority that is trusted issued it"),
        ({"valid_for_s": DAY_S - 60}, "it is outside its validity"),
        ({"title": b"OAM\0\0\0\0\x63"}, "of another device"),
        ({"kind": AGREEMENT}, "not for signatures"),
        ({"key": OTHER_KEY}, ""),
    ],
    ids=["foreign", "expired", "of another device", "of another use", "of another key"],
)
def test_meter_without_a_certificate_to_be_trusted_is_refused_with_the_reason(
    bench: Bench, meter: CertifiedMeter, changes: dict[str, Any], why: str
) -> None:
    meter.certificate = meter.certify(**changes)
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter)
        details = await refused(bench)
        assert details["reason"] == ("certificate" if why else "authentication")
        assert why in details["detail"]
        assert meter.serial not in bench.headend.rows

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_meter_that_shows_no_certificate_is_refused(bench: Bench, meter: CertifiedMeter) -> None:
    async def body() -> None:
        bench.start()
        join(bench, meter)
        details = await refused(bench)
        assert (details["reason"], "no certificate" in details["detail"]) == ("certificate", True)

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_trusted_certificate_for_another_key_than_was_shipped_is_refused(bench: Bench, meter: CertifiedMeter) -> None:
    genuine = meter.certify(key=OTHER_KEY)
    meter.certificate = meter.certify()
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter, genuine)
        details = await refused(bench)
        assert details["reason"] == "certificate"
        assert "another key than the head-end was told" in details["detail"]

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_certificate_that_expires_is_refused_at_the_next_registration(bench: Bench, meter: CertifiedMeter) -> None:
    meter.certificate = meter.certify(valid_for_s=DAY_S + 600)
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter)
        await bench.until(lambda: bench.state(meter) == "registered", 60)
        await bench.until(lambda: bench.loop.time() > 700, 800)
        meter.restart()
        join(bench, meter, restarted=True)
        assert "outside its validity" in (await refused(bench))["detail"]

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_meter_that_shows_another_key_than_it_signs_with_is_refused(bench: Bench, meter: CertifiedMeter) -> None:
    meter.certificate, meter.shown_key = meter.certify(), OTHER_KEY
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter)
        assert (await refused(bench))["reason"] == "inconsistent"

    bench.run(body)


@pytest.mark.requirement("UC-I.1")
def test_meter_refuses_a_concentrator_of_a_foreign_authority(
    make_bench: Callable[[DcuConfig], Bench], meter: CertifiedMeter
) -> None:
    bench = make_bench(replace(CONFIG, identity=identity(FOREIGN)))
    meter.certificate = meter.certify()
    meter.restart()

    async def body() -> None:
        bench.start()
        join(bench, meter)
        assert (await refused(bench))["reason"] == "authentication"
        assert meter.server.refusals["untrusted_certificate"]

    bench.run(body)


def test_concentrator_without_an_identity_refuses_suite_1_by_name(
    make_bench: Callable[[DcuConfig], Bench], meter: CertifiedMeter
) -> None:
    bench = make_bench(CONFIG)

    async def body() -> None:
        bench.start()
        join(bench, meter)
        assert (await refused(bench))["reason"] == "unsupported"

    bench.run(body)


@pytest.mark.requirement("UC-I.4")
def test_restarted_concentrator_registers_certified_meters_from_what_it_kept(
    bench: Bench, meter: CertifiedMeter
) -> None:
    certificate = meter.certify()

    async def body() -> None:
        first = bench.start()
        join(bench, meter, certificate)
        await bench.until(lambda: bench.state(meter) == "registered", 60)
        first.halt()
        bench.headend.answers_credentials = False
        bench.start()
        bench.mesh.join(meter)
        await bench.until(lambda: bench.state(meter) == "registered", 60)

    bench.run(body)


# provisioning


def written(folder: Path, section: dict[str, str]) -> Path:
    path = folder / "dcu.json"
    document = {
        "dcu_id": "dcu-1",
        "eui64": "0212740100000001",
        "system_title": CLIENT_TITLE.hex(),
        "link_key": bytes(16).hex(),
        "radio_device": "/dev/ttymxc1",
        "storage": "state",
        "broker": {"host": "127.0.0.1", "port": 1883, "client_id": "dcu-1"},
        "identity": section,
    }
    path.write_text(json.dumps(document))
    return path


def test_configuration_file_holds_the_identity(tmp_path: Path) -> None:
    given = identity()
    assert load(written(tmp_path, asdict(given))).dcu.identity == given


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"signing_key_pem": "no key"}, "identity.signing_key_pem"),
        ({"agreement_key_pem": "no key"}, "identity.agreement_key_pem"),
        ({"certificates_pem": TRUSTED.certificate.pem()}, "identity.certificates_pem"),
        ({"signing_key_pem": pem(OTHER_KEY)}, "identity.certificates_pem"),
        ({"more": "text"}, "identity.more"),
    ],
)
def test_wrong_identity_is_refused_by_its_key_and_not_shown(tmp_path: Path, changes: dict[str, str], key: str) -> None:
    with pytest.raises(BadInputError, match=key) as error:
        load(written(tmp_path, asdict(identity()) | changes))
    assert "PRIVATE" not in str(error.value)


def test_keys_are_not_shown() -> None:
    given = identity()
    keys = ClientKeys(given, CLIENT_TITLE, utc_s=lambda: START_UTC_S, make_signer=DeterministicSigner)
    shown = repr(given) + repr(keys) + repr(keys.towards(keys.trust(CertifiedMeter().shipped())))
    assert "BEGIN" not in shown
