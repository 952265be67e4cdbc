"""Selective access to profiles, and a client's flows: discovery, quantities, tables."""

from __future__ import annotations

import pytest
from dlms_strategies import quick
from dlms_support import (
    ENERGY,
    MANAGEMENT,
    PUBLIC,
    READER,
    CountedKeys,
    EnergyObject,
    Meter,
    client,
)
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.client import AttributeReference, ClientAssociation, MethodReference
from protocols.dlms.data import (
    NULL,
    Data,
    Readable,
    array,
    date_time,
    decode,
    double_long_unsigned,
    encode,
    long_unsigned,
    octet_string,
    structure,
    unsigned,
    visible_string,
)
from protocols.dlms.date_time import DateTime, instant_s
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.object_list import AttributeRights, MethodRights, ObjectListElement, decode_object_list
from protocols.dlms.objects import (
    Access,
    AccessDenied,
    Attribute,
    Caller,
    CosemObject,
    InterfaceClass,
    MethodAccess,
    full_access,
)
from protocols.dlms.profile import ListedRows, cut_row, elements, select
from protocols.dlms.reading import (
    ServiceRefused,
    associate,
    discover,
    drive,
    invoke,
    read_profile,
    read_quantity,
    release,
    write_value,
)
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor, RawSelector, Selector
from protocols.dlms.server import Association, AssociationConfig, CosemServer
from protocols.dlms.units import Unit
from protocols.errors import RemoteProtocolError

CLOCK = CaptureObject(8, ObisCode.parse("0.0.1.0.0.255"), 2)
VALUE = CaptureObject(3, ENERGY, 2)
STATUS = CaptureObject(1, ObisCode.parse("0.0.96.10.1.255"), 2)
COLUMNS = (CLOCK, VALUE, STATUS)
START_S = 1_790_000_000


def instant(index: float) -> DateTime:
    return DateTime.from_utc_s(START_S + 900 * index, deviation_min=-180)


def row(index: int) -> bytes:
    return encode(structure(octet_string(instant(index).encode()), double_long_unsigned(index), unsigned(index % 9)))


ROWS = ListedRows([row(index) for index in range(48)])


def selected(selector: Selector | None, rows: ListedRows = ROWS) -> list[list[object]]:
    stream = select(rows, COLUMNS, selector)
    data = decode(b"".join(stream.chunks()))
    plain: list[list[object]] = data.plain()
    return plain


def over_the_wire(selector: RangeDescriptor | EntryDescriptor) -> RawSelector:
    return RawSelector(selector.selector_id, decode(encode(selector.to_data())))


def between(first: DateTime, last: DateTime, *columns: CaptureObject) -> RawSelector:
    return over_the_wire(RangeDescriptor(CLOCK, date_time(first), octet_string(last.encode()), columns))


@pytest.mark.requirement("UC-III.1")
def test_range_of_time_gives_its_rows_ends_included() -> None:
    assert [cells[1] for cells in selected(between(instant(3), instant(7)))] == [3, 4, 5, 6, 7]
    assert [cells[1] for cells in selected(between(instant(2.5), instant(4.5)))] == [3, 4]
    assert selected(between(instant(100), instant(200))) == []
    assert [cells[1] for cells in selected(between(DateTime(), instant(1)))] == [0, 1]
    assert len(selected(None)) == 48


def test_range_means_the_same_instants_in_another_time_zone() -> None:
    first, last = (DateTime.from_utc_s(START_S + 900 * index, deviation_min=240) for index in (3, 5))
    assert [cells[1] for cells in selected(between(first, last))] == [3, 4, 5]


def test_columns_are_given_in_the_order_that_was_asked_for() -> None:
    assert selected(between(instant(3), instant(4), STATUS, VALUE)) == [[3, 3], [4, 4]]


def test_range_of_numbers() -> None:
    descriptor = RangeDescriptor(VALUE, double_long_unsigned(45), NULL)
    assert [cells[1] for cells in selected(over_the_wire(descriptor))] == [45, 46, 47]


@pytest.mark.requirement("UC-III.2")
def test_rows_after_the_clock_was_set_back_are_found() -> None:
    rows = ListedRows([row(index) for index in (0, 1, 2, 1, 2, 3)])
    assert [cells[1] for cells in selected(between(instant(1), instant(2)), rows)] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (EntryDescriptor(), list(range(48))),
        (EntryDescriptor(1, 3), [0, 1, 2]),
        (EntryDescriptor(46, 0), [45, 46, 47]),
        (EntryDescriptor(47, 90), [46, 47]),
        (EntryDescriptor(90, 95), []),
    ],
)
@pytest.mark.requirement("UC-III.1")
def test_entries_count_from_one_and_zero_is_the_last(entry: EntryDescriptor, expected: list[int]) -> None:
    assert [cells[1] for cells in selected(over_the_wire(entry))] == expected


