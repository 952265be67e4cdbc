"""Ciphered APDUs: the service-specific forms (glo-, ded-) and general-glo-, general-ded-ciphering (IEC 62056-5-3)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from protocols.cursor import Reader
from protocols.dlms.data import decode_length, encode_length
from protocols.dlms.security.counters import ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import COMPRESSED, SUITE_MASK, Gcm, ProtectionError

GENERAL_GLO, GENERAL_DED = 0xDB, 0xDC

GLO_TAGS = {
    0x01: 0x21,
    0x08: 0x28,
    0x0E: 0x2E,
    0xC0: 0xC8,
    0xC1: 0xC9,
    0xC2: 0xCA,
    0xC3: 0xCB,
    0xC4: 0xCC,
    0xC5: 0xCD,
    0xC7: 0xCF,
}
"""Tag of the global form, by the tag of the plain APDU. ACCESS and DataNotification have a general form only."""

DED_TAGS = {0x0E: 0x4E, 0xC0: 0xD0, 0xC1: 0xD1, 0xC2: 0xD2, 0xC3: 0xD3, 0xC4: 0xD4, 0xC5: 0xD5, 0xC7: 0xD7}
"""Tag of the dedicated form, by the tag of the plain APDU."""

PLAIN_OF_GLO = {ciphered: plain for plain, ciphered in GLO_TAGS.items()}
PLAIN_OF_DED = {ciphered: plain for plain, ciphered in DED_TAGS.items()}

_HEADER = struct.Struct(">BI")
_COUNTER = struct.Struct(">I")
_SPEC = "IEC 62056-5-3, ciphered APDU"


class Opened(NamedTuple):
    """An APDU whose protection was right, and what that protection was."""

    security_control: int
    invocation_counter: int
    plain: bytes


class Ciphering:
    """One key between this end and one peer: titles, counters and AES-GCM."""

    __slots__ = ("_own_title", "_peer_title", "_receive", "_send", "gcm", "suite")

    def __init__(
        self, gcm: Gcm, suite: int, own_title: bytes, peer_title: bytes, send: SendCounter, receive: ReceiveCounter
    ) -> None:
        self.gcm = gcm
        self.suite = suite
        self._own_title = own_title
        self._peer_title = peer_title
        self._send = send
        self._receive = receive

    @property
    def own_title(self) -> bytes:
        return self._own_title

    @property
    def peer_title(self) -> bytes:
        return self._peer_title

    @property
    def receive(self) -> ReceiveCounter:
        return self._receive

    @property
    def send(self) -> SendCounter:
        return self._send

    def seal(self, plain: bytes, security_control: int, header: bytes = b"") -> bytes:
        """Security header and protected content, under a fresh counter. `security_control` gets the suite's id."""
        security_control |= self.suite
        counter = self._send.next()
        content = self.gcm.seal(security_control, self._own_title + _COUNTER.pack(counter), plain, header)
        return _HEADER.pack(security_control, counter) + content

    def open(self, sealed: bytes, header: bytes = b"", *, now: float | None = None) -> Opened:
        """Undo `seal` of the peer. Raises ProtectionError; the counter is accepted only if all is right.

        `now` (s) is when it came: what is refused as a replay later is told how late it is.
        """
        if len(sealed) < 5:
            raise ProtectionError("no room for a security header", "truncated")
        if len(self._peer_title) != 8:
            raise ProtectionError("the peer's system title is not known", "unknown_title")
        security_control, counter = _HEADER.unpack_from(sealed)
        if security_control & COMPRESSED:
            raise ProtectionError("compression is not supported", "compressed")
        if security_control & SUITE_MASK != self.suite:
            raise ProtectionError(f"security suite {security_control & SUITE_MASK}, not {self.suite}", "wrong_suite")
        if not self._receive.is_fresh(counter):
            late_s = None if now is None else self._receive.late_s(counter, now)
            raise ProtectionError(f"invocation counter {counter} was used before", "replay", late_s=late_s)
        plain = self.gcm.open(security_control, self._peer_title + _COUNTER.pack(counter), sealed[5:], header)
        self._receive.accept(counter, now)
        return Opened(security_control, counter, plain)


def wrap(tag: int, sealed: bytes) -> bytes:
    """A glo- or ded- APDU."""
    return bytes((tag,)) + encode_length(len(sealed)) + sealed


def unwrap(apdu: bytes) -> bytes:
    """The sealed part of a glo- or ded- APDU. Raises RemoteProtocolError if truncated or too long."""
    length = apdu[1] if len(apdu) > 1 else 0x80
    if length < 0x80 and len(apdu) == length + 2:
        return apdu[2:]
    reader = Reader(apdu, offset=1, spec=_SPEC)
    sealed = reader.take(decode_length(reader))
    reader.expect_end()
    return sealed


def wrap_general(tag: int, system_title: bytes, sealed: bytes) -> bytes:
    """A general-glo- or general-ded-ciphering APDU."""
    head = bytes((tag,)) + encode_length(len(system_title)) + system_title
    return head + encode_length(len(sealed)) + sealed


def unwrap_general(apdu: bytes) -> tuple[bytes, bytes]:
    """System title and sealed part. Raises RemoteProtocolError if truncated or too long."""
    reader = Reader(apdu, offset=1, spec=_SPEC)
    system_title = reader.take(decode_length(reader))
    sealed = reader.take(decode_length(reader))
    reader.expect_end()
    return system_title, sealed
