"""What must be refused: tampering, replay, brute force; and counters through power cuts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from dlms_strategies import quick
from dlms_support import (
    BROADCASTER,
    CLIENT_TITLE,
    ENERGY,
    KEYS,
    MANAGEMENT,
    METER_TITLE,
    NAME,
    NOTE,
    READER,
    Meter,
    associated,
    carry,
    client,
)
from hypothesis import given, settings

from protocols.dlms.client import AttributeReference, GetDone, Refused, RequestFailed
from protocols.dlms.data import octet_string
from protocols.dlms.enums import ServiceError
from protocols.dlms.exception import ExceptionResponse
from protocols.dlms.get import GetRequestNormal
from protocols.dlms.security.ciphering import GENERAL_GLO, Ciphering, wrap_general
from protocols.dlms.security.counters import COUNTER_MAX, MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import Gcm
from protocols.dlms.security.keys import SymmetricKeys
from protocols.dlms.server import LockoutPolicy, SecurityEvent
from protocols.dlms.set import SetRequestNormal
from protocols.errors import LocalProtocolError, RemoteProtocolError

NAME_VALUE = AttributeReference(1, NAME, 2)
NOTE_VALUE = AttributeReference(1, NOTE, 2)


@pytest.mark.requirement("SEC-1")
def test_every_flipped_bit_of_a_ciphered_request_is_refused() -> None:
    meter = Meter()
    association = associated(meter)
    request = association.set(NOTE_VALUE, octet_string(b"tampered"))
    before = sum(meter.server.refusals.values())
    for position in range(2, len(request)):
        for bit in range(8):
            damaged = bytearray(request)
            damaged[position] ^= 1 << bit
            answer = meter.server.handle(MANAGEMENT, bytes(damaged), 0.0)
            assert answer is not None
            assert ExceptionResponse.decode(answer)
    assert meter.note.content == b"note"
    assert sum(meter.server.refusals.values()) - before == 8 * (len(request) - 2)
    assert meter.server.handle(MANAGEMENT, request, 0.0) is not None
    assert meter.note.content == b"tampered"


@pytest.mark.requirement("SEC-1")
def test_replay_is_refused_and_logged_also_after_a_restart() -> None:
    meter = Meter()
    association = associated(meter)
    request = association.set(NOTE_VALUE, octet_string(b"once"))
    meter.server.handle(MANAGEMENT, request, 0.0)
    meter.note.content = b"changed since"
    answer = meter.server.handle(MANAGEMENT, request, 0.0)
    assert answer is not None
    refused = ExceptionResponse.decode(answer)
    assert refused.service_error is ServiceError.INVOCATION_COUNTER_ERROR
    assert refused.invocation_counter == meter.security.least_client_counter
    assert SecurityEvent("protection", MANAGEMENT, "replay", 0.0, late_s=0.0) in meter.events
    restarted = Meter(store=meter.store)
    fresh = client(store=MemoryCounterStore())
    assert isinstance(carry(restarted, fresh, fresh.associate())[0], Refused)
    fresh = client(store=MemoryCounterStore())
    fresh._security.send.advance_to(restarted.security.least_client_counter)  # type: ignore[union-attr] # noqa: SLF001
    carry(restarted, fresh, fresh.associate())
    restarted.server.handle(MANAGEMENT, request, 0.0)
    assert restarted.note.content == b"note"
    assert restarted.server.refusals["replay"] == 1


def test_tampered_or_replayed_answers_are_refused_by_the_client() -> None:
    meter = Meter()
    association = associated(meter)
    answer = meter.server.handle(MANAGEMENT, association.get(NAME_VALUE), 0.0)
    assert answer is not None
    for position in range(len(answer)):
        damaged = bytearray(answer)
        damaged[position] ^= 0x40
        with pytest.raises(RemoteProtocolError):
            association.receive(bytes(damaged))
    assert association.receive(answer) == (GetDone((octet_string(meter.name.content),)),)
    association.get(NAME_VALUE)
    with pytest.raises(RemoteProtocolError, match="used before"):
        association.receive(answer)
    with pytest.raises(RemoteProtocolError, match="not protected"):
        association.receive(bytes.fromhex("C401C2000900"))


@pytest.mark.parametrize("field", ["encryption", "authentication"])
@pytest.mark.requirement("UC-I.3")
def test_wrong_key_is_refused_and_logged(field: str) -> None:
    meter = Meter()
    names = ("encryption", "authentication")
    wrong = SymmetricKeys(**{name: b"\xee" * 16 if name == field else getattr(KEYS, name) for name in names})
    association = client(symmetric_keys=wrong)
    (refused,) = carry(meter, association, association.associate())
    assert isinstance(refused, Refused)
    assert SecurityEvent("refused", MANAGEMENT, "initiate_wrong_tag", 0.0) in meter.events


@pytest.mark.requirement("SEC-1")
def test_plain_requests_in_a_ciphered_association_are_refused() -> None:
    meter = Meter()
    associated(meter)
    plain = GetRequestNormal(0xC1, NAME_VALUE).encode()
    answer = meter.server.handle(MANAGEMENT, plain, 0.0)
    assert answer is not None
    assert ExceptionResponse.decode(answer)
    release = bytes.fromhex("6203800100")
    assert meter.server.handle(MANAGEMENT, release, 0.0) == bytes.fromhex("6303800101")
    assert meter.server.sessions, "nobody without the key may close the association"


def test_nothing_is_served_before_the_client_has_proved_itself() -> None:
    meter = Meter()
    association = client()
    aare = meter.server.handle(MANAGEMENT, association.associate(), 0.0)
    assert aare is not None
    association.receive(aare)
    association._operation = None  # noqa: SLF001
    request = association._protect(GetRequestNormal(0xC1, NAME_VALUE).encode())  # noqa: SLF001
    answer = meter.server.handle(MANAGEMENT, request, 0.0)
    assert answer is not None
    assert answer[0] == 0xD8
    assert meter.server.refusals["not_authenticated"] == 1


@pytest.mark.requirement("SEC-4")
def test_brute_force_locks_and_time_unlocks() -> None:
    meter = Meter()
    policy = LockoutPolicy()
    for _ in range(policy.max_failures):
        guess = client(READER, secret=b"guess")
        assert isinstance(carry(meter, guess, guess.associate())[0], Refused)
    right = client(READER)
    (refused,) = carry(meter, right, right.associate(), now=1.0)
    assert isinstance(refused, Refused)
    assert "transient" in refused.reason
    assert any(isinstance(event, SecurityEvent) and event.kind == "locked" for event in meter.events)
    right = client(READER)
    carry(meter, right, right.associate(), now=policy.lock_s + 1)
    assert carry(meter, right, right.get(AttributeReference(3, ENERGY, 2)))


@pytest.mark.requirement("SEC-4")
def test_right_authentication_forgives_earlier_failures() -> None:
    meter = Meter()
    for _ in range(20):
        guess = client(READER, secret=b"typing error")
        carry(meter, guess, guess.associate())
        associated(meter, READER)
    assert meter.server.refusals["locked"] == 0


def broadcast(value: bytes, counter: int, *, key: bytes | None = None) -> bytes:
    store = MemoryCounterStore()
    store.values["send"] = counter
    gcm = Gcm(KEYS.broadcast if key is None else key, KEYS.authentication)  # type: ignore[arg-type]
    sender = Ciphering(gcm, 0, CLIENT_TITLE, METER_TITLE, SendCounter(store, "send"), ReceiveCounter(store, "receive"))
    apdu = SetRequestNormal(0x01, NOTE_VALUE, octet_string(value)).encode()
    return wrap_general(GENERAL_GLO, CLIENT_TITLE, sender.seal(apdu, 0x70))


@pytest.mark.requirement("UC-VI.4")
def test_broadcast_is_taken_once_and_never_answered() -> None:
    meter = Meter()
    assert meter.server.handle(BROADCASTER, broadcast(b"first", 5), 0.0) is None
    assert meter.note.content == b"first"
    assert meter.server.handle(BROADCASTER, broadcast(b"old", 4), 0.0) is None
    assert meter.server.handle(BROADCASTER, broadcast(b"again", 5), 0.0) is None
    assert meter.server.handle(BROADCASTER, broadcast(b"forged", 9, key=bytes(16)), 0.0) is None
    assert meter.server.handle(BROADCASTER, b"\xc0junk", 0.0) is None
    assert meter.note.content == b"first"
    assert meter.server.refusals["replay"] == 2
    restarted = Meter(store=meter.store)
    assert restarted.server.handle(BROADCASTER, broadcast(b"replayed", 5), 0.0) is None
    assert restarted.note.content == b"note"


class CutStore(MemoryCounterStore):
    """A store whose power fails before or after the n-th write."""

    def __init__(self, values: dict[str, int], cut_at: int, *, written: bool) -> None:
        super().__init__()
        self.values = values
        self.left = cut_at
        self.written = written

    def save(self, name: str, value: int) -> None:
        if self.left == 0:
            if self.written:
                self.values[name] = value
            raise PowerCut
        self.left -= 1
        self.values[name] = value


class PowerCut(Exception):  # noqa: N818
    pass


@quick
@given(cuts=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6), reserve=st.integers(1, 7))
@pytest.mark.requirement("SEC-1")
def test_no_counter_is_used_or_accepted_twice_whatever_the_power_does(
    cuts: list[tuple[int, bool]], reserve: int
) -> None:
    values: dict[str, int] = {}
    used: list[int] = []
    for cut_at, written in cuts:
        store = CutStore(values, cut_at, written=written)
        sender = SendCounter(store, "send", reserve=reserve)
        try:
            while True:
                used.append(sender.next())
        except PowerCut:
            continue
    assert len(used) == len(set(used))

    values, offered, accepted = {}, 1, []
    for cut_at, written in cuts:
        receiver = ReceiveCounter(CutStore(values, cut_at, written=written), "receive", reserve=reserve)
        for old in accepted:
            assert not receiver.is_fresh(old)
        offered = max(offered, receiver.least)
        try:
            while True:
                accepted.append(offered)
                receiver.accept(offered)
                offered += 1
        except PowerCut:
            accepted.pop()  # its frame was not acted on, so it may come again
    assert len(accepted) == len(set(accepted))


@quick
@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0.0, 50.0)), min_size=1, max_size=200),
    st.integers(0, 200),
)
def test_how_late_a_number_is_counts_from_the_first_that_passed_it(steps: list[tuple[int, float]], back: int) -> None:
    receiver = ReceiveCounter(MemoryCounterStore(), "receive")
    passed, now = [], 0.0
    for up, wait_s in steps:
        now += wait_s
        passed.append((receiver.least + up - 1, now))
        receiver.accept(*passed[-1])
    value = max(receiver.least - 1 - back, 0)
    late_s = receiver.late_s(value, now + 1.0)
    expected_s = now + 1.0 - next(at_s for number, at_s in passed if value <= number)
    assert late_s == expected_s or (late_s == float("inf") and len(passed) >= 64)
    restarted = ReceiveCounter(MemoryCounterStore(), "receive")
    restarted.accept(receiver.least, now)
    restarted.restart()
    assert restarted.late_s(0, now) == 0.0, "fresh under a new key"


def test_what_was_refused_before_a_restart_is_late_beyond_measure() -> None:
    store = MemoryCounterStore()
    ReceiveCounter(store, "receive").accept(7, 1.0)
    restarted = ReceiveCounter(store, "receive")
    restarted.accept(restarted.least, 2.0)
    assert restarted.late_s(7, 2.5) == float("inf")
    assert restarted.late_s(restarted.least - 1, 2.5) == 0.5


def test_counter_that_is_used_up_stops() -> None:
    store = MemoryCounterStore()
    store.values["send"] = COUNTER_MAX
    sender = SendCounter(store, "send")
    assert sender.next() == COUNTER_MAX
    with pytest.raises(LocalProtocolError, match="used up"):
        sender.next()
    receiver = ReceiveCounter(store, "receive")
    receiver.accept(COUNTER_MAX)
    assert not receiver.is_fresh(COUNTER_MAX)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([1, 16, 32, 102, 7]), st.one_of(st.binary(max_size=80), st.none()), st.data())
def test_server_survives_anything(client_sap: int, junk: bytes | None, draw: st.DataObject) -> None:
    apdu = bytearray(junk if junk is not None else draw.draw(st.sampled_from(SEEDS)))
    for _ in range(draw.draw(st.integers(0, 3))):
        if apdu:
            apdu[draw.draw(st.integers(0, len(apdu) - 1))] = draw.draw(st.integers(0, 255))
    FUZZED.server.handle(client_sap, bytes(apdu), 0.0)
    assert len(FUZZED.server.sessions) <= 8


@quick
@given(st.binary(max_size=80), st.sampled_from(range(256)))
def test_client_survives_anything(junk: bytes, tag: int) -> None:
    for association in FUZZED_CLIENTS:
        for apdu in (junk, bytes((tag,)) + junk):
            try:
                association.receive(apdu)
            except RemoteProtocolError:
                continue


def _seeds() -> list[bytes]:
    meter = Meter()
    made = [client(sap).associate() for sap in (1, 16, 32)]
    association = associated(meter)
    made += [association.get(NAME_VALUE), broadcast(b"x", 1), bytes.fromhex("6203800100")]
    made += [
        GetRequestNormal(0xC1, NAME_VALUE).encode(),
        SetRequestNormal(0xC1, NOTE_VALUE, octet_string(b"1")).encode(),
    ]
    return made


SEEDS = _seeds()
FUZZED = Meter()
associated(FUZZED)
associated(FUZZED, READER)
FUZZED_CLIENTS = [client(16), client(1), associated(Meter(), READER), associated(Meter())]
FUZZED_CLIENTS[0].associate()
FUZZED_CLIENTS[1].associate()
FUZZED_CLIENTS[2].get(NAME_VALUE)
FUZZED_CLIENTS[3].get(NAME_VALUE)
assert RequestFailed