def test_entries_with_some_columns() -> None:
    assert selected(over_the_wire(EntryDescriptor(2, 3, 2, 3))) == [[1, 1], [2, 2]]
    assert selected(over_the_wire(EntryDescriptor(2, 2, 2, 0))) == [[1, 1]]


@pytest.mark.parametrize(
    "selector",
    [
        EntryDescriptor(0, 1),
        EntryDescriptor(1, 1, 1, 4),
        EntryDescriptor(1, 1, 4, 4),
        RangeDescriptor(CaptureObject(8, ENERGY, 2), NULL, NULL),
        RangeDescriptor(CLOCK, NULL, NULL, (CaptureObject(3, ENERGY, 3),)),
    ],
)
def test_what_the_profile_does_not_have_is_out_of_scope(selector: RangeDescriptor | EntryDescriptor) -> None:
    with pytest.raises(AccessDenied) as denied:
        selected(over_the_wire(selector))
    assert denied.value.result is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


@pytest.mark.parametrize(
    "selector",
    [
        RawSelector(3, NULL),
        RawSelector(1, NULL),
        RawSelector(2, structure(unsigned(1))),
        RawSelector(1, structure(CLOCK.to_data(), visible_string("a"), NULL, array(()))),
        RawSelector(1, structure(structure(), NULL, NULL, array(()))),
        RawSelector(1, structure(CLOCK.to_data(), octet_string(b"short"), NULL, array(()))),
    ],
)
def test_malformed_selector_is_the_clients_error(selector: RawSelector) -> None:
    with pytest.raises(RemoteProtocolError):
        selected(selector)


@quick
@given(
    st.lists(st.sampled_from([NULL, unsigned(1), octet_string(b"abc"), visible_string(""), structure()]), max_size=9)
)
def test_rows_are_cut_without_being_decoded(cells: list[Data]) -> None:
    encoded = encode(structure(*cells))
    assert elements(encoded) == [encode(cell) for cell in cells]
    kept = list(range(len(cells)))[::-2]
    assert decode(cut_row(encoded, kept)).value == tuple(cells[index] for index in kept)
    for end in range(len(encoded)):
        with pytest.raises(RemoteProtocolError):
            elements(encoded[:end])


@quick
@given(st.integers(-(10**9), 4 * 10**9), st.integers(-720, 840))
def test_fast_instant_agrees_with_the_slow_one(utc_s: int, deviation_min: int) -> None:
    moment = DateTime.from_utc_s(utc_s, deviation_min=deviation_min)
    assert instant_s(moment.encode()) == utc_s == moment.to_utc_s()
    assert instant_s(DateTime().encode()) is None


# a client's flows

PROFILE = ObisCode.parse("1.0.99.1.0.255")
CURRENT = ObisCode.parse("0.0.40.0.0.255")


class ProfileObject(CosemObject):
    INTERFACE = InterfaceClass(
        7, 1, "Profile generic", (Attribute(2, "buffer", selectors=(1, 2)), Attribute(3, "capture_objects"))
    )
    __slots__ = ()

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 3:
            return array(column.to_data() for column in COLUMNS)
        return select(ROWS, COLUMNS, selector)


class ListObject(CosemObject):
    """An association that shows the objects it was given."""

    INTERFACE = InterfaceClass(15, 1, "Association LN", (Attribute(2, "object_list"),))
    __slots__ = ("shown",)

    def __init__(self) -> None:
        super().__init__(CURRENT)
        self.shown: list[CosemObject] = []

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return array(entry(item).to_data(1) for item in self.shown)


def entry(item: CosemObject) -> ObjectListElement:
    rows = tuple(
        AttributeRights(row.id, Access.READ, row.selectors if item.INTERFACE.class_id == 7 else ())
        for row in item.INTERFACE.attributes
    )
    methods = tuple(MethodRights(method.id, MethodAccess.INVOKE) for method in item.INTERFACE.methods)
    return ObjectListElement(item.INTERFACE.class_id, item.INTERFACE.version, item.obis, rows, methods)


