"""Security suite 0 (names SYMSEC_0 of the public list): ciphered associations, counters, protected data."""

from __future__ import annotations

from protocols.dlms.acse import Rlrq
from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.data import Data, integer
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.initiate import InitiateRequest
from protocols.dlms.object_list import ObjectListElement
from protocols.dlms.objects import Access
from protocols.dlms.security.ciphering import DED_TAGS, wrap
from protocols.dlms.security.gcm import Gcm
from protocols.dlms.security.keys import Policy
from protocols.dlms.set import SetRequestNormal
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, SUCCESS, in_words, outcome_of
from twin.conformance.plans.protected import (
    BOTH,
    GET_NAME,
    SECURITY_SETUP,
    SECURITY_SETUP_CLASS,
    answer_to,
    general_glo,
    glo,
    open_protected,
    policy_of,
    sealed,
    unsealed,
)
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, differs_from, equals

_PLAN = Plan.SECURITY_SUITE_0
_KEYS = (Need.KEYS, Need.SUITE_0)
_REQUEST_BITS = int(Policy.AUTHENTICATED_REQUEST | Policy.ENCRYPTED_REQUEST)
_LEAP = 1000


@case(
    "BasicCap_1",
    _PLAN,
    "A ciphered association opens by mutual authentication (HLS 5), and shows suite, policy and titles.",
    shows=("SEC-1", "OSI-5"),
    needs=_KEYS,
)
async def _basic_cap_1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    title = dialogue.security.server_system_title or b""
    record.measure("server system title", len(title), unit="bytes", limit=equals(8))
    shown = (await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 5)).value
    record.measure("the security setup shows that title", shown == title, limit=equals(True))
    suite = (await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 3)).value
    record.measure("security suite", suite, limit=equals(0))
    policy = (await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 2)).value
    record.measure("security policy", f"{policy:02X}")
    record.measure("GET, glo-ciphered", await answer_to(dialogue, glo(sealed(dialogue, GET_NAME))), limit=equals(DATA))
    if dialogue.client.conformance & Conformance.GENERAL_PROTECTION:
        outcome = await answer_to(dialogue, general_glo(dialogue, sealed(dialogue, GET_NAME)))
        record.measure("GET, general-glo-ciphered", outcome, limit=equals(DATA))


@case(
    "FraCount_1",
    _PLAN,
    "A ciphered APDU is served once: its replay is refused, on another channel and after a power cut too.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _fra_count_1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    once = glo(sealed(dialogue, GET_NAME))
    record.measure("the first time", await answer_to(dialogue, once), limit=equals(DATA))
    before = await _answer_counter(dialogue)
    record.measure("the second time", await answer_to(dialogue, once), limit=NOT_SERVED)
    record.measure("a fresh one", await answer_to(dialogue, glo(sealed(dialogue, GET_NAME))), limit=equals(DATA))
    await _replay(tester, record, dialogue.opening, once, "on another channel")
    if tester.bench is not None:
        tester.bench.power_cycle()
        later = await _replay(tester, record, dialogue.opening, once, "after a power cut")
        if later is not None:
            rises = await _answer_counter(later) > before
            record.measure("the meter's own counter has risen over it", rises, limit=equals(True))


async def _replay(tester: Tester, record: Record, opening: bytes, once: bytes, where: str) -> Dialogue | None:
    """Open with the AARQ of before, which must not do, then rightly, and send the GET of before."""
    stranger = await tester.dialogue(Role.PUBLIC, client_sap=tester.sap(Role.MANAGEMENT))
    outcome = in_words(await stranger.raw(opening))
    record.measure(f"the AARQ's replay {where}", outcome, limit=differs_from("accepted"))
    dialogue = await open_protected(tester, record, f"an association {where}")
    if dialogue is not None:
        record.measure(f"the GET's replay {where}", await answer_to(dialogue, once), limit=NOT_SERVED)
    return dialogue


async def _answer_counter(dialogue: Dialogue) -> int:
    """The invocation counter of the meter's next answer."""
    answer = await dialogue.must_answer(glo(sealed(dialogue, GET_NAME)))
    return unsealed(dialogue.security.ciphering, answer)[1]


@case(
    "FraCount_3",
    _PLAN,
    "Lower invocation counters are refused, higher ones served, forged ones change nothing; the meter's own rise.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _fra_count_3(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    send = dialogue.security.ciphering.send
    first = send.next()
    record.measure(
        "a counter", await answer_to(dialogue, glo(sealed(dialogue, GET_NAME, counter=first))), limit=equals(DATA)
    )
    for name, counter in (("the same counter", first), ("a lower counter", first - 1), ("counter 0", 0)):
        outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME, counter=counter)))
        record.measure(name, outcome, limit=NOT_SERVED)
    forged = bytearray(glo(sealed(dialogue, GET_NAME, counter=0xFFFFFFFE)))
    forged[-1] ^= 1
    record.measure("a forged APDU with a very high counter", await answer_to(dialogue, bytes(forged)), limit=NOT_SERVED)
    send.advance_to(first + _LEAP)
    record.measure(
        f"a counter {_LEAP} higher", await answer_to(dialogue, glo(sealed(dialogue, GET_NAME))), limit=equals(DATA)
    )
    counters = [await _answer_counter(dialogue) for _ in range(3)]
    record.measure("the meter's counters rise", counters[0] < counters[1] < counters[2], limit=equals(True))


