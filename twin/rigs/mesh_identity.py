"""Certificates for the mesh: what each device proves itself with before it is given the group key."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from dcu.mesh_identity import MeshIdentity
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import CertificateType
from protocols.mesh.authentication.trust import MeshCredentials
from protocols.mesh.config import LinkKey
from twin.clock.clocks import RunClock
from twin.clock.seeds import KeyFactory
from twin.rigs.authority import RunAuthority, Standing, private_key_pem
from twin.rigs.provisioning import Provision

SPARE_KEYS = 3
"""Group keys 2 to 4, for rotation."""


class MeshIdentities:
    """Credentials by EUI-64, and the group keys that a rotation brings into use."""

    def __init__(self, parts: Provision, authority: RunAuthority, keys: KeyFactory, clock: RunClock) -> None:
        self._authority = authority
        self._keys = keys
        self._keys_by_device: dict[bytes, EllipticCurvePrivateKey] = {}
        self.dcu = self._credentials(parts.dcu_eui64, Standing.VALID, clock)
        self.meters = {
            item.identity.eui64: self._credentials(item.identity.eui64, Standing(item.settings.mesh_certificate), None)
            for item in parts.meters
        }

    def dcu_identity(self, eui64: bytes) -> MeshIdentity:
        """The concentrator's credentials as provisioning gives them to a machine of its own."""
        certificates = (self._authority.certificate, self.dcu.certificate)
        return MeshIdentity(
            private_key_pem(self._keys_by_device[eui64]), "".join(certificate.pem() for certificate in certificates)
        )

    def _credentials(self, eui64: bytes, standing: Standing, clock: RunClock | None) -> MeshCredentials:
        """A meter that has just been installed has no clock to judge validity by: `clock` is None."""
        source = self._keys(f"mesh-identity/{eui64.hex()}")
        key = self._keys_by_device[eui64] = new_private_key(source)
        certificate = self._authority.issue(eui64, key.public_key(), CertificateType.TLS, standing)
        return MeshCredentials(
            certificate,
            self._authority.make_signer(key),
            (self._authority.certificate,),
            source,
            None if clock is None else clock.utc_s,
        )


def spare_group_keys(parts: Provision, keys: KeyFactory) -> tuple[LinkKey, ...]:
    """Keys for rotations, in the order of their use; the provisioned one is not among them."""
    source = keys("group-keys")
    first = parts.link_key.index
    return tuple(LinkKey((first - 1 + step) % 4 + 1, source.random_bytes(16)) for step in range(1, SPARE_KEYS + 1))
