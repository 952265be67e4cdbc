"""The TLS 1.2 handshake of EAP-TLS, both ends sans-I/O, with certificates on both sides.

One cipher suite, one curve, no resumption, no renegotiation, no application data: what Wi-SUN FAN uses of it.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Callable
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import Certificate
from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication import tls_keys
from protocols.mesh.authentication import tls_messages as messages
from protocols.mesh.authentication.tls_keys import RecordProtection, SessionKeys
from protocols.mesh.authentication.tls_messages import Alert, ContentType, HandshakeType
from protocols.mesh.authentication.trust import MeshCredentials, RefusalReason, RefusedError

_ALERTS = {
    RefusalReason.MALFORMED: Alert.BAD_CERTIFICATE,
    RefusalReason.FOREIGN: Alert.UNKNOWN_CA,
    RefusalReason.EXPIRED: Alert.CERTIFICATE_EXPIRED,
    RefusalReason.WRONG_DEVICE: Alert.CERTIFICATE_UNKNOWN,
    RefusalReason.WRONG_USE: Alert.UNSUPPORTED_CERTIFICATE,
    RefusalReason.REVOKED: Alert.CERTIFICATE_REVOKED,
    RefusalReason.BAD_SIGNATURE: Alert.DECRYPT_ERROR,
    RefusalReason.PROTOCOL: Alert.HANDSHAKE_FAILURE,
}


class TlsState(enum.Enum):
    START = "start"
    SERVER_FLIGHT = "waiting for the server's first flight"
    CLIENT_FLIGHT = "waiting for the client's certificate"
    FINISHED = "waiting for the peer's Finished"
    ESTABLISHED = "established"
    FAILED = "failed"


class _TlsEnd:
    """What both ends do: transcript, records, Finished, alerts."""

    own_label: bytes
    peer_label: bytes

    def __init__(self, credentials: MeshCredentials, expected: bytes | None) -> None:
        self._credentials = credentials
        self._expected = expected
        self._random = credentials.keys.random_bytes(messages.RANDOM_BYTES)
        self._ephemeral = new_private_key(credentials.keys)
        self._transcript = b""
        self._keys: SessionKeys | None = None
        self._writing: RecordProtection | None = None
        self._reading: RecordProtection | None = None
        self._peer_changed_cipher = False
        self.state = TlsState.START
        self.peer: Certificate | None = None
        self.failure: RefusedError | None = None
        """Set when the state is FAILED."""

    @property
    def msk(self) -> bytes:
        """EAP-TLS master session key. Raises RefusedError before the handshake has succeeded."""
        if self._keys is None or self.state is not TlsState.ESTABLISHED:
            raise RefusedError(RefusalReason.PROTOCOL, "the handshake has not succeeded")
        return self._keys.msk()

    def receive(self, data: bytes) -> bytes:
        """A flight of the peer; returns ours, which is an alert if the peer is refused."""
        try:
            for kind, content in messages.split_records(data):
                self._receive_record(kind, content)
            return self._answer()
        except RefusedError as error:
            return self._fail(error)
        except RemoteProtocolError as error:
            return self._fail(RefusedError(RefusalReason.PROTOCOL, str(error)))

    def _receive_record(self, kind: int, content: bytes) -> None:
        if kind == ContentType.CHANGE_CIPHER_SPEC:
            if content != b"\x01" or self._reading is None:
                self._unexpected("ChangeCipherSpec")
            self._peer_changed_cipher = True
            return
        if kind not in (ContentType.ALERT, ContentType.HANDSHAKE):
            self._unexpected(f"content type {kind}")
        if self._peer_changed_cipher and self._reading is not None:
            content = self._reading.open(ContentType(kind), content)
        if kind == ContentType.ALERT:
            raise RefusedError(RefusalReason.REFUSED_BY_PEER, _alert_text(content))
        for message, body, whole in messages.split_handshakes(content):
            self._receive_handshake(message, body)
            self._transcript += whole

    def _receive_handshake(self, kind: int, body: bytes) -> None:
        raise NotImplementedError

    def _answer(self) -> bytes:
        raise NotImplementedError

    def _unexpected(self, what: str) -> NoReturn:
        raise RefusedError(RefusalReason.PROTOCOL, f"{what} in state {self.state.name}")

    def _fail(self, error: RefusedError) -> bytes:
        self.state, self.failure = TlsState.FAILED, error
        if error.reason is RefusalReason.REFUSED_BY_PEER:
            return b""
        content = bytes((2, _ALERTS.get(error.reason, Alert.HANDSHAKE_FAILURE)))
        if self._writing is not None:
            content = self._writing.seal(ContentType.ALERT, content)
        return messages.record(ContentType.ALERT, content)

    def _judge(self, body: bytes) -> None:
        chain = messages.decode_certificates(body)
        if not chain:
            raise RefusedError(RefusalReason.MALFORMED, "no certificate")
        self.peer = self._credentials.judge(chain[0], expected=self._expected)

    def _peer_key(self) -> ec.EllipticCurvePublicKey:
        if self.peer is None:
            self._unexpected("a signature before its certificate")
        return self.peer.public_key

    def _handshake(self, message: bytes) -> bytes:
        """A message of ours, noted in the transcript."""
        self._transcript += message
        return message

    def _certificate(self) -> bytes:
        return self._handshake(messages.encode_certificates((self._credentials.certificate.der,)))

    def _derive(self, point: bytes, client_random: bytes, server_random: bytes, *, extended: bool) -> SessionKeys:
        """Keys for both directions; the transcript ends with ClientKeyExchange."""
        premaster = tls_keys.agree(self._ephemeral, point)
        session_hash = hashlib.sha256(self._transcript).digest() if extended else None
        self._keys = SessionKeys.derive(premaster, client_random, server_random, session_hash)
        return self._keys

    def _finished(self) -> bytes:
        """ChangeCipherSpec and Finished, as two records."""
        keys, writing = self._keys, self._writing
        if keys is None or writing is None:
            self._unexpected("Finished")
        body = keys.verify_data(self.own_label, self._transcript)
        message = self._handshake(messages.handshake(HandshakeType.FINISHED, body))
        sealed = writing.seal(ContentType.HANDSHAKE, message)
        return messages.record(ContentType.CHANGE_CIPHER_SPEC, b"\x01") + messages.record(ContentType.HANDSHAKE, sealed)

    def _check_finished(self, body: bytes) -> None:
        if self._keys is None or not self._peer_changed_cipher:
            self._unexpected("Finished")
        if not hmac.compare_digest(body, self._keys.verify_data(self.peer_label, self._transcript)):
            raise RefusedError(RefusalReason.BAD_SIGNATURE, "Finished does not fit")
        self.state = TlsState.ESTABLISHED


class TlsClient(_TlsEnd):
    """The supplicant's end. `start` gives the first flight."""

    own_label, peer_label = b"client finished", b"server finished"

    def __init__(self, credentials: MeshCredentials) -> None:
        super().__init__(credentials, None)
        self._server: messages.ServerHello | None = None
        self._point = b""
        self._server_is_done = False
        self._steps: dict[int, Callable[[bytes], None]] = {
            HandshakeType.SERVER_HELLO: self._server_hello,
            HandshakeType.CERTIFICATE: self._judge,
            HandshakeType.SERVER_KEY_EXCHANGE: self._server_key_exchange,
            HandshakeType.CERTIFICATE_REQUEST: lambda _body: None,
            HandshakeType.SERVER_HELLO_DONE: self._server_done,
        }
        self._awaited = list(self._steps)

    def start(self) -> bytes:
        self.state = TlsState.SERVER_FLIGHT
        hello = self._handshake(messages.ClientHello(self._random).encode())
        return messages.record(ContentType.HANDSHAKE, hello)

    def _receive_handshake(self, kind: int, body: bytes) -> None:
        if self.state is TlsState.SERVER_FLIGHT:
            # The server's messages come in the order of the table, all of them.
            if not self._awaited or kind != self._awaited.pop(0):
                self._unexpected(f"handshake message {kind}")
            self._steps[kind](body)
        elif self.state is TlsState.FINISHED and kind == HandshakeType.FINISHED:
            self._check_finished(body)
        else:
            self._unexpected(f"handshake message {kind}")

    def _server_hello(self, body: bytes) -> None:
        self._server = messages.ServerHello.decode(body)

    def _server_key_exchange(self, body: bytes) -> None:
        point, signature = messages.decode_server_key_exchange(body)
        if self._server is None:
            self._unexpected("ServerKeyExchange")
        signed = self._random + self._server.random + messages.encode_point_parameters(point)
        if not tls_keys.is_signed(self._peer_key(), signature, signed):
            raise RefusedError(RefusalReason.BAD_SIGNATURE, "key exchange")
        self._point = point

    def _server_done(self, body: bytes) -> None:
        if body:
            self._unexpected("a ServerHelloDone with content")
        self._server_is_done = True

    def _answer(self) -> bytes:
        if not self._server_is_done or self.state is not TlsState.SERVER_FLIGHT or self._server is None:
            return b""
        certificate = self._certificate()
        exchange = self._handshake(
            messages.encode_client_key_exchange(tls_keys.encode_point(self._ephemeral.public_key()))
        )
        keys = self._derive(
            self._point, self._random, self._server.random, extended=self._server.extended_master_secret
        )
        self._writing, self._reading = keys.protections()
        signature = tls_keys.sign(self._credentials.signer, self._transcript)
        verify = self._handshake(messages.encode_certificate_verify(signature))
        self.state = TlsState.FINISHED
        return messages.record(ContentType.HANDSHAKE, certificate + exchange + verify) + self._finished()


