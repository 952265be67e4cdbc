"""One request of a client from its first APDU to its result, blocks included: plain APDUs in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protocols.cursor import Reader
from protocols.dlms import action, get
from protocols.dlms import set as set_apdu
from protocols.dlms.access import CONFIRMED, AccessItem, AccessRequest, AccessResponse
from protocols.dlms.action import MethodReference
from protocols.dlms.client_events import AccessDone, ActionDone, GetDone, RequestFailed, SetDone
from protocols.dlms.data import NULL, Data, decode, encode
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.set import DataBlock
from protocols.errors import LocalProtocolError, RemoteProtocolError

Done = GetDone | SetDone | ActionDone | AccessDone | RequestFailed
_BLOCK_OVERHEAD_BYTES = 12


class Operation(Protocol):
    """A request under way. `advance` gives the next APDU to send, the end of it, or None for a repeated answer."""

    def first(self) -> bytes: ...

    def advance(self, apdu: bytes) -> bytes | Done | None:
        """Raises RemoteProtocolError if `apdu` is no answer to this request."""
        ...


def _check_invoke(expected: int, found: int) -> None:
    if expected & 0x0F != found & 0x0F:
        raise RemoteProtocolError(f"an answer to invoke id {found & 0x0F}, not {expected & 0x0F}")


class Reassembly:
    """Blocks of an answer, put together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.block_number = 0
        self.content = bytearray()

    def accept(self, block_number: int, content: bytes) -> bool:
        """False for a repetition of the last block. Raises RemoteProtocolError for any other number but the next."""
        if block_number == self.block_number and block_number:
            return False
        if block_number != self.block_number + 1:
            raise RemoteProtocolError(f"block {block_number} after {self.block_number}")
        if len(self.content) + len(content) > self._limit_bytes:
            raise RemoteProtocolError(f"an answer of more than {self._limit_bytes} bytes")
        self.block_number = block_number
        self.content += content
        return True


class GetOperation:
    def __init__(self, invoke: int, references: Sequence[AttributeReference], limit_bytes: int) -> None:
        self._invoke = invoke
        self._references = tuple(references)
        self._blocks = Reassembly(limit_bytes)

    def first(self) -> bytes:
        if len(self._references) == 1:
            return get.GetRequestNormal(self._invoke, self._references[0]).encode()
        return get.GetRequestWithList(self._invoke, self._references).encode()

    def advance(self, apdu: bytes) -> bytes | Done | None:
        response = get.decode_response(apdu)
        _check_invoke(self._invoke, response.invoke_id_and_priority)
        if isinstance(response, get.GetResponseNormal):
            return self._done((response.result,))
        if isinstance(response, get.GetResponseWithList):
            return self._done(response.results)
        if isinstance(response.content, DataAccessResult):
            return self._done((response.content,) * len(self._references))
        if not self._blocks.accept(response.block_number, response.content):
            return None
        if not response.last_block:
            return get.GetRequestNext(self._invoke, response.block_number).encode()
        return self._reassembled(bytes(self._blocks.content))

    def _reassembled(self, content: bytes) -> Done:
        try:
            if len(self._references) == 1:
                return self._done((decode(content),))
            reader = Reader(content)
            results = get.decode_get_results(reader)
            reader.expect_end()
            return self._done(results)
        except RemoteProtocolError as error:  # all blocks are in: nothing better will come
            return RequestFailed(f"the blocks do not make an answer: {error}")

    def _done(self, results: tuple[Data | DataAccessResult, ...]) -> GetDone:
        if len(results) != len(self._references):
            raise RemoteProtocolError(f"{len(results)} results for {len(self._references)} attributes")
        return GetDone(results)


class SetOperation:
    """`limit_bytes` is what the server takes in one APDU, protection not counted."""

    def __init__(
        self,
        invoke: int,
        writes: Sequence[tuple[AttributeReference, Data]],
        limit_bytes: int,
        conformance: Conformance,
    ) -> None:
        self._invoke = invoke
        self._references = tuple(reference for reference, _ in writes)
        self._values = tuple(value for _, value in writes)
        self._limit_bytes = limit_bytes
        self._may_block = bool(conformance & Conformance.BLOCK_SET)
        self._rest = b""
        self._block_number = 0

    def first(self) -> bytes:
        """Raises LocalProtocolError if the values do not fit and blocks were not negotiated."""
        if len(self._references) == 1:
            whole = set_apdu.SetRequestNormal(self._invoke, self._references[0], self._values[0]).encode()
        else:
            whole = set_apdu.SetRequestWithList(self._invoke, self._references, self._values).encode()
        if len(whole) <= self._limit_bytes:
            return whole
        if not self._may_block:
            raise LocalProtocolError(f"{len(whole)} bytes for a server that takes {self._limit_bytes}")
        encoded = [encode(value) for value in self._values]
        if len(encoded) == 1:
            self._rest = encoded[0]
            head = len(self._references[0].encode())
            block = self._next_block(head)
            return set_apdu.SetRequestWithFirstDataBlock(self._invoke, self._references[0], block).encode()
        self._rest = get.encode_list(encoded)
        head = sum(len(reference.encode()) for reference in self._references) + 2
        block = self._next_block(head)
        return set_apdu.SetRequestWithListAndFirstDataBlock(self._invoke, self._references, block).encode()

    def _next_block(self, head_bytes: int = 0) -> DataBlock:
        room = self._limit_bytes - head_bytes - _BLOCK_OVERHEAD_BYTES
        if room < 1:
            raise LocalProtocolError(f"no room for a block in {self._limit_bytes} bytes")
        content, self._rest = self._rest[:room], self._rest[room:]
        self._block_number += 1
        return DataBlock(not self._rest, self._block_number, content)

    def advance(self, apdu: bytes) -> bytes | Done | None:
        response = set_apdu.decode_response(apdu)
        _check_invoke(self._invoke, response.invoke_id_and_priority)
        if isinstance(response, set_apdu.SetResponseDataBlock):
            if response.block_number < self._block_number:
                return None
            if response.block_number != self._block_number or not self._rest:
                raise RemoteProtocolError(f"the server acknowledges block {response.block_number}")
            return set_apdu.SetRequestWithDataBlock(self._invoke, self._next_block()).encode()
        if isinstance(response, set_apdu.SetResponseNormal | set_apdu.SetResponseLastDataBlock):
            return SetDone((response.result,) * len(self._references))
        if len(response.results) != len(self._references):
            raise RemoteProtocolError(f"{len(response.results)} results for {len(self._references)} attributes")
        return SetDone(response.results)


