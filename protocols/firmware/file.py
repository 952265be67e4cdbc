"""The firmware file: header, manifest, signature, compressed program (docs/firmware-format.md).

    magic "OAMIFIRM" | format u16 = 1 | manifest size u16 | manifest | signature r, s (64 bytes) | payload

Everything up to the signature is signed (ECDSA on P-256 with SHA-256); the manifest names the payload's digest, so the
signature covers the whole file.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.signing import SIGNATURE_BYTES, Signer, Verifier
from protocols.errors import LocalProtocolError
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.manifest import MAX_FILE_BYTES, MAX_MANIFEST_BYTES, MAX_PROGRAM_BYTES, Manifest

MAGIC = b"OAMIFIRM"
FORMAT_VERSION = 1
HEADER_BYTES = 12
_PEM_END = b"-----END PUBLIC KEY-----"


class TrustedKeys:
    """The public keys whose owners may sign firmware. Without any, every signature is refused."""

    __slots__ = ("_verifiers",)

    def __init__(self, keys: Sequence[ec.EllipticCurvePublicKey] = ()) -> None:
        self._verifiers = tuple(Verifier(key) for key in keys)

    @classmethod
    def from_pem(cls, text: str | bytes) -> TrustedKeys:
        """Public keys in PEM, one behind the other; empty text trusts nobody.

        Raises LocalProtocolError for what is not a key on P-256.
        """
        raw = text.encode("ascii", "replace") if isinstance(text, str) else text
        parts = [part + _PEM_END for part in raw.split(_PEM_END)[:-1]]
        if not parts and raw.strip():
            raise LocalProtocolError("the key for firmware is no public key in PEM")
        return cls([_public_key(part) for part in parts])

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        return any(verifier.is_signed(message, signature) for verifier in self._verifiers)

    def __bool__(self) -> bool:
        return bool(self._verifiers)


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise LocalProtocolError("the key for firmware is no public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LocalProtocolError("the key for firmware is not on the curve P-256")
    return key


@dataclass(frozen=True, slots=True)
class FirmwareHead:
    """Header, manifest and signature: what a bootloader keeps beside the program."""

    manifest: Manifest
    signature: bytes

    def signed_bytes(self) -> bytes:
        manifest = self.manifest.encode()
        return MAGIC + FORMAT_VERSION.to_bytes(2, "big") + len(manifest).to_bytes(2, "big") + manifest

    def encode(self) -> bytes:
        return self.signed_bytes() + self.signature

    @classmethod
    def decode(cls, data: bytes) -> FirmwareHead:
        """The head at the beginning of `data`; what follows it is not looked at. Raises FirmwareError."""
        if data[: len(MAGIC)] != MAGIC:
            raise FirmwareError(FirmwareFault.MAGIC, "not a firmware file: it does not begin with OAMIFIRM", offset=0)
        if len(data) < HEADER_BYTES:
            raise FirmwareError(FirmwareFault.SIZE, f"{len(data)} bytes, a header has {HEADER_BYTES}")
        version = int.from_bytes(data[8:10], "big")
        if version != FORMAT_VERSION:
            raise FirmwareError(FirmwareFault.FORMAT, f"format {version}, this reads {FORMAT_VERSION}", offset=8)
        size = int.from_bytes(data[10:12], "big")
        if size > MAX_MANIFEST_BYTES:
            message = f"a manifest of {size} bytes, at most {MAX_MANIFEST_BYTES} are allowed"
            raise FirmwareError(FirmwareFault.MANIFEST, message, offset=10)
        end = HEADER_BYTES + size + SIGNATURE_BYTES
        if len(data) < end:
            message = f"{len(data)} bytes, header, manifest and signature have {end}"
            raise FirmwareError(FirmwareFault.SIZE, message)
        manifest = Manifest.decode(data[HEADER_BYTES : HEADER_BYTES + size])
        return cls(manifest, data[HEADER_BYTES + size : end])

    @property
    def size_bytes(self) -> int:
        return len(self.signed_bytes()) + SIGNATURE_BYTES

    def check_signature(self, keys: TrustedKeys) -> None:
        """Raises FirmwareError unless one of the keys has signed."""
        if not keys:
            raise FirmwareError(FirmwareFault.SIGNATURE, "no key for firmware was provisioned here: none is trusted")
        if not keys.has_signed(self.signed_bytes(), self.signature):
            raise FirmwareError(FirmwareFault.SIGNATURE, "not signed by a key that is trusted here")

    def check_program(self, program: bytes) -> None:
        """Raises FirmwareError unless `program` is the one that was signed."""
        if len(program) != self.manifest.program_size_bytes:
            message = f"the program has {len(program)} bytes, the manifest says {self.manifest.program_size_bytes}"
            raise FirmwareError(FirmwareFault.SIZE, message)
        if not hmac.compare_digest(hashlib.sha256(program).digest(), self.manifest.program_sha256):
            raise FirmwareError(FirmwareFault.HASH, "the program's SHA-256 is not the manifest's")


@dataclass(frozen=True, slots=True)
class FirmwareFile:
    """A whole file whose sizes and digests are right. Whether it is genuine, `check_signature` says."""

    head: FirmwareHead
    payload: bytes

    @property
    def manifest(self) -> Manifest:
        return self.head.manifest

    def encode(self) -> bytes:
        return self.head.encode() + self.payload

    @classmethod
    def decode(cls, data: bytes) -> FirmwareFile:
        """Raises FirmwareError: magic, format, size, manifest, hash, checksum, in this order."""
        head = FirmwareHead.decode(data)
        manifest, payload = head.manifest, data[head.size_bytes :]
        if len(data) > MAX_FILE_BYTES:
            message = f"{len(data)} bytes, a meter takes {MAX_FILE_BYTES} at most"
            raise FirmwareError(FirmwareFault.SIZE, message)
        if len(payload) != manifest.payload_size_bytes:
            message = f"the payload has {len(payload)} bytes, the manifest says {manifest.payload_size_bytes}"
            raise FirmwareError(FirmwareFault.SIZE, message)
        if not hmac.compare_digest(hashlib.sha256(payload).digest(), manifest.payload_sha256):
            raise FirmwareError(FirmwareFault.HASH, "the payload's SHA-256 is not the manifest's")
        if manifest.payload_md5 is not None and _md5(payload) != manifest.payload_md5:
            raise FirmwareError(FirmwareFault.CHECKSUM, "the payload's MD5 is not the manifest's")
        return cls(head, payload)

    def unpack(self) -> bytes:
        """The program. Raises FirmwareError if it is not what the manifest says."""
        inflate = zlib.decompressobj()
        try:
            program = inflate.decompress(self.payload, self.manifest.program_size_bytes + 1)
        except zlib.error as error:
            raise FirmwareError(FirmwareFault.PROGRAM, f"the payload cannot be unpacked: {error}") from None
        self.head.check_program(program)
        if not inflate.eof or inflate.unused_data:
            raise FirmwareError(FirmwareFault.PROGRAM, "the payload does not end where its program does")
        return program


def open_firmware(data: bytes, keys: TrustedKeys) -> tuple[FirmwareFile, bytes]:
    """The file and its program, every check passed. Raises FirmwareError with the first that failed."""
    file = FirmwareFile.decode(data)
    file.head.check_signature(keys)
    return file, file.unpack()


def build_firmware(
    program: bytes,
    signer: Signer,
    *,
    model: str,
    hardware_revisions: Sequence[str],
    version: str,
    about: str = "",
    with_md5: bool = True,
) -> bytes:
    """A signed file: the same bytes for the same input, where the signer repeats itself (RFC 6979).

    Raises LocalProtocolError for a field that breaks its rule, or a program or file that is too big.
    """
    if not 1 <= len(program) <= MAX_PROGRAM_BYTES:
        raise LocalProtocolError(f"a program of {len(program)} bytes; a slot takes 1 to {MAX_PROGRAM_BYTES}")
    payload = zlib.compress(program, 9)
    if len(payload) > MAX_FILE_BYTES:
        raise LocalProtocolError(f"{len(payload)} bytes of payload, a meter takes {MAX_FILE_BYTES} at most")
    manifest = Manifest(
        model=model,
        hardware_revisions=tuple(hardware_revisions),
        version=version,
        payload_size_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).digest(),
        program_size_bytes=len(program),
        program_sha256=hashlib.sha256(program).digest(),
        payload_md5=_md5(payload) if with_md5 else None,
        about=about,
    )
    unsigned = FirmwareHead(manifest, b"").signed_bytes()
    data = FirmwareFile(FirmwareHead(manifest, signer.sign(unsigned)), payload).encode()
    if len(data) > MAX_FILE_BYTES:
        raise LocalProtocolError(f"a file of {len(data)} bytes, a meter takes {MAX_FILE_BYTES} at most")
    return data


def _md5(payload: bytes) -> bytes:
    return hashlib.md5(payload, usedforsecurity=False).digest()
