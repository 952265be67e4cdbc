"""What provisioning gives a concentrator whose mesh admits devices by their certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dcu.identity import SignerFactory, is_same_key, private_key
from protocols.dlms.security.certificates import Certificate, CertificateType
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.mesh.authentication.trust import MeshCredentials
from protocols.ports import KeySource


@dataclass(frozen=True, slots=True)
class MeshIdentity:
    """PEM texts. `certificates_pem` holds the authorities that it trusts and its own certificate for
    `signing_key_pem`, whose subject is its EUI-64."""

    signing_key_pem: str = field(repr=False)
    certificates_pem: str = field(repr=False)

    def credentials(
        self, eui64: bytes, *, keys: KeySource, utc_s: Callable[[], float], make_signer: SignerFactory
    ) -> MeshCredentials:
        """The identity in use. Raises BadInputError that names the field; never shows a key."""
        signing = private_key("signing_key_pem", self.signing_key_pem)
        try:
            found = Certificate.decode_pem(self.certificates_pem)
        except RemoteProtocolError as error:
            raise BadInputError(str(error), key="certificates_pem") from None
        authorities = tuple(item for item in found if item.is_authority)
        for item in found:
            is_own = item.kind is CertificateType.TLS and item.system_title == eui64 and not item.is_authority
            if is_own and is_same_key(item.public_key, signing.public_key()):
                return MeshCredentials(item, make_signer(signing), authorities, keys, utc_s)
        raise BadInputError("no certificate for the signing key and the EUI-64", key="certificates_pem")
