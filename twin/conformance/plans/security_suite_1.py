"""Security suite 1: a plan of our own, as there is no public one. Signatures, certificates, agreed keys."""

from __future__ import annotations

from dataclasses import replace

from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, Tag, array, enumerated, octet_string, structure
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.get import AttributeReference
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import Certificate, CertificateEntity
from protocols.dlms.security.general_protection import KeyScheme
from protocols.dlms.security.key_management import KeyId, agreed_key, agreement_offer, agreement_part
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.dlms.security.signing import DeterministicSigner, Verifier
from protocols.errors import RemoteProtocolError
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.bench import MeterBench
from twin.conformance.cases import Plan, case
from twin.conformance.certified import AGREEMENT, SIGNING, Certified, new_authority
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, SUCCESS, in_words, outcome_of
from twin.conformance.plans.application import NAME_REFERENCE
from twin.conformance.plans.protected import (
    GET_NAME,
    SECURITY_SETUP,
    SECURITY_SETUP_CLASS,
    answer_to,
    glo,
    open_protected,
    sealed,
    unsealed,
)
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, differs_from, equals

_PLAN = Plan.SECURITY_SUITE_1
_NEEDS = (Need.KEYS, Need.SUITE_1)
_AGREE, _GENERATE, _REQUEST, _IMPORT, _EXPORT, _REMOVE = 3, 4, 5, 6, 7, 8
_OTHER_TITLE = b"OAMDCU02"
_DAY_S = 86_400.0


def _parts(tester: Tester) -> tuple[MeterBench, Certified, AsymmetricKeys]:
    """The bench, the authority and the tester's keys. Raises SkipCase where the target has none."""
    bench = tester.bench
    if bench is None or bench.certified is None:
        raise SkipCase(f"needs {Need.SUITE_1}")
    return bench, bench.certified, bench.certified.client


async def _opening(tester: Tester, asymmetric: AsymmetricKeys) -> str:
    """What an association under these key pairs comes to."""
    await tester.catch_up()
    dialogue = await tester.dialogue(Role.MANAGEMENT, security=tester.security(asymmetric=asymmetric))
    return await dialogue.try_to_associate()


@case(
    "BasicCap_1",
    _PLAN,
    "An association opens by mutual signatures (HLS 7), and is ciphered under suite 1.",
    shows=("SEC-1", "UC-I.1"),
    needs=_NEEDS,
)
async def _basic_cap_1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    mechanism = dialogue.client.config.mechanism
    record.measure("mechanism", mechanism.name.lower(), limit=equals(Mechanism.HIGH_ECDSA.name.lower()))
    suite = (await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 3)).value
    record.measure("security suite", suite, limit=equals(1))
    answer = await dialogue.must_answer(glo(sealed(dialogue, GET_NAME)))
    control, _, plain = unsealed(dialogue.security.ciphering, answer)
    record.measure("GET, glo-ciphered", in_words(plain), limit=equals(DATA))
    record.measure("security control of its answer", f"{control:02X}", limit=equals("31"))


@case(
    "Auth_N1",
    _PLAN,
    "A client that has a trusted certificate but not its key is refused.",
    shows=("SEC-1", "UC-I.3"),
    needs=_NEEDS,
)
async def _auth_n1(tester: Tester, record: Record) -> None:
    _, _, client = _parts(tester)
    forged = replace(client, signer=DeterministicSigner(new_private_key(tester.key_source)))
    record.measure("a signature of another key", await _opening(tester, forged), limit=differs_from("accepted"))
    record.measure("the right signature afterwards", await _opening(tester, client), limit=equals("accepted"))


@case(
    "Auth_N2",
    _PLAN,
    "A certificate of a foreign authority, of another client, or one that has expired, is refused.",
    shows=("SEC-1", "UC-I.3"),
    needs=_NEEDS,
    timeout_s=10 * _DAY_S,
)
async def _auth_n2(tester: Tester, record: Record) -> None:
    bench, certified, client = _parts(tester)
    key, title = certified.signing.public_key(), bench.keys.client_system_title
    foreign = new_authority("Elsewhere", tester.key_source, bench.clock).issue(title, key, SIGNING)
    others = certified.authority.issue(_OTHER_TITLE, key, SIGNING)
    short = certified.authority.issue(title, key, SIGNING, valid_for_s=2 * _DAY_S)
    for name, certificate in (("of a foreign authority", foreign), ("of another client", others)):
        outcome = await _opening(tester, replace(client, certificate=certificate.der))
        record.measure(f"a certificate {name}", outcome, limit=differs_from("accepted"))
    outcome = await _opening(tester, replace(client, certificate=short.der))
    record.measure("a certificate of a day", outcome, limit=equals("accepted"))
    await bench.pass_time(2 * _DAY_S)
    outcome = await _opening(tester, replace(client, certificate=short.der))
    record.measure("the same a day after its end", outcome, limit=differs_from("accepted"))
    record.measure("a certificate that is valid", await _opening(tester, client), limit=equals("accepted"))


