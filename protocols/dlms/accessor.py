"""Objects as an association may see them: rights are checked here, and what an object refuses becomes a result."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.dlms.action import MethodOutcome, MethodReference
from protocols.dlms.data import NULL, Data, Readable
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.objects import Access, AccessDenied, CosemObject, MethodAccess, object_key
from protocols.dlms.selective import Selector
from protocols.dlms.session import Session
from protocols.errors import RemoteProtocolError

_READ, _WRITE, _INVOKE = int(Access.READ), int(Access.WRITE), int(MethodAccess.INVOKE)
_REQUEST_BITS, _RESPONSE_BITS = 0x1C, 0xE0
_SELECTIVE = int(Conformance.SELECTIVE_ACCESS)


class ServiceNotSupported(RemoteProtocolError):  # noqa: N818 (named after the standard's service-error)
    """The client asks for a service that the association does not have."""


def access_result(denied: AccessDenied) -> DataAccessResult:
    """The refusal as the result of a read or a write."""
    try:
        return DataAccessResult(denied.result)
    except ValueError:
        return DataAccessResult.OTHER_REASON


def _action_result(denied: AccessDenied) -> ActionResult:
    try:
        return ActionResult(denied.result)
    except ValueError:
        return ActionResult.OTHER_REASON


class ObjectAccessor:
    """Reads, writes and invokes objects under an association's rights."""

    def __init__(self, objects: Iterable[CosemObject]) -> None:
        self._objects: dict[bytes, CosemObject] = {}
        for item in objects:
            self.add(item)

    def add(self, item: CosemObject) -> None:
        if item.key in self._objects:
            raise ValueError(f"two objects of class {item.INTERFACE.class_id} at {item.obis}")
        self._objects[item.key] = item

    @property
    def objects(self) -> Iterable[CosemObject]:
        """In the order of their addition."""
        return self._objects.values()

    def find(self, key: bytes) -> CosemObject | None:
        return self._objects.get(key)

    def read(
        self, session: Session, key: bytes, attribute_id: int, selector: Selector | None
    ) -> Readable | DataAccessResult:
        rights = session.access.get(key)
        target = self._objects.get(key)
        if rights is None or target is None:
            return self._why_not(session, key)
        mode = rights.attributes.get(attribute_id, 0)
        if not mode & _READ or mode & _REQUEST_BITS & ~session.request_bits:
            return self._denied(target, attribute_id)
        session.response_bits |= mode & _RESPONSE_BITS
        try:
            if attribute_id == 1:
                return target.logical_name()
            if selector is not None:
                self._check_selector(session, target, attribute_id, selector)
            return target.read(attribute_id, selector, session.caller)
        except AccessDenied as denied:
            return access_result(denied)
        except RemoteProtocolError:
            return DataAccessResult.TYPE_UNMATCHED

    def write(self, session: Session, reference: AttributeReference, value: Data) -> DataAccessResult:
        key = object_key(reference.class_id, reference.obis)
        rights = session.access.get(key)
        target = self._objects.get(key)
        if rights is None or target is None:
            return self._why_not(session, key)
        mode = rights.attributes.get(reference.attribute_id, 0)
        if not mode & _WRITE or mode & _REQUEST_BITS & ~session.request_bits:
            return self._denied(target, reference.attribute_id)
        attribute = target.INTERFACE.by_id.get(reference.attribute_id)
        if attribute is not None and attribute.tags and value.tag not in attribute.tags:
            return DataAccessResult.TYPE_UNMATCHED
        session.response_bits |= mode & _RESPONSE_BITS
        try:
            target.write(reference.attribute_id, value, session.caller)
        except AccessDenied as denied:
            return access_result(denied)
        except RemoteProtocolError:
            return DataAccessResult.TYPE_UNMATCHED
        return DataAccessResult.SUCCESS

    def invoke(self, session: Session, reference: MethodReference, argument: Data | None) -> MethodOutcome:
        key = object_key(reference.class_id, reference.obis)
        rights = session.access.get(key)
        target = self._objects.get(key)
        if rights is None or target is None:
            return MethodOutcome(ActionResult(self._why_not(session, key)))
        mode = rights.methods.get(reference.method_id, 0)
        if not mode & _INVOKE or mode & _REQUEST_BITS & ~session.request_bits:
            known = any(row.id == reference.method_id for row in target.INTERFACE.methods)
            return MethodOutcome(ActionResult.READ_WRITE_DENIED if known else ActionResult.OBJECT_UNDEFINED)
        session.response_bits |= mode & _RESPONSE_BITS
        try:
            returned = target.invoke(reference.method_id, NULL if argument is None else argument, session.caller)
        except AccessDenied as denied:
            return MethodOutcome(_action_result(denied))
        except RemoteProtocolError:
            return MethodOutcome(ActionResult.TYPE_UNMATCHED)
        return MethodOutcome(ActionResult.SUCCESS, returned)

    def _why_not(self, session: Session, key: bytes) -> DataAccessResult:
        name = key[2:]
        same_name = any(other[2:] == name and other in session.access for other in self._objects)
        return DataAccessResult.OBJECT_CLASS_INCONSISTENT if same_name else DataAccessResult.OBJECT_UNDEFINED

    @staticmethod
    def _denied(target: CosemObject, attribute_id: int) -> DataAccessResult:
        known = attribute_id in target.INTERFACE.by_id
        return DataAccessResult.READ_WRITE_DENIED if known else DataAccessResult.OBJECT_UNDEFINED

    @staticmethod
    def _check_selector(session: Session, target: CosemObject, attribute_id: int, selector: Selector) -> None:
        attribute = target.INTERFACE.by_id.get(attribute_id)
        if not session.conformance & _SELECTIVE or attribute is None:
            raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        if selector.selector_id not in attribute.selectors:
            raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
