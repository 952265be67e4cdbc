"""Application layer: opening and closing associations (names IDLE, OPEN and REL of the public list)."""

from __future__ import annotations

from protocols.dlms.acse import Aarq
from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.ber import tlv
from protocols.dlms.data import octet_string
from protocols.dlms.enums import DEFAULT_CONFORMANCE, Conformance, ContextName, Mechanism
from protocols.dlms.get import AttributeReference, GetRequestNormal
from protocols.dlms.initiate import DLMS_VERSION, VAA_NAME_LN, InitiateRequest
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import CURRENT_ASSOCIATION
from protocols.dlms.security.ciphering import DED_TAGS, wrap
from protocols.dlms.set import SetRequestNormal
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import (
    DATA,
    NOT_ACCEPTED,
    NOT_SERVED,
    aare_in_words,
    in_words,
    initiate_response,
    rejected_with,
)
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, at_most, equals

NAME_REFERENCE = AttributeReference(1, LOGICAL_DEVICE_NAME, 2)
CLOCK = ObisCode.parse("0-0:1.0.0*255")
GET_NAME = GetRequestNormal(0xC1, NAME_REFERENCE).encode()
_PROPOSED_MAX_BYTES = 1024


def initiate(**changes: object) -> bytes:
    settings: dict[str, object] = {"conformance": DEFAULT_CONFORMANCE, "max_receive_pdu_bytes": _PROPOSED_MAX_BYTES}
    return InitiateRequest(**(settings | changes)).encode()  # type: ignore[arg-type]


def aarq(**changes: object) -> bytes:
    """An AARQ without security; `changes` replace its fields."""
    settings: dict[str, object] = {"context": ContextName.LN, "user_information": initiate()}
    return Aarq(**(settings | changes)).encode()  # type: ignore[arg-type]


async def _opened(tester: Tester, request: bytes) -> tuple[str, Dialogue]:
    """What an AARQ is answered with, in words, and the dialogue to go on with."""
    dialogue = await tester.dialogue(Role.PUBLIC)
    return aare_in_words(await dialogue.aare(request)), dialogue


async def _still_opens(tester: Tester, record: Record) -> None:
    """Whatever was refused, a right client gets in afterwards."""
    outcome, dialogue = await _opened(tester, aarq())
    record.measure("a right AARQ afterwards", outcome, limit=equals("accepted"))
    record.measure("GET in that association", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))


@case("IDLE_N1", Plan.APPLICATION, "Without an association no service is given: GET, SET and ACTION.", shows="OSI-5")
async def _idle_n1(tester: Tester, record: Record) -> None:
    dialogue = await tester.dialogue(Role.PUBLIC)
    requests = {
        "GET": GET_NAME,
        "SET": SetRequestNormal(0xC1, AttributeReference(8, CLOCK, 2), octet_string(bytes(12))).encode(),
        "ACTION": ActionRequestNormal(
            0xC1, MethodReference(15, CURRENT_ASSOCIATION, 1), octet_string(bytes(8))
        ).encode(),
    }
    for name, apdu in requests.items():
        record.measure(f"{name} while idle", in_words(await dialogue.raw(apdu)), limit=NOT_SERVED)
    await _still_opens(tester, record)


@case(
    "OPEN_1",
    Plan.APPLICATION,
    "An association without security opens, and its InitiateResponse holds to the rules.",
    shows=("OSI-5", "OSI-7"),
)
async def _open_1(tester: Tester, record: Record) -> None:
    dialogue = await tester.dialogue(Role.PUBLIC)
    aare = await dialogue.aare(aarq())
    record.measure("AARE", aare_in_words(aare), limit=equals("accepted"))
    if aare is None or aare_in_words(aare) != "accepted":
        return
    response = initiate_response(aare)
    record.measure("application context", aare.context, limit=equals(int(ContextName.LN)))
    record.measure("diagnostic", aare.diagnostic.name.lower(), limit=equals("null"))
    record.measure("DLMS version", response.dlms_version, limit=equals(DLMS_VERSION))
    record.measure("VAA name", response.vaa_name, limit=equals(VAA_NAME_LN))
    beyond = int(response.conformance) & ~int(DEFAULT_CONFORMANCE)
    record.measure("negotiated beyond what was proposed", f"{beyond:06X}", limit=equals("000000"))
    record.measure("GET is negotiated", bool(response.conformance & Conformance.GET), limit=equals(True))
    record.measure("server's PDU size", response.max_receive_pdu_bytes, unit="bytes", limit=at_least(12))
    record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))


@case(
    "OPEN_2",
    Plan.APPLICATION,
    "The protocol version: version 1 opens, a client that only knows another does not.",
    shows="OSI-5",
)
async def _open_2(tester: Tester, record: Record) -> None:
    outcome, _ = await _opened(tester, aarq(protocol_version=bytes.fromhex("0780")))
    record.measure("AARQ with version 1", outcome, limit=equals("accepted"))
    outcome, _ = await _opened(tester, aarq(protocol_version=bytes.fromhex("0640")))
    record.measure("AARQ with version 2 alone", outcome, limit=NOT_ACCEPTED)
    await _still_opens(tester, record)


