"""Taking protection off a server's requests, and putting it on their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocols.dlms.general import GENERAL_CIPHERING, GENERAL_SIGNING
from protocols.dlms.security.ciphering import (
    DED_TAGS,
    GENERAL_DED,
    GENERAL_GLO,
    GLO_TAGS,
    PLAIN_OF_DED,
    PLAIN_OF_GLO,
    Ciphering,
    unwrap,
    unwrap_general,
    wrap,
    wrap_general,
)
from protocols.dlms.security.gcm import BROADCAST, ProtectionError
from protocols.dlms.security.general_protection import GeneralPeer
from protocols.dlms.server_security import ServerSecurity
from protocols.dlms.session import Session
from protocols.errors import RemoteProtocolError

PROTECTED_TAGS = frozenset((*PLAIN_OF_GLO, *PLAIN_OF_DED, GENERAL_GLO, GENERAL_DED, GENERAL_CIPHERING, GENERAL_SIGNING))
SIGNED_REQUEST = 0x10
_SIGNED_RESPONSE = 0x80


class Unprotected(NamedTuple):
    """A request without its protection. `bits` says what that was, in bits of Policy; `seal` gives an answer the
    protection that goes with it, by the bits it must have at least."""

    plain: bytes
    bits: int
    is_broadcast: bool
    seal: Callable[[bytes, int], bytes]


def request_bits(control: int) -> int:
    """Protection of a request as bits of Policy, from its security control byte."""
    return (control & 0x30) >> 2


def response_control(bits: int) -> int:
    """Security control byte for an answer, from bits of Policy."""
    return (bits & 0x60) >> 1


class ServerProtection:
    def __init__(self, security: ServerSecurity, peer_of: Callable[[Session], GeneralPeer]) -> None:
        self._security = security
        self._peer_of = peer_of

    def open(self, session: Session, apdu: bytes) -> Unprotected:
        """Raises ProtectionError, RemoteProtocolError."""
        tag = apdu[0]
        if tag == GENERAL_SIGNING:
            return self._open_signed(session, apdu)
        if tag == GENERAL_CIPHERING:
            return self._open_general(session, apdu)
        if tag in (GENERAL_GLO, GENERAL_DED):
            title, sealed = unwrap_general(apdu)
            is_dedicated, plain_tag = tag == GENERAL_DED, None
        else:
            title, sealed = b"", unwrap(apdu)
            is_dedicated = tag in PLAIN_OF_DED
            plain_tag = PLAIN_OF_DED[tag] if is_dedicated else PLAIN_OF_GLO[tag]
        ciphering = self._ciphering(session, title, sealed, is_dedicated=is_dedicated)
        self._check_policy(sealed)
        control, _, plain = ciphering.open(sealed, now=session.caller.now)
        if not plain or (plain_tag is not None and plain[0] != plain_tag):
            raise RemoteProtocolError("the protected APDU is not of its tag's kind")

        def seal(answer: bytes, bits: int) -> bytes:
            return seal_like(tag, ciphering, answer, response_control(bits))

        return Unprotected(plain, request_bits(control), bool(control & BROADCAST), seal)

    def _check_policy(self, sealed: bytes) -> None:
        """Before the counter is looked at: an APDU without a tag must not be able to use counters up."""
        if not sealed or self._security.required_request & ~request_bits(sealed[0]):
            raise ProtectionError("less protection than the policy asks for", "policy")

    def _ciphering(self, session: Session, title: bytes, sealed: bytes, *, is_dedicated: bool) -> Ciphering:
        security = self._security
        is_broadcast = len(sealed) > 0 and bool(sealed[0] & BROADCAST)
        if is_broadcast is not session.association.config.pre_established:
            raise ProtectionError("the key set is not the association's", "wrong_key_set")
        if is_broadcast:
            title = title or security.client_system_title or b""
            if not security.is_known(title) or security.keys.broadcast is None:
                raise ProtectionError("no such broadcaster", "unknown_title")
            return security.broadcast(title)
        ciphering = session.dedicated if is_dedicated else security.unicast(session.client_title)
        if ciphering is None:
            raise ProtectionError("no dedicated key was agreed", "no_dedicated_key")
        if title and title != ciphering.peer_title:
            raise ProtectionError("not the title that the association was opened with", "wrong_title")
        return ciphering

    def _open_general(self, session: Session, apdu: bytes) -> Unprotected:
        if session.association.config.pre_established:
            raise ProtectionError("general-ciphering in a broadcast", "wrong_key_set")
        peer = self._peer_of(session)
        (control, _, plain), scheme = peer.open(apdu)
        if not plain or self._security.required_request & ~request_bits(control):
            raise ProtectionError("less protection than the policy asks for", "policy")

        def seal(answer: bytes, bits: int) -> bytes:
            return peer.seal(answer, response_control(bits), scheme)

        return Unprotected(plain, request_bits(control), False, seal)

    def _open_signed(self, session: Session, apdu: bytes) -> Unprotected:
        """The content may be ciphered, and must be where the policy asks for it.

        A signature alone has no counter: transactions of one association must then count up.
        """
        peer = self._peer_of(session)
        signed = peer.check_signature(apdu)
        content = signed.content
        if not content or content[0] == GENERAL_SIGNING:
            raise RemoteProtocolError("nothing signed, or a signature signed")
        if content[0] in PROTECTED_TAGS:
            inner = self.open(session, content)
        else:
            if self._security.required_request:
                raise ProtectionError("less protection than the policy asks for", "policy")
            inner = Unprotected(content, 0, False, lambda answer, _bits: answer)
        transaction = int.from_bytes(signed.header.transaction_id, "big")
        if transaction <= session.last_signed_transaction:
            raise ProtectionError("a signed transaction that came before", "replay")
        session.last_signed_transaction = transaction

        def seal(answer: bytes, bits: int) -> bytes:
            return peer.sign(inner.seal(answer, bits))

        return Unprotected(inner.plain, inner.bits | SIGNED_REQUEST, inner.is_broadcast, seal)


def seal_like(request_tag: int, ciphering: Ciphering, answer: bytes, control: int) -> bytes:
    """The answer in the form that its request had."""
    if request_tag in (GENERAL_GLO, GENERAL_DED):
        return wrap_general(request_tag, ciphering.own_title, ciphering.seal(answer, control))
    tag = (DED_TAGS if request_tag in PLAIN_OF_DED else GLO_TAGS).get(answer[0])
    if tag is None:  # an ExceptionResponse has no protected form of its own
        return answer
    return wrap(tag, ciphering.seal(answer, control))
