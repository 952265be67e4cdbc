"""New symmetric keys for a meter: wrapped under the master key, or agreed by ECDH (class 64, key_transfer and
key_agreement)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from protocols.dlms.data import Data, Tag, array, enumerated, octet_string, structure
from protocols.dlms.security.agreement import (
    PUBLIC_KEY_BYTES,
    decode_public_key,
    derive_key,
    encode_public_key,
    shared_secret,
)
from protocols.dlms.security.signing import SIGNATURE_BYTES, Signer, Verifier
from protocols.errors import RemoteProtocolError

_KEY_BYTES = 16


class KeyId(enum.IntEnum):
    """Keys of a security setup, under their names in SymmetricKeys."""

    ENCRYPTION = 0
    BROADCAST = 1
    AUTHENTICATION = 2
    MASTER = 3

    @property
    def field_name(self) -> str:
        return self.name.lower()


GROUP_FIELDS = {KeyId.BROADCAST: "broadcast", KeyId.AUTHENTICATION: "broadcast_authentication"}
"""Where the security setup of a broadcast association keeps its two keys, by their names in SymmetricKeys."""


def wrap_key(master_key: bytes, key: bytes) -> bytes:
    """AES key wrap, RFC 3394."""
    return aes_key_wrap(master_key, key)


def unwrap_key(master_key: bytes, wrapped: bytes) -> bytes:
    """Raises RemoteProtocolError if `wrapped` was not made with this master key, or is no key of 16 bytes."""
    try:
        key = aes_key_unwrap(master_key, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise RemoteProtocolError("a wrapped key that does not unwrap") from error
    if len(key) != _KEY_BYTES:
        raise RemoteProtocolError(f"a wrapped key of {len(key)} bytes")
    return key


def key_transfer(master_key: bytes, keys: dict[KeyId, bytes]) -> Data:
    """Argument of key_transfer."""
    return key_transfer_of({key_id: wrap_key(master_key, key) for key_id, key in keys.items()})


def key_transfer_of(wrapped: dict[KeyId, bytes]) -> Data:
    """Argument of key_transfer, of keys that somebody else has wrapped under the meter's master key."""
    return array(structure(enumerated(key_id), octet_string(content)) for key_id, content in wrapped.items())


def accept_key_transfer(argument: Data, master_key: bytes) -> dict[KeyId, bytes]:
    """The keys. Raises RemoteProtocolError, and then takes none of them."""
    return {key_id: unwrap_key(master_key, wrapped) for key_id, wrapped in _key_data(argument)}


def _key_data(argument: Data) -> list[tuple[KeyId, bytes]]:
    if argument.tag != Tag.ARRAY or not argument.value:
        raise RemoteProtocolError("key data is not an array of keys")
    found: dict[KeyId, bytes] = {}
    for item in argument.value:
        if item.tag != Tag.STRUCTURE or [part.tag for part in item.value] != [Tag.ENUM, Tag.OCTET_STRING]:
            raise RemoteProtocolError("a key is not a structure of enum and octet-string")
        number, content = (part.value for part in item.value)
        try:
            key_id = KeyId(number)
        except ValueError as error:
            raise RemoteProtocolError(f"there is no key {number}") from error
        if key_id in found:
            raise RemoteProtocolError(f"key {number} twice")
        found[key_id] = content
    return list(found.items())


# key_agreement: Ephemeral Unified Model C(2e, 0s)


def agreement_offer(key_id: KeyId, ephemeral: ec.EllipticCurvePrivateKey, signer: Signer) -> Data:
    """One side's part: its ephemeral public key, signed together with the key id."""
    public_key = encode_public_key(ephemeral.public_key())
    signature = signer.sign(bytes((key_id,)) + public_key)
    return structure(enumerated(key_id), octet_string(public_key + signature))


def agreement_part(item: Data, verifier: Verifier) -> tuple[KeyId, ec.EllipticCurvePublicKey]:
    """The other side's part. Raises RemoteProtocolError if it is malformed or its signature is wrong."""
    ((key_id, content),) = _key_data(array((item,)))
    if len(content) != PUBLIC_KEY_BYTES + SIGNATURE_BYTES:
        raise RemoteProtocolError(f"key agreement data of {len(content)} bytes")
    public_key, signature = content[:PUBLIC_KEY_BYTES], content[PUBLIC_KEY_BYTES:]
    if not verifier.is_signed(bytes((key_id,)) + public_key, signature):
        raise RemoteProtocolError("the signature of an ephemeral key is wrong")
    return key_id, decode_public_key(public_key)


def agreed_key(
    own: ec.EllipticCurvePrivateKey, peer: ec.EllipticCurvePublicKey, client_title: bytes, server_title: bytes
) -> bytes:
    """The key that both sides have: the client is party U, the server party V."""
    return derive_key(shared_secret(own, peer), client_title, server_title)


def key_agreement(offers: Sequence[Data]) -> Data:
    """Argument of key_agreement, and what it returns."""
    return array(offers)
