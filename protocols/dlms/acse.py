"""Opening and closing associations: AARQ, AARE, RLRQ, RLRE (IEC 62056-5-3, ACSE of ISO/IEC 8650 in BER)."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.cursor import Reader
from protocols.dlms.ber import read_all, read_integer, read_only, read_tlv, tlv
from protocols.dlms.enums import (
    AcseProviderDiagnostic,
    AcseUserDiagnostic,
    AssociationResult,
    ContextName,
    Mechanism,
    ReleaseRequestReason,
    ReleaseResponseReason,
)
from protocols.errors import RemoteProtocolError

AARQ, AARE, RLRQ, RLRE = 0x60, 0x61, 0x62, 0x63
_CONTEXT_OID = bytes.fromhex("608574050801")
_MECHANISM_OID = bytes.fromhex("608574050802")
_AUTHENTICATION_FUNCTIONAL_UNIT = bytes.fromhex("0780")
_SPEC = "IEC 62056-5-3, ACSE"


def _octets(content: Reader) -> bytes:
    return read_only(content, 0x04).rest()


def _context(content: Reader) -> int:
    oid = read_only(content, 0x06).rest()
    if len(oid) != 7 or oid[:6] != _CONTEXT_OID:
        raise content.error("an application context that is not of DLMS/COSEM")
    return oid[6]


def _mechanism(content: Reader) -> int:
    oid = content.rest()
    if len(oid) != 7 or oid[:6] != _MECHANISM_OID:
        raise content.error("an authentication mechanism that is not of DLMS/COSEM")
    return oid[6]


def _authentication_value(content: Reader) -> bytes:
    return read_only(content, 0x80).rest()


def _optional(tag: int, content: bytes | None) -> bytes:
    return b"" if content is None else tlv(tag, content)


def _fields(raw: bytes, tag: int) -> dict[int, Reader]:
    reader = Reader(raw, spec=_SPEC)
    found = {}
    for element, content in read_all(read_only(reader, tag)):
        if element in found:
            raise content.error(f"element 0x{element:02X} twice")
        found[element] = content
    return found


def _get(found: dict[int, Reader], tag: int) -> bytes | None:
    content = found.get(tag)
    return None if content is None else _octets(content)


@dataclass(frozen=True, slots=True)
class Aarq:
    """A-ASSOCIATE request, tag 60.

    `context` and `mechanism` are the last arcs of their object identifiers, as they came. `user_information` is an
    InitiateRequest or its ciphered form. `calling_ae_qualifier` may carry the client's certificate.
    """

    context: int
    user_information: bytes | None
    mechanism: int | None = None
    authentication_value: bytes | None = field(default=None, repr=False)
    calling_ap_title: bytes | None = None
    calling_ae_qualifier: bytes | None = None
    calling_ae_invocation_id: int | None = None
    authentication_functional_unit: bool = False
    called_ap_title: bytes | None = None
    protocol_version: bytes | None = None

    def encode(self) -> bytes:
        content = _optional(0x80, self.protocol_version)
        content += tlv(0xA1, tlv(0x06, _CONTEXT_OID + bytes((self.context,))))
        content += _nested_octets(0xA2, self.called_ap_title)
        content += _nested_octets(0xA6, self.calling_ap_title)
        content += _nested_octets(0xA7, self.calling_ae_qualifier)
        if self.calling_ae_invocation_id is not None:
            content += tlv(0xA9, tlv(0x02, bytes((self.calling_ae_invocation_id,))))
        if self.authentication_functional_unit:
            content += tlv(0x8A, _AUTHENTICATION_FUNCTIONAL_UNIT)
        if self.mechanism is not None:
            content += tlv(0x8B, _MECHANISM_OID + bytes((self.mechanism,)))
        if self.authentication_value is not None:
            content += tlv(0xAC, tlv(0x80, self.authentication_value))
        content += _nested_octets(0xBE, self.user_information)
        return tlv(AARQ, content)

    @classmethod
    def decode(cls, raw: bytes) -> Aarq:
        """Raises RemoteProtocolError if truncated or malformed. Elements that DLMS does not use are passed over."""
        found = _fields(raw, AARQ)
        if 0xA1 not in found:
            raise RemoteProtocolError("an AARQ without application context", spec=_SPEC)
        user_id = found.get(0xA9)
        return cls(
            context=_context(found[0xA1]),
            user_information=_get(found, 0xBE),
            mechanism=_mechanism(found[0x8B]) if 0x8B in found else None,
            authentication_value=_authentication_value(found[0xAC]) if 0xAC in found else None,
            calling_ap_title=_get(found, 0xA6),
            calling_ae_qualifier=_get(found, 0xA7),
            calling_ae_invocation_id=None if user_id is None else read_integer(read_only(user_id, 0x02)) & 0xFF,
            authentication_functional_unit=0x8A in found and bool(found[0x8A].rest()[-1:] >= b"\x80"),
            called_ap_title=_get(found, 0xA2),
            protocol_version=found[0x80].rest() if 0x80 in found else None,
        )


def _nested_octets(tag: int, content: bytes | None) -> bytes:
    return b"" if content is None else tlv(tag, tlv(0x04, content))


@dataclass(frozen=True, slots=True)
class Aare:
    """A-ASSOCIATE response, tag 61. `from_provider` says who gives the diagnostic."""

    context: int
    result: AssociationResult
    diagnostic: AcseUserDiagnostic | AcseProviderDiagnostic
    user_information: bytes | None = None
    mechanism: int | None = None
    authentication_value: bytes | None = field(default=None, repr=False)
    responding_ap_title: bytes | None = None
    responding_ae_qualifier: bytes | None = None

    @property
    def from_provider(self) -> bool:
        return isinstance(self.diagnostic, AcseProviderDiagnostic)

    def encode(self) -> bytes:
        content = tlv(0xA1, tlv(0x06, _CONTEXT_OID + bytes((self.context,))))
        content += tlv(0xA2, tlv(0x02, bytes((self.result,))))
        content += tlv(0xA3, tlv(0xA2 if self.from_provider else 0xA1, tlv(0x02, bytes((self.diagnostic,)))))
        content += _nested_octets(0xA4, self.responding_ap_title)
        content += _nested_octets(0xA5, self.responding_ae_qualifier)
        if self.mechanism is not None:
            content += tlv(0x88, _AUTHENTICATION_FUNCTIONAL_UNIT)
            content += tlv(0x89, _MECHANISM_OID + bytes((self.mechanism,)))
        if self.authentication_value is not None:
            content += tlv(0xAA, tlv(0x80, self.authentication_value))
        content += _nested_octets(0xBE, self.user_information)
        return tlv(AARE, content)

    @classmethod
    def decode(cls, raw: bytes) -> Aare:
        """Raises RemoteProtocolError if truncated or malformed."""
        found = _fields(raw, AARE)
        for tag, name in ((0xA1, "application context"), (0xA2, "result"), (0xA3, "diagnostic")):
            if tag not in found:
                raise RemoteProtocolError(f"an AARE without {name}", spec=_SPEC)
        result = read_integer(read_only(found[0xA2], 0x02))
        try:
            outcome = AssociationResult(result)
        except ValueError as error:
            raise RemoteProtocolError(f"association result {result}", spec=_SPEC) from error
        return cls(
            context=_context(found[0xA1]),
            result=outcome,
            diagnostic=_diagnostic(found[0xA3]),
            user_information=_get(found, 0xBE),
            mechanism=_mechanism(found[0x89]) if 0x89 in found else None,
            authentication_value=_authentication_value(found[0xAA]) if 0xAA in found else None,
            responding_ap_title=_get(found, 0xA4),
            responding_ae_qualifier=_get(found, 0xA5),
        )


def _diagnostic(content: Reader) -> AcseUserDiagnostic | AcseProviderDiagnostic:
    tag, choice = read_tlv(content)
    content.expect_end()
    value = read_integer(read_only(choice, 0x02))
    try:
        if tag == 0xA1:
            return AcseUserDiagnostic(value)
        if tag == 0xA2:
            return AcseProviderDiagnostic(value)
    except ValueError as error:
        raise content.error(f"diagnostic {value}") from error
    raise content.error(f"diagnostic source 0x{tag:02X}")


@dataclass(frozen=True, slots=True)
class Rlrq:
    """A-RELEASE request, tag 62."""

    reason: ReleaseRequestReason | None = ReleaseRequestReason.NORMAL
    user_information: bytes | None = None

    def encode(self) -> bytes:
        reason = b"" if self.reason is None else tlv(0x80, bytes((self.reason,)))
        return tlv(RLRQ, reason + _nested_octets(0xBE, self.user_information))

    @classmethod
    def decode(cls, raw: bytes) -> Rlrq:
        """Raises RemoteProtocolError if truncated or malformed."""
        found = _fields(raw, RLRQ)
        reason = read_integer(found[0x80]) if 0x80 in found else None
        try:
            return cls(None if reason is None else ReleaseRequestReason(reason), _get(found, 0xBE))
        except ValueError as error:
            raise RemoteProtocolError(f"release reason {reason}", spec=_SPEC) from error


@dataclass(frozen=True, slots=True)
class Rlre:
    """A-RELEASE response, tag 63."""

    reason: ReleaseResponseReason | None = ReleaseResponseReason.NORMAL
    user_information: bytes | None = None

    def encode(self) -> bytes:
        reason = b"" if self.reason is None else tlv(0x80, bytes((self.reason,)))
        return tlv(RLRE, reason + _nested_octets(0xBE, self.user_information))

    @classmethod
    def decode(cls, raw: bytes) -> Rlre:
        """Raises RemoteProtocolError if truncated or malformed."""
        found = _fields(raw, RLRE)
        reason = read_integer(found[0x80]) if 0x80 in found else None
        try:
            return cls(None if reason is None else ReleaseResponseReason(reason), _get(found, 0xBE))
        except ValueError as error:
            raise RemoteProtocolError(f"release reason {reason}", spec=_SPEC) from error


__all__ = ["AARE", "AARQ", "RLRE", "RLRQ", "Aare", "Aarq", "ContextName", "Mechanism", "Rlre", "Rlrq"]
