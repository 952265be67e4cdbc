"""SET: write attributes (IEC 62056-5-3). Both directions side by side."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.dlms.data import Data, decode_from, decode_length, encode, encode_length
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.get import AttributeReference, decode_access_result, decode_count, encode_list

REQUEST, RESPONSE = 0xC1, 0xC5
_SPEC = "IEC 62056-5-3, SET"


@dataclass(frozen=True, slots=True)
class DataBlock:
    """DataBlock-SA: a piece of the encoded values."""

    last_block: bool
    block_number: int
    content: bytes

    def encode(self) -> bytes:
        head = bytes((self.last_block,)) + self.block_number.to_bytes(4, "big")
        return head + encode_length(len(self.content)) + self.content

    @classmethod
    def decode(cls, reader: Reader) -> DataBlock:
        last_block, block_number = reader.u8() != 0, reader.u32()
        return cls(last_block, block_number, reader.take(decode_length(reader)))


@dataclass(frozen=True, slots=True)
class SetRequestNormal:
    """Tag C1 01."""

    invoke_id_and_priority: int
    reference: AttributeReference
    value: Data

    def encode(self) -> bytes:
        return bytes((REQUEST, 1, self.invoke_id_and_priority)) + self.reference.encode() + encode(self.value)


@dataclass(frozen=True, slots=True)
class SetRequestWithFirstDataBlock:
    """Tag C1 02."""

    invoke_id_and_priority: int
    reference: AttributeReference
    block: DataBlock

    def encode(self) -> bytes:
        return bytes((REQUEST, 2, self.invoke_id_and_priority)) + self.reference.encode() + self.block.encode()


@dataclass(frozen=True, slots=True)
class SetRequestWithDataBlock:
    """Tag C1 03."""

    invoke_id_and_priority: int
    block: DataBlock

    def encode(self) -> bytes:
        return bytes((REQUEST, 3, self.invoke_id_and_priority)) + self.block.encode()


@dataclass(frozen=True, slots=True)
class SetRequestWithList:
    """Tag C1 04."""

    invoke_id_and_priority: int
    references: tuple[AttributeReference, ...]
    values: tuple[Data, ...]

    def encode(self) -> bytes:
        head = bytes((REQUEST, 4, self.invoke_id_and_priority))
        references = encode_list([reference.encode() for reference in self.references])
        return head + references + encode_list([encode(value) for value in self.values])


@dataclass(frozen=True, slots=True)
class SetRequestWithListAndFirstDataBlock:
    """Tag C1 05."""

    invoke_id_and_priority: int
    references: tuple[AttributeReference, ...]
    block: DataBlock

    def encode(self) -> bytes:
        head = bytes((REQUEST, 5, self.invoke_id_and_priority))
        return head + encode_list([reference.encode() for reference in self.references]) + self.block.encode()


SetRequest = (
    SetRequestNormal
    | SetRequestWithFirstDataBlock
    | SetRequestWithDataBlock
    | SetRequestWithList
    | SetRequestWithListAndFirstDataBlock
)


def _references(reader: Reader) -> tuple[AttributeReference, ...]:
    return tuple([AttributeReference.decode(reader) for _ in range(decode_count(reader))])


def decode_values(reader: Reader) -> tuple[Data, ...]:
    """SEQUENCE OF Data."""
    return tuple([decode_from(reader) for _ in range(decode_count(reader))])


def decode_request(raw: bytes) -> SetRequest:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != REQUEST:
        raise reader.error("not a SET request")
    choice, invoke = reader.u8(), reader.u8()
    request: SetRequest
    if choice == 1:
        request = SetRequestNormal(invoke, AttributeReference.decode(reader), decode_from(reader))
    elif choice == 2:
        request = SetRequestWithFirstDataBlock(invoke, AttributeReference.decode(reader), DataBlock.decode(reader))
    elif choice == 3:
        request = SetRequestWithDataBlock(invoke, DataBlock.decode(reader))
    elif choice == 4:
        request = SetRequestWithList(invoke, _references(reader), decode_values(reader))
    elif choice == 5:
        request = SetRequestWithListAndFirstDataBlock(invoke, _references(reader), DataBlock.decode(reader))
    else:
        raise reader.error(f"SET request choice {choice}")
    reader.expect_end()
    return request


@dataclass(frozen=True, slots=True)
class SetResponseNormal:
    """Tag C5 01."""

    invoke_id_and_priority: int
    result: DataAccessResult

    def encode(self) -> bytes:
        return bytes((RESPONSE, 1, self.invoke_id_and_priority, self.result))


@dataclass(frozen=True, slots=True)
class SetResponseDataBlock:
    """Tag C5 02: `block_number` came, send the next."""

    invoke_id_and_priority: int
    block_number: int

    def encode(self) -> bytes:
        return bytes((RESPONSE, 2, self.invoke_id_and_priority)) + self.block_number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class SetResponseLastDataBlock:
    """Tag C5 03."""

    invoke_id_and_priority: int
    result: DataAccessResult
    block_number: int

    def encode(self) -> bytes:
        head = bytes((RESPONSE, 3, self.invoke_id_and_priority, self.result))
        return head + self.block_number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class SetResponseLastDataBlockWithList:
    """Tag C5 04."""

    invoke_id_and_priority: int
    results: tuple[DataAccessResult, ...]
    block_number: int

    def encode(self) -> bytes:
        head = bytes((RESPONSE, 4, self.invoke_id_and_priority)) + encode_length(len(self.results))
        return head + bytes(self.results) + self.block_number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class SetResponseWithList:
    """Tag C5 05."""

    invoke_id_and_priority: int
    results: tuple[DataAccessResult, ...]

    def encode(self) -> bytes:
        head = bytes((RESPONSE, 5, self.invoke_id_and_priority)) + encode_length(len(self.results))
        return head + bytes(self.results)


SetResponse = (
    SetResponseNormal
    | SetResponseDataBlock
    | SetResponseLastDataBlock
    | SetResponseLastDataBlockWithList
    | SetResponseWithList
)


def _results(reader: Reader) -> tuple[DataAccessResult, ...]:
    return tuple([decode_access_result(reader) for _ in range(decode_count(reader))])


def decode_response(raw: bytes) -> SetResponse:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != RESPONSE:
        raise reader.error("not a SET response")
    choice, invoke = reader.u8(), reader.u8()
    response: SetResponse
    if choice == 1:
        response = SetResponseNormal(invoke, decode_access_result(reader))
    elif choice == 2:
        response = SetResponseDataBlock(invoke, reader.u32())
    elif choice == 3:
        response = SetResponseLastDataBlock(invoke, decode_access_result(reader), reader.u32())
    elif choice == 4:
        response = SetResponseLastDataBlockWithList(invoke, _results(reader), reader.u32())
    elif choice == 5:
        response = SetResponseWithList(invoke, _results(reader))
    else:
        raise reader.error(f"SET response choice {choice}")
    reader.expect_end()
    return response
