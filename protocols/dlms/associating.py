"""The server's side of opening an association: AARQ in, AARE out, and the session it makes."""

from __future__ import annotations

import hmac
from collections.abc import Hashable
from dataclasses import dataclass

from protocols.dlms.acse import Aare, Aarq
from protocols.dlms.enums import (
    AcseProviderDiagnostic,
    AcseUserDiagnostic,
    AssociationResult,
    Conformance,
    ContextName,
    ErrorKind,
    ErrorService,
    InitiateError,
    Mechanism,
)
from protocols.dlms.exception import ConfirmedServiceError
from protocols.dlms.initiate import DLMS_VERSION, InitiateRequest, InitiateResponse
from protocols.dlms.objects import Caller
from protocols.dlms.security.ciphering import GLO_TAGS, Ciphering, unwrap, wrap
from protocols.dlms.security.gcm import ProtectionError
from protocols.dlms.security.hls import CHALLENGE_BYTES, is_challenge
from protocols.dlms.server_protection import request_bits
from protocols.dlms.server_security import ServerSecurity
from protocols.dlms.session import UNLIMITED_PDU_BYTES, Association, Session, SessionState
from protocols.errors import RemoteProtocolError
from protocols.ports import KeySource

LEAST_PDU_BYTES = 12
_PROTECTION_OVERHEAD_BYTES = 30
"""Tag, lengths, system title, security header and authentication tag of general-glo-ciphering."""


class AssociationRefused(Exception):  # noqa: N818 (an AARE, not a failure of ours)
    """An AARQ that is answered with a rejection. `reason` is one word for counters and event logs; `counts` if it is a
    failed authentication."""

    def __init__(
        self,
        diagnostic: AcseUserDiagnostic | AcseProviderDiagnostic,
        reason: str,
        *,
        error: InitiateError | None = None,
        counts: bool = False,
        result: AssociationResult = AssociationResult.REJECTED_PERMANENT,
    ) -> None:
        super().__init__(reason)
        self.diagnostic = diagnostic
        self.reason = reason
        self.error = error
        self.counts = counts
        self.result = result

    def aare(self, context: int, server_title: bytes | None) -> bytes:
        information = None
        if self.error is not None:
            information = ConfirmedServiceError(ErrorService.INITIATE, ErrorKind.INITIATE, self.error).encode()
        return Aare(context, self.result, self.diagnostic, information, responding_ap_title=server_title).encode()


@dataclass(frozen=True, slots=True)
class Opening:
    """A session with the AARE that announces it."""

    session: Session
    aare: bytes


def open_association(
    association: Association,
    aarq: Aarq,
    channel: Hashable,
    now: float,
    security: ServerSecurity | None,
    keys: KeySource,
    pending: Session | None,
) -> Opening:
    """Check an AARQ against what the association offers. Raises AssociationRefused.

    `pending` is a session of the same client that still has to prove itself: an AARQ with the same challenge is a
    repetition, and keeps our challenge, so that the answers to both agree.
    """
    _check_version(aarq)
    _check_names(association, aarq)
    ciphering = _ciphering(association, aarq, security)
    request, control = _initiate(association, aarq, ciphering, security, now)
    conformance = _negotiate(association, request)
    if association.config.mechanism is Mechanism.LOW:
        _check_secret(association, aarq)
    session = _new_session(association, channel, now, conformance, request.max_receive_pdu_bytes, ciphering)
    if request.dedicated_key is not None:
        _take_dedicated_key(session, request.dedicated_key, control, security)
    if association.config.mechanism.is_high:
        _challenge(session, aarq, keys, pending)
    return Opening(session, _accept(session, association, security, control))


def _check_version(aarq: Aarq) -> None:
    """Protocol-version, a bit string whose first bit is version 1; left out, it means version 1."""
    version = aarq.protocol_version
    if version is not None and (len(version) < 2 or not version[1] & 0x80):
        raise AssociationRefused(AcseProviderDiagnostic.NO_COMMON_ACSE_VERSION, "no_common_acse_version")


def _check_names(association: Association, aarq: Aarq) -> None:
    config = association.config
    context = ContextName.LN_CIPHERED if config.ciphered else ContextName.LN
    if aarq.context != context:
        raise AssociationRefused(AcseUserDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED, "wrong_application_context")
    mechanism = Mechanism.NONE if aarq.mechanism is None else aarq.mechanism
    if mechanism == config.mechanism:
        return
    if mechanism == Mechanism.NONE:
        raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_REQUIRED, "no_mechanism")
    raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED, "wrong_mechanism")


def _ciphering(association: Association, aarq: Aarq, security: ServerSecurity | None) -> Ciphering | None:
    """Ciphering with this client where context or mechanism need it."""
    config = association.config
    if not config.ciphered and not config.mechanism.is_high:
        return None
    title = aarq.calling_ap_title
    if security is None:
        raise AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "no_security_setup")
    if title is None or not security.is_known(title):
        raise AssociationRefused(AcseUserDiagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED, "unknown_title")
    if config.mechanism is Mechanism.HIGH_ECDSA:
        _check_certificate(title, aarq.calling_ae_qualifier, security)
    return security.unicast(title)


def _check_certificate(title: bytes, certificate: bytes | None, security: ServerSecurity) -> None:
    """The client must have a signing key that is trusted, by the certificate that it brings or by one from before."""
    asymmetric = security.asymmetric
    if asymmetric is None:
        raise AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "no_asymmetric_keys")
    if certificate is not None:
        asymmetric.peers.offered(title, certificate)
    if asymmetric.verifier(title) is None:
        raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_FAILURE, "untrusted_certificate")


