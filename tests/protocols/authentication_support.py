"""Devices, authorities and seeded keys for tests of the mesh's authentication."""

import hashlib
import random

from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import CertificateAuthority, CertificateType
from protocols.dlms.security.signing import DeterministicSigner
from protocols.mesh.authentication.trust import MeshCredentials

NOW_S = 1_800_000_000.0
YEAR_S = 365 * 86_400.0


class SeededKeys:
    """A key source that repeats."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(hashlib.sha256(seed.encode()).digest())

    def random_bytes(self, size_bytes: int) -> bytes:
        return self._rng.randbytes(size_bytes)


class Authority:
    """Issues mesh credentials."""

    def __init__(self, name: str = "mesh CA") -> None:
        keys = SeededKeys(name)
        self.ca = CertificateAuthority(
            name,
            DeterministicSigner(new_private_key(keys)),
            keys,
            valid_from_utc_s=NOW_S - YEAR_S,
            valid_for_s=3 * YEAR_S,
        )
        self.certificate = self.ca.certificate

    def device(
        self,
        eui64: bytes,
        *,
        valid_for_s: float | None = None,
        kind: CertificateType = CertificateType.TLS,
        trusts: "Authority | None" = None,
        named: bytes | None = None,
    ) -> MeshCredentials:
        """Credentials of the device with that address. `named` puts another address into the certificate."""
        keys = SeededKeys(f"device {eui64.hex()}")
        signer = DeterministicSigner(new_private_key(keys))
        certificate = self.ca.issue(named or eui64, signer.public_key(), kind, valid_for_s=valid_for_s)
        authority = trusts or self
        return MeshCredentials(certificate, signer, (authority.certificate,), keys, lambda: NOW_S)
