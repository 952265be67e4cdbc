"""Wi-SUN information elements: both directions, every truncation, junk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.elements import encode_payload_ie
from protocols.mesh.ieee802154 import MacHeader, encode_body
from protocols.mesh.link_security import LinkCipher
from protocols.mesh.mac_frames import Sealing, ack_size, build_ack, build_frame, frame_size
from protocols.mesh.mac_schedule import Timing
from protocols.mesh.wisun import (
    MULTIPLEX_6LOWPAN,
    MULTIPLEX_KMP,
    BroadcastSchedule,
    FrameType,
    HeaderElements,
    Multiplex,
    PanInformation,
    PayloadElements,
    UnicastSchedule,
    decode_datagram,
    encode_datagram,
    mpx_capacity,
)

u8, u16, u24, u32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 24, 32))
SOURCE, DESTINATION = bytes.fromhex("0200000000000001"), bytes.fromhex("0200000000000002")


@st.composite
def channels(draw: st.DrawFn) -> dict[str, int]:
    function = draw(st.sampled_from([0, 2]))
    return {
        "dwell_interval_ms": draw(u8),
        "clock_drift_ppm": draw(u8),
        "timing_accuracy_10us": draw(u8),
        "regulatory_domain": draw(u8),
        "operating_class": draw(u8),
        "channel_function": function,
        "fixed_channel": draw(u16) if function == 0 else 0,
    }


header_elements = st.builds(
    lambda kind, ufsi, slot, offset, rsl: HeaderElements(kind, ufsi, slot, 0 if slot is None else offset, rsl),
    st.sampled_from(FrameType),
    u24,
    st.one_of(st.none(), u16),
    u24,
    st.one_of(st.none(), st.integers(-174, 80)),
)
multiplexes = st.one_of(
    st.builds(Multiplex, st.integers(1501, 0xFFFF), st.binary(max_size=60), st.none(), st.integers(0, 31)),
    st.builds(Multiplex, st.just(MULTIPLEX_KMP), st.binary(max_size=60), u8, st.integers(0, 31)),
)
payload_elements = st.builds(
    PayloadElements,
    st.one_of(st.none(), channels().map(lambda fields: UnicastSchedule(**fields))),
    st.one_of(
        st.none(),
        st.builds(lambda interval, name, fields: BroadcastSchedule(interval, name, **fields), u32, u16, channels()),
    ),
    st.one_of(st.none(), st.builds(PanInformation, u16, u16, st.booleans(), st.booleans(), st.integers(0, 7))),
    st.one_of(st.none(), st.text(max_size=8)),
    st.one_of(st.none(), u16),
    st.one_of(st.none(), st.tuples(*[st.binary(min_size=8, max_size=8)] * 4)),
    st.one_of(st.none(), multiplexes),
)


@given(header_elements)
def test_header_elements_round_trip(elements: HeaderElements) -> None:
    assert HeaderElements.decode(elements.encode()) == elements


@given(payload_elements)
@settings(max_examples=300)
def test_payload_elements_round_trip(elements: PayloadElements) -> None:
    assert PayloadElements.decode(elements.encode()) == elements


@given(header_elements, payload_elements)
def test_truncation_is_refused_or_leaves_whole_elements(header: HeaderElements, payload: PayloadElements) -> None:
    for decode, encoded in ((HeaderElements.decode, header.encode()), (PayloadElements.decode, payload.encode())):
        for size in range(len(encoded)):
            try:
                again = decode(encoded[:size]).encode()
            except RemoteProtocolError:
                continue
            assert encoded.startswith(again)


@given(st.binary(max_size=60), st.sampled_from([3, 4]))
@settings(max_examples=500)
def test_junk_is_read_or_refused(junk: bytes, group: int) -> None:
    wrapped = encode_payload_ie(group, junk)
    for decode, data in (
        (HeaderElements.decode, junk),
        (PayloadElements.decode, junk),
        (PayloadElements.decode, wrapped),
        (decode_datagram, wrapped),
        (UnicastSchedule.decode, junk),
        (BroadcastSchedule.decode, junk),
    ):
        try:
            decode(data)
        except RemoteProtocolError:
            continue


@given(st.binary(max_size=300))
def test_fast_path_of_datagrams_is_the_same_element(datagram: bytes) -> None:
    encoded = encode_datagram(datagram)
    assert encoded == PayloadElements(multiplex=Multiplex(MULTIPLEX_6LOWPAN, datagram)).encode()
    assert decode_datagram(encoded) == datagram
    assert decode_datagram(PayloadElements(pan_version=3).encode() + encoded) == datagram
    assert decode_datagram(PayloadElements(pan_version=3).encode()) is None


def test_elements_of_a_stranger_are_skipped_and_counted() -> None:
    explicit_plan = bytes((1, 2, 3, 0x11)) + bytes(6)
    nested = (len(explicit_plan) | 1 << 11 | 0x8000).to_bytes(2, "little") + explicit_plan + b"\x01\x3f\xaa"
    decoded = PayloadElements.decode(encode_payload_ie(4, nested) + encode_payload_ie(9, b"x") + encode_datagram(b"y"))
    assert decoded.unknown_count == 3
    assert decoded.unicast_schedule is None
    assert decoded.multiplex == Multiplex(MULTIPLEX_6LOWPAN, b"y")


@pytest.mark.parametrize(
    "elements",
    [
        PayloadElements(network_name="x" * 33),
        PayloadElements(pan_version=0x1_0000),
        PayloadElements(gtk_hashes=(b"short",)),
        PayloadElements(unicast_schedule=UnicastSchedule(dwell_interval_ms=256)),
        PayloadElements(unicast_schedule=UnicastSchedule(channel_function=1)),
        PayloadElements(broadcast_schedule=BroadcastSchedule(schedule_id=-1)),
        PayloadElements(pan=PanInformation(1, 1, fan_tps_version=8)),
        PayloadElements(multiplex=Multiplex(MULTIPLEX_KMP, b"")),
        PayloadElements(multiplex=Multiplex(MULTIPLEX_6LOWPAN, b"", kmp_id=1)),
        PayloadElements(multiplex=Multiplex(MULTIPLEX_6LOWPAN, bytes(2045))),
        HeaderElements(FrameType.DATA, ufsi=1 << 24),
        HeaderElements(FrameType.DATA, broadcast_slot=1 << 16),
        HeaderElements(FrameType.DATA, rsl_dbm=81),
    ],
)
def test_values_out_of_range_are_our_fault(elements: PayloadElements | HeaderElements) -> None:
    with pytest.raises(LocalProtocolError):
        elements.encode()


@pytest.mark.parametrize("max_psdu_bytes", [127, 500, 2047])
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("destination", [None, DESTINATION])
def test_capacity_fills_the_frame_and_sizes_are_foretold(
    max_psdu_bytes: int, secured: bool, destination: bytes | None
) -> None:
    fcs_bytes = 2 if max_psdu_bytes == 127 else 4
    sealing = Sealing(LinkCipher(bytes(16)), 1, 7) if secured else None
    schedules = PayloadElements(unicast_schedule=UnicastSchedule()).encode()
    for other in (b"", schedules):
        room = mpx_capacity(max_psdu_bytes, secured=secured, other_ies_bytes=len(other))
        ies = other + encode_datagram(bytes(room))
        psdu = build_frame(
            FrameType.DATA, SOURCE, destination, 1, 0xABCD, Timing(1, 2, 3), ies, b"", sealing, fcs_bytes
        )
        unicast = destination is not None
        assert len(psdu) == frame_size(FrameType.DATA, unicast, secured, ies, True, max_psdu_bytes)
        assert len(psdu) == max_psdu_bytes if unicast else len(psdu) <= max_psdu_bytes


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("frame_type", [FrameType.DATA, FrameType.EAPOL, FrameType.PA, FrameType.PAS, FrameType.PC])
def test_sizes_are_foretold_for_every_kind_of_frame(frame_type: FrameType, secured: bool) -> None:
    sealing = Sealing(LinkCipher(bytes(16)), 1, 7) if secured else None
    unicast = frame_type in (FrameType.DATA, FrameType.EAPOL)
    for ies, payload in ((b"", b""), (encode_datagram(b"x"), b""), (b"", b"x"), (encode_datagram(b"x"), b"x")):
        psdu = build_frame(
            frame_type, SOURCE, DESTINATION if unicast else None, 1, 1, Timing(), ies, payload, sealing, 4
        )
        assert len(psdu) == frame_size(frame_type, unicast, secured, encode_body(ies, payload), False, 2047)
        if unicast:
            header, _ = MacHeader.decode(psdu[:-4])
            ack = build_ack(DESTINATION, header, Timing(), -80, sealing, 4)
            assert len(ack) == ack_size(secured, frame_type is FrameType.EAPOL, 2047)
