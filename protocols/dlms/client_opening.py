"""How a client opens and closes an association: the AARQ, what an AARE must have, the proofs, the RLRQ."""

from __future__ import annotations

from protocols.dlms import acse
from protocols.dlms.client_events import ClientConfig
from protocols.dlms.client_protection import ClientProtection
from protocols.dlms.client_security import ClientSecurity
from protocols.dlms.data import Data, Tag
from protocols.dlms.enums import ContextName, Mechanism
from protocols.dlms.exception import CONFIRMED_SERVICE_ERROR, ConfirmedServiceError
from protocols.dlms.initiate import InitiateRequest, InitiateResponse
from protocols.dlms.security.ciphering import GLO_TAGS, unwrap, wrap
from protocols.dlms.security.gcm import ProtectionError
from protocols.dlms.security.hls import CHALLENGE_BYTES, HlsExchange, is_challenge
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource


class ClientOpening:
    """Challenges and keys of one attempt after the other."""

    def __init__(
        self, config: ClientConfig, security: ClientSecurity | None, keys: KeySource, protection: ClientProtection
    ) -> None:
        self._config = config
        self._security = security
        self._keys = keys
        self._protection = protection
        self._own_challenge = b""
        self._peer_challenge = b""
        self.dedicated_key: bytes | None = None

    @property
    def _uses_keys(self) -> bool:
        return self._config.ciphered or self._config.mechanism.is_high

    def begin(self) -> None:
        """A new attempt: a fresh challenge, a fresh dedicated key."""
        mechanism = self._config.mechanism
        if mechanism.is_high:
            self._own_challenge = self._keys.random_bytes(CHALLENGE_BYTES[mechanism])
        self._peer_challenge = b""
        self.dedicated_key = self._keys.random_bytes(16) if self._config.dedicated_key else None

    def aarq(self) -> bytes:
        """Made again, it has the same challenge under a fresh counter."""
        mechanism = self._config.mechanism
        value = self._own_challenge if mechanism.is_high else self._config.secret
        security = self._security if self._uses_keys else None
        return acse.Aarq(
            context=ContextName.LN_CIPHERED if self._config.ciphered else ContextName.LN,
            user_information=self._initiate_request(),
            mechanism=None if mechanism is Mechanism.NONE else mechanism,
            authentication_value=None if mechanism is Mechanism.NONE else value,
            calling_ap_title=None if security is None else security.system_title,
            calling_ae_qualifier=self._certificate,
            authentication_functional_unit=mechanism is not Mechanism.NONE,
        ).encode()

    def rlrq(self) -> bytes:
        return acse.Rlrq(user_information=self._initiate_request() if self._config.ciphered else None).encode()

    @property
    def _certificate(self) -> bytes | None:
        """Ours, for a mechanism that signs."""
        asymmetric = None if self._security is None else self._security.asymmetric
        return asymmetric.certificate if asymmetric and self._config.mechanism is Mechanism.HIGH_ECDSA else None

    def _initiate_request(self) -> bytes:
        config = self._config
        request = InitiateRequest(config.conformance, config.max_receive_pdu_bytes, self.dedicated_key).encode()
        if not config.ciphered or self._security is None:
            return request
        return wrap(GLO_TAGS[request[0]], self._security.ciphering.seal(request, self._protection.control))

    # the AARE

    def accept(self, aare: acse.Aare) -> InitiateResponse:
        """What an AARE that accepts has negotiated; its challenge is taken.

        Raises RemoteProtocolError if it lacks something or is not of the expected server; nothing is then taken.
        """
        security = self._security
        if security is None or not self._uses_keys:
            return self._initiate_response(aare)
        security.learn_server_title(aare.responding_ap_title)
        try:
            title, certificate = security.server_system_title, aare.responding_ae_qualifier
            if security.asymmetric is not None and title is not None and certificate is not None:
                security.asymmetric.peers.offered(title, certificate)
            response = self._initiate_response(aare)
            if self._config.mechanism.is_high:
                self._take_challenge(aare)
        except RemoteProtocolError:
            security.forget_server_title()
            raise
        return response

    def is_repetition(self, aare: acse.Aare) -> bool:
        """Whether it answers a repeated AARQ: it has the challenge that came before."""
        return bool(self._peer_challenge) and aare.authentication_value == self._peer_challenge

    def _initiate_response(self, aare: acse.Aare) -> InitiateResponse:
        information = aare.user_information
        if information is None:
            raise RemoteProtocolError("an AARE without InitiateResponse")
        if information[:1] == b"\x28" and self._security is not None:
            control, _, information = self._security.ciphering.open(unwrap(information))
            self._protection.check_control(control)
        elif self._protection.required_control:
            raise ProtectionError("the InitiateResponse is not protected", "policy")
        return InitiateResponse.decode(information)

    def _take_challenge(self, aare: acse.Aare) -> None:
        mechanism, challenge = self._config.mechanism, aare.authentication_value
        if aare.mechanism != mechanism or challenge is None:
            raise RemoteProtocolError(f"an AARE without a challenge of mechanism {mechanism.name}")
        if not is_challenge(mechanism, challenge):
            raise RemoteProtocolError(f"a challenge of {len(challenge)} bytes")
        if challenge == self._own_challenge:
            raise RemoteProtocolError("the server gives our own challenge back")
        self._peer_challenge = challenge

    # the proofs

    def prove(self) -> bytes:
        """f(the server's challenge)."""
        return self._exchange().prove()

    def is_proved(self, returned: object) -> bool:
        """Whether what reply_to_HLS_authentication returned is the server's proof.

        Raises RemoteProtocolError if it is no proof at all.
        """
        if not isinstance(returned, Data) or returned.tag != Tag.OCTET_STRING:
            raise RemoteProtocolError("the server gives no proof")
        is_right = self._exchange().is_proved(returned.value)
        if not is_right and self._security is not None:
            self._security.forget_server_title()
        return is_right

    def _exchange(self) -> HlsExchange:
        security = self._security
        if security is None or security.server_system_title is None:
            raise LocalProtocolError("a high mechanism without security")
        asymmetric = security.asymmetric
        return HlsExchange(
            mechanism=self._config.mechanism,
            own_title=security.system_title,
            peer_title=security.server_system_title,
            own_challenge=self._own_challenge,
            peer_challenge=self._peer_challenge,
            secret=self._config.secret,
            ciphering=security.ciphering,
            signer=None if asymmetric is None else asymmetric.signer,
            verifier=None if asymmetric is None else asymmetric.verifier(security.server_system_title),
        )


def refusal_of(aare: acse.Aare) -> str:
    """For people: result, diagnostic, and what the InitiateResponse says, if it is an error."""
    reason = f"{aare.result.name.lower()}, {aare.diagnostic.name.lower()}"
    if aare.user_information is None or aare.user_information[:1] != bytes((CONFIRMED_SERVICE_ERROR,)):
        return reason
    error = ConfirmedServiceError.decode(aare.user_information)
    return f"{reason}, {error.kind.name.lower()} {error.value}"
