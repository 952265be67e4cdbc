"""MQTT control packets: both directions, cut anywhere, and junk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.filters import topic_matches
from twin.brokers.packets import (
    SUBSCRIBE_FAILURE,
    Connack,
    Connect,
    ConnectReturn,
    Disconnect,
    Packet,
    PacketStream,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topics = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
filters = st.lists(st.sampled_from(["a", "bc", "+", "", "$d"]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels) or "+", "/".join([*levels, "#"])])
)
packet_ids = st.integers(1, 65_535)
wills = st.none() | st.tuples(topics, st.binary(max_size=20), st.integers(0, 2), st.booleans())
packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Connect, texts, st.booleans(), st.integers(0, 65_535), wills, texts, st.none() | st.binary(max_size=9)),
    st.builds(Connect, texts, st.booleans(), st.integers(0, 65_535), wills),
    st.builds(Connack, st.just(False), st.sampled_from(ConnectReturn)),
    st.just(Connack(True, ConnectReturn.ACCEPTED)),
    st.builds(Publish, topics, st.binary(max_size=300), st.just(1), st.booleans(), st.booleans(), packet_ids),
    st.builds(Publish, topics, st.binary(max_size=300), st.just(0), st.booleans()),
    st.builds(Puback, packet_ids),
    st.builds(
        Subscribe, packet_ids, st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=4).map(tuple)
    ),
    st.builds(
        Suback, packet_ids, st.lists(st.sampled_from([0, 1, 2, SUBSCRIBE_FAILURE]), min_size=1, max_size=4).map(tuple)
    ),
    st.builds(Unsubscribe, packet_ids, st.lists(filters, min_size=1, max_size=4).map(tuple)),
    st.builds(Unsuback, packet_ids),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)


def decode_all(stream: PacketStream, data: bytes) -> list[Packet]:
    stream.feed(data)
    out = []
    while (packet := stream.next_packet()) is not None:
        out.append(packet)
    return out


@given(st.lists(packets, max_size=5), st.integers(1, 9))
def test_packets_come_out_of_a_stream_however_it_is_cut(sent: list[Packet], size: int) -> None:
    data, stream = b"".join(packet.encode() for packet in sent), PacketStream()
    received = []
    for start in range(0, len(data), size):
        received += decode_all(stream, data[start : start + size])
    assert received == sent


@given(packets, st.data())
def test_packet_cut_short_inside_its_frame_is_refused_or_shorter(packet: Packet, data: st.DataObject) -> None:
    encoded = packet.encode()
    body = encoded[2:] if len(encoded) < 130 else encoded[3:]
    cut = data.draw(st.integers(0, max(len(body) - 1, 0)))
    frame = bytes([encoded[0]]) + _length(cut) + body[:cut]
    try:
        decoded = decode_all(PacketStream(), frame)
    except RemoteProtocolError:
        return
    assert all(item.encode() == frame for item in decoded)


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


@given(st.binary(max_size=100))
def test_junk_gives_packets_or_a_remote_error(junk: bytes) -> None:
    try:
        for packet in decode_all(PacketStream(), junk):
            packet.encode()
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    ("packet", "octets"),
    [
        (Pingreq(), "c000"),
        (Disconnect(), "e000"),
        (Connack(session_present=True, return_code=ConnectReturn.ACCEPTED), "20020100"),
        (Publish("a/b", b"hi", 1, packet_id=10), "32090003612f62000a6869"),
        (Subscribe(10, (("a/b", 1), ("c/d", 2))), "820e000a0003612f62010003632f6402"),
        (Connect("c", keep_alive_s=60), "100d00044d51545404020 03c000163".replace(" ", "")),
    ],
)
def test_packets_have_the_octets_of_the_standard(packet: Packet, octets: str) -> None:
    assert packet.encode().hex() == octets


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        ("00", "type 0"),
        ("f000", "type 15"),
        ("c100", "reserved flags"),
        ("34050001610001", "QoS 2"),
        ("3803000161", "duplicate"),
        ("3003000123", "wildcard"),
        ("320500016100 00".replace(" ", ""), "identifier is 0"),
        ("8002000a", "reserved flags"),
        ("8202000a", "no topic filter"),
        ("820600010001 2303".replace(" ", ""), "QoS 3"),
        ("c0ffffffff01", "four bytes"),
        ("30ffffff7f", "at most"),
        ("1003000444", "need"),
        ("c00100", "left over"),
    ],
)
def test_what_the_standard_forbids_is_refused(octets: str, words: str) -> None:
    data = bytes.fromhex(octets)
    with pytest.raises(RemoteProtocolError, match=words):
        decode_all(PacketStream(), data if len(data) > 1 else data + b"\0")


def test_our_own_mistakes_are_local_errors() -> None:
    for wrong in (
        lambda: Publish("a/#", b"").encode(),
        lambda: Publish("a", b"", 1).encode(),
        lambda: Publish("a", b"", 0, duplicate=True).encode(),
        lambda: Subscribe(1, (("a#", 0),)).encode(),
        lambda: Connect("c", password=b"x").encode(),
        lambda: Publish("a" * 70_000, b"").encode(),
    ):
        with pytest.raises(LocalProtocolError):
            wrong()


def test_password_is_in_no_repr() -> None:
    assert "secret" not in repr(Connect("c", username="u", password=b"secret"))
    assert "secret" not in repr(dcu_client("dcu-1", "secret"))


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("a/b", "a/b/c", False),
    ],
)
def test_topic_filters_match_as_in_the_standard(topic_filter: str, topic: str, matches: bool) -> None:
    assert topic_matches(topic_filter, topic) is matches


def test_a_concentrator_has_its_own_topics_only() -> None:
    client = dcu_client("dcu-1", "x")
    assert client.may_write("openami/v1/dcu/dcu-1/event")
    assert not client.may_write("openami/v1/dcu/dcu-1/request")
    assert not client.may_write("openami/v1/dcu/dcu-2/event")
    assert client.may_read("openami/v1/dcu/dcu-1/request")
    assert not client.may_read("openami/v1/dcu/dcu-2/credentials")
    assert client.may_subscribe("openami/v1/dcu/+/request")
    assert client.may_subscribe("#")
    assert not client.may_subscribe("openami/v1/dcu/dcu-2/#")
    assert not headend_client("y").may_subscribe("openami/v1/dcu/dcu-1/request")


def test_wrong_password_and_unknown_user_are_refused() -> None:
    rules = AccessRules((dcu_client("dcu-1", "right"),))
    assert rules.authenticate("dcu-1", b"right") is not None
    for name, password in (("dcu-1", b"wrong"), ("dcu-1", None), ("x", b"right"), ("x", b""), (None, None)):
        assert rules.authenticate(name, password) is None