class ActionOperation:
    """`limit_bytes` is what the server takes in one APDU, `answer_limit_bytes` what this side takes in blocks."""

    def __init__(
        self,
        invoke: int,
        calls: Sequence[tuple[MethodReference, Data | None]],
        limit_bytes: int,
        conformance: Conformance,
        answer_limit_bytes: int,
    ) -> None:
        self._invoke = invoke
        self._references = tuple(reference for reference, _ in calls)
        self._arguments = tuple(argument for _, argument in calls)
        self._limit_bytes = limit_bytes
        self._may_block = bool(conformance & Conformance.BLOCK_ACTION)
        self._rest = b""
        self._block_number = 0
        self._blocks = Reassembly(answer_limit_bytes)

    def first(self) -> bytes:
        """Raises LocalProtocolError if the arguments do not fit and blocks were not negotiated."""
        arguments = tuple(NULL if argument is None else argument for argument in self._arguments)
        is_single = len(self._references) == 1
        if is_single:
            whole = action.ActionRequestNormal(self._invoke, self._references[0], self._arguments[0]).encode()
        else:
            whole = action.ActionRequestWithList(self._invoke, self._references, arguments).encode()
        if len(whole) <= self._limit_bytes:
            return whole
        if not self._may_block:
            raise LocalProtocolError(f"{len(whole)} bytes for a server that takes {self._limit_bytes}")
        encoded = [encode(argument) for argument in arguments]
        self._rest = encoded[0] if is_single else get.encode_list(encoded)
        block = self._next_block(9 * len(self._references) + 2)
        if is_single:
            return action.ActionRequestWithFirstPblock(self._invoke, self._references[0], block).encode()
        return action.ActionRequestWithListAndFirstPblock(self._invoke, self._references, block).encode()

    def _next_block(self, head_bytes: int = 0) -> DataBlock:
        room = self._limit_bytes - head_bytes - _BLOCK_OVERHEAD_BYTES
        if room < 1:
            raise LocalProtocolError(f"no room for a block in {self._limit_bytes} bytes")
        content, self._rest = self._rest[:room], self._rest[room:]
        self._block_number += 1
        return DataBlock(not self._rest, self._block_number, content)

    def advance(self, apdu: bytes) -> bytes | Done | None:
        response = action.decode_response(apdu)
        _check_invoke(self._invoke, response.invoke_id_and_priority)
        if isinstance(response, action.ActionResponseNextPblock):
            if response.block_number < self._block_number:
                return None
            if response.block_number != self._block_number or not self._rest:
                raise RemoteProtocolError(f"the server acknowledges block {response.block_number}")
            return action.ActionRequestWithPblock(self._invoke, self._next_block()).encode()
        if isinstance(response, action.ActionResponseNormal):
            return ActionDone((response.outcome,) * len(self._references))
        if isinstance(response, action.ActionResponseWithList):
            return self._done(response.outcomes)
        if not self._blocks.accept(response.block.block_number, response.block.content):
            return None
        if not response.block.last_block:
            return action.ActionRequestNextPblock(self._invoke, response.block.block_number).encode()
        return self._reassembled(bytes(self._blocks.content))

    def _reassembled(self, content: bytes) -> Done:
        reader = Reader(content)
        try:
            if len(self._references) == 1:
                outcomes: tuple[action.MethodOutcome, ...] = (action.MethodOutcome.decode(reader),)
            else:
                outcomes = action.decode_outcomes(reader)
            reader.expect_end()
            return self._done(outcomes)
        except RemoteProtocolError as error:  # all blocks are in: nothing better will come
            return RequestFailed(f"the blocks do not make an answer: {error}")

    def _done(self, outcomes: tuple[action.MethodOutcome, ...]) -> ActionDone:
        if len(outcomes) != len(self._references):
            raise RemoteProtocolError(f"{len(outcomes)} results for {len(self._references)} methods")
        return ActionDone(outcomes)


class AccessOperation:
    def __init__(self, invoke: int, items: Sequence[AccessItem]) -> None:
        self._long_invoke_id = CONFIRMED | invoke
        self._items = tuple(items)

    def first(self) -> bytes:
        return AccessRequest(self._long_invoke_id, self._items).encode()

    def advance(self, apdu: bytes) -> bytes | Done | None:
        response = AccessResponse.decode(apdu)
        if response.long_invoke_id & 0xFFFFFF != self._long_invoke_id & 0xFFFFFF:
            raise RemoteProtocolError("an answer to another ACCESS request")
        if len(response.results) != len(self._items):
            raise RemoteProtocolError(f"{len(response.results)} results for {len(self._items)} items")
        return AccessDone(response.results)
