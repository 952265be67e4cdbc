"""The TLS handshake inside EAP-TLS, against itself and against OpenSSL."""

import contextlib
import ssl
from pathlib import Path

import pytest
from authentication_support import Authority, SeededKeys
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import CertificateType
from protocols.mesh.authentication.tls import TlsClient, TlsServer, TlsState
from protocols.mesh.authentication.trust import MeshCredentials, RefusalReason

METER, ROUTER = bytes.fromhex("0212740001000001"), bytes.fromhex("0212740001000000")
AUTHORITY = Authority()
FOREIGN = Authority("another CA")


def shake(client: TlsClient, server: TlsServer) -> None:
    flight = client.start()
    while flight:
        flight = server.receive(flight)
        flight = client.receive(flight) if flight else b""


def test_both_ends_get_the_same_master_session_key() -> None:
    client, server = TlsClient(AUTHORITY.device(METER)), TlsServer(AUTHORITY.device(ROUTER), METER)
    shake(client, server)
    assert client.state is server.state is TlsState.ESTABLISHED
    assert client.msk == server.msk
    assert len(client.msk) == 64
    assert server.peer is not None
    assert server.peer.system_title == METER
    assert client.peer is not None
    assert client.peer.system_title == ROUTER


@pytest.mark.requirement("UC-I.3")
@pytest.mark.parametrize(
    ("credentials", "reason", "told"),
    [
        (FOREIGN.device(METER, trusts=AUTHORITY), RefusalReason.FOREIGN, "unknown ca"),
        (AUTHORITY.device(METER, valid_for_s=86_400.0), RefusalReason.EXPIRED, "certificate expired"),
        (AUTHORITY.device(METER, named=bytes(8)), RefusalReason.WRONG_DEVICE, "certificate unknown"),
        (
            AUTHORITY.device(METER, kind=CertificateType.KEY_AGREEMENT),
            RefusalReason.WRONG_USE,
            "unsupported certificate",
        ),
    ],
)
def test_a_server_refuses_a_wrong_certificate_and_says_why(
    credentials: MeshCredentials, reason: RefusalReason, told: str
) -> None:
    client, server = TlsClient(credentials), TlsServer(AUTHORITY.device(ROUTER), METER)
    shake(client, server)
    assert server.failure is not None
    assert server.failure.reason is reason
    assert client.failure is not None
    assert client.failure.reason is RefusalReason.REFUSED_BY_PEER
    assert told in str(client.failure)


@pytest.mark.requirement("UC-I.1")
def test_a_client_refuses_a_server_of_a_foreign_authority() -> None:
    client, server = TlsClient(AUTHORITY.device(METER)), TlsServer(FOREIGN.device(ROUTER, trusts=AUTHORITY), METER)
    shake(client, server)
    assert client.failure is not None
    assert client.failure.reason is RefusalReason.FOREIGN
    assert server.failure is not None
    assert server.failure.reason is RefusalReason.REFUSED_BY_PEER


def test_a_certificate_without_its_key_is_refused() -> None:
    mine, other = AUTHORITY.device(METER), AUTHORITY.device(bytes(8))
    stolen = MeshCredentials(mine.certificate, other.signer, mine.authorities, mine.keys, mine.utc_s)
    server = TlsServer(AUTHORITY.device(ROUTER), METER)
    shake(TlsClient(stolen), server)
    assert server.failure is not None
    assert server.failure.reason is RefusalReason.BAD_SIGNATURE


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2500), st.integers(1, 255))
def test_a_flipped_byte_never_ends_in_a_session(place: int, mask: int) -> None:
    """Wherever a byte of the handshake is changed, no end takes the other for authenticated with another key."""
    client, server = TlsClient(AUTHORITY.device(METER)), TlsServer(AUTHORITY.device(ROUTER), METER)
    ends, turn, flight, seen = (server, client), 0, client.start(), 0
    while flight:
        if seen <= place < seen + len(flight):
            at = place - seen
            flight = flight[:at] + bytes((flight[at] ^ mask,)) + flight[at + 1 :]
        seen += len(flight)
        flight = ends[turn % 2].receive(flight)
        turn += 1
    if client.state is TlsState.ESTABLISHED and server.state is TlsState.ESTABLISHED:
        assert client.msk == server.msk
    if client.state is TlsState.ESTABLISHED:
        assert server.state is TlsState.ESTABLISHED


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_junk_makes_a_handshake_fail_and_nothing_else(junk: bytes) -> None:
    for end in (TlsServer(AUTHORITY.device(ROUTER), METER), TlsClient(AUTHORITY.device(METER))):
        if isinstance(end, TlsClient):
            end.start()
        end.receive(junk)
        assert end.state is not TlsState.ESTABLISHED


# OpenSSL

_NO_CHECK_TIME = 0x20_0000
"""X509_V_FLAG_NO_CHECK_TIME."""


def context(folder: Path, protocol: int, eui64: bytes) -> ssl.SSLContext:
    found = ssl.SSLContext(protocol)
    found.maximum_version = ssl.TLSVersion.TLSv1_2
    found.set_ciphers("ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0")
    found.check_hostname = False
    found.verify_mode = ssl.CERT_REQUIRED
    # Validity is judged by the wall clock there, and the certificates live on the test's.
    found.verify_flags |= _NO_CHECK_TIME
    found.load_verify_locations(cadata=AUTHORITY.certificate.pem())
    key = new_private_key(SeededKeys(f"openssl {eui64.hex()}"))
    certificate = AUTHORITY.ca.issue(eui64, key.public_key(), CertificateType.TLS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "identity.pem"
    file.write_text(certificate.pem() + private.decode())
    found.load_cert_chain(file)
    return found


def shake_with_openssl(context: ssl.SSLContext, end: TlsClient | TlsServer, *, server_side: bool) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context.wrap_bio(incoming, outgoing, server_side=server_side)
    if isinstance(end, TlsClient):
        incoming.write(end.start())
    for _ in range(6):
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        flight = outgoing.read()
        if flight:
            incoming.write(end.receive(flight))
    assert end.state is TlsState.ESTABLISHED, end.failure
    peer.do_handshake()
    assert peer.cipher() is not None
    assert peer.cipher()[0] == "ECDHE-ECDSA-AES128-CCM8"


def test_openssl_accepts_our_client(tmp_path: Path) -> None:
    openssl = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, ROUTER)
    shake_with_openssl(openssl, TlsClient(AUTHORITY.device(METER)), server_side=True)


def test_openssl_accepts_our_server(tmp_path: Path) -> None:
    openssl = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, METER)
    shake_with_openssl(openssl, TlsServer(AUTHORITY.device(ROUTER), METER), server_side=False)
