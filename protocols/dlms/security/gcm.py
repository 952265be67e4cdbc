"""AES-GCM as DLMS uses it: 12-byte tags, keys bound to an authentication key (IEC 62056-5-3, security suites 0 and 1).

`cryptography`'s AESGCM knows 16-byte tags only and its general cipher object costs seven times as much, so opening
is done with AESGCM's encryption: GCM's counter mode is its own inverse, and encrypting the recovered plaintext gives
the tag to compare with. The plaintext is not released before the tag has been found right.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.errors import RemoteProtocolError

AUTHENTICATED, ENCRYPTED, BROADCAST, COMPRESSED = 0x10, 0x20, 0x40, 0x80
SUITE_MASK = 0x0F
TAG_BYTES = 12
_SPEC = "IEC 62056-5-3, security"


class ProtectionError(RemoteProtocolError):
    """A protected APDU whose protection is not right. `reason` is one word for counters and traces.

    `late_s` is how long the number of a replay has been refused, None where that is not known.
    """

    def __init__(self, message: str, reason: str, *, late_s: float | None = None) -> None:
        super().__init__(message, spec=_SPEC)
        self.reason = reason
        self.late_s = late_s


class Gcm:
    """One encryption key with its authentication key. `security_control` chooses the protection."""

    __slots__ = ("_aes", "_authentication_key")

    def __init__(self, encryption_key: bytes, authentication_key: bytes) -> None:
        self._aes = AESGCM(encryption_key)
        self._authentication_key = authentication_key

    def seal(self, security_control: int, nonce: bytes, plain: bytes, header: bytes = b"") -> bytes:
        """Ciphertext (or plaintext if not encrypted) with the tag behind it, if authenticated.

        `nonce` is system title and invocation counter; `header` is authenticated beside the key (general-ciphering).
        """
        protection = security_control & (AUTHENTICATED | ENCRYPTED)
        if protection == AUTHENTICATED | ENCRYPTED:
            associated = bytes((security_control,)) + self._authentication_key + header
            return self._aes.encrypt(nonce, plain, associated)[:-4]
        if protection == AUTHENTICATED:
            return plain + self.tag(security_control, nonce, header + plain)
        if protection == ENCRYPTED:
            return self._aes.encrypt(nonce, plain, None)[:-16]
        return plain

    def open(self, security_control: int, nonce: bytes, content: bytes, header: bytes = b"") -> bytes:
        """The plaintext. Raises ProtectionError if the tag is wrong or missing."""
        protection = security_control & (AUTHENTICATED | ENCRYPTED)
        if protection == ENCRYPTED:
            return self._aes.encrypt(nonce, content, None)[:-16]
        if protection == 0:
            return content
        if len(content) < TAG_BYTES:
            raise ProtectionError(f"{len(content)} bytes cannot hold a tag of 12", "truncated")
        body, tag = content[:-TAG_BYTES], content[-TAG_BYTES:]
        if protection == AUTHENTICATED:
            plain, right = body, self.tag(security_control, nonce, header + body)
        else:
            plain = self._aes.encrypt(nonce, body, None)[:-16]
            associated = bytes((security_control,)) + self._authentication_key + header
            right = self._aes.encrypt(nonce, plain, associated)[-16:-4]
        if not hmac.compare_digest(right, tag):
            raise ProtectionError("the authentication tag is wrong", "wrong_tag")
        return plain

    def tag(self, security_control: int, nonce: bytes, message: bytes) -> bytes:
        """GMAC over security control, authentication key and message."""
        associated = bytes((security_control,)) + self._authentication_key + message
        return self._aes.encrypt(nonce, b"", associated)[:TAG_BYTES]
