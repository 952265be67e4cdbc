"""COSEM objects: the sweep over object_list, mandatory objects, multiple references, push."""

from __future__ import annotations

from collections.abc import Callable

from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, Tag, integer
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.notification import DataNotification
from protocols.dlms.obis import ObisCode
from protocols.dlms.object_list import ObjectListElement
from protocols.dlms.objects import Access, MethodAccess
from protocols.dlms.reading import CURRENT_ASSOCIATION, ServiceRefused
from protocols.dlms.set import SetRequestNormal
from protocols.errors import RemoteProtocolError
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, outcome_of, result_in_words
from twin.conformance.plans.cosem_types import METHOD_COUNTS, type_fault
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Layers, Record, SgamLayer, UneceDimension, at_least, at_most, equals, within

SAP_ASSIGNMENT = ObisCode.parse("0-0:41.0.0*255")
_CONFORMS = "conforms"
_PROFILE, _ASSOCIATION, _PUSH_SETUP = 7, 15, 40
_SWEEP_S = 600.0
_PUSH_S = 10.0
"""How long a push may take once its random delay is over."""
_RIGHTS_LAYERS = Layers(7, SgamLayer.FUNCTION, UneceDimension.ORGANIZATIONAL)

Found = tuple[ObjectListElement, int, Data | DataAccessResult]


async def roles_at_hand(tester: Tester) -> tuple[Role, ...]:
    """The associations that can be opened with what the tester was given, on a meter like this."""
    roles = []
    for role in Role:
        if role is Role.MANAGEMENT and not tester.facts.is_protected:
            continue
        try:
            tester.config(role)
        except SkipCase:
            continue
        roles.append(role)
    return tuple(roles)


def label(element: ObjectListElement) -> str:
    return f"class {element.class_id} at {element.obis}"


async def _read_all(dialogue: Dialogue, elements: tuple[ObjectListElement, ...]) -> list[Found]:
    """Every attribute of every object, one GET each. A profile's buffer is left out: it has cases of its own."""
    found: list[Found] = []
    for element in elements:
        for rights in element.attributes:
            if (element.class_id, rights.attribute_id) == (_PROFILE, 2):
                continue
            reference = AttributeReference(element.class_id, element.obis, rights.attribute_id)
            (result,) = await dialogue.get(reference)
            found.append((element, rights.attribute_id, result))
    return found


def _readable(element: ObjectListElement) -> set[int]:
    return {item.attribute_id for item in element.attributes if item.access & Access.READ}


async def _sweep(tester: Tester, record: Record, fault_of: Callable[[Found], str], what: str) -> None:
    """One measurement an object and association: "conforms", or the first thing that does not."""
    for role in await roles_at_hand(tester):
        dialogue = await tester.associate(role)
        elements = await tester.object_list(dialogue)
        record.measure(f"{role}: objects in object_list", len(elements), limit=at_least(1))
        found = await _read_all(dialogue, elements)
        faults = {id(element): "" for element in elements}
        for item in found:
            faults[id(item[0])] = faults[id(item[0])] or fault_of(item)
        for element in elements:
            record.measure(f"{role}: {label(element)}", faults[id(element)] or _CONFORMS, limit=equals(_CONFORMS))
        record.measure(f"{role}: attributes {what}", len(found), limit=at_least(1))


def _read_fault(found: Found) -> str:
    element, attribute_id, result = found
    if attribute_id not in _readable(element) or isinstance(result, Data):
        return ""
    return f"attribute {attribute_id} is {result_in_words(result)}, though object_list lets it be read"


def _type_fault(found: Found) -> str:
    element, attribute_id, result = found
    return type_fault(element.class_id, element.obis, attribute_id, result) if isinstance(result, Data) else ""


def _secrecy_fault(found: Found) -> str:
    element, attribute_id, result = found
    if attribute_id in _readable(element) or not isinstance(result, Data):
        return ""
    return f"attribute {attribute_id} is read, though object_list does not let it be"


