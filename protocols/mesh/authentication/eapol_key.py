"""EAPOL-Key frames (IEEE 802.11-2016, 12.7.2) with the key data elements that Wi-SUN FAN uses.

Key descriptor version 2: HMAC-SHA1-128 for the integrity code, AES key wrap (RFC 3394) for the key data.
"""

from __future__ import annotations

import enum
import hmac
import struct
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

_SPEC = "IEEE 802.11-2016, 12.7.2"
_DESCRIPTOR_RSN = 2
_VERSION_SHA1_AES = 2
NONCE_BYTES = 32
MIC_BYTES = 16
_HEAD = struct.Struct(">BHHQ32s16s8s8s16sH")
_MIC_AT = _HEAD.size - 2 - MIC_BYTES
_NO_MIC = bytes(MIC_BYTES)

_OUI_80211 = bytes.fromhex("000fac")
_OUI_WISUN = bytes.fromhex("0c5a9e")
_KDE = 0xDD
_GTK, _PMKID, _LIFETIME = (_OUI_80211, 1), (_OUI_80211, 4), (_OUI_80211, 7)
_PTKID, _GTKL = (_OUI_WISUN, 1), (_OUI_WISUN, 2)
GTKS_MAX = 4


class KeyInformation(enum.IntFlag):
    """Flags of the key information field. The lowest three bits are the descriptor version."""

    PAIRWISE = 0x0008
    INSTALL = 0x0040
    ACK = 0x0080
    MIC = 0x0100
    SECURE = 0x0200
    ERROR = 0x0400
    REQUEST = 0x0800
    ENCRYPTED = 0x1000


@dataclass(frozen=True, slots=True)
class KeyData:
    """Key data elements. `gtks` are group keys by their index 1 to 4, `gtkl` which of them the sender has."""

    pmk_id: bytes | None = None
    ptk_id: bytes | None = None
    gtkl: frozenset[int] | None = None
    lifetime_s: int | None = None
    gtks: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        parts = []
        if self.pmk_id is not None:
            parts.append(_element(_PMKID, self.pmk_id))
        if self.ptk_id is not None:
            parts.append(_element(_PTKID, self.ptk_id))
        for index, key in self.gtks:
            if not 1 <= index <= GTKS_MAX or len(key) != 16:
                raise LocalProtocolError(f"group key {index} of {len(key)} bytes")
            parts.append(_element(_GTK, bytes((index - 1, 0)) + key))
        if self.lifetime_s is not None:
            parts.append(_element(_LIFETIME, self.lifetime_s.to_bytes(4, "big")))
        if self.gtkl is not None:
            parts.append(_element(_GTKL, bytes((sum(1 << index - 1 for index in self.gtkl),))))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> KeyData:
        """Raises RemoteProtocolError if an element is cut off or of a wrong size; unknown ones are skipped."""
        reader = Reader(data, spec=_SPEC)
        found = cls()
        while reader.remaining:
            kind = reader.u8()
            if kind == _KDE and (not reader.remaining or reader.peek() == 0):
                break  # padding
            content = reader.sub(reader.u8())
            if kind == _KDE and content.remaining >= 4:
                found = _with_element(found, (content.take(3), content.u8()), content)
        return found


def _element(kind: tuple[bytes, int], content: bytes) -> bytes:
    return bytes((_KDE, 4 + len(content))) + kind[0] + bytes((kind[1],)) + content


def _with_element(found: KeyData, kind: tuple[bytes, int], content: Reader) -> KeyData:
    if kind == _PMKID:
        found = replace(found, pmk_id=content.take(16))
    elif kind == _PTKID:
        found = replace(found, ptk_id=content.take(16))
    elif kind == _LIFETIME:
        found = replace(found, lifetime_s=content.u32())
    elif kind == _GTKL:
        bits = content.u8()
        found = replace(found, gtkl=frozenset(index for index in range(1, GTKS_MAX + 1) if bits >> index - 1 & 1))
    elif kind == _GTK:
        index = (content.u8() & 3) + 1
        content.u8()
        found = replace(found, gtks=(*found.gtks, (index, content.take(16))))
    else:
        content.rest()
    content.expect_end()
    return found


@dataclass(frozen=True, slots=True)
class EapolKey:
    """The body of an EAPOL-Key PDU. `key_data` is as on the air: padded and wrapped if ENCRYPTED is set."""

    information: KeyInformation
    replay_counter: int
    nonce: bytes = bytes(NONCE_BYTES)
    key_data: bytes = field(default=b"", repr=False)
    mic: bytes = field(default=_NO_MIC, repr=False)
    key_bytes: int = 0

    def encode(self) -> bytes:
        head = _HEAD.pack(
            _DESCRIPTOR_RSN, self.information | _VERSION_SHA1_AES, self.key_bytes, self.replay_counter, self.nonce,
            bytes(16), bytes(8), bytes(8), self.mic, len(self.key_data),
        )  # fmt: skip
        return head + self.key_data

    @classmethod
    def decode(cls, body: bytes) -> EapolKey:
        """Raises RemoteProtocolError if truncated, of another descriptor, or with bytes left over."""
        reader = Reader(body, spec=_SPEC)
        descriptor, information, key_bytes, counter, nonce, _iv, _rsc, _id, mic, size_bytes = _HEAD.unpack(
            reader.take(_HEAD.size)
        )
        if descriptor != _DESCRIPTOR_RSN or information & 7 != _VERSION_SHA1_AES:
            raise RemoteProtocolError(f"key descriptor {descriptor} version {information & 7}", offset=0, spec=_SPEC)
        key_data = reader.take(size_bytes)
        reader.expect_end()
        return cls(KeyInformation(information & 0x1FF8), counter, nonce, key_data, mic, key_bytes)

    def sealed(self, kck: bytes, eapol_head: bytes) -> EapolKey:
        """This frame with its integrity code, which covers the EAPOL header (4 bytes) too."""
        cleared = replace(self, information=self.information | KeyInformation.MIC, mic=_NO_MIC)
        return replace(cleared, mic=_mic(kck, eapol_head + cleared.encode()))

    def is_authentic(self, kck: bytes, eapol_head: bytes) -> bool:
        expected = _mic(kck, eapol_head + replace(self, mic=_NO_MIC).encode())
        return bool(self.information & KeyInformation.MIC) and hmac.compare_digest(expected, self.mic)


def _mic(kck: bytes, message: bytes) -> bytes:
    return hmac.digest(kck, message, "sha1")[:MIC_BYTES]


def wrap_key_data(kek: bytes, data: KeyData) -> bytes:
    """Padded to a multiple of 8 bytes, at least 16, and wrapped."""
    plain = data.encode()
    if len(plain) < 16 or len(plain) % 8:
        plain += bytes((_KDE,))
        plain += bytes(max(16 - len(plain), -len(plain) % 8))
    return aes_key_wrap(kek, plain)


def unwrap_key_data(kek: bytes, wrapped: bytes) -> KeyData:
    """Raises RemoteProtocolError if it was not wrapped under this key."""
    try:
        plain = aes_key_unwrap(kek, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise RemoteProtocolError("key data cannot be unwrapped", spec="RFC 3394") from error
    return KeyData.decode(plain)