@case(
    "FraCount_1",
    _PLAN,
    "A ciphered APDU under suite 1 is served once, and not again after a power cut.",
    shows="SEC-1",
    needs=_NEEDS,
)
async def _fra_count_1(tester: Tester, record: Record) -> None:
    bench, _, _ = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    once = glo(sealed(dialogue, GET_NAME))
    record.measure("the first time", await answer_to(dialogue, once), limit=equals(DATA))
    record.measure("the second time", await answer_to(dialogue, once), limit=NOT_SERVED)
    bench.power_cycle()
    stranger = await tester.dialogue(Role.PUBLIC, client_sap=tester.sap(Role.MANAGEMENT))
    replayed = in_words(await stranger.raw(dialogue.opening))
    record.measure("the AARQ's replay after a power cut", replayed, limit=differs_from("accepted"))
    later = await open_protected(tester, record, "an association after it")
    if later is not None:
        record.measure("the GET's replay in it", await answer_to(later, once), limit=NOT_SERVED)


# general protection


async def _get_name(dialogue: Dialogue) -> str:
    return await outcome_of(_first(dialogue))


async def _first(dialogue: Dialogue) -> Data | DataAccessResult:
    return (await dialogue.get(AttributeReference(1, LOGICAL_DEVICE_NAME, 2)))[0]


@case(
    "GenSign_P1", _PLAN, "Signed requests are served, and answered with a right signature.", shows="SEC-1", needs=_NEEDS
)
async def _gen_sign_p1(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.MANAGEMENT, sign=True)
    for name in ("first", "second"):
        apdu = dialogue.client.get(NAME_REFERENCE)
        record.measure(f"the {name} request is signed", f"{apdu[0]:02X}", limit=equals("DF"))
        answer = await dialogue.must_answer(apdu)
        record.measure("its answer is signed", f"{answer[0]:02X}", limit=equals("DF"))
        record.measure("and right", len(dialogue.client.receive(answer)), limit=at_least(1))


async def _not_served(dialogue: Dialogue, record: Record, name: str, apdu: bytes) -> None:
    record.measure(name, in_words(await dialogue.raw(apdu)), limit=NOT_SERVED)


def _flipped(apdu: bytes, index: int) -> bytes:
    changed = bytearray(apdu)
    changed[index] ^= 0x01
    return bytes(changed)


@case(
    "GenSign_N1",
    _PLAN,
    "A signed request that was changed, or came before, is not served.",
    shows="SEC-1",
    needs=_NEEDS,
)
async def _gen_sign_n1(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.MANAGEMENT, sign=True)
    for name, index in (("its signature changed", -1), ("its content changed", -100)):
        apdu = dialogue.client.get(NAME_REFERENCE)
        await _not_served(dialogue, record, f"a request with {name}", _flipped(apdu, index))
        dialogue.client.abandon_request()
    apdu = dialogue.client.get(NAME_REFERENCE)
    answer = await dialogue.must_answer(apdu)
    record.measure("a right request", len(dialogue.client.receive(answer)), limit=at_least(1))
    await _not_served(dialogue, record, "its replay", apdu)


@case(
    "GenCiph_P1",
    _PLAN,
    "General-ciphering is served however the key comes: identified, wrapped, or agreed (one-pass, static unified).",
    shows=("SEC-1", "SEC-2"),
    needs=_NEEDS,
)
async def _gen_ciph_p1(tester: Tester, record: Record) -> None:
    await _import_agreement_key(tester, record)
    for scheme in KeyScheme:
        dialogue = await tester.associate(Role.MANAGEMENT, key_scheme=scheme)
        for turn in ("first", "second"):
            record.measure(f"{scheme.name.lower()}: {turn} GET", await _get_name(dialogue), limit=equals(DATA))


async def _import_agreement_key(tester: Tester, record: Record) -> None:
    """Have the meter know the tester's key for agreement, by its certificate."""
    bench, certified, client = _parts(tester)
    public_key = client.agreement.public_key()
    certificate = certified.authority.issue(bench.keys.client_system_title, public_key, AGREEMENT)
    dialogue = await tester.associate(Role.MANAGEMENT)
    outcome = await _invoke(dialogue, _IMPORT, octet_string(certificate.der))
    record.measure("the tester's certificate for key agreement is imported", outcome, limit=equals(SUCCESS))


