"""A meter's identity keys: the key file, and fresh keys for a meter that has none."""

from __future__ import annotations

import json
import os
import string
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.errors import BadInputError, LocalProtocolError
from protocols.firmware.file import TrustedKeys
from protocols.ports import KeySource

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIZES = {
    "system_title": 8,
    "client_system_title": 8,
    "encryption_key": 16,
    "authentication_key": 16,
    "broadcast_key": 16,
    "master_key": 16,
}
_OPTIONAL = ("client_system_title", "broadcast_key", "master_key")
_TEXTS = ("reader_secret", "signing_key_pem", "agreement_key_pem", "certificates_pem", "firmware_keys_pem")
_SUITE_1 = ("signing_key_pem", "agreement_key_pem")


@dataclass(frozen=True, slots=True)
class MeterKeys:
    """What a meter is provisioned with: 128-bit symmetric keys, the readers' secret, P-256 private keys as PEM.

    No key appears in `repr`. `suite` is the security suite (0 or 1). Empty are: `client_system_title` where any client
    that has the keys may come, `broadcast_key`, `master_key` and `reader_secret` where the meter does without what
    they are for, and the PEM fields that were not given.
    """

    system_title: bytes
    client_system_title: bytes
    suite: int
    encryption_key: bytes = field(repr=False)
    authentication_key: bytes = field(repr=False)
    broadcast_key: bytes = field(repr=False)
    master_key: bytes = field(repr=False)
    reader_secret: bytes = field(repr=False)
    signing_key_pem: str = field(default="", repr=False)
    agreement_key_pem: str = field(default="", repr=False)
    certificates_pem: str = field(default="", repr=False)
    firmware_keys_pem: str = field(default="", repr=False)
    """Public keys of those who may sign firmware; empty: the meter takes none."""

    @classmethod
    def generate(
        cls,
        key_source: KeySource,
        *,
        system_title: bytes,
        client_system_title: bytes = b"OAMDCU01",
        suite: int = 0,
        firmware_keys_pem: str = "",
    ) -> MeterKeys:
        """Fresh keys from `key_source`, with key pairs for signature and agreement whatever the suite."""

        def fresh() -> bytes:
            return key_source.random_bytes(16)

        return cls(
            system_title=system_title,
            client_system_title=client_system_title,
            suite=suite,
            encryption_key=fresh(),
            authentication_key=fresh(),
            broadcast_key=fresh(),
            master_key=fresh(),
            reader_secret=key_source.random_bytes(8).hex().encode(),
            signing_key_pem=_fresh_private_key(key_source),
            agreement_key_pem=_fresh_private_key(key_source),
            firmware_keys_pem=firmware_keys_pem,
        )

    @classmethod
    def load(cls, path: Path) -> MeterKeys:
        """Keys from the JSON file of `--keys`. Raises BadInputError with file, line and key; never shows a value."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read the key file: {_reason(error)}", file=str(path)) from error
        return cls.from_json(text, file=str(path))

    @classmethod
    def from_json(cls, text: str, *, file: str | None = None) -> MeterKeys:
        """Raises BadInputError with line and key if a field is missing, unknown or of the wrong form."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInputError(f"not JSON: {error.msg}", file=file, line=error.lineno) from None
        if not isinstance(document, dict):
            raise BadInputError("a key file is a JSON object", file=file, line=1)
        return _KeyFile(text, document, file).keys()

    def to_json(self) -> str:
        """The key file's text, with every secret in it."""
        document: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "reader_secret":
                document[item.name] = value.decode("ascii", "surrogateescape")
            elif isinstance(value, bytes):
                document[item.name] = value.hex().upper()
            else:
                document[item.name] = value
        document = {name: value for name, value in document.items() if value != ""}
        return json.dumps(document, indent=2) + "\n"

    def save(self, path: Path) -> None:
        """Write the key file, readable by its owner alone."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self.to_json())

    def with_suite(self, suite: int) -> MeterKeys:
        return replace(self, suite=suite)

    def public_key_points(self) -> tuple[bytes, bytes]:
        """Public keys for signature and for agreement as 64 bytes x‖y each; empty where there is no key."""
        return _public_point(self.signing_key_pem), _public_point(self.agreement_key_pem)


class _KeyFile:
    """One key file while it is checked."""

    def __init__(self, text: str, document: dict[str, object], file: str | None) -> None:
        self._lines = text.splitlines()
        self._document = document
        self._file = file

    def keys(self) -> MeterKeys:
        known = {item.name for item in fields(MeterKeys)}
        for key in self._document:
            if key not in known:
                raise self._error(key, "unknown field; known are " + ", ".join(sorted(known)))
        suite = self._suite()
        octets = {name: self._octets(name, size_bytes) for name, size_bytes in _SIZES.items()}
        texts = {name: self._text(name) for name in _TEXTS}
        if suite == 1:
            for name in _SUITE_1:
                if not texts[name]:
                    raise self._error(name, "is missing; suite 1 needs it")
        for name in _SUITE_1:
            if texts[name]:
                self._check_private_key(name, texts[name])
        try:
            TrustedKeys.from_pem(texts["firmware_keys_pem"])
        except LocalProtocolError as error:
            raise self._error("firmware_keys_pem", str(error)) from None
        return MeterKeys(
            suite=suite,
            **octets,
            reader_secret=texts["reader_secret"].encode("ascii"),
            signing_key_pem=texts["signing_key_pem"],
            agreement_key_pem=texts["agreement_key_pem"],
            certificates_pem=texts["certificates_pem"],
            firmware_keys_pem=texts["firmware_keys_pem"],
        )

    def _suite(self) -> int:
        suite = self._document.get("suite", 0)
        if isinstance(suite, bool) or suite not in (0, 1):
            raise self._error("suite", "must be 0 or 1")
        return int(str(suite))

    def _octets(self, name: str, size_bytes: int) -> bytes:
        value = self._document.get(name)
        if value is None and name in _OPTIONAL:
            return b""
        if value is None:
            raise self._error(name, "is missing; add it")
        if not isinstance(value, str) or len(value) != 2 * size_bytes or not set(value) <= set(string.hexdigits):
            raise self._error(name, f"must be {2 * size_bytes} hexadecimal digits ({size_bytes} bytes)")
        return bytes.fromhex(value)

    def _text(self, name: str) -> str:
        value = self._document.get(name, "")
        if not isinstance(value, str) or not value.isascii():
            raise self._error(name, "must be ASCII text")
        return value

    def _check_private_key(self, name: str, pem: str) -> None:
        try:
            key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
        except (ValueError, TypeError) as error:
            # The cause may quote the text: it stays out.
            raise self._error(name, f"not an unencrypted private key in PEM ({type(error).__name__})") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise self._error(name, "not a key on the curve P-256")

    def _error(self, key: str, message: str) -> BadInputError:
        quoted = f'"{key}"'
        line = next((number for number, line in enumerate(self._lines, 1) if quoted in line), 1)
        return BadInputError(message, file=self._file, line=line, key=key)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "not UTF-8 text"


def _fresh_private_key(key_source: KeySource) -> str:
    # 64 random bits more than the order has make the bias of the reduction negligible (FIPS 186-4 B.4.1).
    scalar = int.from_bytes(key_source.random_bytes(40), "big") % (_P256_ORDER - 1) + 1
    return (
        ec.derive_private_key(scalar, ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode("ascii")
    )


def _public_point(pem: str) -> bytes:
    if not pem:
        return b""
    key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return b""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
