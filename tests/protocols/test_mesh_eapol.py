"""Codecs of EAPOL, EAP, EAP-TLS fragments, EAPOL-Key frames and the relay: round trips, truncation, junk, vectors."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication.eap import Assembly, Eap, EapCode, EapTls, fragments
from protocols.mesh.authentication.eapol import Eapol, EapolType, Kmp, RelayMessage
from protocols.mesh.authentication.eapol_key import (
    EapolKey,
    KeyData,
    KeyInformation,
    unwrap_key_data,
    wrap_key_data,
)
from protocols.mesh.authentication.pairwise import prf

KEK, KCK = bytes(range(16)), bytes(range(16, 32))
HEAD = bytes.fromhex("0303005f")

eapols = st.builds(Eapol, st.sampled_from(EapolType), st.binary(max_size=300))
eaps = st.one_of(
    st.builds(
        Eap, st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]), st.integers(0, 255), st.integers(1, 255),
        st.binary(max_size=100),
    ),
    st.builds(Eap, st.sampled_from([EapCode.SUCCESS, EapCode.FAILURE]), st.integers(0, 255)),
)  # fmt: skip
relays = st.builds(RelayMessage, st.binary(min_size=8, max_size=8), st.sampled_from(Kmp), st.binary(max_size=100))
informations = st.integers(0, 0x3FF).map(lambda bits: KeyInformation(bits << 3 & 0x1FC8))
keys = st.builds(
    EapolKey, informations, st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32), st.binary(max_size=64),
    st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF),
)  # fmt: skip
octets16 = st.binary(min_size=16, max_size=16)
key_data = st.builds(
    KeyData,
    st.none() | octets16,
    st.none() | octets16,
    st.none() | st.frozensets(st.integers(1, 4)),
    st.none() | st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(1, 4), octets16), max_size=4).map(tuple),
)

DECODERS: list[Callable[[bytes], object]] = [
    Eapol.decode, Eap.decode, EapTls.decode, EapolKey.decode, KeyData.decode, RelayMessage.decode,
]  # fmt: skip


@given(st.one_of(eapols, eaps, relays, keys, key_data))
def test_round_trip(message: Eapol | Eap | RelayMessage | EapolKey | KeyData) -> None:
    assert type(message).decode(message.encode()) == message


@given(st.one_of(eapols, eaps, keys), st.data())
def test_every_truncation_is_refused(message: Eapol | Eap | EapolKey, data: st.DataObject) -> None:
    encoded = message.encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(RemoteProtocolError):
        type(message).decode(encoded[:cut])


@given(st.binary(max_size=150))
def test_junk_raises_remote_errors_only(junk: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(junk)
        except RemoteProtocolError:
            continue


@given(st.binary(max_size=3000))
def test_fragments_are_put_together_again(message: bytes) -> None:
    assembly = Assembly()
    parts = [EapTls.decode(part.encode()) for part in fragments(message)]
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [assembly.add(part) for part in parts] == [None] * (len(parts) - 1) + [message]


def test_fragments_without_end_are_refused() -> None:
    assembly = Assembly()
    for _ in range(27):
        assert assembly.add(EapTls(bytes(600), more=True)) is None
    with pytest.raises(RemoteProtocolError, match="longer"):
        assembly.add(EapTls(bytes(600), more=True))


def test_a_length_that_disagrees_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        Assembly().add(EapTls(b"four", message_bytes=5))


@given(key_data)
def test_wrapped_key_data_comes_back_under_its_key_alone(data: KeyData) -> None:
    wrapped = wrap_key_data(KEK, data)
    assert unwrap_key_data(KEK, wrapped) == data
    with pytest.raises(RemoteProtocolError):
        unwrap_key_data(KCK, wrapped)


@given(keys, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_of_a_sealed_key_frame_is_noticed(key: EapolKey, place: int, mask: int) -> None:
    sealed = key.sealed(KCK, HEAD)
    assert sealed.is_authentic(KCK, HEAD)
    assert not sealed.is_authentic(KEK, HEAD)
    encoded = bytearray(sealed.encode())
    # The lengths and what is reserved are the codec's; the rest is the integrity code's.
    at = 13 + place % 32
    encoded[at] ^= mask
    assert not EapolKey.decode(bytes(encoded)).is_authentic(KCK, HEAD)


def test_keys_are_not_in_representations() -> None:
    data = KeyData(gtks=((1, KEK),))
    assert KEK.hex() not in repr(data)
    assert repr(KEK)[2:-1] not in repr(data)


def test_the_pseudo_random_function_of_80211() -> None:
    """IEEE 802.11-2016, J.3.2, test case 1: 192 bits."""
    out = prf(b"\x0b" * 20, b"prefix", b"Hi There", 24)
    assert out.hex() == "bcd4c650b30b9684951829e0d75f9d54b862175ed9f00606"
