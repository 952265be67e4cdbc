"""General-ciphering and general-signing: APDUs that carry all about their protection with them (IEC 62056-5-3)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeVar

from protocols.cursor import Reader
from protocols.dlms.data import decode_length, encode_length

GENERAL_CIPHERING, GENERAL_SIGNING = 0xDD, 0xDF
_SPEC = "IEC 62056-5-3, general protection"


_Enumerated = TypeVar("_Enumerated", bound=enum.IntEnum)


class KeyId(enum.IntEnum):
    """Of an identified key."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1


class AgreementScheme(enum.IntEnum):
    """Key parameters of an agreed key."""

    ONE_PASS = 1
    """C(1e, 1s): the sender's ephemeral key with the receiver's static one."""
    STATIC_UNIFIED = 2
    """C(0e, 2s): the static keys of both."""


def _octets(content: bytes) -> bytes:
    return encode_length(len(content)) + content


def _read_octets(reader: Reader) -> bytes:
    return reader.take(decode_length(reader))


@dataclass(frozen=True, slots=True)
class GeneralHeader:
    """What both start with. Titles are 8 bytes, or none."""

    transaction_id: bytes = b""
    originator: bytes = b""
    recipient: bytes = b""
    date_time: bytes = b""
    other_information: bytes = b""

    def encode(self) -> bytes:
        """Also what is authenticated and signed beside the content."""
        fields = (self.transaction_id, self.originator, self.recipient, self.date_time, self.other_information)
        return b"".join(map(_octets, fields))

    @classmethod
    def decode(cls, reader: Reader) -> GeneralHeader:
        return cls(*[_read_octets(reader) for _ in range(5)])


@dataclass(frozen=True, slots=True)
class IdentifiedKey:
    key_id: KeyId = KeyId.GLOBAL_UNICAST_ENCRYPTION


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key under the master key, AES key wrap."""

    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgreedKey:
    """`data` is the ephemeral public key and its signature for ONE_PASS, nothing for STATIC_UNIFIED."""

    scheme: AgreementScheme
    data: bytes = b""


KeyInfo = IdentifiedKey | WrappedKey | AgreedKey


def _encode_key_info(key_info: KeyInfo | None) -> bytes:
    if key_info is None:
        return b"\x00"
    if isinstance(key_info, IdentifiedKey):
        return bytes((1, 0, key_info.key_id))
    if isinstance(key_info, WrappedKey):
        return bytes((1, 1, 0)) + _octets(key_info.wrapped)
    return bytes((1, 2)) + _octets(bytes((key_info.scheme,))) + _octets(key_info.data)


def _decode_key_info(reader: Reader) -> KeyInfo | None:
    flag = reader.u8()
    if flag == 0:
        return None
    if flag != 1:
        raise reader.error(f"key-info flag 0x{flag:02X}")
    choice = reader.u8()
    if choice == 0:
        return IdentifiedKey(_enumerated(KeyId, reader.u8(), reader))
    if choice == 1:
        kek = reader.u8()
        if kek != 0:
            raise reader.error(f"key-encrypting key {kek}")
        return WrappedKey(_read_octets(reader))
    if choice == 2:
        parameters = _read_octets(reader)
        if len(parameters) != 1:
            raise reader.error(f"key parameters of {len(parameters)} bytes")
        return AgreedKey(_enumerated(AgreementScheme, parameters[0], reader), _read_octets(reader))
    raise reader.error(f"key-info choice {choice}")


def _enumerated(kind: type[_Enumerated], value: int, reader: Reader) -> _Enumerated:
    try:
        return kind(value)
    except ValueError as error:
        raise reader.error(f"{kind.__name__} {value}") from error


@dataclass(frozen=True, slots=True)
class GeneralCiphering:
    """Tag DD. `sealed` is security header, content and authentication tag. Without `key_info` the last key holds."""

    header: GeneralHeader
    key_info: KeyInfo | None
    sealed: bytes

    def encode(self) -> bytes:
        head = bytes((GENERAL_CIPHERING,)) + self.header.encode() + _encode_key_info(self.key_info)
        return head + _octets(self.sealed)

    @classmethod
    def decode(cls, raw: bytes) -> GeneralCiphering:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != GENERAL_CIPHERING:
            raise reader.error("not a general-ciphering APDU")
        header, key_info, sealed = GeneralHeader.decode(reader), _decode_key_info(reader), _read_octets(reader)
        reader.expect_end()
        return cls(header, key_info, sealed)


@dataclass(frozen=True, slots=True)
class GeneralSigning:
    """Tag DF. `signature` is over the header's fields, each with its length, and the content."""

    header: GeneralHeader
    content: bytes
    signature: bytes

    @property
    def signed_bytes(self) -> bytes:
        return self.header.encode() + self.content

    def encode(self) -> bytes:
        return bytes((GENERAL_SIGNING,)) + self.header.encode() + _octets(self.content) + _octets(self.signature)

    @classmethod
    def decode(cls, raw: bytes) -> GeneralSigning:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != GENERAL_SIGNING:
            raise reader.error("not a general-signing APDU")
        header, content, signature = GeneralHeader.decode(reader), _read_octets(reader), _read_octets(reader)
        reader.expect_end()
        return cls(header, content, signature)
