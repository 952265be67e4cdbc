"""MACs among themselves: data, acknowledgements, retries, filters, security, power."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_air import KEY, MODE, Air, Node, Sent

from protocols.mesh.checksum import append_fcs
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.mac import MacParameters
from protocols.mesh.phy import TURNAROUND_S
from protocols.mesh.wisun import FrameType, Multiplex, PayloadElements, encode_datagram
from protocols.rcp.codes import RefusalCode, ResetReason, Status
from protocols.rcp.framing import encode_frame
from protocols.rcp.messages import (
    NO_PAN,
    ClearKey,
    Configure,
    Ready,
    Refused,
    Reset,
    SetKey,
    SetReplayFloor,
    Transmit,
    TransmitDone,
)

DATAGRAM = encode_datagram(b"\x7a\x33:" + bytes(50))
EAPOL = PayloadElements(multiplex=Multiplex(1, b"\x03\x00\x00\x00", 1)).encode()


def data(to: Node | None, *, handle: int = 1, key_index: int = 1, ies: bytes = DATAGRAM) -> Transmit:
    return Transmit(handle, FrameType.DATA, None if to is None else to.eui64, key_index, ies)


@pytest.fixture
def air() -> Air:
    return Air()


def test_ready_is_said_at_power_on(air: Air) -> None:
    node = air.add("a", configure=False, key=None)
    assert node.messages == [Ready(1, ResetReason.POWER_ON, 32)]


@pytest.mark.requirement("NET-3")
def test_unicast_is_encrypted_delivered_and_acknowledged(air: Air) -> None:
    a, b, c = air.add("a"), air.add("b"), air.add("c")
    a.tell(data(b))
    air.run(1)
    assert a.done == [TransmitDone(1, Status.OK, 1, 100, -71)]
    (received,) = b.received
    assert (received.frame_type, received.source, received.destination) == (FrameType.DATA, a.eui64, b.eui64)
    assert (received.key_index, received.frame_counter, received.pan_id) == (1, 100, 0x1234)
    assert (received.rss_dbm, received.lqi, received.channel) == (-71, 200, 5)
    assert (received.payload_ies, received.payload) == (DATAGRAM, b"")
    assert c.received == []
    assert c.mac.counters["rx_not_for_us"] == 2
    frame, ack = air.sent
    assert DATAGRAM[5:] not in frame.psdu
    assert ack.start_s == pytest.approx(frame.start_s + MODE.airtime_s(len(frame.psdu)) + TURNAROUND_S)


def test_payload_behind_the_elements_arrives(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(Transmit(1, FrameType.DATA, b.eui64, 1, DATAGRAM, b"tail"))
    a.tell(Transmit(2, FrameType.DATA, b.eui64, 1, b"", b"bare"))
    air.run(1)
    assert [(r.payload_ies, r.payload) for r in b.received] == [(DATAGRAM, b"tail"), (b"", b"bare")]


def test_broadcast_reaches_all_and_is_not_acknowledged(air: Air) -> None:
    a, b, c = air.add("a"), air.add("b"), air.add("c")
    a.tell(data(None))
    air.run(1)
    assert a.done == [TransmitDone(1, Status.OK, 1, 100)]
    assert [len(node.received) for node in (b, c)] == [1, 1]
    assert b.received[0].destination is None
    assert b.received[0].pan_id == 0x1234
    assert len(air.sent) == 1


def test_lost_frame_is_sent_again_under_a_new_counter(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    air.spoil = lambda sent, receiver: None if len(air.sent) <= 2 else sent.psdu
    a.tell(data(b))
    air.run(1)
    assert a.done == [TransmitDone(1, Status.OK, 3, 102, -71)]
    assert [received.frame_counter for received in b.received] == [102]


def test_lost_acknowledgement_makes_no_second_delivery(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    air.spoil = lambda sent, receiver: None if sent.sender == "b" and len(air.sent) == 2 else sent.psdu
    a.tell(data(b))
    air.run(1)
    assert a.done[0].status is Status.OK
    assert a.done[0].attempts == 2
    assert len(b.received) == 1
    assert b.mac.counters["rx_duplicate"] == 1


@pytest.mark.parametrize("latency_s", [0.001, 0.004, 0.009])
def test_acknowledgement_that_starts_late_is_waited_for(air: Air, latency_s: float) -> None:
    a, b = air.add("a"), air.add("b", latency_s=latency_s)
    a.tell(data(b))
    air.run(1)
    assert a.done == [TransmitDone(1, Status.OK, 1, 100, -71)]


def test_a_stranger_on_the_channel_does_not_prolong_the_wait_for_long(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    b.mac.power_off()
    a.is_receiving = lambda: bool(air.sent)  # type: ignore[method-assign]
    a.tell(data(b))
    air.run(0.2)
    assert a.mac.counters["tx_retries"] == 1


def test_silent_peer_gives_no_ack_after_all_retries(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    b.mac.power_off()
    a.tell(data(b))
    air.run(5)
    assert a.done == [TransmitDone(1, Status.NO_ACK, 8, 107)]


def test_hidden_senders_that_collided_do_not_go_on_colliding() -> None:
    """Two senders that cannot hear each other, one receiver: what overlaps in the air is lost."""
    for seed in range(10):
        air = Air()
        a, b, middle = (air.add(f"{name}{seed}") for name in "abm")
        pair = {a.name, b.name}

        def collide(sent: Sent, receiver: Node, air: Air = air, pair: set[str] = pair) -> bytes | None:
            overlaps = [
                other
                for other in air.sent
                if other is not sent
                and other.sender != receiver.name
                and abs(other.start_s - sent.start_s) < MODE.airtime_s(max(len(other.psdu), len(sent.psdu)))
            ]
            return None if overlaps or {sent.sender, receiver.name} == pair else sent.psdu

        air.spoil = collide
        for node in (a, b):
            node.is_clear = lambda channel: True  # type: ignore[method-assign]
            node.is_receiving = lambda: False  # type: ignore[method-assign]
        for handle in range(10):
            a.tell(data(middle, handle=handle))
            b.tell(data(middle, handle=handle))
        air.run(30)
        assert [done.status for done in a.done + b.done] == [Status.OK] * 20


def test_forged_or_foreign_acknowledgement_does_not_count(air: Air) -> None:
    a, b = air.add("a"), air.add("b")

    def without_security(sent: Sent, receiver: Node) -> bytes:
        if sent.sender == "a":
            return sent.psdu
        header, _ = MacHeader.decode(sent.psdu[:-4])
        fields = {name: getattr(header, name) for name in MacHeader.__slots__}
        return append_fcs(MacHeader(**{**fields, "security": None}).encode(), 4)

    air.spoil = without_security
    a.tell(data(b))
    air.run(5)
    assert a.done[0].status is Status.NO_ACK
    assert a.mac.counters["rx_unexpected_ack"] == 8


def test_channel_that_stays_busy_is_an_access_failure(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    air.busy.append((5, 100.0))
    a.tell(data(b))
    air.run(5)
    assert a.done == [TransmitDone(1, Status.CHANNEL_ACCESS_FAILURE, 0)]
    assert a.mac.counters["tx_channel_busy"] == MacParameters().max_csma_backoffs + 1


def test_queue_is_sent_in_order_and_its_bound_is_reported(air: Air) -> None:
    a, b = air.add("a", parameters=MacParameters(queue_length=4)), air.add("b")
    for handle in range(7):
        a.tell(data(b, handle=handle))
    air.run(3)
    assert [(done.handle, done.status) for done in a.done] == [
        (5, Status.QUEUE_FULL),
        (6, Status.QUEUE_FULL),
        *((handle, Status.OK) for handle in range(5)),
    ]
    assert len(b.received) == 5


def test_both_sending_to_each_other_at_once_both_succeed(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    for handle in range(20):
        a.tell(data(b, handle=handle))
        b.tell(data(a, handle=handle))
    air.run(20)
    assert [done.status for done in a.done + b.done] == [Status.OK] * 40
    assert len(a.received) == len(b.received) == 20


def test_requests_that_cannot_be_sent_say_why(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    unconfigured = air.add("u", configure=False)
    unconfigured.tell(data(b))
    assert unconfigured.done == [TransmitDone(1, Status.NOT_CONFIGURED, 0)]
    a.tell(data(b, handle=1, key_index=2))
    a.tell(data(b, handle=2, ies=encode_datagram(bytes(2040))))
    a.tell(Transmit(3, FrameType.PA, b.eui64))
    a.tell(Transmit(4, FrameType.EAPOL, None))
    a.tell(Transmit(5, FrameType.ACK, b.eui64))
    assert [done.status for done in a.done] == [
        Status.NO_KEY,
        Status.FRAME_TOO_LONG,
        Status.INVALID,
        Status.INVALID,
        Status.INVALID,
    ]


def test_used_up_counters_stop_the_key(air: Air) -> None:
    a = air.add("a")
    a.tell(SetKey(1, KEY, 0xFFFF_FFFE))
    a.tell(data(None, handle=1))
    air.run(1)
    a.tell(data(None, handle=2))
    air.run(1)
    assert [(done.status, done.frame_counter) for done in a.done] == [(Status.OK, 0xFFFF_FFFE), (Status.NO_KEY, 0)]


def test_short_frame_profile_has_two_byte_fcs_and_its_limit(air: Air) -> None:
    a, b = (air.add(name, max_psdu_bytes=127) for name in "ab")
    a.tell(data(b, handle=1))
    a.tell(data(b, handle=2, ies=encode_datagram(bytes(90))))
    air.run(1)
    assert [done.status for done in a.done] == [Status.FRAME_TOO_LONG, Status.OK]
    assert len(b.received) == 1


@pytest.mark.requirement("NET-3")
def test_replayed_frame_is_refused_and_not_acknowledged(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(data(b, handle=1))
    a.tell(data(b, handle=2))
    air.run(1)
    old = air.sent[0].psdu
    sent_before = len(air.sent)
    b.mac.receive(old, -60.0, 5, 255, air.clock.now)
    air.run(1)
    assert b.mac.counters["rx_replayed"] == 1
    assert len(b.received) == 2
    assert len(air.sent) == sent_before


def test_replay_floor_from_the_host_outlives_a_power_cut(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(data(b))
    air.run(1)
    b.mac.power_off()
    b.mac.power_on()
    b.tell(Configure(b.eui64, pan_id=0x1234, fixed_channel=5))
    b.tell(SetKey(1, KEY, 500))
    b.tell(SetReplayFloor(a.eui64, 1, 101))
    b.mac.receive(air.sent[0].psdu, -60.0, 5, 255, air.clock.now)
    assert b.mac.counters["rx_replayed"] == 1
    assert len(b.received) == 1


@pytest.mark.parametrize("position", range(2, 60, 7))
def test_every_flipped_bit_with_a_mended_fcs_is_refused(air: Air, position: int) -> None:
    a, b = air.add("a"), air.add("b")

    def flip(sent: Sent, receiver: Node) -> bytes:
        content = bytearray(sent.psdu[:-4])
        content[position] ^= 0x10
        return append_fcs(bytes(content), 4)

    air.spoil = flip
    a.tell(data(None))
    air.run(1)
    assert b.received == []
    assert sum(count for name, count in b.mac.counters.items() if name.startswith("rx_")) == 1


def test_damaged_frame_fails_its_fcs(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    air.spoil = lambda sent, receiver: sent.psdu[:-1] + bytes((sent.psdu[-1] ^ 1,))
    a.tell(data(None))
    air.run(1)
    assert b.mac.counters["rx_bad_fcs"] == 1


def test_wrong_key_missing_key_and_unsecured_data_are_refused(air: Air) -> None:
    a = air.add("a")
    wrong, none, plain = air.add("w", key=bytes(16)), air.add("n", key=None), air.add("p", key=None)
    a.tell(data(None))
    air.run(1)
    plain.tell(data(None, key_index=0))
    air.run(1)
    assert (wrong.received, wrong.mac.counters["rx_bad_mic"]) == ([], 1)
    assert none.mac.counters["rx_no_key"] == 1
    assert a.mac.counters["rx_unsecured"] == 1
    assert len(none.received) == 1, "without any key, unsecured data is taken"


def test_cleared_key_is_gone_and_a_new_one_starts_afresh(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(data(b, handle=1))
    air.run(1)
    for node in (a, b):
        node.tell(ClearKey(1))
    a.tell(data(b, handle=2))
    new = bytes(range(16, 32))
    for node in (a, b):
        node.tell(SetKey(1, new, 0))
    a.tell(data(b, handle=3))
    air.run(1)
    assert [(done.handle, done.status) for done in a.done] == [(1, Status.OK), (2, Status.NO_KEY), (3, Status.OK)]
    assert b.received[-1].frame_counter == 0


def test_eapol_and_discovery_go_unsecured_and_name_their_pan(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(Transmit(1, FrameType.EAPOL, b.eui64, 0, EAPOL))
    a.tell(Transmit(2, FrameType.PAS, None, 0, PayloadElements(network_name="kibera").encode()))
    air.run(1)
    assert [done.status for done in a.done] == [Status.OK, Status.OK]
    assert [(received.frame_type, received.pan_id) for received in b.received] == [
        (FrameType.EAPOL, 0x1234),
        (FrameType.PAS, NO_PAN),
    ]


def test_other_pan_is_filtered_but_its_advertisements_are_heard(air: Air) -> None:
    a, b = air.add("a", pan_id=0x9999), air.add("b")
    a.tell(Transmit(1, FrameType.PA, None))
    a.tell(data(None, handle=2))
    air.run(1)
    assert [received.frame_type for received in b.received] == [FrameType.PA]
    assert b.mac.counters["rx_other_pan"] == 1


def test_power_cut_in_the_air_forgets_everything(air: Air) -> None:
    a, b = air.add("a"), air.add("b")
    a.tell(data(b))
    while not air.sent:
        air.run(0.001)
    a.mac.power_off()
    assert a.mac.listening_channel(air.clock.now) is None
    air.run(1)
    a.mac.power_on()
    assert a.messages[-1] == Ready(1, ResetReason.POWER_ON, 32)
    assert a.mac.listening_channel(air.clock.now) is None, "not configured yet"
    a.tell(data(b, handle=9))
    assert a.done[-1] == TransmitDone(9, Status.NOT_CONFIGURED, 0)


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.01, 0.02, 0.03, 0.04, 0.05])
def test_reset_at_any_moment_leaves_a_working_radio(air: Air, delay_s: float) -> None:
    a, b = air.add("a"), air.add("b")
    for node in (a, b):
        node.tell(data(b if node is a else a))
    air.run(delay_s)
    for node in (a, b):
        node.tell(Reset())
        assert node.messages[-1] == Ready(1, ResetReason.REQUESTED, 32)
        node.tell(Configure(node.eui64, pan_id=0x1234, fixed_channel=5))
        node.tell(SetKey(1, KEY, 1000))
    a.tell(data(b, handle=7))
    b.tell(data(a, handle=8))
    air.run(2)
    assert a.done[-1].handle == 7
    assert b.done[-1].handle == 8
    assert {a.done[-1].status, b.done[-1].status} == {Status.OK}


def test_host_messages_out_of_range_are_refused_by_type(air: Air) -> None:
    a = air.add("a", configure=False, key=None)
    a.tell(Configure(a.eui64, plan=77))
    a.tell(Configure(a.eui64, fixed_channel=200))
    a.tell(SetKey(9, KEY))
    a.tell(Reset(version=9))
    a.mac.host_data(encode_frame(b"\x77junk"))
    assert [message for message in a.messages if isinstance(message, Refused)] == [
        Refused(Configure.TYPE, RefusalCode.OUT_OF_RANGE),
        Refused(Configure.TYPE, RefusalCode.OUT_OF_RANGE),
        Refused(SetKey.TYPE, RefusalCode.OUT_OF_RANGE),
        Refused(Reset.TYPE, RefusalCode.VERSION),
        Refused(0x77, RefusalCode.MALFORMED),
    ]


@given(junk=st.binary(max_size=200), mend=st.booleans())
@settings(max_examples=300, deadline=None)
def test_junk_from_the_air_is_only_counted(junk: bytes, mend: bool) -> None:
    air = Air()
    node = air.add("a")
    node.mac.receive(append_fcs(junk, 4) if mend else junk, -80.0, 5, 10, 0.0)
    air.run(1)
    assert node.received == []
    assert node.mac.counters.total() >= 1


@given(junk=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_junk_from_the_host_does_not_stop_the_radio(junk: bytes) -> None:
    air = Air()
    a, b = air.add("a"), air.add("b")
    a.mac.host_data(junk)
    a.mac.host_data(b"\x7e")
    a.tell(data(b))
    air.run(1)
    assert a.done[-1].status is Status.OK


def test_random_losses_never_lose_or_double_a_report(air: Air) -> None:
    rng = random.Random(3)
    nodes = [air.add(name) for name in "abcde"]
    air.spoil = lambda sent, receiver: None if rng.random() < 0.5 else sent.psdu
    for handle in range(30):
        for index, node in enumerate(nodes):
            to = nodes[(index + 1 + handle % 4) % 5] if handle % 5 else None
            node.tell(data(to, handle=handle, ies=encode_datagram(bytes((index, handle)))))
    air.run(120)
    acknowledged = 0
    for node in nodes:
        assert [done.handle for done in node.done] == list(range(30))
        assert {done.status for done in node.done} <= {Status.OK, Status.NO_ACK}
        acknowledged += sum(done.status is Status.OK and done.handle % 5 != 0 for done in node.done)
    unicasts = [received.payload_ies for node in nodes for received in node.received if received.destination]
    assert len(unicasts) == len(set(unicasts))
    assert acknowledged <= len(unicasts) < 120