def _initiate(
    association: Association, aarq: Aarq, ciphering: Ciphering | None, security: ServerSecurity | None, now: float
) -> tuple[InitiateRequest, int]:
    """The InitiateRequest and the security control that it came with, 0 if in the clear."""
    information, control = aarq.user_information, 0
    if information is None:
        raise AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "no_initiate_request", error=InitiateError.OTHER)
    try:
        if ciphering is not None and association.config.ciphered and information[:1] == b"\x21":
            control, _, information = ciphering.open(unwrap(information), now=now)
        request = InitiateRequest.decode(information)
    except ProtectionError as error:
        is_attack = error.reason == "wrong_tag"
        raise AssociationRefused(
            AcseUserDiagnostic.AUTHENTICATION_FAILURE, f"initiate_{error.reason}", counts=is_attack
        ) from error
    except RemoteProtocolError as error:
        raise AssociationRefused(
            AcseUserDiagnostic.NO_REASON_GIVEN, "malformed_initiate_request", error=InitiateError.OTHER
        ) from error
    if security is not None and association.config.ciphered and security.required_request & ~request_bits(control):
        raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_REQUIRED, "initiate_not_protected")
    return request, control


def _negotiate(association: Association, request: InitiateRequest) -> int:
    if request.dlms_version < DLMS_VERSION:
        raise AssociationRefused(
            AcseUserDiagnostic.NO_REASON_GIVEN,
            "dlms_version_too_low",
            error=InitiateError.DLMS_VERSION_TOO_LOW,
        )
    if 0 < request.max_receive_pdu_bytes < LEAST_PDU_BYTES:
        raise AssociationRefused(
            AcseUserDiagnostic.NO_REASON_GIVEN,
            "pdu_size_too_short",
            error=InitiateError.PDU_SIZE_TOO_SHORT,
        )
    conformance = int(association.config.conformance) & int(request.conformance)
    if not conformance & int(Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.ACCESS):
        raise AssociationRefused(
            AcseUserDiagnostic.NO_REASON_GIVEN,
            "incompatible_conformance",
            error=InitiateError.INCOMPATIBLE_CONFORMANCE,
        )
    return conformance


def _check_secret(association: Association, aarq: Aarq) -> None:
    given = aarq.authentication_value or b""
    if not association.secret or not hmac.compare_digest(association.secret, given):
        raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_FAILURE, "wrong_secret", counts=True)


def _new_session(
    association: Association,
    channel: Hashable,
    now: float,
    conformance: int,
    client_max_pdu_bytes: int,
    ciphering: Ciphering | None,
) -> Session:
    config = association.config
    overhead = _PROTECTION_OVERHEAD_BYTES if config.ciphered else 0
    state = SessionState.AUTHENTICATING if config.mechanism.is_high else SessionState.ASSOCIATED
    return Session(
        association=association,
        channel=channel,
        caller=Caller(config.client_sap, now, channel, association),
        access=config.access,
        state=state,
        conformance=conformance,
        max_plain_bytes=(client_max_pdu_bytes or UNLIMITED_PDU_BYTES) - overhead,
        max_apdu_bytes=client_max_pdu_bytes or UNLIMITED_PDU_BYTES,
        client_title=b"" if ciphering is None else ciphering.peer_title,
    )


def _take_dedicated_key(session: Session, key: bytes, control: int, security: ServerSecurity | None) -> None:
    if security is None or not session.client_title or not control & 0x20:
        raise AssociationRefused(
            AcseUserDiagnostic.NO_REASON_GIVEN, "dedicated_key_in_the_clear", error=InitiateError.OTHER
        )
    if len(key) != 16:
        raise AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "dedicated_key_size", error=InitiateError.OTHER)
    session.dedicated = security.dedicated(key, session.client_title)


def _challenge(session: Session, aarq: Aarq, keys: KeySource, pending: Session | None) -> None:
    mechanism = session.association.config.mechanism
    challenge = aarq.authentication_value or b""
    if not is_challenge(mechanism, challenge):
        raise AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_FAILURE, "challenge_size", counts=True)
    session.peer_challenge = challenge
    if pending is not None and hmac.compare_digest(pending.peer_challenge, challenge):
        session.own_challenge = pending.own_challenge
    else:
        session.own_challenge = keys.random_bytes(CHALLENGE_BYTES[mechanism])


def _accept(session: Session, association: Association, security: ServerSecurity | None, control: int) -> bytes:
    config = association.config
    response = InitiateResponse(Conformance(session.conformance), config.max_receive_pdu_bytes).encode()
    if control and security is not None:
        response = wrap(GLO_TAGS[response[0]], security.unicast(session.client_title).seal(response, control & 0x30))
    high = config.mechanism.is_high
    asymmetric = None if security is None else security.asymmetric
    signs = config.mechanism is Mechanism.HIGH_ECDSA and asymmetric is not None
    return Aare(
        context=ContextName.LN_CIPHERED if config.ciphered else ContextName.LN,
        result=AssociationResult.ACCEPTED,
        diagnostic=AcseUserDiagnostic.AUTHENTICATION_REQUIRED if high else AcseUserDiagnostic.NULL,
        user_information=response,
        mechanism=config.mechanism if high else None,
        authentication_value=session.own_challenge if high else None,
        responding_ae_qualifier=asymmetric.certificate if signs and asymmetric is not None else None,
        responding_ap_title=security.system_title if security is not None and session.client_title else None,
    ).encode()
