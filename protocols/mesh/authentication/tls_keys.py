"""Key schedule and record protection of TLS 1.2 with ECDHE-ECDSA-AES128-CCM-8 (RFC 5246, RFC 7251)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from protocols.dlms.security.signing import Signer
from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication.tls_messages import VERSION, ContentType

MASTER_SECRET_BYTES = 48
VERIFY_DATA_BYTES = 12
_TAG_BYTES = 8
_KEY_BYTES, _SALT_BYTES, _EXPLICIT_NONCE_BYTES = 16, 4, 8


def prf(secret: bytes, label: bytes, seed: bytes, size_bytes: int) -> bytes:
    """P_SHA256 (RFC 5246, 5)."""
    whole = label + seed
    out, chain = b"", whole
    while len(out) < size_bytes:
        chain = hmac.digest(secret, chain, "sha256")
        out += hmac.digest(secret, chain + whole, "sha256")
    return out[:size_bytes]


def encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """65 bytes, uncompressed."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def agree(private_key: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """The premaster secret. Raises RemoteProtocolError if the point is not on the curve."""
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise RemoteProtocolError("a point that is not on the curve P-256", spec="RFC 8422, 5.11") from error
    return private_key.exchange(ec.ECDH(), peer)


def sign(signer: Signer, message: bytes) -> bytes:
    """As TLS writes a signature: DER of r and s."""
    signature = signer.sign(message)
    return utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Master secret and the randoms that everything else follows from."""

    master: bytes = field(repr=False)
    client_random: bytes = field(repr=False)
    server_random: bytes = field(repr=False)

    @classmethod
    def derive(
        cls, premaster: bytes, client_random: bytes, server_random: bytes, session_hash: bytes | None
    ) -> SessionKeys:
        """`session_hash` is that of the handshake so far where the extended master secret was agreed (RFC 7627)."""
        if session_hash is None:
            master = prf(premaster, b"master secret", client_random + server_random, MASTER_SECRET_BYTES)
        else:
            master = prf(premaster, b"extended master secret", session_hash, MASTER_SECRET_BYTES)
        return cls(master, client_random, server_random)

    def protections(self) -> tuple[RecordProtection, RecordProtection]:
        """For what the client writes, and for what the server writes."""
        seed = self.server_random + self.client_random
        block = prf(self.master, b"key expansion", seed, 2 * (_KEY_BYTES + _SALT_BYTES))
        salts = block[2 * _KEY_BYTES :]
        return (
            RecordProtection(block[:_KEY_BYTES], salts[:_SALT_BYTES]),
            RecordProtection(block[_KEY_BYTES : 2 * _KEY_BYTES], salts[_SALT_BYTES:]),
        )

    def verify_data(self, label: bytes, transcript: bytes) -> bytes:
        """Of a Finished message; `label` is "client finished" or "server finished"."""
        return prf(self.master, label, hashlib.sha256(transcript).digest(), VERIFY_DATA_BYTES)

    def msk(self) -> bytes:
        """EAP-TLS master session key, 64 bytes (RFC 5216, 2.3)."""
        return prf(self.master, b"client EAP encryption", self.client_random + self.server_random, 64)


class RecordProtection:
    """AEAD of one direction, with its sequence number."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._ccm = AESCCM(key, tag_length=_TAG_BYTES)
        self._salt = salt
        self._sequence = 0

    def _next(self, kind: ContentType, size_bytes: int) -> tuple[bytes, bytes]:
        """Sequence number and additional data of the next record."""
        sequence = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        return sequence, sequence + bytes((kind,)) + VERSION.to_bytes(2, "big") + size_bytes.to_bytes(2, "big")

    def seal(self, kind: ContentType, content: bytes) -> bytes:
        explicit, additional = self._next(kind, len(content))
        return explicit + self._ccm.encrypt(self._salt + explicit, content, additional)

    def open(self, kind: ContentType, sealed: bytes) -> bytes:
        """Raises RemoteProtocolError if the record is not authentic."""
        size_bytes = len(sealed) - _EXPLICIT_NONCE_BYTES - _TAG_BYTES
        if size_bytes < 0:
            raise RemoteProtocolError("a protected record that is cut off", spec="RFC 6655")
        _, additional = self._next(kind, size_bytes)
        explicit = sealed[:_EXPLICIT_NONCE_BYTES]
        try:
            return self._ccm.decrypt(self._salt + explicit, sealed[_EXPLICIT_NONCE_BYTES:], additional)
        except InvalidTag as error:
            raise RemoteProtocolError("a record that is not authentic", spec="RFC 6655") from error
