"""InitiateRequest and InitiateResponse: what both sides can do (IEC 62056-5-3, A-XDR)."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.cursor import Reader
from protocols.dlms.data import decode_length, encode_length
from protocols.dlms.enums import Conformance

REQUEST, RESPONSE = 0x01, 0x08
DLMS_VERSION = 6
VAA_NAME_LN = 0x0007
_CONFORMANCE_TAG = bytes.fromhex("5F1F0400")
_SPEC = "IEC 62056-5-3, Initiate"


def _read_conformance(reader: Reader) -> Conformance:
    if reader.u16() != 0x5F1F:
        raise reader.error("the conformance block's tag 5F1F is missing")
    if reader.u8() != 4 or reader.u8() != 0:
        raise reader.error("a conformance block that is not 24 bits")
    return Conformance(reader.u24() & 0x7FFFFF)


def _read_flag(reader: Reader) -> bool:
    flag = reader.u8()
    if flag > 1:
        raise reader.error(f"presence flag 0x{flag:02X}")
    return bool(flag)


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """Tag 01. `dedicated_key` is a secret of this association; a `max_receive_pdu_bytes` of 0 means no limit."""

    conformance: Conformance
    max_receive_pdu_bytes: int
    dedicated_key: bytes | None = field(default=None, repr=False)
    response_allowed: bool = True
    quality_of_service: int | None = None
    dlms_version: int = DLMS_VERSION

    def encode(self) -> bytes:
        out = bytes((REQUEST,))
        if self.dedicated_key is None:
            out += b"\x00"
        else:
            out += b"\x01" + encode_length(len(self.dedicated_key)) + self.dedicated_key
        out += b"\x00" if self.response_allowed else b"\x01\x00"
        out += b"\x00" if self.quality_of_service is None else bytes((1, self.quality_of_service))
        out += bytes((self.dlms_version,)) + _CONFORMANCE_TAG
        return out + self.conformance.to_bytes(3, "big") + self.max_receive_pdu_bytes.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> InitiateRequest:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != REQUEST:
            raise reader.error("not an InitiateRequest")
        dedicated_key = reader.take(decode_length(reader)) if _read_flag(reader) else None
        response_allowed = bool(reader.u8()) if _read_flag(reader) else True
        quality_of_service = reader.u8() if _read_flag(reader) else None
        dlms_version = reader.u8()
        conformance = _read_conformance(reader)
        max_receive_pdu_bytes = reader.u16()
        reader.expect_end()
        return cls(
            conformance, max_receive_pdu_bytes, dedicated_key, response_allowed, quality_of_service, dlms_version
        )


@dataclass(frozen=True, slots=True)
class InitiateResponse:
    """Tag 08."""

    conformance: Conformance
    max_receive_pdu_bytes: int
    quality_of_service: int | None = None
    dlms_version: int = DLMS_VERSION
    vaa_name: int = VAA_NAME_LN

    def encode(self) -> bytes:
        out = bytes((RESPONSE,))
        out += b"\x00" if self.quality_of_service is None else bytes((1, self.quality_of_service))
        out += bytes((self.dlms_version,)) + _CONFORMANCE_TAG + self.conformance.to_bytes(3, "big")
        return out + self.max_receive_pdu_bytes.to_bytes(2, "big") + self.vaa_name.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> InitiateResponse:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != RESPONSE:
            raise reader.error("not an InitiateResponse")
        quality_of_service = reader.u8() if _read_flag(reader) else None
        dlms_version = reader.u8()
        conformance = _read_conformance(reader)
        max_receive_pdu_bytes = reader.u16()
        vaa_name = reader.u16()
        reader.expect_end()
        return cls(conformance, max_receive_pdu_bytes, quality_of_service, dlms_version, vaa_name)
