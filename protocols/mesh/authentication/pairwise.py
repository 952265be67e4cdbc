"""Keys of one pair of supplicant and authenticator (IEEE 802.11-2016, 12.7.1), with EUI-64s as addresses."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

_KCK_BYTES = _KEK_BYTES = _TK_BYTES = 16


def pmk_id(pmk: bytes, authenticator: bytes, supplicant: bytes) -> bytes:
    """16 bytes that name a PMK (12.7.1.3)."""
    return hmac.digest(pmk, b"PMK Name" + authenticator + supplicant, "sha1")[:16]


def prf(key: bytes, label: bytes, data: bytes, size_bytes: int) -> bytes:
    """PRF of 12.7.1.2, with HMAC-SHA-1."""
    out = b""
    counter = 0
    while len(out) < size_bytes:
        out += hmac.digest(key, label + b"\x00" + data + bytes((counter,)), "sha1")
        counter += 1
    return out[:size_bytes]


@dataclass(frozen=True, slots=True)
class PairwiseKey:
    """The PTK's parts: confirmation key, encryption key, and the temporal key that only its identifier uses."""

    kck: bytes = field(repr=False)
    kek: bytes = field(repr=False)
    tk: bytes = field(repr=False)

    @classmethod
    def derive(cls, pmk: bytes, authenticator: bytes, supplicant: bytes, anonce: bytes, snonce: bytes) -> PairwiseKey:
        first, second = sorted((authenticator, supplicant))
        low, high = sorted((anonce, snonce))
        size_bytes = _KCK_BYTES + _KEK_BYTES + _TK_BYTES
        ptk = prf(pmk, b"Pairwise key expansion", first + second + low + high, size_bytes)
        return cls(ptk[:16], ptk[16:32], ptk[32:])

    def identifier(self, authenticator: bytes, supplicant: bytes) -> bytes:
        """PTKID of Wi-SUN FAN: 16 bytes that name this PTK."""
        return hmac.digest(self.kck + self.kek + self.tk, b"PTK Name" + authenticator + supplicant, "sha1")[:16]