@pytest.fixture
def reader() -> tuple[ClientAssociation, CosemServer]:
    listing = ListObject()
    objects: list[CosemObject] = [EnergyObject(ENERGY, 123_456), ProfileObject(PROFILE), listing]
    listing.shown = objects
    config = AssociationConfig(READER, Mechanism.NONE, full_access(objects), instance=1)
    server = CosemServer(objects, [Association(config)], security=None, keys=CountedKeys("flows"))
    association = client(READER, mechanism=Mechanism.NONE, max_receive_pdu_bytes=200)
    return association, server


def run(flow, server: CosemServer):  # type: ignore[no-untyped-def]
    return drive(flow, lambda apdu: server.handle(READER, apdu, 0.0) or b"")


@pytest.mark.requirement("UNECE-2")
def test_client_discovers_reads_and_writes(reader: tuple[ClientAssociation, CosemServer]) -> None:
    association, server = reader
    run(associate(association), server)
    shown = run(discover(association), server)
    assert [(item.class_id, item.obis) for item in shown] == [(3, ENERGY), (7, PROFILE), (15, CURRENT)]
    assert shown[1].attributes[1].selectors == (1, 2)
    assert shown[0].methods == (MethodRights(1, MethodAccess.INVOKE),)
    assert str(run(read_quantity(association, 3, ENERGY), server)) == "123456 Wh"
    run(write_value(association, AttributeReference(3, ENERGY, 2), double_long_unsigned(7)), server)
    assert str(run(read_quantity(association, 3, ENERGY), server)) == "7 Wh"
    assert run(invoke(association, MethodReference(3, ENERGY, 1), unsigned(5)), server) == unsigned(5)
    run(release(association), server)
    assert not server.sessions


@pytest.mark.requirement("UC-III.1")
def test_client_reads_a_profile_as_a_table(reader: tuple[ClientAssociation, CosemServer]) -> None:
    association, server = reader
    run(associate(association), server)
    chosen = RangeDescriptor(CLOCK, date_time(instant(10)), date_time(instant(30)))
    table = run(read_profile(association, PROFILE, chosen), server)
    assert [cells[1].value for cells in table.rows] == list(range(10, 31))
    assert table.rows[0][1].unit is Unit.WATT_HOUR
    assert table.rows[0][0] == instant(10)
    assert table.rows[0][2] == 1
    part = run(read_profile(association, PROFILE, EntryDescriptor(1, 2, 2, 2)), server)
    assert [str(cells[0]) for cells in part.rows] == ["0 Wh", "1 Wh"]


def test_refusals_of_the_server_are_told_with_their_result(reader: tuple[ClientAssociation, CosemServer]) -> None:
    association, server = reader
    run(associate(association), server)
    with pytest.raises(ServiceRefused) as refused:
        run(write_value(association, AttributeReference(3, ENERGY, 1), octet_string(b"")), server)
    assert refused.value.result is DataAccessResult.READ_WRITE_DENIED
    with pytest.raises(ServiceRefused) as refused:
        run(invoke(association, MethodReference(3, ENERGY, 9)), server)
    assert refused.value.result is ActionResult.OBJECT_UNDEFINED


def test_association_that_is_refused_ends_the_flow() -> None:
    meter, association = Meter(), client(MANAGEMENT, secret=b"")
    wrong = client(PUBLIC, mechanism=Mechanism.LOW, secret=b"x")
    with pytest.raises(ServiceRefused, match="authentication"):
        drive(associate(wrong), lambda apdu: meter.server.handle(PUBLIC, apdu, 0.0) or b"")
    drive(associate(association), lambda apdu: meter.server.handle(MANAGEMENT, apdu, 0.0) or b"")


@pytest.mark.parametrize("version", [1, 3])
def test_object_list_in_both_ways_of_writing_rights(version: int) -> None:
    element = ObjectListElement(
        3,
        0,
        ENERGY,
        (AttributeRights(1, Access.READ), AttributeRights(2, Access.READ | Access.WRITE, (1, 2))),
        (MethodRights(1, MethodAccess.INVOKE | MethodAccess.AUTHENTICATED_REQUEST),),
    )
    assert decode_object_list(array((element.to_data(version),)), version) == (element,)
    with pytest.raises(RemoteProtocolError):
        decode_object_list(array((structure(long_unsigned(3)),)), version)
    with pytest.raises(RemoteProtocolError):
        decode_object_list(NULL, version)
