"""Asymmetric keys of one end, and where it finds those of its peers (security suite 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.signing import Signer, Verifier


class PeerKeys(Protocol):
    """Public keys of peers by system title; None for a peer that is not trusted (any more)."""

    def signing_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None: ...

    def agreement_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None: ...

    def offered(self, title: bytes, certificate: bytes) -> None:
        """The peer's certificate (DER), as an AARQ or AARE brought it. It must not be trusted unverified."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPeerKeys:
    """Keys that are simply known."""

    signing: Mapping[bytes, ec.EllipticCurvePublicKey]
    agreement: Mapping[bytes, ec.EllipticCurvePublicKey] = field(default_factory=dict)

    def signing_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        return self.signing.get(title)

    def agreement_key(self, title: bytes) -> ec.EllipticCurvePublicKey | None:
        return self.agreement.get(title)

    def offered(self, title: bytes, certificate: bytes) -> None:
        """Keys that are known need no certificate."""


@dataclass(slots=True)
class AsymmetricKeys:
    """This end's signing and key-agreement keys, and its peers'."""

    signer: Signer = field(repr=False)
    agreement: ec.EllipticCurvePrivateKey = field(repr=False)
    peers: PeerKeys = field(repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    """Of the signing key (DER), sent with AARQ and AARE where the mechanism signs."""

    def verifier(self, title: bytes) -> Verifier | None:
        key = self.peers.signing_key(title)
        return None if key is None else Verifier(key)