@case(
    "OPEN_3",
    Plan.APPLICATION,
    "An application context that is unknown, not offered or missing opens nothing.",
    shows="OSI-5",
)
async def _open_3(tester: Tester, record: Record) -> None:
    limit = rejected_with("application_context_name_not_supported")
    for name, context in (("unknown", 99), ("ciphered, for the public client", ContextName.LN_CIPHERED)):
        outcome, _ = await _opened(tester, aarq(context=context))
        record.measure(f"AARQ with context {name}", outcome, limit=limit)
    outcome, _ = await _opened(tester, tlv(0x60, tlv(0xBE, tlv(0x04, initiate()))))
    record.measure("AARQ without context", outcome, limit=NOT_ACCEPTED)
    await _still_opens(tester, record)


@case(
    "OPEN_4",
    Plan.APPLICATION,
    "Titles, qualifiers and invocation ids that no security asks for do not stand in the way.",
    shows="OSI-5",
)
async def _open_4(tester: Tester, record: Record) -> None:
    fields: dict[str, object] = {
        "called_ap_title": b"METERXYZ",
        "calling_ap_title": b"CLIENT01",
        "calling_ae_invocation_id": 7,
    }
    for name, value in fields.items():
        outcome, _ = await _opened(tester, aarq(**{name: value}))
        record.measure(f"AARQ with {name}", outcome, limit=equals("accepted"))
    outcome, dialogue = await _opened(tester, aarq(**fields))
    record.measure("AARQ with all of them", outcome, limit=equals("accepted"))
    record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))


@case(
    "OPEN_5",
    Plan.APPLICATION,
    "Where a secret is asked for, an AARQ without authentication opens nothing.",
    shows=("OSI-5", "SEC-3"),
)
async def _open_5(tester: Tester, record: Record) -> None:
    for role in (Role.READER, Role.MANAGEMENT):
        dialogue = await _as(tester, role)
        outcome = aare_in_words(await dialogue.aare(aarq()))
        record.measure(f"AARQ of the {role} client without authentication", outcome, limit=NOT_ACCEPTED)
        record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=NOT_SERVED)
    await _still_opens(tester, record)


async def _as(tester: Tester, role: Role) -> Dialogue:
    """A dialogue from a role's access point that needs no secret of it."""
    return await tester.dialogue(Role.PUBLIC, client_sap=tester.sap(role))


@case(
    "OPEN_6",
    Plan.APPLICATION,
    "An authentication mechanism that is unknown or not the association's opens nothing.",
    shows=("OSI-5", "SEC-3"),
)
async def _open_6(tester: Tester, record: Record) -> None:
    limit = rejected_with("authentication_mechanism_name", "authentication_failure")
    for name, mechanism in (("unknown", 77), ("MD5", Mechanism.HIGH_MD5)):
        dialogue = await _as(tester, Role.READER)
        request = aarq(mechanism=mechanism, authentication_value=b"12345678", authentication_functional_unit=True)
        record.measure(f"AARQ with mechanism {name}", aare_in_words(await dialogue.aare(request)), limit=limit)
        record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=NOT_SERVED)
    await _still_opens(tester, record)


@case(
    "OPEN_7",
    Plan.APPLICATION,
    "A wrong secret is refused as a failed authentication; the right one opens.",
    shows=("OSI-5", "SEC-3"),
    needs=(Need.READER_SECRET,),
)
async def _open_7(tester: Tester, record: Record) -> None:
    right = tester.config(Role.READER).secret
    wrongs = {"wrong": bytes(len(right)), "empty": b"", "right but cut": right[:-1], "right and longer": right + b"0"}
    for name, secret in wrongs.items():
        dialogue = await tester.dialogue(Role.READER, secret=secret)
        aare = await dialogue.aare(dialogue.client.associate())
        record.measure(f"AARQ with a {name} secret", aare_in_words(aare), limit=rejected_with("authentication"))
        record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=NOT_SERVED)
        outcome = await (await tester.dialogue(Role.READER)).try_to_associate()
        record.measure("the right secret afterwards", outcome, limit=equals("accepted"))


@case("OPEN_9", Plan.APPLICATION, "A dedicated key that was sent in the clear is never used.", shows=("OSI-5", "SEC-1"))
async def _open_9(tester: Tester, record: Record) -> None:
    key = bytes(range(16))
    outcome, dialogue = await _opened(tester, aarq(user_information=initiate(dedicated_key=key)))
    record.measure("AARQ with a dedicated key in the clear", outcome)
    sealed = bytes.fromhex("3000000001") + bytes(len(GET_NAME) + 12)
    answer = await dialogue.raw(wrap(DED_TAGS[0xC0], sealed))
    record.measure("GET under a dedicated key", in_words(answer), limit=NOT_SERVED)
    await _still_opens(tester, record)


