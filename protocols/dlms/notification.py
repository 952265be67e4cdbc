"""What a server sends unasked: DataNotification and EventNotification (IEC 62056-5-3)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.dlms.data import Data, decode_from, decode_length, encode, encode_length
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode

DATA_NOTIFICATION, DATA_NOTIFICATION_CONFIRM, EVENT_NOTIFICATION = 0x0F, 0x10, 0xC2
_SPEC = "IEC 62056-5-3, notification"


@dataclass(frozen=True, slots=True)
class DataNotification:
    """Tag 0F. `date_time` is 12 bytes or none; CONFIRMED of `access` in the id asks for a confirmation."""

    long_invoke_id: int
    body: Data
    date_time: bytes = b""

    def encode(self) -> bytes:
        head = bytes((DATA_NOTIFICATION,)) + self.long_invoke_id.to_bytes(4, "big")
        return head + encode_length(len(self.date_time)) + self.date_time + encode(self.body)

    @classmethod
    def decode(cls, raw: bytes) -> DataNotification:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != DATA_NOTIFICATION:
            raise reader.error("not a DataNotification")
        long_invoke_id, date_time = reader.u32(), reader.take(decode_length(reader))
        body = decode_from(reader)
        reader.expect_end()
        return cls(long_invoke_id, body, date_time)


@dataclass(frozen=True, slots=True)
class DataNotificationConfirm:
    """Tag 10."""

    long_invoke_id: int
    date_time: bytes = b""

    def encode(self) -> bytes:
        head = bytes((DATA_NOTIFICATION_CONFIRM,)) + self.long_invoke_id.to_bytes(4, "big")
        return head + encode_length(len(self.date_time)) + self.date_time

    @classmethod
    def decode(cls, raw: bytes) -> DataNotificationConfirm:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != DATA_NOTIFICATION_CONFIRM:
            raise reader.error("not a DataNotificationConfirm")
        long_invoke_id, date_time = reader.u32(), reader.take(decode_length(reader))
        reader.expect_end()
        return cls(long_invoke_id, date_time)


@dataclass(frozen=True, slots=True)
class EventNotification:
    """Tag C2: an attribute's value, with the time of the event (12 bytes) if there is one."""

    reference: AttributeReference
    value: Data
    date_time: bytes | None = None

    def encode(self) -> bytes:
        out = bytes((EVENT_NOTIFICATION,))
        if self.date_time is None:
            out += b"\x00"
        else:
            out += b"\x01" + encode_length(len(self.date_time)) + self.date_time
        return out + self.reference.encode()[:9] + encode(self.value)

    @classmethod
    def decode(cls, raw: bytes) -> EventNotification:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != EVENT_NOTIFICATION:
            raise reader.error("not an EventNotification")
        flag = reader.u8()
        if flag > 1:
            raise reader.error(f"time flag 0x{flag:02X}")
        date_time = reader.take(decode_length(reader)) if flag else None
        class_id, obis, attribute_id = reader.u16(), ObisCode(reader.take(6)), reader.u8()
        attribute_id = attribute_id - 256 if attribute_id > 127 else attribute_id
        value = decode_from(reader)
        reader.expect_end()
        return cls(AttributeReference(class_id, obis, attribute_id), value, date_time)
