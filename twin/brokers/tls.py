"""TLS 1.3 with client certificates for real-time runs: a certificate authority of the run, and contexts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.errors import BadInputError

VALIDITY = timedelta(days=397)
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files of one end: the authority's certificate, its own, and its private key (readable by its owner only)."""

    ca: Path
    certificate: Path
    private_key: Path


class RunAuthority:
    """A certificate authority that lives as long as one real-time run. Its key is never written.

    Keys are the system's randomness; virtual runs have no TLS. `now` is the run's true time, with a zone.
    """

    def __init__(self, folder: Path, now: datetime, name: str = "openami-twin run CA") -> None:
        self._folder = folder
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._ca_path = folder / "ca.pem"
        folder.mkdir(parents=True, exist_ok=True)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._ca_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue_server(self, common_name: str, host: str) -> Identity:
        """A broker that is reached at `host`, a name or an address."""
        return self._issue(common_name, host, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_client(self, common_name: str) -> Identity:
        """A client; `common_name` is the user that the broker takes it for."""
        return self._issue(common_name, None, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, common_name: str, host: str | None, usage: x509.ObjectIdentifier) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name(common_name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        identity = Identity(self._ca_path, self._folder / f"{common_name}.pem", self._folder / f"{common_name}.key.pem")
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.private_key.touch(mode=0o600)
        identity.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return identity

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _BACKDATED)
            .not_valid_after(self._now + VALIDITY)
        )


def client_context(identity: Identity) -> ssl.SSLContext:
    """A client's context: TLS 1.3, the broker's certificate checked against the run's authority and its host name.

    Raises BadInputError when a file is missing or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(identity.ca)
        context.load_cert_chain(identity.certificate, identity.private_key)
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(f"cannot be used for TLS: {error}", file=str(identity.certificate)) from None
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
