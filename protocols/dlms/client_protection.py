"""Putting protection on a client's requests, and taking it off the answers."""

from __future__ import annotations

from protocols.dlms.client_events import ClientConfig
from protocols.dlms.client_security import ClientSecurity
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
from protocols.dlms.security.gcm import ProtectionError
from protocols.dlms.security.general_protection import GeneralPeer
from protocols.dlms.server_protection import PROTECTED_TAGS
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource


class ClientProtection:
    """Protection of one association."""

    def __init__(self, config: ClientConfig, security: ClientSecurity | None, keys: KeySource) -> None:
        self._config = config
        self._security = security
        self._keys = keys
        self._peer: GeneralPeer | None = None
        self._dedicated: Ciphering | None = None
        self.control = (int(config.policy) & 0x0C) << 2 if config.ciphered else 0
        """Security control byte of requests."""
        self.required_control = (int(config.policy) & 0x60) >> 1 if config.ciphered else 0
        """What an answer's security control must have."""

    def begin(self, dedicated_key: bytes | None) -> None:
        """The association stands: from now on under its own keys."""
        self._peer = None
        self._dedicated = None
        if dedicated_key is not None and self._security is not None:
            self._dedicated = self._security.dedicated(dedicated_key)

    def end(self) -> None:
        self._peer = self._dedicated = None

    def check_control(self, control: int) -> None:
        """Raises ProtectionError if an answer is protected less than the policy asks for."""
        if self.required_control & ~control:
            raise ProtectionError("the answer is protected less than the policy asks for", "policy")

    def protect(self, plain: bytes) -> bytes:
        apdu = self._cipher(plain)
        return self._general().sign(apdu) if self._config.sign else apdu

    def unprotect(self, apdu: bytes) -> bytes:
        """Raises ProtectionError, RemoteProtocolError."""
        if apdu[0] == GENERAL_SIGNING:
            apdu = self._general().check_signature(apdu).content
            if not apdu or apdu[0] == GENERAL_SIGNING:
                raise RemoteProtocolError("nothing signed, or a signature signed")
        elif self._config.sign:
            raise ProtectionError("an answer that is not signed", "policy")
        if apdu[0] not in PROTECTED_TAGS:
            if self.required_control:
                raise ProtectionError("an answer that is not protected", "policy")
            return apdu
        return self._open(apdu)

    def _general(self) -> GeneralPeer:
        if self._security is None or self._security.server_system_title is None:
            raise RemoteProtocolError("general protection, and no key for it")
        if self._peer is None:
            self._peer = self._security.peer(self._keys)
        return self._peer

    def _cipher(self, plain: bytes) -> bytes:
        if not self.control or self._security is None:
            return plain
        if self._config.key_scheme is not None:
            return self._general().seal(plain, self.control, self._config.key_scheme)
        dedicated = self._dedicated
        ciphering = self._security.ciphering if dedicated is None else dedicated
        tag = (GLO_TAGS if dedicated is None else DED_TAGS).get(plain[0])
        if self._config.general_ciphering or tag is None:
            general = GENERAL_GLO if dedicated is None else GENERAL_DED
            return wrap_general(general, ciphering.own_title, ciphering.seal(plain, self.control))
        return wrap(tag, ciphering.seal(plain, self.control))

    def _open(self, apdu: bytes) -> bytes:
        tag = apdu[0]
        if self._security is None:
            raise RemoteProtocolError("a ciphered APDU, and no key for it")
        if tag == GENERAL_CIPHERING:
            (control, _, plain), _ = self._general().open(apdu)
            self.check_control(control)
            return _not_empty(plain)
        is_dedicated = tag in PLAIN_OF_DED or tag == GENERAL_DED
        ciphering = self._dedicated if is_dedicated else self._security.ciphering
        if ciphering is None:
            raise RemoteProtocolError("a dedicated ciphering that was not agreed")
        plain_tag = None
        if tag in (GENERAL_GLO, GENERAL_DED):
            title, sealed = unwrap_general(apdu)
            if title != ciphering.peer_title:
                raise ProtectionError("an APDU under another system title", "wrong_title")
        else:
            sealed = unwrap(apdu)
            plain_tag = (PLAIN_OF_DED if is_dedicated else PLAIN_OF_GLO)[tag]
        self.check_control(_not_empty(sealed)[0])
        plain = _not_empty(ciphering.open(sealed).plain)
        if plain_tag is not None and plain[0] != plain_tag:
            raise RemoteProtocolError("the protected APDU is not of its tag's kind")
        return plain


def _not_empty(content: bytes) -> bytes:
    if not content:
        raise ProtectionError("nothing inside", "truncated")
    return content