@case(
    "DedKey_N1",
    _PLAN,
    "Dedicated ciphering is served under the key of this association alone.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _ded_key_n1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None or tester.symmetric is None:
        return
    outcome = await answer_to(dialogue, wrap(DED_TAGS[0xC0], sealed(dialogue, GET_NAME)))
    record.measure("ded-GET where no key was agreed", outcome, limit=NOT_SERVED)
    agreed = await tester.dialogue(Role.MANAGEMENT, dedicated_key=True)
    outcome = await agreed.try_to_associate()
    record.measure("an association with a dedicated key", outcome, limit=equals("accepted"))
    if outcome != "accepted":
        return
    wrong = Gcm(tester.key_source.random_bytes(16), tester.symmetric.authentication)
    outcome = await answer_to(agreed, wrap(DED_TAGS[0xC0], sealed(agreed, GET_NAME, gcm=wrong, counter=5)))
    record.measure("ded-GET under another key", outcome, limit=NOT_SERVED)
    outcome = await answer_to(agreed, wrap(DED_TAGS[0xC0], sealed(agreed, GET_NAME, counter=6)))
    record.measure("ded-GET under the global key", outcome, limit=NOT_SERVED)
    name = await outcome_of(_first(agreed, AttributeReference(1, LOGICAL_DEVICE_NAME, 2)))
    record.measure("GET under the agreed key", name, limit=equals(DATA))


async def _first(dialogue: Dialogue, reference: AttributeReference) -> Data | DataAccessResult:
    return (await dialogue.get(reference))[0]


# data exchange


def _writable(elements: tuple[ObjectListElement, ...]) -> AttributeReference | None:
    """An attribute that may be read and written, of a class whose values are harmless to write back."""
    both = Access.READ | Access.WRITE
    for element in sorted(elements, key=lambda item: item.class_id):
        for rights in element.attributes:
            is_harmless = (element.class_id, rights.attribute_id) in ((1, 2), (8, 3), (8, 7))
            if is_harmless and rights.access & both == both:
                return AttributeReference(element.class_id, element.obis, rights.attribute_id)
    return None


@case(
    "SecDataX_P1",
    _PLAN,
    "GET, SET and ACTION are served authenticated and encrypted, and so are their answers.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _sec_data_x_p1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    requests = {"GET": (GET_NAME, DATA)}
    reference = _writable(await tester.object_list(dialogue))
    if reference is not None:
        value = await dialogue.value(reference.class_id, reference.obis, reference.attribute_id)
        requests["SET"] = (SetRequestNormal(0xC1, reference, value).encode(), SUCCESS)
    for service, (plain, due) in requests.items():
        for form in ("glo", "general-glo"):
            content = sealed(dialogue, plain)
            apdu = glo(content, plain[0]) if form == "glo" else general_glo(dialogue, content)
            answer = await dialogue.must_answer(apdu)
            control, _, opened = unsealed(dialogue.security.ciphering, answer)
            record.measure(f"{service}, {form}", in_words(opened), limit=equals(due))
            record.measure(f"{service}, {form}: security control of the answer", f"{control:02X}", limit=equals("30"))
    method = ActionRequestNormal(0xC1, MethodReference(1, LOGICAL_DEVICE_NAME, 1), integer(0)).encode()
    answer = await dialogue.must_answer(glo(sealed(dialogue, method), 0xC3))
    record.measure("ACTION that cannot be done: the answer is ciphered", f"{answer[0]:02X}", limit=equals("CF"))
    _, _, opened = unsealed(dialogue.security.ciphering, answer)
    record.measure("ACTION that cannot be done", in_words(opened), limit=NOT_SERVED)


@case(
    "SecDataX_N1", _PLAN, "An APDU whose protection is wrong in one way only is not served.", shows="SEC-1", needs=_KEYS
)
async def _sec_data_x_n1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None or tester.symmetric is None:
        return
    keys, other = tester.symmetric, tester.key_source.random_bytes(16)
    stranger = b"XYZ\x00\x00\x00\x00\x09"

    def flipped(apdu: bytes, index: int) -> bytes:
        changed = bytearray(apdu)
        changed[index] ^= 0x01
        return bytes(changed)

    right_size = len(glo(sealed(dialogue, GET_NAME)))
    wrong = {
        "tampered tag": flipped(glo(sealed(dialogue, GET_NAME)), -1),
        "tampered ciphertext": flipped(glo(sealed(dialogue, GET_NAME)), right_size - 14),
        "tampered counter": flipped(glo(sealed(dialogue, GET_NAME, counter=0x7FFFFFF0)), 6),
        "tag cut off": glo(sealed(dialogue, GET_NAME)[:-12]),
        "another encryption key": glo(sealed(dialogue, GET_NAME, gcm=Gcm(other, keys.authentication))),
        "another authentication key": glo(sealed(dialogue, GET_NAME, gcm=Gcm(keys.encryption, other))),
        "another suite's id": glo(sealed(dialogue, GET_NAME, suite=1)),
        "another system title": general_glo(dialogue, sealed(dialogue, GET_NAME, title=stranger), stranger),
        "the broadcast key set": glo(sealed(dialogue, GET_NAME, control=BOTH | 0x40)),
        "a GET under the tag of SET": glo(sealed(dialogue, GET_NAME), 0xC1),
        "a header without content": glo(sealed(dialogue, GET_NAME)[:5]),
    }
    for name, apdu in wrong.items():
        record.measure(name, await answer_to(dialogue, apdu), limit=NOT_SERVED)
    outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME)))
    record.measure("a right APDU afterwards", outcome, limit=equals(DATA))


@case(
    "REL_N1",
    _PLAN,
    "A release that is not protected, or wrongly, does not close a ciphered association.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _rel_n1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    if not await policy_of(dialogue) & _REQUEST_BITS:
        raise SkipCase("the meter's policy asks for no protection")
    initiate = InitiateRequest(dialogue.client.config.conformance, 1024).encode()
    tampered = bytearray(wrap(0x21, sealed(dialogue, initiate)))
    tampered[-1] ^= 1
    for name, information in (
        ("in the clear", None),
        ("with a plain InitiateRequest", initiate),
        ("tampered", bytes(tampered)),
    ):
        answer = in_words(await dialogue.raw(Rlrq(user_information=information).encode()))
        record.measure(f"RLRQ {name}", answer, limit=differs_from("released: normal"))
        outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME)))
        record.measure(f"GET after RLRQ {name}", outcome, limit=equals(DATA))
    await dialogue.release()
    outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME)))
    record.measure("GET after a right RLRQ", outcome, limit=NOT_SERVED)
