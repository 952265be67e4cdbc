"""Records and handshake messages of TLS 1.2 (RFC 5246, RFC 8422), as far as EAP-TLS in a FAN needs them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from protocols.cursor import Reader

VERSION = 0x0303
ECDHE_ECDSA_AES_128_CCM_8 = 0xC0AE
"""The cipher suite of Wi-SUN FAN (RFC 7251)."""
RANDOM_BYTES = 32
POINT_BYTES = 65
_SECP256R1 = 23
_NAMED_CURVE = 3
_ECDSA_SECP256R1_SHA256 = b"\x04\x03"
_ECDSA_SIGN = 64
_RENEGOTIATION_SCSV = 0x00FF
_SPEC = "RFC 5246, 7.4"
_RECORD_SPEC = "RFC 5246, 6.2"


class ContentType(enum.IntEnum):
    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class HandshakeType(enum.IntEnum):
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20


class Alert(enum.IntEnum):
    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    UNKNOWN_CA = 48
    DECRYPT_ERROR = 51


class Extension(enum.IntEnum):
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    EXTENDED_MASTER_SECRET = 23
    RENEGOTIATION_INFO = 0xFF01


def vector(content: bytes, length_bytes: int) -> bytes:
    """A variable-length vector: its length, then itself."""
    return len(content).to_bytes(length_bytes, "big") + content


def handshake(kind: HandshakeType, body: bytes) -> bytes:
    """A handshake message with its header."""
    return bytes((kind,)) + vector(body, 3)


def record(kind: ContentType, content: bytes) -> bytes:
    """A record, 5 bytes of header before the content."""
    return bytes((kind,)) + VERSION.to_bytes(2, "big") + vector(content, 2)


def split_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Content type and content of every record. Raises RemoteProtocolError."""
    reader = Reader(data, spec=_RECORD_SPEC)
    while reader.remaining:
        kind, version = reader.u8(), reader.u16()
        if version >> 8 != VERSION >> 8:
            raise reader.error(f"TLS version {version:#06x}")
        yield kind, reader.take(reader.u16())


