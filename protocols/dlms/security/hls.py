"""High-level authentication, passes 3 and 4: proving to know a key (IEC 62056-5-3, mechanisms 5, 6 and 7).

Both sides do the same thing with the roles swapped: each proves itself over the challenge that the other gave.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from protocols.dlms.enums import Mechanism
from protocols.dlms.security.ciphering import Ciphering
from protocols.dlms.security.gcm import AUTHENTICATED, TAG_BYTES
from protocols.dlms.security.signing import Signer, Verifier
from protocols.errors import LocalProtocolError

CHALLENGE_BYTES = {Mechanism.HIGH_GMAC: 16, Mechanism.HIGH_SHA256: 32, Mechanism.HIGH_ECDSA: 32}
CHALLENGE_LIMITS_BYTES = {Mechanism.HIGH_ECDSA: (32, 64)}
DEFAULT_CHALLENGE_LIMITS_BYTES = (8, 64)


@dataclass(frozen=True, slots=True)
class HlsExchange:
    """What one side knows when it proves itself and checks the other."""

    mechanism: Mechanism
    own_title: bytes
    peer_title: bytes
    own_challenge: bytes = field(repr=False)
    peer_challenge: bytes = field(repr=False)
    secret: bytes = field(default=b"", repr=False)
    ciphering: Ciphering | None = None
    signer: Signer | None = None
    verifier: Verifier | None = None

    def prove(self) -> bytes:
        """f(peer's challenge). Raises LocalProtocolError if what the mechanism needs was not given."""
        if self.mechanism is Mechanism.HIGH_GMAC:
            return self._prove_gmac()
        order = (self.own_title, self.peer_title, self.peer_challenge, self.own_challenge)
        if self.mechanism is Mechanism.HIGH_SHA256:
            return hashlib.sha256(b"".join((self.secret, *order))).digest()
        if self.mechanism is Mechanism.HIGH_ECDSA and self.signer is not None:
            return self.signer.sign(b"".join(order))
        raise LocalProtocolError(f"no means for mechanism {self.mechanism.name}")

    def is_proved(self, proof: bytes) -> bool:
        """Whether `proof` is the peer's f(own challenge)."""
        if self.mechanism is Mechanism.HIGH_GMAC:
            return self._is_gmac(proof)
        order = (self.peer_title, self.own_title, self.own_challenge, self.peer_challenge)
        if self.mechanism is Mechanism.HIGH_SHA256:
            right = hashlib.sha256(b"".join((self.secret, *order))).digest()
            return hmac.compare_digest(right, proof)
        if self.mechanism is Mechanism.HIGH_ECDSA:  # without a trusted key of the peer, nothing proves it
            return self.verifier is not None and self.verifier.is_signed(b"".join(order), proof)
        raise LocalProtocolError(f"no means for mechanism {self.mechanism.name}")

    def _prove_gmac(self) -> bytes:
        ciphering = self._ciphering()
        control = AUTHENTICATED | ciphering.suite
        counter = ciphering.send.next().to_bytes(4, "big")
        tag = ciphering.gcm.tag(control, self.own_title + counter, self.peer_challenge)
        return bytes((control,)) + counter + tag

    def _is_gmac(self, proof: bytes) -> bool:
        ciphering = self._ciphering()
        control = AUTHENTICATED | ciphering.suite
        if len(proof) != 5 + TAG_BYTES or proof[0] != control:
            return False
        right = ciphering.gcm.tag(control, self.peer_title + proof[1:5], self.own_challenge)
        return hmac.compare_digest(right, proof[5:])

    def _ciphering(self) -> Ciphering:
        if self.ciphering is None:
            raise LocalProtocolError("GMAC needs a key")
        return self.ciphering


def is_challenge(mechanism: Mechanism, challenge: bytes) -> bool:
    """Whether a challenge has a length that the mechanism allows."""
    least, most = CHALLENGE_LIMITS_BYTES.get(mechanism, DEFAULT_CHALLENGE_LIMITS_BYTES)
    return least <= len(challenge) <= most
