"""Key files: every mistake is named by line and field, and no key is ever shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meters.keys import MeterKeys
from protocols.errors import BadInputError
from twin.clock.seeds import SeededKeys

TITLE = b"INH\x00\x00\x00\x00\x01"
PLAIN: dict[str, Any] = {
    "system_title": TITLE.hex(),
    "client_system_title": "4F414D4443553031",
    "suite": 0,
    "encryption_key": "000102030405060708090A0B0C0D0E0F",
    "authentication_key": "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF",
    "broadcast_key": "0F0E0D0C0B0A09080706050403020100",
    "master_key": "00112233445566778899AABBCCDDEEFF",
    "reader_secret": "letmeread",
}


def fresh(seed: bytes = b"seed") -> MeterKeys:
    return MeterKeys.generate(SeededKeys(seed), system_title=TITLE)


def test_fresh_keys_survive_their_file(tmp_path: Path) -> None:
    keys = fresh().with_suite(1)
    path = tmp_path / "keys.json"
    keys.save(path)
    assert MeterKeys.load(path) == keys
    assert path.stat().st_mode & 0o077 == 0


def test_fresh_keys_follow_their_source_alone() -> None:
    assert fresh() == fresh()
    assert fresh(b"other") != fresh()
    one = fresh()
    assert len({one.encryption_key, one.authentication_key, one.broadcast_key, one.master_key}) == 4


def test_no_key_is_in_a_repr() -> None:
    keys = fresh()
    shown = repr(keys)
    for name in ("encryption_key", "authentication_key", "broadcast_key", "master_key", "reader_secret"):
        assert repr(getattr(keys, name)) not in shown
        assert getattr(keys, name).hex() not in shown
    assert "PRIVATE" not in shown


def test_public_points_are_those_of_the_private_keys() -> None:
    keys = fresh()
    signing, agreement = keys.public_key_points()
    private = serialization.load_pem_private_key(keys.signing_key_pem.encode(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    encoded = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    assert b"\x04" + signing == encoded
    assert len(agreement) == 64
    assert agreement != signing


def test_what_a_meter_can_do_without_may_be_left_out() -> None:
    few = {name: PLAIN[name] for name in ("system_title", "suite", "encryption_key", "authentication_key")}
    keys = MeterKeys.from_json(json.dumps(few))
    assert (keys.client_system_title, keys.broadcast_key, keys.reader_secret) == (b"", b"", b"")
    assert keys.public_key_points() == (b"", b"")


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        ({"encryption_key": "0011"}, 5, "encryption_key: must be 32 hexadecimal digits"),
        ({"encryption_key": "zz" * 16}, 5, "encryption_key: must be 32 hexadecimal digits"),
        ({"encryption_key": 17}, 5, "encryption_key: must be 32 hexadecimal digits"),
        ({"suite": 7}, 4, "suite: must be 0 or 1"),
        ({"suite": True}, 4, "suite: must be 0 or 1"),
        ({"colour": "blue"}, 10, "colour: unknown field"),
        ({"reader_secret": "schön"}, 9, "reader_secret: must be ASCII"),
        ({"suite": 1}, 1, "signing_key_pem: is missing"),
        ({"signing_key_pem": "hello"}, 10, "signing_key_pem: not an unencrypted private key"),
    ],
)
def test_mistake_is_named_by_file_line_and_field(change: dict[str, Any], line: int, words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        MeterKeys.from_json(json.dumps(PLAIN | change, indent=1), file="keys.json")
    assert str(caught.value).startswith(f"keys.json:{line}: {words}")
    assert PLAIN["master_key"] not in str(caught.value)


def test_missing_key_wrong_json_and_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="authentication_key: is missing"):
        MeterKeys.from_json(json.dumps({**PLAIN, "authentication_key": None}))
    with pytest.raises(BadInputError, match=r"keys\.json:2: not JSON"):
        MeterKeys.from_json('{"suite": 0,\n oops}', file="keys.json")
    with pytest.raises(BadInputError, match="JSON object"):
        MeterKeys.from_json("[]")
    with pytest.raises(BadInputError, match="cannot read the key file"):
        MeterKeys.load(tmp_path / "none.json")


def test_key_on_another_curve_or_of_another_kind_is_refused() -> None:
    def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    for wrong in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(BadInputError, match="P-256"):
            MeterKeys.from_json(json.dumps(PLAIN | {"signing_key_pem": pem(wrong)}))
