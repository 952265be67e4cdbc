"""GET: read attributes (IEC 62056-5-3). Both directions side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocols.cursor import Reader
from protocols.dlms.data import Data, Encoded, decode_from, decode_length, encode, encode_length
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import RawSelector, Selector

REQUEST, RESPONSE = 0xC0, 0xC4
NORMAL, NEXT, WITH_BLOCK, WITH_LIST = 1, 2, 2, 3
_SPEC = "IEC 62056-5-3, GET"


class AttributeReference(NamedTuple):
    """Cosem-Attribute-Descriptor-With-Selection."""

    class_id: int
    obis: ObisCode
    attribute_id: int
    selector: Selector | None = None

    def encode(self) -> bytes:
        out = self.class_id.to_bytes(2, "big") + self.obis + (self.attribute_id & 0xFF).to_bytes(1, "big")
        selector = self.selector
        if selector is None:
            return out + b"\x00"
        return out + bytes((1, selector.selector_id)) + encode(selector.to_data())

    @classmethod
    def decode(cls, reader: Reader) -> AttributeReference:
        class_id, obis, attribute_id = reader.u16(), ObisCode(reader.take(6)), reader.u8()
        if attribute_id > 127:
            attribute_id -= 256
        flag = reader.u8()
        if flag > 1:
            raise reader.error(f"access selection flag 0x{flag:02X}")
        selector = RawSelector(reader.u8(), decode_from(reader)) if flag else None
        return cls(class_id, obis, attribute_id, selector)


def encode_list(items: list[bytes]) -> bytes:
    return encode_length(len(items)) + b"".join(items)


def decode_count(reader: Reader) -> int:
    """Number of elements of a SEQUENCE OF, none of which is empty."""
    count = decode_length(reader)
    if count > reader.remaining:
        raise reader.error(f"{count} elements in {reader.remaining} bytes")
    return count


def decode_access_result(reader: Reader) -> DataAccessResult:
    value = reader.u8()
    try:
        return DataAccessResult(value)
    except ValueError as error:
        raise reader.error(f"data access result {value}") from error


def encode_get_result(result: Data | Encoded | DataAccessResult) -> bytes:
    """Get-Data-Result: 00 and the data, or 01 and why not."""
    if isinstance(result, DataAccessResult):
        return bytes((1, result))
    return b"\x00" + encode(result)


def decode_get_result(reader: Reader) -> Data | DataAccessResult:
    choice = reader.u8()
    if choice == 0:
        return decode_from(reader)
    if choice == 1:
        return decode_access_result(reader)
    raise reader.error(f"Get-Data-Result choice {choice}")


@dataclass(frozen=True, slots=True)
class GetRequestNormal:
    """Tag C0 01."""

    invoke_id_and_priority: int
    reference: AttributeReference

    def encode(self) -> bytes:
        return bytes((REQUEST, NORMAL, self.invoke_id_and_priority)) + self.reference.encode()


@dataclass(frozen=True, slots=True)
class GetRequestNext:
    """Tag C0 02: `block_number` came, send the next."""

    invoke_id_and_priority: int
    block_number: int

    def encode(self) -> bytes:
        return bytes((REQUEST, NEXT, self.invoke_id_and_priority)) + self.block_number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class GetRequestWithList:
    """Tag C0 03."""

    invoke_id_and_priority: int
    references: tuple[AttributeReference, ...]

    def encode(self) -> bytes:
        items = [reference.encode() for reference in self.references]
        return bytes((REQUEST, WITH_LIST, self.invoke_id_and_priority)) + encode_list(items)


GetRequest = GetRequestNormal | GetRequestNext | GetRequestWithList


def decode_request(raw: bytes) -> GetRequest:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != REQUEST:
        raise reader.error("not a GET request")
    choice, invoke = reader.u8(), reader.u8()
    request: GetRequest
    if choice == NORMAL:
        request = GetRequestNormal(invoke, AttributeReference.decode(reader))
    elif choice == NEXT:
        request = GetRequestNext(invoke, reader.u32())
    elif choice == WITH_LIST:
        count = decode_count(reader)
        request = GetRequestWithList(invoke, tuple(AttributeReference.decode(reader) for _ in range(count)))
    else:
        raise reader.error(f"GET request choice {choice}")
    reader.expect_end()
    return request


@dataclass(frozen=True, slots=True)
class GetResponseNormal:
    """Tag C4 01."""

    invoke_id_and_priority: int
    result: Data | DataAccessResult

    def encode(self) -> bytes:
        return bytes((RESPONSE, NORMAL, self.invoke_id_and_priority)) + encode_get_result(self.result)


@dataclass(frozen=True, slots=True)
class GetResponseWithBlock:
    """Tag C4 02: a piece of the answer's bytes, or why there are no more."""

    invoke_id_and_priority: int
    last_block: bool
    block_number: int
    content: bytes | DataAccessResult

    def encode(self) -> bytes:
        head = bytes((RESPONSE, WITH_BLOCK, self.invoke_id_and_priority, self.last_block))
        head += self.block_number.to_bytes(4, "big")
        if isinstance(self.content, DataAccessResult):
            return head + bytes((1, self.content))
        return head + b"\x00" + encode_length(len(self.content)) + self.content


@dataclass(frozen=True, slots=True)
class GetResponseWithList:
    """Tag C4 03."""

    invoke_id_and_priority: int
    results: tuple[Data | DataAccessResult, ...]

    def encode(self) -> bytes:
        items = [encode_get_result(result) for result in self.results]
        return bytes((RESPONSE, WITH_LIST, self.invoke_id_and_priority)) + encode_list(items)


GetResponse = GetResponseNormal | GetResponseWithBlock | GetResponseWithList


def decode_response(raw: bytes) -> GetResponse:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != RESPONSE:
        raise reader.error("not a GET response")
    choice, invoke = reader.u8(), reader.u8()
    response: GetResponse
    if choice == NORMAL:
        response = GetResponseNormal(invoke, decode_get_result(reader))
    elif choice == WITH_BLOCK:
        response = _decode_block(invoke, reader)
    elif choice == WITH_LIST:
        response = GetResponseWithList(invoke, decode_get_results(reader))
    else:
        raise reader.error(f"GET response choice {choice}")
    reader.expect_end()
    return response


def decode_get_results(reader: Reader) -> tuple[Data | DataAccessResult, ...]:
    """SEQUENCE OF Get-Data-Result."""
    return tuple([decode_get_result(reader) for _ in range(decode_count(reader))])


def _decode_block(invoke: int, reader: Reader) -> GetResponseWithBlock:
    last_block, block_number, choice = reader.u8() != 0, reader.u32(), reader.u8()
    content: bytes | DataAccessResult
    if choice == 0:
        content = reader.take(decode_length(reader))
    elif choice == 1:
        content = decode_access_result(reader)
    else:
        raise reader.error(f"block choice {choice}")
    return GetResponseWithBlock(invoke, last_block, block_number, content)
