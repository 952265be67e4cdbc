"""Image transfer (class 18) with one meter, over its management association."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from dcu.dlms_session import MeterSession
from dcu.errors import MeterRefusedError
from dcu.readings import text_of
from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, array, double_long_unsigned, integer, octet_string, structure
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult
from protocols.dlms.obis import ObisCode
from protocols.meter_identity import FIRMWARE_VERSION

CLASS_IMAGE_TRANSFER = 18
IMAGE_TRANSFER = ObisCode.parse("0-0:44.0.0*255")
ACTIVATION_SCHEDULE = ObisCode.parse("0-0:15.0.2*255")
IMAGE_REPORT = ObisCode.parse("0-0:96.50.4*255")
"""Class 1, octet string, ASCII: what became of the last image. A manufacturer's own; a meter may lack it."""
_CLASS_DATA, _CLASS_SCHEDULE = 1, 22
_BLOCK_SIZE, _BLOCKS, _STATUS, _TO_ACTIVATE = 2, 3, 6, 7
_INITIATE, _BLOCK, _VERIFY, _ACTIVATE = 1, 2, 3, 4
_EXECUTION_TIME = 4
_UNCONFIRMED = 0x80
_BLOCK_BYTES = range(16, 4097)


class ImageStatus(enum.IntEnum):
    """image_transfer_status (IEC 62056-6-2, class 18)."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


@dataclass(frozen=True, slots=True)
class MeterLook:
    """What a meter says: the version that runs, and where its image transfer is. `signature` is that of the image that
    it has verified, empty if there is none."""

    version: str
    status: ImageStatus
    signature: bytes


def block_request(number: int, block: bytes) -> bytes:
    """The request that brings one block to all, without protection."""
    method = MethodReference(CLASS_IMAGE_TRANSFER, IMAGE_TRANSFER, _BLOCK)
    return ActionRequestNormal(_UNCONFIRMED, method, _block(number, block)).encode()


def _block(number: int, block: bytes) -> Data:
    return structure(double_long_unsigned(number), octet_string(block))


class ImageClient:
    """Every method raises NoAnswerError, and MeterRefusedError where the meter cannot do what every meter with image
    transfer can."""

    def __init__(self, session: MeterSession) -> None:
        self._session = session

    async def look(self) -> MeterLook:
        version, status, image = await self._session.get(
            [
                AttributeReference(_CLASS_DATA, FIRMWARE_VERSION, 2),
                _attribute(_STATUS),
                _attribute(_TO_ACTIVATE),
            ]
        )
        if not isinstance(version, Data) or not isinstance(status, Data) or status.tag != Tag.ENUM:
            raise MeterRefusedError("unsupported", "it has no image transfer")
        try:
            return MeterLook(text_of(version), ImageStatus(status.value), _signature(image))
        except ValueError:
            raise MeterRefusedError("inconsistent", f"image transfer status {status.value}") from None

    async def block_bytes(self) -> int:
        (answer,) = await self._session.get([_attribute(_BLOCK_SIZE)])
        if not isinstance(answer, Data) or answer.value not in _BLOCK_BYTES:
            raise MeterRefusedError("inconsistent", "it does not say how long its image blocks are")
        return int(answer.value)

    async def initiate(self, identifier: bytes, size_bytes: int) -> bool:
        """Sent once: done again later it would undo what has come meanwhile. Whether the meter is ready for blocks."""
        argument = structure(octet_string(identifier), double_long_unsigned(size_bytes))
        result = await self._session.action_once(_method(_INITIATE), argument)
        return result is ActionResult.SUCCESS

    async def missing(self, block_count: int) -> list[int]:
        """Numbers of the blocks that the meter lacks."""
        (answer,) = await self._session.get([_attribute(_BLOCKS)])
        if not isinstance(answer, Data) or answer.tag != Tag.BIT_STRING:
            raise MeterRefusedError("inconsistent", "it does not say which blocks it has")
        bits = str(answer.value).ljust(block_count, "0")
        return [number for number in range(block_count) if bits[number] == "0"]

    async def send_block(self, number: int, block: bytes) -> bool:
        return await self._session.invoke(_method(_BLOCK), _block(number, block)) is ActionResult.SUCCESS

    async def verify(self) -> ActionResult | None:
        return await self._session.invoke(_method(_VERIFY), integer(0))

    async def activate(self) -> ActionResult | None:
        """Sent once: the meter restarts."""
        return await self._session.action_once(_method(_ACTIVATE), integer(0))

    async def schedule(self, local_s: float) -> bool:
        """Let the meter activate by itself, at a time of its own clock: seconds since 1970 in its local time."""
        moment = DateTime.from_utc_s(local_s)
        times = array((structure(octet_string(moment.time.encode()), octet_string(moment.date.encode())),))
        reference = AttributeReference(_CLASS_SCHEDULE, ACTIVATION_SCHEDULE, _EXECUTION_TIME)
        return await self._session.set_once(reference, times)

    async def report(self) -> str:
        """What the meter says became of the image, in words; empty if it does not say."""
        (answer,) = await self._session.get([AttributeReference(_CLASS_DATA, IMAGE_REPORT, 2)])
        return text_of(answer)[:256] if isinstance(answer, Data) else ""


def _attribute(attribute_id: int) -> AttributeReference:
    return AttributeReference(CLASS_IMAGE_TRANSFER, IMAGE_TRANSFER, attribute_id)


def _method(method_id: int) -> MethodReference:
    return MethodReference(CLASS_IMAGE_TRANSFER, IMAGE_TRANSFER, method_id)


def _signature(answer: object) -> bytes:
    """image_to_activate_signature of the first image in image_to_activate_info."""
    if not isinstance(answer, Data) or answer.tag != Tag.ARRAY or not answer.value:
        return b""
    first = answer.value[0]
    if first.tag != Tag.STRUCTURE or len(first.value) != 3 or first.value[2].tag != Tag.OCTET_STRING:
        return b""
    return bytes(first.value[2].value)
