"""`--air scapy`: rules drop, delay, duplicate, replay, corrupt and edit; everything else passes as it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scapy")

import air_frames
from air_frames import KEY
from test_air_radio import Bench, Host

from protocols.errors import RemoteProtocolError
from protocols.mesh.checksum import has_valid_fcs
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.wisun import FrameType, HeaderElements
from protocols.rcp import messages
from protocols.rcp.codes import ChannelFunction, RefusalCode, ResetReason, Status
from protocols.rcp.framing import FrameDecoder, encode_frame
from twin.air import scapy_layers as layers
from twin.air.pipeline import Emission

FRAMES = air_frames.frames()
UDP = FRAMES["udp"]


def process(pipeline: layers.ScapyPipeline, psdu: bytes, **origin: Any) -> list[Emission]:
    where = {"channel": 0, "sender": "a", "now": 1.0} | origin
    return list(pipeline.process(psdu, **where))


@pytest.fixture
def pipeline() -> layers.ScapyPipeline:
    return layers.ScapyPipeline(KEY)


def test_frames_that_no_rule_touches_are_the_same_bytes(pipeline: layers.ScapyPipeline) -> None:
    pipeline.add_filter(lambda packet: False, layers.Drop())
    for psdu in FRAMES.values():
        assert process(pipeline, psdu) == [Emission(psdu)]
    assert (pipeline.frames, pipeline.rebuild_differences) == (len(FRAMES), 0)


def test_drop_takes_the_matching_layer_only(pipeline: layers.ScapyPipeline) -> None:
    rule = pipeline.add_filter(layers.RplDIO, layers.Drop())
    assert process(pipeline, FRAMES["dio"]) == []
    assert process(pipeline, FRAMES["dao"]) == [Emission(FRAMES["dao"])]
    assert rule.hits == 1
    assert rule.log[0][0] == 1.0


def test_rule_is_bound_to_sender_channel_and_limit(pipeline: layers.ScapyPipeline) -> None:
    pipeline.add_filter(layers.NhcUDP, layers.Drop(), sender="b", channel=3, limit=1)
    assert len(process(pipeline, UDP)) == 1
    assert len(process(pipeline, UDP, sender="b")) == 1
    assert process(pipeline, UDP, sender="b", channel=3) == []
    assert len(process(pipeline, UDP, sender="b", channel=3)) == 1


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (layers.Delay(2.0), [Emission(UDP, 2.0)]),
        (layers.Duplicate(), [Emission(UDP), Emission(UDP)]),
        (layers.Duplicate(2, 0.5), [Emission(UDP), Emission(UDP, 0.5), Emission(UDP, 1.0)]),
        (layers.Replay(30.0), [Emission(UDP), Emission(UDP, 30.0)]),
    ],
)
def test_frames_are_delayed_duplicated_and_replayed(
    pipeline: layers.ScapyPipeline, action: layers.Action, expected: list[Emission]
) -> None:
    pipeline.add_filter(layers.NhcUDP, action)
    assert process(pipeline, UDP) == expected


def test_rules_apply_in_order_to_what_is_left(pipeline: layers.ScapyPipeline) -> None:
    pipeline.add_filter(layers.NhcUDP, layers.Duplicate())
    pipeline.add_filter(layers.NhcUDP, layers.Drop(), limit=1)
    assert process(pipeline, UDP) == [Emission(UDP)]


def test_removed_rule_is_without_effect(pipeline: layers.ScapyPipeline) -> None:
    pipeline.remove_filter(pipeline.add_filter(layers.NhcUDP, layers.Drop()))
    assert len(process(pipeline, UDP)) == 1


@pytest.mark.parametrize("fix_fcs", [False, True])
def test_corruption_flips_the_bits_asked_for(pipeline: layers.ScapyPipeline, fix_fcs: bool) -> None:
    pipeline.add_filter(layers.NhcUDP, layers.Corrupt(random.Random(1), bits=3, fix_fcs=fix_fcs))
    (emission,) = process(pipeline, UDP)
    end = -4 if fix_fcs else None
    different = int.from_bytes(emission.psdu[:end], "big") ^ int.from_bytes(UDP[:end], "big")
    assert different.bit_count() == 3
    assert has_valid_fcs(emission.psdu, 4) is fix_fcs


def test_edit_of_one_field_changes_exactly_that(pipeline: layers.ScapyPipeline) -> None:
    def change(packet: Any) -> None:
        packet[layers.IPHC].inline_hop_limit = 7

    psdu = FRAMES["udp-class"]
    pipeline.add_filter(layers.IPHC, layers.Edit(change))
    (emission,) = process(pipeline, psdu)
    before, after = (layers.open_frame(data, pipeline.keys) for data in (psdu, emission.psdu))
    assert after[layers.IPHC].inline_hop_limit == 7
    after[layers.IPHC].inline_hop_limit = before[layers.IPHC].inline_hop_limit
    assert layers.seal_frame(after, pipeline.keys) == psdu
    assert has_valid_fcs(emission.psdu, 4)
    assert len(emission.psdu) == len(psdu)


def test_edit_may_replace_the_packet(pipeline: layers.ScapyPipeline) -> None:
    pipeline.add_filter(layers.NhcUDP, layers.Edit(lambda packet: layers.dissect(FRAMES["udp-clear"])))
    assert process(pipeline, UDP) == [Emission(FRAMES["udp-clear"])]


def test_observers_see_frames_in_clear(pipeline: layers.ScapyPipeline) -> None:
    seen: list[tuple[bool, str, float]] = []
    pipeline.observers.append(lambda packet, sender, now: seen.append((packet.haslayer(layers.NhcUDP), sender, now)))
    process(pipeline, UDP)
    assert seen == [(True, "a", 1.0)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(FRAMES)), st.booleans())
def test_fuzzed_frames_are_built_and_never_crash_the_codecs(seed: int, name: str, keep_link: bool) -> None:
    pipeline = layers.ScapyPipeline(KEY)
    fuzzer = layers.Fuzzer(random.Random(seed), keep_link=keep_link)
    pipeline.add_filter(layers.Dot15d4, layers.Edit(fuzzer.change))
    (emission,) = process(pipeline, FRAMES[name])
    assert len(fuzzer.log) <= 1
    if keep_link and fuzzer.log:
        header, _ = MacHeader.decode(emission.psdu[:-4])
        original, _ = MacHeader.decode(FRAMES[name][:-4])
        assert (header.source, header.destination) == (original.source, original.destination)
    else:
        try:
            header, _ = MacHeader.decode(emission.psdu[:-4])
            HeaderElements.decode(header.header_ies)
        except RemoteProtocolError:
            return


def test_fuzzer_repeats_itself_under_one_seed() -> None:
    def fuzzed(seed: int) -> list[bytes]:
        fuzzer = layers.Fuzzer(random.Random(seed))
        keys = layers.LinkKeys(KEY)
        return [
            layers.seal_frame(fuzzer.change(layers.open_frame(psdu, keys)), keys) for psdu in list(FRAMES.values()) * 3
        ]

    assert fuzzed(1) == fuzzed(1)
    assert fuzzed(1) != fuzzed(2)


# in the air, with real MACs


def run_pair(path: Path, pipeline: layers.ScapyPipeline | None) -> tuple[Host, Host, Bench]:
    bench = Bench(pipeline=pipeline)
    a, b = Host(bench, "a", 0), Host(bench, "b", 300)
    bench.air.capture_to(path)
    for n in range(20):
        bench.loop.call_at(1.0 + n, a.send, b, n)
    bench.run()
    bench.air.close()
    return a, b, bench


def test_capture_is_the_same_with_bytes_and_with_scapy(tmp_path: Path) -> None:
    run_pair(tmp_path / "bytes.pcap", None)
    run_pair(tmp_path / "scapy.pcap", layers.ScapyPipeline(KEY))
    assert (tmp_path / "bytes.pcap").read_bytes() == (tmp_path / "scapy.pcap").read_bytes()


@pytest.mark.parametrize(
    ("action", "limit", "counter"),
    [
        (layers.Replay(0.5), 1, "rx_duplicate"),
        (layers.Corrupt(random.Random(3), bits=1, fix_fcs=True), 1, None),
        (layers.Drop(), 1, None),
    ],
)
def test_mac_survives_what_is_done_to_frames(
    tmp_path: Path, action: layers.Action, limit: int, counter: str | None
) -> None:
    pipeline = layers.ScapyPipeline(KEY)
    pipeline.add_filter(layers.MPX, action, sender="a", limit=limit)
    a, b, bench = run_pair(tmp_path / "air.pcap", pipeline)
    assert [done.status for done in a.done] == [Status.OK] * 20
    assert len(b.received) == 20
    if counter is not None:
        counters: Any = bench.air.radio("b").mac
        assert sum(value for name, value in counters.counters.items() if name.startswith("rx_")) > 0


# the serial protocol

EUI64 = bytes(range(8))
MESSAGES: list[tuple[Any, type[Any]]] = [
    (messages.Reset(), layers.RcpReset),
    (messages.Configure(EUI64, 0x1234, channel_function=ChannelFunction.DH1CF), layers.RcpConfigure),
    (messages.SetKey(2, bytes(16), 0x7E7D), layers.RcpSetKey),
    (messages.ClearKey(3), layers.RcpClearKey),
    (messages.SetReplayFloor(EUI64, 1, 99), layers.RcpSetReplayFloor),
    (messages.SetTimeSource(EUI64), layers.RcpSetTimeSource),
    (messages.SetTimeSource(None), layers.RcpSetTimeSource),
    (messages.Transmit(5, FrameType.DATA, EUI64, 1, b"\x7e\x7d\x20", b"tail"), layers.RcpTransmit),
    (messages.Transmit(6, FrameType.PA, None), layers.RcpTransmit),
    (messages.Ready(1, ResetReason.REQUESTED, 32), layers.RcpReady),
    (messages.TransmitDone(5, Status.NO_ACK, 4, 77, -80), layers.RcpTransmitDone),
    (
        messages.Received(FrameType.DATA, EUI64, None, 7, 1, 2, -90, 255, 3, 123456789, b"ies", b"p"),
        layers.RcpReceived,
    ),
    (messages.Refused(6, RefusalCode.OUT_OF_RANGE), layers.RcpRefused),
]


@pytest.mark.parametrize(("message", "layer"), MESSAGES, ids=lambda value: type(value).__name__)
def test_rcp_frame_comes_apart_and_together(message: Any, layer: type[Any]) -> None:
    line = encode_frame(message.encode())
    packet = layers.RcpFrame(line)
    assert packet.haslayer(layer)
    packet.clear_cache()
    assert bytes(packet) == line
    for name in ("handle", "status", "attempts", "rss_dbm", "channel", "timestamp_us", "frame_counter", "pan_id"):
        if hasattr(message, name):
            assert packet[layer].getfieldval(name) == getattr(message, name)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (layers.RcpFrame() / layers.RcpReset(), messages.Reset()),
        (
            layers.RcpFrame() / layers.RcpTransmit(handle=9, payload_ies="7e7d"),
            messages.Transmit(9, FrameType.DATA, None, 0, b"\x7e\x7d"),
        ),
        (layers.RcpFrame() / layers.RcpReady(queue_length=4), messages.Ready(queue_length=4)),
    ],
)
def test_hand_made_rcp_frame_is_understood(packet: Any, expected: Any) -> None:
    (content,) = FrameDecoder().feed(bytes(packet))
    decode: Callable[[bytes], Any] = (
        messages.decode_radio_message if content[0] & 0x80 else messages.decode_host_message
    )
    assert decode(content) == expected


@given(st.binary(max_size=100))
def test_serial_junk_is_shown(junk: bytes) -> None:
    layers.RcpFrame(junk).show(dump=True)
