"""Firmware files for tests: a vendor's key, and small programs."""

from __future__ import annotations

import random

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.signing import DeterministicSigner
from protocols.firmware.code import Routine, assemble
from protocols.firmware.file import TrustedKeys, build_firmware
from protocols.firmware.program import Program, Resource

VENDOR_KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
STRANGER_KEY = ec.derive_private_key(0x7654321, ec.SECP256R1())
VENDOR = DeterministicSigner(VENDOR_KEY)
STRANGER = DeterministicSigner(STRANGER_KEY)
TRUSTED = TrustedKeys([VENDOR_KEY.public_key()])
VENDOR_PEM = (
    VENDOR_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode("ascii")
)
MODEL, REVISION = "ihm5000-1p", "IHM5000-1P-R3"
ADDED = "0-0:96.128.0*255"
"""The object that `GOOD` adds, in the range that OBIS leaves to manufacturers."""


def program(start: str = "push 41\npush 1\nadd\nstore 3\n", *, filler_bytes: int = 0) -> Program:
    """Adds one object that shows variable 3, which the routine at the start computes."""
    row = {
        "obis": ADDED, "class": 1, "name": "Answer", "shows": "program_variable", "with": {"variable": 3},
        "rights": "readers",
    }  # fmt: skip
    resources = (Resource("filler", filler(filler_bytes)),) if filler_bytes else ()
    return Program((row,), (Routine(0, assemble(start)),), resources)


def filler(size_bytes: int) -> bytes:
    """Bytes that do not compress, always the same."""
    return random.Random("filler").randbytes(size_bytes)


def firmware(
    version: str = "5.1.0",
    start: str = "push 41\npush 1\nadd\nstore 3\n",
    *,
    signer: DeterministicSigner = VENDOR,
    model: str = MODEL,
    revision: str = REVISION,
    filler_bytes: int = 0,
) -> bytes:
    content = program(start, filler_bytes=filler_bytes).encode()
    return build_firmware(content, signer, model=model, hardware_revisions=(revision,), version=version)
