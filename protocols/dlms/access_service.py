"""The server's ACCESS."""

from __future__ import annotations

from protocols.dlms.access import (
    BREAK_ON_ERROR,
    CONFIRMED,
    AccessItem,
    AccessKind,
    AccessRequest,
    AccessResponse,
    AccessResult,
)
from protocols.dlms.accessor import ObjectAccessor
from protocols.dlms.action import MethodReference
from protocols.dlms.data import NULL, ArrayStream, Data, Encoded, chunks, decode
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.objects import AccessDenied, object_key
from protocols.dlms.session import Session

_RESULT_KINDS = {
    AccessKind.GET: AccessKind.GET,
    AccessKind.GET_WITH_SELECTION: AccessKind.GET,
    AccessKind.SET: AccessKind.SET,
    AccessKind.SET_WITH_SELECTION: AccessKind.SET,
    AccessKind.ACTION: AccessKind.ACTION,
}


class AccessService:
    """The whole answer is in memory while it is sent: ACCESS has no blocks of its own."""

    def __init__(self, accessor: ObjectAccessor) -> None:
        self._accessor = accessor

    def __call__(self, session: Session, apdu: bytes) -> bytes | None:
        """None for an unconfirmed request. Raises RemoteProtocolError if the request is malformed."""
        request = AccessRequest.decode(apdu)
        results: list[AccessResult] = []
        is_broken = False
        for item in request.items:
            result = _not_done(item) if is_broken else self._do(session, item)
            is_broken = is_broken or bool(request.long_invoke_id & BREAK_ON_ERROR and result.result)
            results.append(result)
        if not request.long_invoke_id & CONFIRMED:
            return None
        return AccessResponse(request.long_invoke_id, tuple(results)).encode()

    def _do(self, session: Session, item: AccessItem) -> AccessResult:
        kind, reference = _RESULT_KINDS[item.kind], item.reference
        if isinstance(reference, MethodReference):
            outcome = self._accessor.invoke(session, reference, item.data)
            returned = outcome.returned if isinstance(outcome.returned, Data) else NULL
            return AccessResult(kind, outcome.result, returned)
        if kind is AccessKind.SET:
            return AccessResult(kind, self._accessor.write(session, reference, item.data))
        return self._read(session, reference)

    def _read(self, session: Session, reference: AttributeReference) -> AccessResult:
        key = object_key(reference.class_id, reference.obis)
        value = self._accessor.read(session, key, reference.attribute_id & 0xFF, reference.selector)
        if isinstance(value, DataAccessResult):
            return AccessResult(AccessKind.GET, value)
        try:
            data = decode(b"".join(chunks(value))) if isinstance(value, ArrayStream | Encoded) else value
        except AccessDenied:
            return AccessResult(AccessKind.GET, DataAccessResult.OTHER_REASON)
        return AccessResult(AccessKind.GET, DataAccessResult.SUCCESS, data)


def _not_done(item: AccessItem) -> AccessResult:
    """The rest after an error, where the client asked to stop at the first."""
    if item.kind is AccessKind.ACTION:
        return AccessResult(AccessKind.ACTION, ActionResult.OTHER_REASON)
    return AccessResult(_RESULT_KINDS[item.kind], DataAccessResult.OTHER_REASON)
