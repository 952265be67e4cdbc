"""The maker's side of the concentrator's own update: the key that signs archives, and the way over the line."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from twin.rigs.qemu.lines import MaintenanceLine

_PIECE_BYTES = 24 * 1024
_ANSWER_TIMEOUT_S = 120.0


class UpdateKey:
    """The key of the run that signs updates; it is never written. Real randomness: guests live in real time."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_pem(self) -> str:
        """What provisioning gives to the concentrator."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    def sign(self, archive: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER."""
        return self._key.sign(archive, ec.ECDSA(hashes.SHA256()))


async def install(line: MaintenanceLine, archive: bytes, signature: bytes) -> str:
    """Send an update.tar.gz and have it put on trial for the next start; gives its slot.

    Raises RigError with the concentrator's reason if it refuses, TimeoutError if it does not answer.
    """
    for offset in range(0, len(archive), _PIECE_BYTES):
        data = base64.b64encode(archive[offset : offset + _PIECE_BYTES]).decode("ascii")
        await line.ask("upload", timeout_s=_ANSWER_TIMEOUT_S, offset=offset, data=data)
    signed = base64.b64encode(signature).decode("ascii")
    answer = await line.ask("install", timeout_s=_ANSWER_TIMEOUT_S, signature=signed)
    return str(answer["slot"])
