"""Link security: the published vectors of IEEE 802.15.4, wrong keys, counters, replays, and keys kept out of sight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.link_security import AuthenticationError, KeyTable, LinkCipher, ReplayGuard
from protocols.rcp.messages import SetKey

# IEEE 802.15.4-2006 and later, annex C: key, and the device that sends.
KEY = bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
SOURCE = bytes.fromhex("acde480000000001")


@pytest.mark.requirement("NET-3")
def test_beacon_of_annex_c_is_authenticated() -> None:
    header = bytes.fromhex("08d0842143010000000048deac0205000000")
    body = bytes.fromhex("55cf000051525354")
    sealed = LinkCipher(KEY, 2).seal(header, body, SOURCE, 5)
    assert sealed == body + bytes.fromhex("223bc1ec841ab553")
    assert LinkCipher(KEY, 2).open(header, sealed, SOURCE, 5) == body


def test_command_of_annex_c_is_encrypted_and_authenticated() -> None:
    header = bytes.fromhex("2bdc842143020000000048deacffff010000000048deac060500000001")
    sealed = LinkCipher(KEY, 6).seal(header, b"\xce", SOURCE, 5)
    assert sealed == bytes.fromhex("d84fde529061f9c6f1")
    decoded, _ = MacHeader.decode(header + sealed)
    assert decoded.source == SOURCE
    assert decoded.security is not None
    assert (decoded.security.level, decoded.security.frame_counter) == (6, 5)


@given(
    st.sampled_from([1, 2, 3, 5, 6, 7]),
    st.binary(max_size=40),
    st.binary(max_size=60),
    st.integers(0, 0xFFFF_FFFE),
    st.integers(0),
)
def test_every_flipped_bit_is_found(level: int, header: bytes, body: bytes, counter: int, place: int) -> None:
    cipher = LinkCipher(KEY, level)
    sealed = cipher.seal(header, body, SOURCE, counter)
    assert len(sealed) == len(body) + cipher.mic_bytes
    assert cipher.open(header, sealed, SOURCE, counter) == body
    whole = bytearray(header + sealed)
    bit = place % (8 * len(whole))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AuthenticationError):
        cipher.open(bytes(whole[: len(header)]), bytes(whole[len(header) :]), SOURCE, counter)
    for cut in range(len(sealed)):
        with pytest.raises(AuthenticationError):
            cipher.open(header, sealed[:cut], SOURCE, counter)
    with pytest.raises(AuthenticationError):
        cipher.open(header, sealed, SOURCE, counter + 1)


def test_wrong_key_is_refused_without_naming_it() -> None:
    sealed = LinkCipher(KEY).seal(b"head", b"body", SOURCE, 1)
    with pytest.raises(AuthenticationError) as caught:
        LinkCipher(bytes(16)).open(b"head", sealed, SOURCE, 1)
    assert KEY.hex() not in str(caught.value)


@pytest.mark.parametrize(("key", "level"), [(bytes(15), 6), (bytes(16), 0), (bytes(16), 4), (bytes(16), 8)])
def test_key_or_level_that_cannot_be_is_our_fault(key: bytes, level: int) -> None:
    with pytest.raises(LocalProtocolError):
        LinkCipher(key, level)


def test_keys_do_not_show_in_texts() -> None:
    keys = KeyTable()
    keys.set(1, KEY, 0)
    for shown in (repr(keys), repr(keys.cipher(1)), repr(SetKey(1, KEY))):
        assert "c0c1c2" not in shown
        assert repr(KEY)[2:20] not in shown


def test_counters_rise_end_and_are_those_of_the_key() -> None:
    keys = KeyTable()
    assert keys.set(3, KEY, 0xFFFF_FFFD)
    assert not keys.set(3, KEY, 0xFFFF_FFFD), "the same key again is not a new one"
    assert [keys.take_counter(3), keys.take_counter(3)] == [0xFFFF_FFFD, 0xFFFF_FFFE]
    assert not keys.is_usable(3)
    with pytest.raises(LocalProtocolError):
        keys.take_counter(3)
    with pytest.raises(LocalProtocolError):
        keys.take_counter(4)
    with pytest.raises(LocalProtocolError):
        keys.set(8, KEY, 0)


def test_replay_guard_keeps_each_source_and_key_apart() -> None:
    guard = ReplayGuard(capacity=2)
    guard.note(SOURCE, 1, 10)
    assert not guard.is_fresh(SOURCE, 1, 10)
    assert guard.is_fresh(SOURCE, 1, 11)
    assert guard.is_fresh(SOURCE, 2, 0)
    guard.raise_floor(SOURCE, 1, 5)
    assert not guard.is_fresh(SOURCE, 1, 10), "a floor is never lowered"
    assert not guard.is_fresh(SOURCE, 3, 0xFFFF_FFFF)
    guard.note(SOURCE, 2, 0)
    guard.note(SOURCE, 1, 20)
    guard.note(SOURCE, 3, 0)
    assert guard.is_fresh(SOURCE, 2, 0), "forgotten: heard longest ago"
    assert not guard.is_fresh(SOURCE, 1, 20)
    guard.forget_key(1)
    assert guard.is_fresh(SOURCE, 1, 0)