@case(
    "SWEEP_READ",
    Plan.COSEM,
    "Every attribute that object_list lets an association read can be read.",
    shows=("OSI-7", "UNECE-2", "VEND-1"),
    timeout_s=_SWEEP_S,
)
async def _sweep_read(tester: Tester, record: Record) -> None:
    await _sweep(tester, record, _read_fault, "asked for")


@case(
    "SWEEP_TYPE",
    Plan.COSEM,
    "Every attribute that is read has the type, unit and range that its class gives it.",
    shows=("OSI-6", "UNECE-2"),
    timeout_s=_SWEEP_S,
)
async def _sweep_type(tester: Tester, record: Record) -> None:
    await _sweep(tester, record, _type_fault, "held against their type")


@case(
    "SWEEP_RIGHTS",
    Plan.COSEM,
    "What object_list does not allow is refused: reading, writing back the same value, methods.",
    shows="SEC-3",
    layers=_RIGHTS_LAYERS,
    timeout_s=_SWEEP_S,
)
async def _sweep_rights(tester: Tester, record: Record) -> None:
    for role in await roles_at_hand(tester):
        dialogue = await tester.associate(role)
        elements = await tester.object_list(dialogue)
        found = await _read_all(dialogue, elements)
        values = {(id(element), number): value for element, number, value in found if isinstance(value, Data)}
        tried = 0
        for element in elements:
            faults = [_secrecy_fault(item) for item in found if item[0] is element]
            for rights in element.attributes:
                value = values.get((id(element), rights.attribute_id))
                if value is not None and not rights.access & Access.WRITE:
                    faults.append(await _write_fault(dialogue, element, rights.attribute_id, value))
                    tried += 1
            if tester.may_change:
                methods = [item.method_id for item in element.methods if not item.access & MethodAccess.INVOKE]
                faults += [await _method_fault(dialogue, element, method_id) for method_id in methods]
                tried += len(methods)
            fault = next((text for text in faults if text), "")
            record.measure(f"{role}: {label(element)}", fault or _CONFORMS, limit=equals(_CONFORMS))
        record.measure(f"{role}: forbidden writes and methods tried", tried, limit=at_least(1))


async def _write_fault(dialogue: Dialogue, element: ObjectListElement, attribute_id: int, value: Data) -> str:
    reference = AttributeReference(element.class_id, element.obis, attribute_id)
    if len(SetRequestNormal(0xC1, reference, value).encode()) > 500:
        return ""  # a long value says no more about rights than a short one
    outcome = await outcome_of(dialogue.set(reference, value))
    return "" if NOT_SERVED.holds(outcome) else f"attribute {attribute_id} is written ({outcome}) without the right"


async def _method_fault(dialogue: Dialogue, element: ObjectListElement, method_id: int) -> str:
    reference = MethodReference(element.class_id, element.obis, method_id)
    try:
        outcome = result_in_words((await dialogue.action(reference, integer(0))).result)
    except ServiceRefused as refused:
        outcome = f"refused: {refused}"
    return "" if NOT_SERVED.holds(outcome) else f"method {method_id} runs ({outcome}) without the right"


