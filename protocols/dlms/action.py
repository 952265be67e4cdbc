"""ACTION: invoke methods (IEC 62056-5-3). Both directions side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocols.cursor import Reader
from protocols.dlms.data import Data, decode_from, encode
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.get import decode_count, decode_get_result, encode_get_result, encode_list
from protocols.dlms.obis import ObisCode
from protocols.dlms.set import DataBlock, decode_values

REQUEST, RESPONSE = 0xC3, 0xC7
_SPEC = "IEC 62056-5-3, ACTION"


class MethodReference(NamedTuple):
    """Cosem-Method-Descriptor."""

    class_id: int
    obis: ObisCode
    method_id: int

    def encode(self) -> bytes:
        return self.class_id.to_bytes(2, "big") + self.obis + (self.method_id & 0xFF).to_bytes(1, "big")

    @classmethod
    def decode(cls, reader: Reader) -> MethodReference:
        class_id, obis, method_id = reader.u16(), ObisCode(reader.take(6)), reader.u8()
        return cls(class_id, obis, method_id - 256 if method_id > 127 else method_id)


class MethodOutcome(NamedTuple):
    """Action-Response-With-Optional-Data."""

    result: ActionResult
    returned: Data | DataAccessResult | None = None

    def encode(self) -> bytes:
        if self.returned is None:
            return bytes((self.result, 0))
        return bytes((self.result, 1)) + encode_get_result(self.returned)

    @classmethod
    def decode(cls, reader: Reader) -> MethodOutcome:
        value = reader.u8()
        try:
            result = ActionResult(value)
        except ValueError as error:
            raise reader.error(f"action result {value}") from error
        flag = reader.u8()
        if flag > 1:
            raise reader.error(f"return parameters flag 0x{flag:02X}")
        return cls(result, decode_get_result(reader) if flag else None)


def decode_outcomes(reader: Reader) -> tuple[MethodOutcome, ...]:
    """SEQUENCE OF Action-Response-With-Optional-Data."""
    return tuple([MethodOutcome.decode(reader) for _ in range(decode_count(reader))])


@dataclass(frozen=True, slots=True)
class ActionRequestNormal:
    """Tag C3 01."""

    invoke_id_and_priority: int
    reference: MethodReference
    argument: Data | None = None

    def encode(self) -> bytes:
        head = bytes((REQUEST, 1, self.invoke_id_and_priority)) + self.reference.encode()
        return head + (b"\x00" if self.argument is None else b"\x01" + encode(self.argument))


@dataclass(frozen=True, slots=True)
class ActionRequestNextPblock:
    """Tag C3 02: `block_number` came, send the next."""

    invoke_id_and_priority: int
    block_number: int

    def encode(self) -> bytes:
        return bytes((REQUEST, 2, self.invoke_id_and_priority)) + self.block_number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class ActionRequestWithList:
    """Tag C3 03. An argument that is not needed is null data."""

    invoke_id_and_priority: int
    references: tuple[MethodReference, ...]
    arguments: tuple[Data, ...]

    def encode(self) -> bytes:
        head = bytes((REQUEST, 3, self.invoke_id_and_priority))
        references = encode_list([reference.encode() for reference in self.references])
        return head + references + encode_list([encode(argument) for argument in self.arguments])


@dataclass(frozen=True, slots=True)
class ActionRequestWithFirstPblock:
    """Tag C3 04."""

    invoke_id_and_priority: int
    reference: MethodReference
    block: DataBlock

    def encode(self) -> bytes:
        return bytes((REQUEST, 4, self.invoke_id_and_priority)) + self.reference.encode() + self.block.encode()


@dataclass(frozen=True, slots=True)
class ActionRequestWithListAndFirstPblock:
    """Tag C3 05."""

    invoke_id_and_priority: int
    references: tuple[MethodReference, ...]
    block: DataBlock

    def encode(self) -> bytes:
        head = bytes((REQUEST, 5, self.invoke_id_and_priority))
        return head + encode_list([reference.encode() for reference in self.references]) + self.block.encode()


@dataclass(frozen=True, slots=True)
class ActionRequestWithPblock:
    """Tag C3 06."""

    invoke_id_and_priority: int
    block: DataBlock

    def encode(self) -> bytes:
        return bytes((REQUEST, 6, self.invoke_id_and_priority)) + self.block.encode()


ActionRequest = (
    ActionRequestNormal
    | ActionRequestNextPblock
    | ActionRequestWithList
    | ActionRequestWithFirstPblock
    | ActionRequestWithListAndFirstPblock
    | ActionRequestWithPblock
)


def _references(reader: Reader) -> tuple[MethodReference, ...]:
    return tuple([MethodReference.decode(reader) for _ in range(decode_count(reader))])


def _decode_normal(invoke: int, reader: Reader) -> ActionRequestNormal:
    reference = MethodReference.decode(reader)
    flag = reader.u8()
    if flag > 1:
        raise reader.error(f"parameters flag 0x{flag:02X}")
    return ActionRequestNormal(invoke, reference, decode_from(reader) if flag else None)


def decode_request(raw: bytes) -> ActionRequest:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != REQUEST:
        raise reader.error("not an ACTION request")
    choice, invoke = reader.u8(), reader.u8()
    request: ActionRequest
    if choice == 1:
        request = _decode_normal(invoke, reader)
    elif choice == 2:
        request = ActionRequestNextPblock(invoke, reader.u32())
    elif choice == 3:
        request = ActionRequestWithList(invoke, _references(reader), decode_values(reader))
    elif choice == 4:
        request = ActionRequestWithFirstPblock(invoke, MethodReference.decode(reader), DataBlock.decode(reader))
    elif choice == 5:
        request = ActionRequestWithListAndFirstPblock(invoke, _references(reader), DataBlock.decode(reader))
    elif choice == 6:
        request = ActionRequestWithPblock(invoke, DataBlock.decode(reader))
    else:
        raise reader.error(f"ACTION request choice {choice}")
    reader.expect_end()
    return request


@dataclass(frozen=True, slots=True)
class ActionResponseNormal:
    """Tag C7 01."""

    invoke_id_and_priority: int
    outcome: MethodOutcome

    def encode(self) -> bytes:
        return bytes((RESPONSE, 1, self.invoke_id_and_priority)) + self.outcome.encode()


@dataclass(frozen=True, slots=True)
class ActionResponseWithPblock:
    """Tag C7 02."""

    invoke_id_and_priority: int
    block: DataBlock

    def encode(self) -> bytes:
        return bytes((RESPONSE, 2, self.invoke_id_and_priority)) + self.block.encode()


@dataclass(frozen=True, slots=True)
class ActionResponseWithList:
    """Tag C7 03."""

    invoke_id_and_priority: int
    outcomes: tuple[MethodOutcome, ...]

    def encode(self) -> bytes:
        head = bytes((RESPONSE, 3, self.invoke_id_and_priority))
        return head + encode_list([outcome.encode() for outcome in self.outcomes])


@dataclass(frozen=True, slots=True)
class ActionResponseNextPblock:
    """Tag C7 04: `block_number` came, send the next."""

    invoke_id_and_priority: int
    block_number: int

    def encode(self) -> bytes:
        return bytes((RESPONSE, 4, self.invoke_id_and_priority)) + self.block_number.to_bytes(4, "big")


ActionResponse = ActionResponseNormal | ActionResponseWithPblock | ActionResponseWithList | ActionResponseNextPblock


def decode_response(raw: bytes) -> ActionResponse:
    """Raises RemoteProtocolError if truncated or malformed."""
    reader = Reader(raw, spec=_SPEC)
    if reader.u8() != RESPONSE:
        raise reader.error("not an ACTION response")
    choice, invoke = reader.u8(), reader.u8()
    response: ActionResponse
    if choice == 1:
        response = ActionResponseNormal(invoke, MethodOutcome.decode(reader))
    elif choice == 2:
        response = ActionResponseWithPblock(invoke, DataBlock.decode(reader))
    elif choice == 3:
        response = ActionResponseWithList(invoke, decode_outcomes(reader))
    elif choice == 4:
        response = ActionResponseNextPblock(invoke, reader.u32())
    else:
        raise reader.error(f"ACTION response choice {choice}")
    reader.expect_end()
    return response
