"""The server's ACTION."""

from __future__ import annotations

from protocols.dlms import action, get
from protocols.dlms.accessor import ObjectAccessor, ServiceNotSupported
from protocols.dlms.action import MethodReference
from protocols.dlms.blocks import (
    LEAST_BLOCK_BYTES,
    MAX_LONG_REQUEST_BYTES,
    PBLOCK_OVERHEAD_BYTES,
    BlockSource,
    LongAnswer,
    LongRequest,
    TooLongError,
)
from protocols.dlms.data import Data
from protocols.dlms.enums import ActionResult, Conformance
from protocols.dlms.session import Session
from protocols.dlms.set import DataBlock
from protocols.dlms.set_service import answer_to_repeated_end, values_of_blocks
from protocols.errors import RemoteProtocolError

_GBT = int(Conformance.GENERAL_BLOCK_TRANSFER)
_BLOCK_ACTION, _MULTIPLE = int(Conformance.BLOCK_ACTION), int(Conformance.MULTIPLE_REFERENCES)
_CONFIRMED = 0x40


class ActionService:
    def __init__(self, accessor: ObjectAccessor) -> None:
        self._accessor = accessor

    def __call__(self, session: Session, apdu: bytes) -> bytes | None:
        """None for an unconfirmed request. Raises RemoteProtocolError if the request is malformed."""
        request = action.decode_request(apdu)
        invoke = request.invoke_id_and_priority
        if isinstance(request, action.ActionRequestNextPblock):
            return self._next(session, request)
        if isinstance(request, action.ActionRequestWithPblock):
            repeated = answer_to_repeated_end(session, action.REQUEST, request.block)
            if repeated is not None:
                return repeated
        session.long_action_answer = session.finished_block = None
        if isinstance(request, action.ActionRequestNormal):
            session.long_action = None
            answer = self._run(session, invoke, (request.reference,), (request.argument,), is_list=False)
        elif isinstance(request, action.ActionRequestWithList):
            session.long_action = None
            if not session.conformance & _MULTIPLE:
                raise ServiceNotSupported("ACTION with list was not negotiated")
            answer = self._run(session, invoke, request.references, request.arguments, is_list=True)
        else:
            answer = self._block(session, request)
            if request.block.last_block:
                session.finished_block = (action.REQUEST, request.block.block_number, answer)
        return answer if invoke & _CONFIRMED else None

    def _run(
        self,
        session: Session,
        invoke: int,
        references: tuple[MethodReference, ...],
        arguments: tuple[Data | None, ...],
        *,
        is_list: bool,
    ) -> bytes:
        if len(references) != len(arguments):
            raise RemoteProtocolError(f"{len(references)} methods, {len(arguments)} arguments")
        pairs = zip(references, arguments, strict=True)
        outcomes = [self._accessor.invoke(session, reference, argument) for reference, argument in pairs]
        if is_list:
            head, content = bytes((0xC7, 3, invoke)), get.encode_list([outcome.encode() for outcome in outcomes])
        else:
            head, content = bytes((0xC7, 1, invoke)), outcomes[0].encode()
        has_gbt_only = session.conformance & _GBT and not session.conformance & _BLOCK_ACTION
        if len(head) + len(content) <= session.max_plain_bytes or has_gbt_only:
            return head + content
        block_bytes = session.max_plain_bytes - PBLOCK_OVERHEAD_BYTES
        if not session.conformance & _BLOCK_ACTION or block_bytes < LEAST_BLOCK_BYTES:
            return bytes((0xC7, 1, invoke, ActionResult.OTHER_REASON, 0))
        session.long_action_answer = LongAnswer(BlockSource(iter((content,))), invoke, block_bytes)
        return self._next_pblock(session.long_action_answer, invoke)

    @staticmethod
    def _next_pblock(answer: LongAnswer, invoke: int) -> bytes:
        answer.block_number += 1
        content = answer.source.take(answer.block_bytes)
        answer.is_finished = answer.source.is_exhausted
        block = DataBlock(answer.is_finished, answer.block_number, content)
        answer.last_apdu = action.ActionResponseWithPblock(invoke, block).encode()
        return answer.last_apdu

    def _next(self, session: Session, request: action.ActionRequestNextPblock) -> bytes:
        invoke, number = request.invoke_id_and_priority, request.block_number
        answer = session.long_action_answer
        if answer is not None and number == answer.block_number and not answer.is_finished:
            return self._next_pblock(answer, invoke)
        if answer is not None and number == answer.block_number - 1:
            return answer.last_apdu
        session.long_action_answer = None
        finished = answer is None or answer.is_finished
        result = ActionResult.NO_LONG_ACTION_IN_PROGRESS if finished else ActionResult.LONG_ACTION_ABORTED
        return bytes((0xC7, 1, invoke, result, 0))

    def _block(
        self,
        session: Session,
        request: action.ActionRequestWithFirstPblock
        | action.ActionRequestWithListAndFirstPblock
        | action.ActionRequestWithPblock,
    ) -> bytes:
        if not session.conformance & _BLOCK_ACTION:
            raise ServiceNotSupported("ACTION in blocks was not negotiated")
        invoke, block = request.invoke_id_and_priority, request.block
        if isinstance(request, action.ActionRequestWithFirstPblock):
            session.long_action = LongRequest((request.reference,), False, MAX_LONG_REQUEST_BYTES)
        elif isinstance(request, action.ActionRequestWithListAndFirstPblock):
            session.long_action = LongRequest(request.references, True, MAX_LONG_REQUEST_BYTES)
        long_action = session.long_action
        if long_action is None:
            return bytes((0xC7, 1, invoke, ActionResult.NO_LONG_ACTION_IN_PROGRESS, 0))
        try:
            accepted = long_action.accept(block)
        except TooLongError:
            accepted = False
        if not accepted:
            session.long_action = None
            return bytes((0xC7, 1, invoke, ActionResult.LONG_ACTION_ABORTED, 0))
        if not block.last_block:
            return action.ActionResponseNextPblock(invoke, block.block_number).encode()
        session.long_action = None
        references, is_list = long_action.references, long_action.is_list
        try:
            arguments = values_of_blocks(bytes(long_action.content), is_list, len(references))
        except RemoteProtocolError:
            return bytes((0xC7, 1, invoke, ActionResult.TYPE_UNMATCHED, 0))
        return self._run(session, invoke, references, arguments, is_list=is_list)
