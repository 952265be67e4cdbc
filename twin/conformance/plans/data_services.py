"""Application layer: GET, SET and ACTION that cannot be served (names DATA_LN and DATA_SN of the public list)."""

from __future__ import annotations

from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.data import octet_string
from protocols.dlms.get import AttributeReference, GetRequestNext, GetRequestNormal
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import CURRENT_ASSOCIATION
from protocols.dlms.set import SetRequestNormal
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, in_words, refused_as
from twin.conformance.plans.application import GET_NAME, short_names_offered
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, equals

_NOWHERE = ObisCode.parse("0-0:199.255.255*255")


async def _still_serves(dialogue: Dialogue, record: Record) -> None:
    record.measure("a right GET afterwards", in_words(await dialogue.raw(GET_NAME)), limit=equals(DATA))


@case(
    "DATA_LN_N1",
    Plan.APPLICATION,
    "Malformed and unknown APDUs are not served, and do not cost the association.",
    shows=("OSI-7", "OSI-6"),
)
async def _data_ln_n1(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    wrong = {
        "truncated GET": GET_NAME[:-3],
        "GET of an unknown choice": bytes((0xC0, 9)) + GET_NAME[2:],
        "GET with bytes left over": GET_NAME + b"\x00\x00",
        "GET with an access selector that is cut": GET_NAME[:-1] + bytes.fromhex("010206"),
        "GET of a next block that nobody waits for": GetRequestNext(0xC1, 4).encode(),
        "ReadRequest of short names": bytes.fromhex("050102fa00"),
        "unknown tag": bytes.fromhex("ef0102030405"),
        "random bytes": bytes.fromhex("c0ffee00badc0de5"),
    }
    for name, apdu in wrong.items():
        record.measure(name, in_words(await dialogue.raw(apdu)), limit=NOT_SERVED)
    await _still_serves(dialogue, record)


@case(
    "DATA_LN_N3", Plan.APPLICATION, "GET of what is not there is answered with the result that says so.", shows="OSI-7"
)
async def _data_ln_n3(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    undefined = refused_as("object_undefined", "object_unavailable", "object_class_inconsistent", "read_write_denied")
    references = {
        "unknown object": AttributeReference(1, _NOWHERE, 2),
        "known name, another class": AttributeReference(3, LOGICAL_DEVICE_NAME, 2),
        "unknown class": AttributeReference(9999, LOGICAL_DEVICE_NAME, 2),
        "unknown attribute": AttributeReference(1, LOGICAL_DEVICE_NAME, 99),
        "negative attribute": AttributeReference(1, LOGICAL_DEVICE_NAME, -5),
    }
    for name, reference in references.items():
        answer = await dialogue.raw(GetRequestNormal(0xC1, reference).encode())
        record.measure(f"GET of an {name}" if name[0] == "u" else f"GET: {name}", in_words(answer), limit=undefined)
    await _still_serves(dialogue, record)


@case(
    "DATA_LN_N4",
    Plan.APPLICATION,
    "SET and ACTION on what is not there, or not allowed, change nothing and say so.",
    shows=("OSI-7", "SEC-3"),
)
async def _data_ln_n4(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    before = (await dialogue.value(1, LOGICAL_DEVICE_NAME)).value
    writes = {
        "unknown object": AttributeReference(1, _NOWHERE, 2),
        "read-only attribute": AttributeReference(1, LOGICAL_DEVICE_NAME, 2),
        "logical name": AttributeReference(1, LOGICAL_DEVICE_NAME, 1),
        "unknown attribute": AttributeReference(1, LOGICAL_DEVICE_NAME, 99),
    }
    for name, reference in writes.items():
        answer = await dialogue.raw(SetRequestNormal(0xC1, reference, octet_string(b"conformance")).encode())
        record.measure(f"SET: {name}", in_words(answer), limit=NOT_SERVED)
    methods = {
        "unknown object": MethodReference(1, _NOWHERE, 1),
        "unknown method": MethodReference(15, CURRENT_ASSOCIATION, 99),
        "method of a class without methods": MethodReference(1, LOGICAL_DEVICE_NAME, 1),
    }
    for name, method in methods.items():
        answer = await dialogue.raw(ActionRequestNormal(0xC1, method, octet_string(b"x")).encode())
        record.measure(f"ACTION: {name}", in_words(answer), limit=NOT_SERVED)
    after = (await dialogue.value(1, LOGICAL_DEVICE_NAME)).value
    record.measure("the logical device name is unchanged", before == after, limit=equals(True))


async def _short_names(tester: Tester, record: Record) -> None:
    if await short_names_offered(tester):
        raise SkipCase("the meter offers short names; this suite knows logical names only")
    raise SkipCase("the meter offers logical names only")


for _number, _purpose in (
    (1, "Malformed ReadRequests and WriteRequests of short names are not served."),
    (2, "Reading short names that are not there is answered with the result that says so."),
    (3, "Writing short names that are not there, or not writable, changes nothing."),
):
    case(f"DATA_SN_N{_number}", Plan.APPLICATION, _purpose, shows="OSI-7")(_short_names)
