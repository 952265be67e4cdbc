"""What the head-end makes of meters' certificates (security suite 1)."""

from __future__ import annotations

from pydantic import BaseModel, Field

from protocols.dlms.security.agreement import encode_public_key
from protocols.dlms.security.certificates import Certificate
from protocols.errors import RemoteProtocolError
from protocols.headend.messages import KeyPurpose, Registration


class CertificateSummary(BaseModel):
    """A certificate for people and scripts."""

    subject: str = Field(description="The meter's system title in hexadecimal")
    issuer: str
    serial_number: str = Field(description="Hexadecimal")
    pem: str


def summary(pem: str) -> CertificateSummary | None:
    """Of the first certificate in `pem`; None if there is none that can be read."""
    certificate = _first(pem)
    if certificate is None:
        return None
    return CertificateSummary(
        subject=certificate.common_name,
        issuer=certificate.issuer_name,
        serial_number=f"{certificate.serial_number:x}",
        pem=certificate.pem(),
    )


def certificate_objection(shipped_pem: str | None, message: Registration) -> str:
    """Why what a meter was registered with does not agree with the certificate that was shipped; empty if it does."""
    if shipped_pem is None:
        return ""
    if message.signing_certificate_pem is None:
        return "the meter has shown no certificate"
    shipped, shown = _first(shipped_pem), _first(message.signing_certificate_pem)
    if shipped is None or shown is None:
        return "a certificate cannot be read"
    point = encode_public_key(shipped.public_key)
    keys = {item.purpose: item.key for item in message.public_keys}
    if encode_public_key(shown.public_key) != point or keys.get(KeyPurpose.SIGNING) != point:
        return "the signing key is not the one that was shipped"
    return ""


def _first(pem: str) -> Certificate | None:
    try:
        found = Certificate.decode_pem(pem)
    except RemoteProtocolError:
        return None
    return found[0] if found else None