@case("OPEN_11", Plan.APPLICATION, "The optional fields of the InitiateRequest do not stand in the way.", shows="OSI-5")
async def _open_11(tester: Tester, record: Record) -> None:
    outcome, _ = await _opened(tester, aarq(user_information=initiate(quality_of_service=0)))
    record.measure("AARQ with a quality of service", outcome, limit=equals("accepted"))
    plain = initiate()
    explicit = plain[:2] + b"\x01\x01" + plain[3:]
    outcome, _ = await _opened(tester, aarq(user_information=explicit))
    record.measure("AARQ with response-allowed TRUE, explicitly", outcome, limit=equals("accepted"))
    outcome, _ = await _opened(tester, aarq(user_information=initiate(max_receive_pdu_bytes=0)))
    record.measure("AARQ with a PDU size of 0 (no limit)", outcome, limit=equals("accepted"))


@case("OPEN_12", Plan.APPLICATION, "A DLMS version below 6 is refused, and the refusal says why.", shows="OSI-5")
async def _open_12(tester: Tester, record: Record) -> None:
    outcome, _ = await _opened(tester, aarq(user_information=initiate(dlms_version=5)))
    record.measure("AARQ with DLMS version 5", outcome, limit=rejected_with("initiate error 1"))
    outcome, _ = await _opened(tester, aarq(user_information=None))
    record.measure("AARQ without InitiateRequest", outcome, limit=NOT_ACCEPTED)
    outcome, _ = await _opened(tester, aarq(user_information=initiate()[:-1]))
    record.measure("AARQ with a truncated InitiateRequest", outcome, limit=NOT_ACCEPTED)
    await _still_opens(tester, record)


@case(
    "OPEN_13",
    Plan.APPLICATION,
    "No service in common: refused. What was not negotiated is not served.",
    shows=("OSI-5", "OSI-7"),
)
async def _open_13(tester: Tester, record: Record) -> None:
    outcome, _ = await _opened(tester, aarq(user_information=initiate(conformance=Conformance.NONE)))
    record.measure("AARQ that proposes nothing", outcome, limit=rejected_with("initiate error 2"))
    dialogue = await tester.dialogue(Role.PUBLIC)
    aare = await dialogue.aare(aarq(user_information=initiate(conformance=Conformance.GET)))
    record.measure("AARQ that proposes GET alone", aare_in_words(aare), limit=equals("accepted"))
    if aare is None or aare_in_words(aare) != "accepted":
        return
    negotiated = initiate_response(aare).conformance
    record.measure("negotiated conformance", f"{int(negotiated):06X}", limit=equals(f"{int(Conformance.GET):06X}"))
    record.measure("GET", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))
    write = SetRequestNormal(0xC1, AttributeReference(1, LOGICAL_DEVICE_NAME, 2), octet_string(b"")).encode()
    record.measure("SET, which was not negotiated", in_words(await dialogue.raw(write)), limit=NOT_SERVED)
    await _still_opens(tester, record)


@case(
    "OPEN_14",
    Plan.APPLICATION,
    "The client's PDU size: too small is refused, a small one is kept to by every answer.",
    shows=("OSI-5", "OSI-7"),
)
async def _open_14(tester: Tester, record: Record) -> None:
    outcome, _ = await _opened(tester, aarq(user_information=initiate(max_receive_pdu_bytes=11)))
    record.measure("AARQ with a PDU size of 11 bytes", outcome, limit=rejected_with("initiate error 3"))
    small_bytes = 64
    dialogue = await tester.dialogue(Role.PUBLIC, max_receive_pdu_bytes=small_bytes)
    await dialogue.associate()
    waiting = dialogue.client.get(AttributeReference(15, CURRENT_ASSOCIATION, 2))
    longest, answers = 0, 0
    while waiting:
        answer = await dialogue.must_answer(waiting)
        longest, answers = max(longest, len(answer)), answers + 1
        events = dialogue.client.receive(answer)
        waiting = next((getattr(event, "apdu", b"") for event in events), b"")
    record.measure("longest answer", longest, unit="bytes", limit=at_most(small_bytes))
    record.measure("answers that the object list took", answers, limit=at_least(2))


@case(
    "REL_P1",
    Plan.APPLICATION,
    "An association is released, gives no service afterwards, and can be opened again.",
    shows="OSI-5",
)
async def _rel_p1(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    record.measure("GET before", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))
    answer = await dialogue.raw(bytes.fromhex("6203800100"))
    record.measure("RLRQ", in_words(answer), limit=equals("released: normal"))
    record.measure("GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=NOT_SERVED)
    outcome = aare_in_words(await dialogue.aare(aarq()))
    record.measure("AARQ on the same channel", outcome, limit=equals("accepted"))
    record.measure("GET in the new association", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))


async def short_names_offered(tester: Tester) -> bool:
    """Whether the meter has an association with short names."""
    outcome, _ = await _opened(tester, aarq(context=ContextName.SN))
    if outcome.startswith("rejected") and "application_context_name_not_supported" not in outcome:
        raise SkipCase(f"the meter does not say whether it has short names: {outcome}")
    return outcome == "accepted"