class TlsServer(_TlsEnd):
    """The authenticator's end. `expected` is the EUI-64 that the client's certificate must name."""

    own_label, peer_label = b"server finished", b"client finished"

    def __init__(self, credentials: MeshCredentials, expected: bytes | None = None) -> None:
        super().__init__(credentials, expected)
        self._client: messages.ClientHello | None = None
        self._steps: dict[int, Callable[[bytes], None]] = {
            HandshakeType.CERTIFICATE: self._judge,
            HandshakeType.CLIENT_KEY_EXCHANGE: self._client_key_exchange,
            HandshakeType.CERTIFICATE_VERIFY: self._certificate_verify,
            HandshakeType.FINISHED: self._check_finished,
        }
        self._awaited = list(self._steps)
        self._point: bytes | None = None

    def _receive_handshake(self, kind: int, body: bytes) -> None:
        if self.state is TlsState.START and kind == HandshakeType.CLIENT_HELLO:
            self._client = messages.ClientHello.decode(body)
            if messages.ECDHE_ECDSA_AES_128_CCM_8 not in self._client.cipher_suites:
                raise RefusedError(RefusalReason.PROTOCOL, "no cipher suite in common")
            return
        if self.state is not TlsState.CLIENT_FLIGHT or not self._awaited or kind != self._awaited.pop(0):
            self._unexpected(f"handshake message {kind}")
        if self._point is not None and self._keys is None:
            self._make_keys()
        self._steps[kind](body)

    def _client_key_exchange(self, body: bytes) -> None:
        self._point = messages.decode_client_key_exchange(body)

    def _make_keys(self) -> None:
        """The message behind ClientKeyExchange is here: the transcript ends with ClientKeyExchange now."""
        if self._client is None or self._point is None:
            self._unexpected("ClientKeyExchange")
        keys = self._derive(
            self._point, self._client.random, self._random, extended=self._client.extended_master_secret
        )
        self._reading, self._writing = keys.protections()

    def _certificate_verify(self, body: bytes) -> None:
        signature = messages.decode_certificate_verify(body)
        if not tls_keys.is_signed(self._peer_key(), signature, self._transcript):
            raise RefusedError(RefusalReason.BAD_SIGNATURE)

    def _answer(self) -> bytes:
        if self.state is TlsState.START and self._client is not None:
            self.state = TlsState.CLIENT_FLIGHT
            return messages.record(ContentType.HANDSHAKE, self._first_flight(self._client))
        return self._finished() if self.state is TlsState.ESTABLISHED else b""

    def _first_flight(self, client: messages.ClientHello) -> bytes:
        hello = messages.ServerHello(
            self._random,
            extended_master_secret=client.extended_master_secret,
            secure_renegotiation=client.secure_renegotiation,
        )
        flight = self._handshake(hello.encode()) + self._certificate()
        point = tls_keys.encode_point(self._ephemeral.public_key())
        signed = client.random + self._random + messages.encode_point_parameters(point)
        signature = tls_keys.sign(self._credentials.signer, signed)
        flight += self._handshake(messages.encode_server_key_exchange(point, signature))
        flight += self._handshake(messages.encode_certificate_request())
        return flight + self._handshake(messages.handshake(HandshakeType.SERVER_HELLO_DONE, b""))


def _alert_text(content: bytes) -> str:
    code = content[1] if len(content) == 2 else -1
    return Alert(code).name.lower().replace("_", " ") if code in list(Alert) else f"alert {code}"
