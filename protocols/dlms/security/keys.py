"""Symmetric keys of one end, and what must be protected."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Suite(enum.IntEnum):
    """Security suite: 0 is AES-GCM-128 and AES-128 key wrap; 1 adds ECDSA and ECDH on P-256 and SHA-256."""

    SUITE_0 = 0
    SUITE_1 = 1


class Policy(enum.IntFlag):
    """`security_policy` of class 64 version 1, and the protection bits of access modes."""

    NONE = 0
    AUTHENTICATED_REQUEST = 0x04
    ENCRYPTED_REQUEST = 0x08
    DIGITALLY_SIGNED_REQUEST = 0x10
    AUTHENTICATED_RESPONSE = 0x20
    ENCRYPTED_RESPONSE = 0x40
    DIGITALLY_SIGNED_RESPONSE = 0x80

    AUTHENTICATED = AUTHENTICATED_REQUEST | AUTHENTICATED_RESPONSE
    ENCRYPTED = ENCRYPTED_REQUEST | ENCRYPTED_RESPONSE
    AUTHENTICATED_AND_ENCRYPTED = AUTHENTICATED | ENCRYPTED

    @classmethod
    def from_version_0(cls, value: int) -> Policy:
        """From the enumeration of class 64 version 0: 0 nothing, 1 authenticated, 2 encrypted, 3 both."""
        return (Policy.NONE, cls.AUTHENTICATED, cls.ENCRYPTED, cls.AUTHENTICATED_AND_ENCRYPTED)[value]


@dataclass(slots=True)
class SymmetricKeys:
    """Global keys of a meter, 16 bytes each. Never shown.

    `encryption` is the global unicast encryption key, `authentication` the global authentication key, `broadcast` the
    global broadcast encryption key, `master` the key-encrypting key. `broadcast_authentication` is the authentication
    key of the broadcast association where that has a security setup of its own: a group of meters shares it and
    `broadcast`, and no other key. None: `authentication` is for broadcasts, too.
    """

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)
    broadcast: bytes | None = field(default=None, repr=False)
    master: bytes | None = field(default=None, repr=False)
    broadcast_authentication: bytes | None = field(default=None, repr=False)