@case(
    "GenCiph_N1",
    _PLAN,
    "A general-ciphered request that was changed, or came before, is not served.",
    shows="SEC-1",
    needs=_NEEDS,
)
async def _gen_ciph_n1(tester: Tester, record: Record) -> None:
    await _import_agreement_key(tester, record)
    for scheme in KeyScheme:
        dialogue = await tester.associate(Role.MANAGEMENT, key_scheme=scheme)
        apdu = dialogue.client.get(NAME_REFERENCE)
        await _not_served(dialogue, record, f"{scheme.name.lower()}: tag changed", _flipped(apdu, -1))
        dialogue.client.abandon_request()
        apdu = dialogue.client.get(NAME_REFERENCE)
        answer = await dialogue.must_answer(apdu)
        record.measure(f"{scheme.name.lower()}: a right one", len(dialogue.client.receive(answer)), limit=at_least(1))
        await _not_served(dialogue, record, f"{scheme.name.lower()}: its replay", apdu)


# key agreement


async def _invoke(dialogue: Dialogue, method_id: int, argument: Data) -> str:
    return await outcome_of(_result(dialogue, method_id, argument))


async def _result(dialogue: Dialogue, method_id: int, argument: Data) -> ActionResult:
    return (await dialogue.action(MethodReference(SECURITY_SETUP_CLASS, SECURITY_SETUP, method_id), argument)).result


async def _returned(dialogue: Dialogue, method_id: int, argument: Data) -> Data | None:
    """What a method gives back, None if it is refused."""
    outcome = await dialogue.action(MethodReference(SECURITY_SETUP_CLASS, SECURITY_SETUP, method_id), argument)
    return outcome.returned if isinstance(outcome.returned, Data) else None


async def _under(tester: Tester, **keys: bytes) -> str:
    await tester.catch_up()
    dialogue = await tester.dialogue(Role.MANAGEMENT, security=tester.security(keys))
    return await dialogue.try_to_associate()


@case(
    "KeyAgree_P1",
    _PLAN,
    "New keys are agreed by signed ephemeral keys (ephemeral unified model), hold, and survive a power cut.",
    shows="SEC-2",
    needs=_NEEDS,
)
async def _key_agree_p1(tester: Tester, record: Record) -> None:
    bench, certified, client = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    own = {key: new_private_key(tester.key_source) for key in (KeyId.ENCRYPTION, KeyId.AUTHENTICATION)}
    offers = array(agreement_offer(key, ephemeral, client.signer) for key, ephemeral in own.items())
    answer = await _returned(dialogue, _AGREE, offers)
    record.measure("the meter gives its part", answer is not None, limit=equals(True))
    if answer is None:
        return
    verifier = Verifier(certified.meter_signing_key)
    theirs = dict(agreement_part(item, verifier) for item in answer.value)
    titles = bench.keys.client_system_title, bench.keys.system_title
    agreed = {key.field_name: agreed_key(own[key], theirs[key], *titles) for key in own}
    record.measure("an association under the old keys", await _under(tester), limit=differs_from("accepted"))
    record.measure("an association under the agreed keys", await _under(tester, **agreed), limit=equals("accepted"))
    bench.power_cycle()
    record.measure("the same after a power cut", await _under(tester, **agreed), limit=equals("accepted"))


@case(
    "KeyAgree_N1",
    _PLAN,
    "An agreement whose signature or point is wrong is refused, and the old keys hold.",
    shows="SEC-2",
    needs=_NEEDS,
)
async def _key_agree_n1(tester: Tester, record: Record) -> None:
    _, _, client = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    ephemeral = new_private_key(tester.key_source)
    stranger = DeterministicSigner(new_private_key(tester.key_source))
    right = agreement_offer(KeyId.ENCRYPTION, ephemeral, client.signer)
    content = right.value[1].value
    off_curve = bytes(63) + b"\x05"
    signed_off_curve = off_curve + client.signer.sign(bytes((KeyId.ENCRYPTION,)) + off_curve)
    wrong = {
        "signed by another": agreement_offer(KeyId.ENCRYPTION, ephemeral, stranger),
        "tampered": structure(enumerated(0), octet_string(_flipped(content, 5))),
        "for another key id than was signed": structure(enumerated(2), octet_string(content)),
        "a point that is not on the curve": structure(enumerated(0), octet_string(signed_off_curve)),
        "truncated": structure(enumerated(0), octet_string(content[:-1])),
    }
    for name, offer in wrong.items():
        record.measure(name, await _invoke(dialogue, _AGREE, array((offer,))), limit=NOT_SERVED)
    record.measure("an association under the old keys", await _under(tester), limit=equals("accepted"))


# certificates


