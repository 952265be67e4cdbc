"""ACCESS: reads, writes and invocations in one request (IEC 62056-5-3). Both directions side by side."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from protocols.cursor import Reader
from protocols.dlms.action import MethodReference
from protocols.dlms.data import NULL, Data, decode_from, decode_length, encode, encode_length
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.get import AttributeReference, decode_count, encode_list
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import RawSelector
from protocols.dlms.set import decode_values
from protocols.errors import LocalProtocolError

REQUEST, RESPONSE = 0xD9, 0xDA
_SPEC = "IEC 62056-5-3, ACCESS"
BREAK_ON_ERROR = 1 << 29
CONFIRMED = 1 << 30


class AccessKind(enum.IntEnum):
    """Choice of Access-Request-Specification, and of its result."""

    GET = 1
    SET = 2
    ACTION = 3
    GET_WITH_SELECTION = 4
    SET_WITH_SELECTION = 5


class AccessItem(NamedTuple):
    """One thing to do; `data` is null data for a read."""

    kind: AccessKind
    reference: AttributeReference | MethodReference
    data: Data = NULL

    @classmethod
    def get(cls, reference: AttributeReference) -> AccessItem:
        return cls(AccessKind.GET if reference.selector is None else AccessKind.GET_WITH_SELECTION, reference)

    @classmethod
    def set(cls, reference: AttributeReference, value: Data) -> AccessItem:
        return cls(AccessKind.SET if reference.selector is None else AccessKind.SET_WITH_SELECTION, reference, value)

    @classmethod
    def action(cls, reference: MethodReference, argument: Data = NULL) -> AccessItem:
        return cls(AccessKind.ACTION, reference, argument)

    def encode_specification(self) -> bytes:
        reference, head = self.reference, bytes((self.kind,))
        if isinstance(reference, MethodReference):
            return head + reference.encode()
        encoded = reference.encode()
        if reference.selector is None:
            return head + encoded[:9]
        return head + encoded[:9] + encoded[10:]  # the choice tells about the selection, no flag does


def _decode_specification(reader: Reader) -> tuple[AccessKind, AttributeReference | MethodReference]:
    choice = reader.u8()
    try:
        kind = AccessKind(choice)
    except ValueError as error:
        raise reader.error(f"access choice {choice}") from error
    if kind is AccessKind.ACTION:
        return kind, MethodReference.decode(reader)
    class_id, obis, attribute_id = reader.u16(), ObisCode(reader.take(6)), reader.u8()
    selector = None
    if kind in (AccessKind.GET_WITH_SELECTION, AccessKind.SET_WITH_SELECTION):
        selector = RawSelector(reader.u8(), decode_from(reader))
    attribute_id = attribute_id - 256 if attribute_id > 127 else attribute_id
    return kind, AttributeReference(class_id, obis, attribute_id, selector)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Tag D9. `long_invoke_id` holds 24 bits of id and BREAK_ON_ERROR, CONFIRMED; `date_time` is 12 bytes or none."""

    long_invoke_id: int
    items: tuple[AccessItem, ...]
    date_time: bytes = b""

    def encode(self) -> bytes:
        head = bytes((REQUEST,)) + self.long_invoke_id.to_bytes(4, "big")
        head += encode_length(len(self.date_time)) + self.date_time
        head += encode_list([item.encode_specification() for item in self.items])
        return head + encode_list([encode(item.data) for item in self.items])

    @classmethod
    def decode(cls, raw: bytes) -> AccessRequest:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != REQUEST:
            raise reader.error("not an ACCESS request")
        long_invoke_id, date_time = reader.u32(), reader.take(decode_length(reader))
        specifications = [_decode_specification(reader) for _ in range(decode_count(reader))]
        values = decode_values(reader)
        if len(values) != len(specifications):
            raise reader.error(f"{len(specifications)} specifications, {len(values)} values")
        reader.expect_end()
        pairs = zip(specifications, values, strict=True)
        return cls(
            long_invoke_id, tuple(AccessItem(*specification, value) for specification, value in pairs), date_time
        )


class AccessResult(NamedTuple):
    """What came of one item: `data` is null data unless it was read or returned."""

    kind: AccessKind
    result: DataAccessResult | ActionResult
    data: Data = NULL


@dataclass(frozen=True, slots=True)
class AccessResponse:
    """Tag DA. The kinds of its results are get, set and action only."""

    long_invoke_id: int
    results: tuple[AccessResult, ...]
    date_time: bytes = b""

    def encode(self) -> bytes:
        if any(item.kind > AccessKind.ACTION for item in self.results):
            raise LocalProtocolError("a result has no selection")
        head = bytes((RESPONSE,)) + self.long_invoke_id.to_bytes(4, "big")
        head += encode_length(len(self.date_time)) + self.date_time + b"\x00"
        values = encode_list([encode(item.data) for item in self.results])
        return head + values + encode_list([bytes((item.kind, item.result)) for item in self.results])

    @classmethod
    def decode(cls, raw: bytes) -> AccessResponse:
        """Raises RemoteProtocolError if truncated or malformed. A repeated request specification is passed over."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != RESPONSE:
            raise reader.error("not an ACCESS response")
        long_invoke_id, date_time = reader.u32(), reader.take(decode_length(reader))
        flag = reader.u8()
        if flag > 1:
            raise reader.error(f"specification flag 0x{flag:02X}")
        for _ in range(decode_count(reader) if flag else 0):
            _decode_specification(reader)
        values = decode_values(reader)
        count = decode_count(reader)
        if count != len(values):
            raise reader.error(f"{len(values)} values, {count} results")
        results = tuple([_decode_result(reader, value) for value in values])
        reader.expect_end()
        return cls(long_invoke_id, results, date_time)


def _decode_result(reader: Reader, value: Data) -> AccessResult:
    choice, code = reader.u8(), reader.u8()
    try:
        kind = AccessKind(choice)
        if kind > AccessKind.ACTION:
            raise ValueError
        result = ActionResult(code) if kind is AccessKind.ACTION else DataAccessResult(code)
    except ValueError as error:
        raise reader.error(f"access result choice {choice}, code {code}") from error
    return AccessResult(kind, result, value)
