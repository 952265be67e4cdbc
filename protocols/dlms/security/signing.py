"""ECDSA on P-256 with SHA-256, as DLMS writes it: r and s of 32 bytes each (security suite 1).

Signing with `cryptography` draws randomness of its own. Virtual runs must repeat, so they sign by RFC 6979, where
the nonce follows from key and message; `Signer` is the port for either.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

SIGNATURE_BYTES = 64
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signer(Protocol):
    """Signs with this end's private signing key."""

    def sign(self, message: bytes) -> bytes:
        """r and s, 64 bytes."""
        ...

    def public_key(self) -> ec.EllipticCurvePublicKey: ...


class RandomSigner:
    """ECDSA with the library's own randomness: for real runs."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()


class DeterministicSigner:
    """ECDSA by RFC 6979: the same message gives the same signature.

    For virtual runs: the arithmetic on the secret scalar is plain Python, and its time tells about the key.
    """

    __slots__ = ("_key", "_scalar")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._scalar = key.private_numbers().private_value

    def sign(self, message: bytes) -> bytes:
        digest = hashlib.sha256(message).digest()
        z = int.from_bytes(digest, "big")
        for nonce in _rfc6979_nonces(self._scalar, digest):
            point = ec.derive_private_key(nonce, ec.SECP256R1()).public_key().public_numbers()
            r = point.x % _ORDER
            s = pow(nonce, -1, _ORDER) * (z + r * self._scalar) % _ORDER
            if r and s:
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        raise AssertionError("unreachable: the nonces do not end")

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()


def _rfc6979_nonces(scalar: int, digest: bytes) -> Iterator[int]:
    """Nonces of RFC 6979 section 3.2 for SHA-256 and P-256."""
    seed = scalar.to_bytes(32, "big") + (int.from_bytes(digest, "big") % _ORDER).to_bytes(32, "big")
    value, key = b"\x01" * 32, b"\x00" * 32
    for separator in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + separator + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        nonce = int.from_bytes(value, "big")
        if 0 < nonce < _ORDER:
            yield nonce
        key = hmac.digest(key, value + b"\x00", "sha256")
        value = hmac.digest(key, value, "sha256")


class Verifier:
    """Checks signatures of one peer."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        if len(signature) != SIGNATURE_BYTES:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self._key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True