def _by_title(entity: CertificateEntity, kind: int, title: bytes) -> Data:
    return structure(enumerated(0), structure(enumerated(entity), enumerated(kind), octet_string(title)))


@case(
    "Cert_P1",
    _PLAN,
    "Certificates are listed, imported, exported and removed, and an imported one survives a power cut.",
    shows="SEC-2",
    needs=_NEEDS,
)
async def _cert_p1(tester: Tester, record: Record) -> None:
    bench, certified, _ = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    before = await _listed(dialogue)
    record.measure("certificates listed", before, limit=at_least(2))
    own = await _returned(dialogue, _EXPORT, _by_title(CertificateEntity.SERVER, SIGNING, bench.keys.system_title))
    key = None if own is None else Certificate.decode(own.value).public_key.public_numbers()
    same = key == certified.meter_signing_key.public_numbers()
    record.measure("the meter's own certificate is exported", same, limit=equals(True))
    other = certified.authority.issue(_OTHER_TITLE, certified.signing.public_key(), SIGNING)
    record.measure("import", await _invoke(dialogue, _IMPORT, octet_string(other.der)), limit=equals(SUCCESS))
    record.measure("listed afterwards", await _listed(dialogue), limit=equals(before + 1))
    bench.power_cycle()
    dialogue = await tester.associate(Role.MANAGEMENT)
    which = _by_title(CertificateEntity.CLIENT, SIGNING, _OTHER_TITLE)
    exported = await _returned(dialogue, _EXPORT, which)
    is_same = exported is not None and exported.value == other.der
    record.measure("export after a power cut gives the same bytes", is_same, limit=equals(True))
    record.measure("remove", await _invoke(dialogue, _REMOVE, which), limit=equals(SUCCESS))
    record.measure("export of what was removed", await _invoke(dialogue, _EXPORT, which), limit=NOT_SERVED)


async def _listed(dialogue: Dialogue) -> int:
    value = await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 6)
    if value.tag != Tag.ARRAY:
        raise RemoteProtocolError("certificates is not an array", spec="IEC 62056-6-2, class 64")
    return len(value.value)


@case(
    "Cert_P2",
    _PLAN,
    "A new key pair is generated, requested for, certified and used.",
    shows=("SEC-2", "UC-I.2"),
    needs=_NEEDS,
)
async def _cert_p2(tester: Tester, record: Record) -> None:
    bench, certified, client = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    record.measure("generate_key_pair", await _invoke(dialogue, _GENERATE, enumerated(0)), limit=equals(SUCCESS))
    request = await _returned(dialogue, _REQUEST, enumerated(0))
    record.measure("a certificate request comes back", request is not None, limit=equals(True))
    if request is None:
        return
    certificate = certified.authority.issue_for(request.value, SIGNING)
    is_new = certificate.public_key.public_numbers() != certified.meter_signing_key.public_numbers()
    record.measure("for a new key", is_new, limit=equals(True))
    outcome = await _invoke(dialogue, _IMPORT, octet_string(certificate.der))
    record.measure("import of its certificate", outcome, limit=equals(SUCCESS))
    client.peers.offered(bench.keys.system_title, certificate.der)
    record.measure("an association under the new key", await _opening(tester, client), limit=equals("accepted"))


@case(
    "Cert_N1",
    _PLAN,
    "A certificate that is foreign, malformed or of a wrong key is not imported; the meter's own is not removed.",
    shows=("SEC-2", "UC-I.3"),
    needs=_NEEDS,
)
async def _cert_n1(tester: Tester, record: Record) -> None:
    bench, certified, _ = _parts(tester)
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    before = await _listed(dialogue)
    key = certified.signing.public_key()
    right = certified.authority.issue(_OTHER_TITLE, key, SIGNING)
    wrong = {
        "of a foreign authority": new_authority("Elsewhere", tester.key_source, bench.clock)
        .issue(_OTHER_TITLE, key, SIGNING)
        .der,
        "of a meter's title for a key that is not the meter's": certified.authority.issue(
            bench.keys.system_title, key, SIGNING
        ).der,
        "tampered": _flipped(right.der, -1),
        "truncated": right.der[:-3],
        "random bytes": tester.key_source.random_bytes(64),
        "an authority's": certified.authority.certificate.der,
    }
    for name, der in wrong.items():
        record.measure(
            f"import of a certificate {name}", await _invoke(dialogue, _IMPORT, octet_string(der)), limit=NOT_SERVED
        )
    own = _by_title(CertificateEntity.SERVER, SIGNING, bench.keys.system_title)
    record.measure("removal of the meter's own", await _invoke(dialogue, _REMOVE, own), limit=NOT_SERVED)
    record.measure("certificates listed afterwards", await _listed(dialogue), limit=equals(before))
