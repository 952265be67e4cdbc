"""Elliptic-curve keys of security suite 1: agreement by ECDH on P-256 and what is derived from it.

Key derivation is the single-step function of NIST SP 800-56A with SHA-256 over Z, the algorithm's identifier and the
titles of sender (U) and receiver (V).
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource

PUBLIC_KEY_BYTES = 64
AES_GCM_128 = bytes.fromhex("60857405080300")
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_KEY_BYTES = 16


def derive_key(shared_secret: bytes, party_u: bytes, party_v: bytes, *, algorithm_id: bytes = AES_GCM_128) -> bytes:
    """16 bytes from Z. `party_u` and `party_v` are system titles, with the transaction id where the scheme needs it."""
    counter = (1).to_bytes(4, "big")
    return hashlib.sha256(counter + shared_secret + algorithm_id + party_u + party_v).digest()[:_KEY_BYTES]


def new_private_key(keys: KeySource) -> ec.EllipticCurvePrivateKey:
    """A P-256 key from the key source: the same source gives the same key."""
    scalar = int.from_bytes(keys.random_bytes(40), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def encode_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """x and y, 64 bytes."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def decode_public_key(raw: bytes) -> ec.EllipticCurvePublicKey:
    """Raises RemoteProtocolError if the bytes are not a point of the curve."""
    if len(raw) != PUBLIC_KEY_BYTES:
        raise RemoteProtocolError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(raw)}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError as error:
        raise RemoteProtocolError("a public key that is not on the curve P-256") from error


def shared_secret(private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey) -> bytes:
    """Z of 32 bytes."""
    return private_key.exchange(ec.ECDH(), public_key)
