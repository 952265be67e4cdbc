"""What meters push by themselves: DataNotifications, told apart by the push setup's object list (class 40)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcu.dlms_session import MeterSession
from dcu.tables import CLASS_PROFILE
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, encode
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.notification import DataNotification
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import CaptureObject
from protocols.errors import RemoteProtocolError

CLASS_PUSH_SETUP = 40
PUSH_SETUP = ObisCode.parse("0-0:25.9.0*255")
_OBJECT_LIST, _BUFFER = 2, 2


@dataclass(frozen=True, slots=True)
class PushedRows:
    """Rows of one table in one notification, each as its A-XDR bytes."""

    obis: ObisCode
    rows: tuple[bytes, ...]


def pushed_rows(apdu: bytes, objects: Sequence[CaptureObject]) -> tuple[PushedRows, ...]:
    """The profile rows in a DataNotification whose body has one element for each of `objects`.

    Raises RemoteProtocolError when it is another APDU or its body is of another shape.
    """
    body = DataNotification.decode(apdu).body
    if body.tag != Tag.STRUCTURE or len(body.value) != len(objects):
        raise RemoteProtocolError(f"a push that is not a structure of {len(objects)}", spec="IEC 62056-6-2, class 40")
    found = []
    for item, element in zip(objects, body.value, strict=True):
        if (item.class_id, item.attribute_id) != (CLASS_PROFILE, _BUFFER):
            continue
        if element.tag != Tag.ARRAY:
            raise RemoteProtocolError(f"a pushed buffer of {item.obis} that is not an array")
        found.append(PushedRows(item.obis, tuple(encode(row) for row in element.value)))
    return tuple(found)


async def read_push_objects(session: MeterSession) -> tuple[CaptureObject, ...]:
    """What a meter pushes; nothing for one that does not. Raises NoAnswerError, MeterRefusedError,
    RemoteProtocolError."""
    (answer,) = await session.get([AttributeReference(CLASS_PUSH_SETUP, PUSH_SETUP, _OBJECT_LIST)])
    if isinstance(answer, DataAccessResult):
        return ()
    if not isinstance(answer, Data) or answer.tag != Tag.ARRAY:
        raise RemoteProtocolError("push_object_list is not an array", spec="IEC 62056-6-2, class 40")
    return tuple(CaptureObject.from_data(item) for item in answer.value)
