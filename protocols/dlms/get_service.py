"""The server's GET."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.dlms import get
from protocols.dlms.accessor import ObjectAccessor, ServiceNotSupported, access_result
from protocols.dlms.blocks import (
    GET_BLOCK_OVERHEAD_BYTES,
    LEAST_BLOCK_BYTES,
    NORMAL_OVERHEAD_BYTES,
    BlockSource,
    LongAnswer,
)
from protocols.dlms.data import ArrayStream, Readable, chunks, encode, encode_length
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference, GetResponseWithBlock
from protocols.dlms.objects import AccessDenied, object_key
from protocols.dlms.session import Session

_GBT = int(Conformance.GENERAL_BLOCK_TRANSFER)
_BLOCK_GET, _MULTIPLE = int(Conformance.BLOCK_GET), int(Conformance.MULTIPLE_REFERENCES)


class GetService:
    def __init__(self, accessor: ObjectAccessor) -> None:
        self._accessor = accessor

    def __call__(self, session: Session, apdu: bytes) -> bytes:
        """Raises RemoteProtocolError if the request is malformed."""
        if len(apdu) == 13 and apdu[1] == get.NORMAL and apdu[12] == 0:
            session.long_get = None
            value = self._accessor.read(session, apdu[3:11], apdu[11], None)
            return self._answer(session, apdu[2], value)
        request = get.decode_request(apdu)
        if isinstance(request, get.GetRequestNext):
            return self._next(session, request)
        session.long_get = None
        if isinstance(request, get.GetRequestNormal):
            class_id, obis, attribute_id, selector = request.reference
            value = self._accessor.read(session, object_key(class_id, obis), attribute_id & 0xFF, selector)
            return self._answer(session, request.invoke_id_and_priority, value)
        return self._list(session, request)

    def _answer(self, session: Session, invoke: int, value: Readable | DataAccessResult) -> bytes:
        if isinstance(value, DataAccessResult):
            return bytes((0xC4, 1, invoke, 1, value))
        if isinstance(value, ArrayStream):
            return self._stream(session, invoke, value.chunks(), bytes((0xC4, 1, invoke, 0)))
        encoded = encode(value)
        if len(encoded) + NORMAL_OVERHEAD_BYTES <= session.max_plain_bytes:
            return bytes((0xC4, 1, invoke, 0)) + encoded
        return self._stream(session, invoke, iter((encoded,)), bytes((0xC4, 1, invoke, 0)))

    def _list(self, session: Session, request: get.GetRequestWithList) -> bytes:
        invoke = request.invoke_id_and_priority
        if not session.conformance & _MULTIPLE:
            raise ServiceNotSupported("GET with list was not negotiated")
        return self._stream(session, invoke, self._results(session, request.references), bytes((0xC4, 3, invoke)))

    def _results(self, session: Session, references: tuple[AttributeReference, ...]) -> Iterator[bytes]:
        yield encode_length(len(references))
        for class_id, obis, attribute_id, selector in references:
            value = self._accessor.read(session, object_key(class_id, obis), attribute_id & 0xFF, selector)
            if isinstance(value, DataAccessResult):
                yield bytes((1, value))
            else:
                yield b"\x00"
                yield from chunks(value)

    def _stream(self, session: Session, invoke: int, content: Iterator[bytes], head: bytes) -> bytes:
        """In one APDU if it fits, else the first block."""
        source = BlockSource(content)
        room = session.max_plain_bytes - len(head)
        try:
            size_bytes = source.fill(room + 1)
        except AccessDenied as denied:
            return bytes((0xC4, 1, invoke, 1, access_result(denied)))
        if size_bytes <= room:
            return head + source.take(room)
        block_bytes = session.max_plain_bytes - GET_BLOCK_OVERHEAD_BYTES
        if session.conformance & _GBT and not session.conformance & _BLOCK_GET:
            return self._whole(source, invoke, head)
        if not session.conformance & _BLOCK_GET or block_bytes < LEAST_BLOCK_BYTES:
            return bytes((0xC4, 1, invoke, 1, DataAccessResult.OTHER_REASON))
        session.long_get = LongAnswer(source, invoke, block_bytes)
        return self._next_block(session.long_get, invoke)

    @staticmethod
    def _whole(source: BlockSource, invoke: int, head: bytes) -> bytes:
        """All of it, for general-block-transfer to cut."""
        try:
            return head + source.rest()
        except AccessDenied as denied:
            return bytes((0xC4, 1, invoke, 1, access_result(denied)))

    @staticmethod
    def _next_block(long_get: LongAnswer, invoke: int) -> bytes:
        long_get.block_number += 1
        try:
            content: bytes | DataAccessResult = long_get.source.take(long_get.block_bytes)
            long_get.is_finished = long_get.source.is_exhausted
        except AccessDenied:
            content, long_get.is_finished = DataAccessResult.LONG_GET_ABORTED, True
        block = GetResponseWithBlock(invoke, long_get.is_finished, long_get.block_number, content)
        long_get.last_apdu = block.encode()
        return long_get.last_apdu

    def _next(self, session: Session, request: get.GetRequestNext) -> bytes:
        invoke, number = request.invoke_id_and_priority, request.block_number
        long_get = session.long_get
        if long_get is None or (long_get.is_finished and number == long_get.block_number):
            session.long_get = None
            return GetResponseWithBlock(invoke, True, number, DataAccessResult.NO_LONG_GET_IN_PROGRESS).encode()
        if number == long_get.block_number:
            return self._next_block(long_get, invoke)
        if number == long_get.block_number - 1:
            return long_get.last_apdu
        session.long_get = None
        return GetResponseWithBlock(invoke, True, number, DataAccessResult.DATA_BLOCK_NUMBER_INVALID).encode()
