"""IEEE 802.15.4 frames: both directions, every truncation, junk, published vectors, other layouts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.channel_function import broadcast_channel, hashword3, unicast_channel
from protocols.mesh.checksum import append_fcs, fcs16, fcs32, has_valid_fcs
from protocols.mesh.elements import (
    Termination,
    encode_header_ie,
    encode_payload_ie,
    iterate_header_ies,
    iterate_payload_ies,
)
from protocols.mesh.ieee802154 import (
    AuxiliarySecurity,
    MacFrameType,
    MacHeader,
    encode_body,
    mic_size,
    split_body,
    termination_for,
)
from protocols.mesh.phy import CHANNEL_PLANS, FSK_MODES

addresses = st.one_of(st.none(), st.binary(min_size=2, max_size=2), st.binary(min_size=8, max_size=8))
counters = st.integers(0, 0xFFFF_FFFF)
KEY_SOURCE_BYTES = (0, 0, 4, 8)


@st.composite
def securities(draw: st.DrawFn) -> AuxiliarySecurity:
    mode = draw(st.integers(0, 3))
    size = KEY_SOURCE_BYTES[mode]
    return AuxiliarySecurity(
        draw(st.integers(1, 7)),
        draw(counters),
        mode,
        draw(st.integers(0, 255)) if mode else 0,
        draw(st.binary(min_size=size, max_size=size)),
    )


def pan_ids(version: int, destination: bytes | None, source: bytes | None, compressed: bool) -> tuple[bool, bool]:
    """Table 7-2 of IEEE 802.15.4-2015 row by row, written apart from the code under test."""
    to, by = (None if address is None else len(address) for address in (destination, source))
    if version < 2:
        return to is not None, by is not None and not (compressed and to is not None)
    table = {
        (None, None, False): (False, False),
        (None, None, True): (True, False),
        (8, None, False): (True, False),
        (2, None, False): (True, False),
        (8, None, True): (False, False),
        (2, None, True): (False, False),
        (None, 8, False): (False, True),
        (None, 2, False): (False, True),
        (None, 8, True): (False, False),
        (None, 2, True): (False, False),
        (8, 8, False): (True, False),
        (8, 8, True): (False, False),
        (2, 2, False): (True, True),
        (2, 8, False): (True, True),
        (8, 2, False): (True, True),
        (2, 2, True): (True, False),
        (2, 8, True): (True, False),
        (8, 2, True): (True, False),
    }
    return table[to, by, compressed]


@st.composite
def frames(draw: st.DrawFn) -> tuple[MacHeader, bytes]:
    version = draw(st.integers(1, 2))
    destination, source, compressed = draw(addresses), draw(addresses), draw(st.booleans())
    has_destination_pan, has_source_pan = pan_ids(version, destination, source, compressed)
    pans = st.integers(0, 0xFFFF)
    security = draw(st.one_of(st.none(), securities()))
    ies, payload_ies, payload = b"", b"", draw(st.binary(max_size=40))
    termination = Termination.NONE
    if version == 2 and draw(st.booleans()):
        elements = st.tuples(st.integers(0, 0x7D), st.binary(max_size=20))
        ies = b"".join(encode_header_ie(*element) for element in draw(st.lists(elements, min_size=1, max_size=3)))
        groups = st.tuples(st.integers(0, 0xE), st.binary(max_size=30))
        payload_ies = b"".join(encode_payload_ie(*group) for group in draw(st.lists(groups, max_size=3)))
        termination = termination_for(payload_ies, payload)
    header = MacHeader(
        draw(st.sampled_from(MacFrameType)),
        draw(st.one_of(st.none(), st.integers(0, 255))) if version == 2 else draw(st.integers(0, 255)),
        destination,
        source,
        draw(pans) if has_destination_pan else None,
        draw(pans) if has_source_pan else None,
        compressed,
        draw(st.booleans()),
        draw(st.booleans()),
        security,
        ies,
        termination,
        version,
    )
    return header, encode_body(payload_ies, payload)


@given(frames())
@settings(max_examples=400)
def test_header_round_trips(frame: tuple[MacHeader, bytes]) -> None:
    header, body = frame
    mic = b"" if header.security is None else bytes(mic_size(header.security.level))
    encoded = header.encode()
    decoded, body_at = MacHeader.decode(encoded + body + mic)
    assert decoded == header
    assert body_at == len(encoded)
    payload_ies, payload = split_body(decoded, body)
    assert encode_body(payload_ies, payload) == body


@given(frames(), st.data())
def test_truncated_header_is_the_peers_fault_or_another_frame(
    frame: tuple[MacHeader, bytes], data: st.DataObject
) -> None:
    encoded = frame[0].encode()
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        decoded, body_at = MacHeader.decode(cut)
    except RemoteProtocolError:
        return
    assert body_at <= len(cut)
    assert decoded.header_ies != frame[0].header_ies or decoded.termination != frame[0].termination


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_junk_is_read_or_refused(junk: bytes) -> None:
    try:
        header, body_at = MacHeader.decode(junk)
        split_body(header, junk[body_at:])
        list(iterate_header_ies(header.header_ies))
    except RemoteProtocolError:
        return
    assert MacHeader.decode(header.encode() + junk[body_at:])[0] == header


@given(st.lists(st.tuples(st.integers(0, 0xE), st.binary(max_size=50)), max_size=5))
def test_payload_elements_round_trip(elements: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(encode_payload_ie(*element) for element in elements)
    assert list(iterate_payload_ies(encoded)) == elements


@given(st.binary(max_size=40))
def test_junk_elements_are_read_or_refused(junk: bytes) -> None:
    for iterate in (iterate_header_ies, iterate_payload_ies):
        try:
            list(iterate(junk))
        except RemoteProtocolError:
            continue


@pytest.mark.parametrize(
    "header",
    [
        MacHeader(MacFrameType.DATA, 1, b"\1\2\3", None, 1),
        MacHeader(MacFrameType.DATA, 1, bytes(8), bytes(8), None, None),
        MacHeader(MacFrameType.DATA, 1, bytes(8), bytes(8), 1, None, pan_id_compression=True),
        MacHeader(MacFrameType.DATA, 256, bytes(8), bytes(8), 1),
        MacHeader(MacFrameType.DATA, 1, bytes(8), bytes(8), 0x1_0000),
        MacHeader(MacFrameType.DATA, None, bytes(8), bytes(8), 1, 1, version=1),
        MacHeader(MacFrameType.DATA, 1, security=AuxiliarySecurity(0, 0)),
        MacHeader(MacFrameType.DATA, 1, security=AuxiliarySecurity(6, -1)),
        MacHeader(MacFrameType.DATA, 1, security=AuxiliarySecurity(6, 0, 1, 256)),
        MacHeader(MacFrameType.DATA, 1, security=AuxiliarySecurity(6, 0, 2, 1)),
    ],
)
def test_header_that_contradicts_itself_is_our_fault(header: MacHeader) -> None:
    with pytest.raises(LocalProtocolError):
        header.encode()


def test_elements_too_long_are_our_fault() -> None:
    with pytest.raises(LocalProtocolError):
        encode_header_ie(1, bytes(128))
    with pytest.raises(LocalProtocolError):
        encode_payload_ie(1, bytes(2048))


@given(st.binary(min_size=1, max_size=200), st.sampled_from([2, 4]), st.integers(0))
def test_fcs_finds_every_flipped_bit(content: bytes, size_bytes: int, place: int) -> None:
    psdu = append_fcs(content, size_bytes)
    assert has_valid_fcs(psdu, size_bytes)
    bit = place % (8 * len(psdu))
    damaged = bytearray(psdu)
    damaged[bit // 8] ^= 1 << bit % 8
    assert not has_valid_fcs(bytes(damaged), size_bytes)


def test_fcs_check_values() -> None:
    # CRC catalogue: CRC-16/KERMIT and CRC-32/ISO-HDLC of "123456789". IEEE 802.15.4, 7.2.11: an acknowledgement whose
    # bits are 0100 0000 0000 0000 0101 0110, first bit first, has the FCS 0010 0111 1001 1110.
    assert fcs16(b"123456789") == bytes.fromhex("8921")
    assert fcs32(b"123456789") == bytes.fromhex("2639f4cb")
    assert fcs16(bytes.fromhex("02006a")) == bytes.fromhex("e479")


@pytest.mark.requirement("NET-3")
def test_dh1cf_check_vector() -> None:
    eui64 = bytes.fromhex("0212740100010101")
    assert [unicast_channel(slot, eui64, 129) for slot in range(8)] == [78, 77, 66, 17, 6, 6, 3, 99]
    assert all(0 <= broadcast_channel(slot, 0xFFFF, 29) < 29 for slot in (0, 1, 0xFFFF))


def test_hash_of_three_words_is_jenkins_lookup3() -> None:
    def reference(words: list[int]) -> int:
        """hashword() of lookup3.c with initval 0, written from its description with rot()."""

        def rot(x: int, k: int) -> int:
            return (x << k | x >> (32 - k)) & 0xFFFF_FFFF

        a = b = c = (0xDEADBEEF + (len(words) << 2)) & 0xFFFF_FFFF
        a, b, c = (x + w & 0xFFFF_FFFF for x, w in zip((a, b, c), words, strict=True))
        registers = {"a": a, "b": b, "c": c}
        for target, other, k in zip("cabcabc", "bcabcab", (14, 11, 25, 16, 4, 14, 24), strict=True):
            registers[target] = (registers[target] ^ registers[other]) - rot(registers[other], k) & 0xFFFF_FFFF
        return registers["c"]

    for words in ([0, 0, 0], [1, 2, 3], [0xFFFF_FFFF, 0x8000_0000, 7]):
        assert hashword3(*words) == reference(words)


@pytest.mark.requirement("OSI-1")
def test_airtime_of_the_50_kbps_mode() -> None:
    assert FSK_MODES[1].airtime_s(127) == pytest.approx(0.022, abs=0.0005)
    assert FSK_MODES[1].airtime_s(2047) == pytest.approx(0.329, abs=0.0005)
    assert [FSK_MODES[mode].rate_bps // 1000 for mode in range(1, 9)] == [50, 50, 100, 100, 150, 200, 200, 300]


@pytest.mark.requirement("MKT-1")
def test_channel_plans_stay_in_their_bands() -> None:
    bands = {"NA-1": (902_000_000, 928_000_000), "EU-1": (863_000_000, 870_000_000), "IN-1": (865_000_000, 868_000_000)}
    for plan in CHANNEL_PLANS.values():
        low, high = bands[plan.name]
        assert low < plan.frequency_hz(0) < plan.frequency_hz(plan.channel_count - 1) < high
        with pytest.raises(ValueError, match=plan.name):
            plan.frequency_hz(plan.channel_count)
