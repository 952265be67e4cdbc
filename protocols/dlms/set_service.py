"""The server's SET."""

from __future__ import annotations

from protocols.cursor import Reader
from protocols.dlms import set as set_apdu
from protocols.dlms.accessor import ObjectAccessor, ServiceNotSupported
from protocols.dlms.blocks import MAX_LONG_REQUEST_BYTES, LongRequest, TooLongError
from protocols.dlms.data import Data, decode
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.session import Session
from protocols.dlms.set import DataBlock
from protocols.errors import RemoteProtocolError

_BLOCK_SET, _MULTIPLE = int(Conformance.BLOCK_SET), int(Conformance.MULTIPLE_REFERENCES)
_CONFIRMED = 0x40


class SetService:
    def __init__(self, accessor: ObjectAccessor) -> None:
        self._accessor = accessor

    def __call__(self, session: Session, apdu: bytes) -> bytes | None:
        """None for an unconfirmed request. Raises RemoteProtocolError if the request is malformed."""
        request = set_apdu.decode_request(apdu)
        invoke = request.invoke_id_and_priority
        if isinstance(request, set_apdu.SetRequestWithDataBlock):
            repeated = answer_to_repeated_end(session, set_apdu.REQUEST, request.block)
            if repeated is not None:
                return repeated
        session.finished_block = None
        response: set_apdu.SetResponse
        if isinstance(request, set_apdu.SetRequestNormal):
            session.long_set = None
            result = self._accessor.write(session, request.reference, request.value)
            response = set_apdu.SetResponseNormal(invoke, result)
        elif isinstance(request, set_apdu.SetRequestWithList):
            session.long_set = None
            response = set_apdu.SetResponseWithList(invoke, self._write_all(session, request))
        else:
            response = self._block(session, request)
            if request.block.last_block:
                session.finished_block = (set_apdu.REQUEST, request.block.block_number, response.encode())
        return response.encode() if invoke & _CONFIRMED else None

    def _write_all(self, session: Session, request: set_apdu.SetRequestWithList) -> tuple[DataAccessResult, ...]:
        if not session.conformance & _MULTIPLE:
            raise ServiceNotSupported("SET with list was not negotiated")
        if len(request.references) != len(request.values):
            raise RemoteProtocolError(f"{len(request.references)} attributes, {len(request.values)} values")
        pairs = zip(request.references, request.values, strict=True)
        return tuple([self._accessor.write(session, reference, value) for reference, value in pairs])

    def _block(
        self,
        session: Session,
        request: set_apdu.SetRequestWithFirstDataBlock
        | set_apdu.SetRequestWithListAndFirstDataBlock
        | set_apdu.SetRequestWithDataBlock,
    ) -> set_apdu.SetResponse:
        if not session.conformance & _BLOCK_SET:
            raise ServiceNotSupported("SET in blocks was not negotiated")
        invoke, block = request.invoke_id_and_priority, request.block
        if isinstance(request, set_apdu.SetRequestWithFirstDataBlock):
            session.long_set = LongRequest((request.reference,), False, MAX_LONG_REQUEST_BYTES)
        elif isinstance(request, set_apdu.SetRequestWithListAndFirstDataBlock):
            session.long_set = LongRequest(request.references, True, MAX_LONG_REQUEST_BYTES)
        long_set = session.long_set
        if long_set is None:
            return _abort_set(invoke, block, DataAccessResult.NO_LONG_SET_IN_PROGRESS)
        try:
            if not long_set.accept(block):
                session.long_set = None
                return _abort_set(invoke, block, DataAccessResult.DATA_BLOCK_NUMBER_INVALID)
        except TooLongError:
            session.long_set = None
            return _abort_set(invoke, block, DataAccessResult.LONG_SET_ABORTED)
        if not block.last_block:
            return set_apdu.SetResponseDataBlock(invoke, block.block_number)
        session.long_set = None
        return self._finish(session, invoke, block, long_set)

    def _finish(
        self, session: Session, invoke: int, block: DataBlock, long_set: LongRequest[tuple[AttributeReference, ...]]
    ) -> set_apdu.SetResponse:
        try:
            values = values_of_blocks(bytes(long_set.content), long_set.is_list, len(long_set.references))
        except RemoteProtocolError:
            return _abort_set(invoke, block, DataAccessResult.TYPE_UNMATCHED)
        pairs = zip(long_set.references, values, strict=True)
        results = tuple([self._accessor.write(session, reference, value) for reference, value in pairs])
        if long_set.is_list:
            return set_apdu.SetResponseLastDataBlockWithList(invoke, results, block.block_number)
        return set_apdu.SetResponseLastDataBlock(invoke, results[0], block.block_number)


def answer_to_repeated_end(session: Session, service: int, block: DataBlock) -> bytes | None:
    """The answer that was given to the end of the last long request, if this is that block come again: its client
    has not heard it, and the request must not be done twice."""
    finished = session.finished_block
    if finished is None or not block.last_block or (service, block.block_number) != finished[:2]:
        return None
    return finished[2]


def _abort_set(invoke: int, block: DataBlock, result: DataAccessResult) -> set_apdu.SetResponse:
    return set_apdu.SetResponseLastDataBlock(invoke, result, block.block_number)


def values_of_blocks(content: bytes, is_list: bool, count: int) -> tuple[Data, ...]:
    """The values that came in blocks. Raises RemoteProtocolError."""
    if not is_list:
        return (decode(content),)
    reader = Reader(content)
    values = set_apdu.decode_values(reader)
    reader.expect_end()
    if len(values) != count:
        raise RemoteProtocolError(f"{count} references, {len(values)} values")
    return values
