"""EAP (RFC 3748) and the framing of EAP-TLS (RFC 5216): fragments of at most `FRAGMENT_BYTES`, each acknowledged."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

FRAGMENT_BYTES = 600
"""Of TLS data in one packet: with its headers and those of the relay it fits in one frame of 2,047 bytes, and its
airtime at 50 kb/s leaves room for others."""
MESSAGE_BYTES_MAX = 16_384
_SPEC = "RFC 3748, 4"
_TLS_SPEC = "RFC 5216, 3"
_LENGTH_INCLUDED, _MORE, _START = 0x80, 0x40, 0x20


class EapCode(enum.IntEnum):
    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapMethod(enum.IntEnum):
    IDENTITY = 1
    NAK = 3
    TLS = 13


@dataclass(frozen=True, slots=True)
class Eap:
    """One EAP packet. `method` is given for requests and responses only; `data` is what follows it."""

    code: EapCode
    identifier: int
    method: int | None = None
    data: bytes = field(default=b"", repr=False)

    @property
    def has_method(self) -> bool:
        return self.code in (EapCode.REQUEST, EapCode.RESPONSE)

    def encode(self) -> bytes:
        if (self.method is None) == self.has_method or not 0 <= self.identifier <= 0xFF:
            raise LocalProtocolError("requests and responses have a method, success and failure none")
        content = b"" if self.method is None else bytes((self.method,)) + self.data
        return bytes((self.code, self.identifier)) + (4 + len(content)).to_bytes(2, "big") + content

    @classmethod
    def decode(cls, packet: bytes) -> Eap:
        """Raises RemoteProtocolError if truncated, of an unknown code, or with bytes left over."""
        reader = Reader(packet, spec=_SPEC)
        code, identifier, size_bytes = reader.u8(), reader.u8(), reader.u16()
        if code not in list(EapCode):
            raise reader.error(f"EAP code {code} is unknown")
        if size_bytes != len(packet):
            raise reader.error(f"EAP length {size_bytes}, have {len(packet)}")
        method = reader.u8() if code in (EapCode.REQUEST, EapCode.RESPONSE) else None
        data = reader.rest()
        if method is None and data:
            raise reader.error("EAP success or failure with data")
        return cls(EapCode(code), identifier, method, data)


@dataclass(frozen=True, slots=True)
class EapTls:
    """The data of an EAP-TLS packet. `message_bytes` is the TLS message's whole length, in its first fragment."""

    data: bytes = field(default=b"", repr=False)
    message_bytes: int | None = None
    more: bool = False
    start: bool = False

    def encode(self) -> bytes:
        length = b"" if self.message_bytes is None else self.message_bytes.to_bytes(4, "big")
        flags = (_LENGTH_INCLUDED if length else 0) | (_MORE if self.more else 0) | (_START if self.start else 0)
        return bytes((flags,)) + length + self.data

    @classmethod
    def decode(cls, data: bytes) -> EapTls:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(data, spec=_TLS_SPEC)
        flags = reader.u8()
        message_bytes = reader.u32() if flags & _LENGTH_INCLUDED else None
        return cls(reader.rest(), message_bytes, bool(flags & _MORE), bool(flags & _START))


def fragments(message: bytes, fragment_bytes: int = FRAGMENT_BYTES) -> list[EapTls]:
    """A TLS message as EAP-TLS fragments; an empty one is a single packet without data."""
    parts = [message[at : at + fragment_bytes] for at in range(0, len(message), fragment_bytes)] or [b""]
    last = len(parts) - 1
    return [
        EapTls(part, len(message) if index == 0 and message else None, more=index != last)
        for index, part in enumerate(parts)
    ]


class Assembly:
    """Puts a TLS message together again. Bounded by `MESSAGE_BYTES_MAX`."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self._message_bytes: int | None = None

    def add(self, packet: EapTls) -> bytes | None:
        """The whole message, None while fragments are missing. Raises RemoteProtocolError if lengths disagree."""
        if packet.message_bytes is not None:
            if self._message_bytes not in (None, packet.message_bytes):
                raise RemoteProtocolError("fragments of messages of different length", spec=_TLS_SPEC)
            self._message_bytes = packet.message_bytes
        self._parts += packet.data
        if len(self._parts) > MESSAGE_BYTES_MAX:
            raise RemoteProtocolError(f"a TLS message longer than {MESSAGE_BYTES_MAX} bytes", spec=_TLS_SPEC)
        if packet.more:
            return None
        message, expected = bytes(self._parts), self._message_bytes
        self._parts.clear()
        self._message_bytes = None
        if expected is not None and expected != len(message):
            raise RemoteProtocolError(f"a TLS message of {len(message)} bytes, not {expected}", spec=_TLS_SPEC)
        return message
