"""What a device is given so that it can prove itself and judge others: certificate, signer, authorities."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms.security.certificates import Certificate, CertificateType
from protocols.dlms.security.signing import Signer
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource


class RefusalReason(enum.StrEnum):
    """Why a peer's certificate, or what came with it, was not accepted."""

    MALFORMED = "malformed certificate"
    FOREIGN = "certificate of a foreign authority"
    EXPIRED = "certificate outside its validity"
    WRONG_DEVICE = "certificate of another device"
    WRONG_USE = "certificate for another use"
    REVOKED = "revoked"
    BAD_SIGNATURE = "possession of the private key was not proved"
    REFUSED_BY_PEER = "the peer refused our certificate"
    PROTOCOL = "protocol error"
    TIME_OUT = "no answer"


class RefusedError(RemoteProtocolError):
    """A peer may not join, or is not who it should be."""

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MeshCredentials:
    """Identity of one device in a mesh that authenticates by certificates.

    `certificate` names the device by its EUI-64 (16 hex digits as common name) and is for signature and key agreement;
    `signer` holds its private key. `keys` gives nonces and ephemeral keys. `utc_s` tells the time in seconds since
    1970-01-01 UTC; a device without a clock that is set (None) cannot judge validity, and checks the rest.
    """

    certificate: Certificate
    signer: Signer = field(repr=False)
    authorities: tuple[Certificate, ...]
    keys: KeySource = field(repr=False)
    utc_s: Callable[[], float] | None = None

    def judge(self, der: bytes, *, expected: bytes | None = None) -> Certificate:
        """The peer's certificate, if it is to be trusted now. `expected` is the EUI-64 that it must name.

        Raises RefusedError.
        """
        try:
            certificate = Certificate.decode(der)
        except RemoteProtocolError as error:
            raise RefusedError(RefusalReason.MALFORMED) from error
        issuers = [authority for authority in self.authorities if certificate.is_signed_by(authority)]
        if not issuers:
            raise RefusedError(RefusalReason.FOREIGN, certificate.issuer_name)
        if certificate.is_authority or certificate.kind is not CertificateType.TLS:
            raise RefusedError(RefusalReason.WRONG_USE)
        if self.utc_s is not None:
            now_s = self.utc_s()
            if not certificate.is_valid_at(now_s) or not any(issuer.is_valid_at(now_s) for issuer in issuers):
                raise RefusedError(RefusalReason.EXPIRED)
        if certificate.system_title is None or expected not in (None, certificate.system_title):
            raise RefusedError(RefusalReason.WRONG_DEVICE, certificate.common_name)
        return certificate