def split_handshakes(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, body and whole bytes of every handshake message. Raises RemoteProtocolError."""
    reader = Reader(data, spec=_SPEC)
    while reader.remaining:
        start = reader.offset
        kind = reader.u8()
        body = reader.take(reader.u24())
        yield kind, body, data[start : reader.offset]


def _extensions(wanted: dict[int, bytes]) -> bytes:
    listed = b"".join(kind.to_bytes(2, "big") + vector(content, 2) for kind, content in wanted.items())
    return vector(listed, 2)


def _read_extensions(reader: Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    if reader.remaining:
        listed = reader.sub(reader.u16())
        while listed.remaining:
            kind = listed.u16()
            found[kind] = listed.take(listed.u16())
    reader.expect_end()
    return found


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What the client offers. `extended_master_secret` is RFC 7627, `secure_renegotiation` RFC 5746."""

    random: bytes = field(repr=False)
    cipher_suites: tuple[int, ...] = (ECDHE_ECDSA_AES_128_CCM_8,)
    extended_master_secret: bool = True
    secure_renegotiation: bool = True

    def encode(self) -> bytes:
        suites = b"".join(suite.to_bytes(2, "big") for suite in self.cipher_suites)
        wanted = {
            int(Extension.SUPPORTED_GROUPS): vector(_SECP256R1.to_bytes(2, "big"), 2),
            int(Extension.EC_POINT_FORMATS): vector(b"\x00", 1),
            int(Extension.SIGNATURE_ALGORITHMS): vector(_ECDSA_SECP256R1_SHA256, 2),
        }
        if self.extended_master_secret:
            wanted[Extension.EXTENDED_MASTER_SECRET] = b""
        if self.secure_renegotiation:
            wanted[Extension.RENEGOTIATION_INFO] = b"\x00"
        head = VERSION.to_bytes(2, "big") + self.random + vector(b"", 1) + vector(suites, 2) + vector(b"\x00", 1)
        return handshake(HandshakeType.CLIENT_HELLO, head + _extensions(wanted))

    @classmethod
    def decode(cls, body: bytes) -> ClientHello:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(body, spec=_SPEC)
        if reader.u16() < VERSION:
            raise reader.error("the client is too old for TLS 1.2")
        random = reader.take(RANDOM_BYTES)
        reader.take(reader.u8())
        listed = reader.sub(reader.u16())
        suites = []
        while listed.remaining:
            suites.append(listed.u16())
        reader.take(reader.u8())
        found = _read_extensions(reader)
        renegotiation = Extension.RENEGOTIATION_INFO in found or _RENEGOTIATION_SCSV in suites
        return cls(random, tuple(suites), Extension.EXTENDED_MASTER_SECRET in found, renegotiation)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What the server chose."""

    random: bytes = field(repr=False)
    cipher_suite: int = ECDHE_ECDSA_AES_128_CCM_8
    extended_master_secret: bool = True
    secure_renegotiation: bool = True

    def encode(self) -> bytes:
        wanted: dict[int, bytes] = {int(Extension.EC_POINT_FORMATS): vector(b"\x00", 1)}
        if self.extended_master_secret:
            wanted[Extension.EXTENDED_MASTER_SECRET] = b""
        if self.secure_renegotiation:
            wanted[Extension.RENEGOTIATION_INFO] = b"\x00"
        head = (
            VERSION.to_bytes(2, "big") + self.random + vector(b"", 1) + self.cipher_suite.to_bytes(2, "big") + b"\x00"
        )
        return handshake(HandshakeType.SERVER_HELLO, head + _extensions(wanted))

    @classmethod
    def decode(cls, body: bytes) -> ServerHello:
        """Raises RemoteProtocolError if truncated, or if the server chose what is not supported."""
        reader = Reader(body, spec=_SPEC)
        if reader.u16() != VERSION:
            raise reader.error("the server does not speak TLS 1.2")
        random = reader.take(RANDOM_BYTES)
        reader.take(reader.u8())
        suite = reader.u16()
        if suite != ECDHE_ECDSA_AES_128_CCM_8 or reader.u8() != 0:
            raise reader.error(f"the server chose cipher suite {suite:#06x}")
        found = _read_extensions(reader)
        return cls(random, suite, Extension.EXTENDED_MASTER_SECRET in found, Extension.RENEGOTIATION_INFO in found)


def encode_certificates(chain: tuple[bytes, ...]) -> bytes:
    """Certificate message, the own certificate first."""
    return handshake(HandshakeType.CERTIFICATE, vector(b"".join(vector(der, 3) for der in chain), 3))


def decode_certificates(body: bytes) -> tuple[bytes, ...]:
    """Raises RemoteProtocolError if truncated."""
    reader = Reader(body, spec=_SPEC)
    listed = reader.sub(reader.u24())
    reader.expect_end()
    chain = []
    while listed.remaining:
        chain.append(listed.take(listed.u24()))
    return tuple(chain)


def encode_point_parameters(point: bytes) -> bytes:
    """The part of ServerKeyExchange that is signed (RFC 8422, 5.4)."""
    return bytes((_NAMED_CURVE,)) + _SECP256R1.to_bytes(2, "big") + vector(point, 1)


def encode_server_key_exchange(point: bytes, signature: bytes) -> bytes:
    body = encode_point_parameters(point) + _ECDSA_SECP256R1_SHA256 + vector(signature, 2)
    return handshake(HandshakeType.SERVER_KEY_EXCHANGE, body)


def decode_server_key_exchange(body: bytes) -> tuple[bytes, bytes]:
    """Point and signature (DER). Raises RemoteProtocolError if truncated or of another curve or algorithm."""
    reader = Reader(body, spec="RFC 8422, 5.4")
    if (reader.u8(), reader.u16()) != (_NAMED_CURVE, _SECP256R1):
        raise reader.error("a key exchange on another curve")
    point = reader.take(reader.u8())
    return point, _signature(reader)


def _signature(reader: Reader) -> bytes:
    if reader.take(2) != _ECDSA_SECP256R1_SHA256:
        raise reader.error("a signature by another algorithm")
    signature = reader.take(reader.u16())
    reader.expect_end()
    return signature


def encode_certificate_request() -> bytes:
    body = vector(bytes((_ECDSA_SIGN,)), 1) + vector(_ECDSA_SECP256R1_SHA256, 2) + vector(b"", 2)
    return handshake(HandshakeType.CERTIFICATE_REQUEST, body)


def encode_client_key_exchange(point: bytes) -> bytes:
    return handshake(HandshakeType.CLIENT_KEY_EXCHANGE, vector(point, 1))


def decode_client_key_exchange(body: bytes) -> bytes:
    """Raises RemoteProtocolError if truncated."""
    reader = Reader(body, spec="RFC 8422, 5.7")
    point = reader.take(reader.u8())
    reader.expect_end()
    return point


def encode_certificate_verify(signature: bytes) -> bytes:
    return handshake(HandshakeType.CERTIFICATE_VERIFY, _ECDSA_SECP256R1_SHA256 + vector(signature, 2))


def decode_certificate_verify(body: bytes) -> bytes:
    """Raises RemoteProtocolError if truncated or of another algorithm."""
    return _signature(Reader(body, spec=_SPEC))