@case(
    "MANDATORY_1",
    Plan.COSEM,
    "The logical device name is there for everyone: a manufacturer's three letters, at most 16 bytes.",
    shows=("OSI-7", "UC-I.2"),
)
async def _mandatory_1(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    value = await dialogue.value(1, LOGICAL_DEVICE_NAME)
    record.measure("type", Tag(value.tag).name.lower(), limit=equals("octet_string"))
    name = value.value if isinstance(value.value, bytes) else b""
    record.measure("length", len(name), unit="bytes", limit=within(4, 16))
    record.measure("manufacturer", name[:3].decode("ascii", "replace"))
    record.measure("three capital letters first", name[:3].isalpha() and name[:3].isupper(), limit=equals(True))


@case("MANDATORY_2", Plan.COSEM, "SAP assignment lists the logical device that answers, under its name.", shows="OSI-7")
async def _mandatory_2(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC)
    name = (await dialogue.value(1, LOGICAL_DEVICE_NAME)).value
    devices = {}
    for item in (await dialogue.value(17, SAP_ASSIGNMENT)).value:
        tags = [part.tag for part in item.value] if item.tag == Tag.STRUCTURE else []
        record.measure(
            "an element", " ".join(Tag(tag).name.lower() for tag in tags), limit=equals("long_unsigned octet_string")
        )
        if tags == [Tag.LONG_UNSIGNED, Tag.OCTET_STRING]:
            devices[item.value[0].value] = item.value[1].value
    sap = tester.facts.saps.server
    record.measure("this logical device is listed", sap in devices, limit=equals(True))
    record.measure("under its own name", devices.get(sap) == name, limit=equals(True))


@case(
    "MANDATORY_3",
    Plan.COSEM,
    "Every association shows its own object_list, with the mandatory objects and no object twice.",
    shows=("OSI-7", "SEC-3"),
)
async def _mandatory_3(tester: Tester, record: Record) -> None:
    for role in await roles_at_hand(tester):
        dialogue = await tester.associate(role)
        elements = await tester.object_list(dialogue)
        keys = [(element.class_id, element.obis) for element in elements]
        record.measure(f"{role}: objects", len(keys), limit=at_least(3))
        record.measure(f"{role}: objects that stand twice", len(keys) - len(set(keys)), limit=equals(0))
        for class_id, obis in ((_ASSOCIATION, CURRENT_ASSOCIATION), (1, LOGICAL_DEVICE_NAME), (17, SAP_ASSIGNMENT)):
            record.measure(f"{role}: shows class {class_id} at {obis}", (class_id, obis) in keys, limit=equals(True))
        for element in elements:
            most = METHOD_COUNTS.get(element.class_id)
            if most is not None:
                record.measure(f"{role}: methods of {label(element)}", len(element.methods), limit=at_most(most))


def _references(*obis: tuple[int, ObisCode, int]) -> tuple[AttributeReference, ...]:
    return tuple(AttributeReference(*item) for item in obis)


@case(
    "MULTIPLE_1",
    Plan.COSEM,
    "GET with a list gives the results of its attributes in order, as GETs one by one do.",
    shows="OSI-7",
)
async def _multiple_1(tester: Tester, record: Record) -> None:
    dialogue = await _with_lists(tester)
    references = _references((1, LOGICAL_DEVICE_NAME, 2), (1, LOGICAL_DEVICE_NAME, 1), (17, SAP_ASSIGNMENT, 2))
    together = await dialogue.get(*references)
    one_by_one = [(await dialogue.get(reference))[0] for reference in references]
    record.measure("results", len(together), limit=equals(len(references)))
    for reference, both in zip(references, zip(together, one_by_one, strict=True), strict=True):
        name = f"attribute {reference.attribute_id} of {reference.obis}"
        record.measure(f"{name}: {DATA} in the list", result_in_words(both[0]), limit=equals(DATA))
        record.measure(f"{name}: the same as alone", both[0] == both[1], limit=equals(True))


@case(
    "MULTIPLE_2",
    Plan.COSEM,
    "In a list, what cannot be read is refused by itself, and its neighbours are served.",
    shows="OSI-7",
)
async def _multiple_2(tester: Tester, record: Record) -> None:
    dialogue = await _with_lists(tester)
    nowhere = ObisCode.parse("0-0:199.255.255*255")
    references = _references(
        (1, LOGICAL_DEVICE_NAME, 2), (1, nowhere, 2), (1, LOGICAL_DEVICE_NAME, 99), (17, SAP_ASSIGNMENT, 2)
    )
    results = [result_in_words(result) for result in await dialogue.get(*references)]
    for name, index in (("first", 0), ("last", 3)):
        record.measure(f"the {name} one, which is there", results[index], limit=equals(DATA))
    for name, index in (("unknown object", 1), ("unknown attribute", 2)):
        record.measure(f"the {name}", results[index], limit=NOT_SERVED)


@case(
    "MULTIPLE_3",
    Plan.COSEM,
    "A list whose answer is longer than a PDU comes in blocks, whole.",
    shows=("OSI-7", "OSI-6"),
)
async def _multiple_3(tester: Tester, record: Record) -> None:
    dialogue = await tester.associate(Role.PUBLIC, max_receive_pdu_bytes=100)
    _require_lists(dialogue)
    references = _references(*[(1, LOGICAL_DEVICE_NAME, 2), (15, CURRENT_ASSOCIATION, 2)] * 2)
    in_blocks = await dialogue.get(*references)
    whole = await (await tester.associate(Role.PUBLIC)).get(references[1])
    record.measure("results", len(in_blocks), limit=equals(len(references)))
    record.measure("the object list in blocks is the object list", in_blocks[1] == whole[0], limit=equals(True))
    record.measure("and so is the second one", in_blocks[3] == whole[0], limit=equals(True))


async def _with_lists(tester: Tester) -> Dialogue:
    dialogue = await tester.associate(Role.PUBLIC)
    _require_lists(dialogue)
    return dialogue


def _require_lists(dialogue: Dialogue) -> None:
    if not dialogue.client.conformance & Conformance.MULTIPLE_REFERENCES:
        raise SkipCase("the meter does not negotiate multiple references")


async def _push_setups(tester: Tester) -> tuple[Dialogue, list[ObjectListElement]]:
    dialogue = await tester.associate((await roles_at_hand(tester))[-1])
    setups = [element for element in await tester.object_list(dialogue) if element.class_id == _PUSH_SETUP]
    if not setups:
        raise SkipCase("the meter has no push setup (class 40)")
    return dialogue, setups


@case(
    "PUSH_1",
    Plan.COSEM,
    "Every push setup says what it sends, where to and how, in the types of its class.",
    shows=("UC-IV.1", "OSI-7"),
    needs=(Need.KEYS,),
)
async def _push_1(tester: Tester, record: Record) -> None:
    dialogue, setups = await _push_setups(tester)
    for setup in setups:
        for attribute_id in (2, 3, 4, 5, 6, 7):
            value = await dialogue.value(_PUSH_SETUP, setup.obis, attribute_id)
            fault = type_fault(_PUSH_SETUP, setup.obis, attribute_id, value)
            record.measure(f"{setup.obis}: attribute {attribute_id}", fault or _CONFORMS, limit=equals(_CONFORMS))
        pushed = (await dialogue.value(_PUSH_SETUP, setup.obis, 2)).value
        record.measure(f"{setup.obis}: objects pushed", len(pushed), limit=at_least(1))


@case(
    "PUSH_2",
    Plan.COSEM,
    "The push method sends a DataNotification, protected, with the values of its object list.",
    shows=("UC-IV.1", "OSI-7"),
    needs=(Need.KEYS, Need.MESH),
    timeout_s=3600.0,
)
async def _push_2(tester: Tester, record: Record) -> None:
    link = await tester.open_mesh_link()
    dialogue = await tester.dialogue((await roles_at_hand(tester))[-1], link=link)
    await dialogue.associate()
    setup = next((item for item in await tester.object_list(dialogue) if item.class_id == _PUSH_SETUP), None)
    if setup is None:
        raise SkipCase("the meter has no push setup (class 40)")
    pushed = (await dialogue.value(_PUSH_SETUP, setup.obis, 2)).value
    spread_s = (await dialogue.value(_PUSH_SETUP, setup.obis, 5)).value
    outcome = result_in_words((await dialogue.action(MethodReference(_PUSH_SETUP, setup.obis, 1), integer(0))).result)
    record.measure("push", outcome, limit=equals("success"))
    notification = await link.unasked(spread_s + _PUSH_S)
    record.measure("a notification comes", notification is not None, limit=equals(True))
    if notification is None:
        return
    record.measure("it is protected", f"{notification[0]:02X}", limit=equals("DB"))
    body = DataNotification.decode(_notified(dialogue, notification)).body
    count = len(body.value) if body.tag in (Tag.STRUCTURE, Tag.ARRAY) else 1
    record.measure("values sent", count, limit=equals(len(pushed)))


def _notified(dialogue: Dialogue, apdu: bytes) -> bytes:
    for event in dialogue.client.receive(apdu):
        found = getattr(event, "apdu", None)
        if isinstance(found, bytes):
            return found
    raise RemoteProtocolError("what came unasked is no notification")
