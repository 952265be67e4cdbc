"""ACCESS, notifications, general-block-transfer, general-ciphering and general-signing, suite 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dlms_strategies as strategies
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dlms_strategies import methods, octets, quick, references, tuples, u32
from dlms_strategies import small as data
from dlms_support import (
    CLIENT_TITLE,
    ENERGY,
    KEYS,
    MANAGEMENT,
    MANY,
    METER_TITLE,
    NAME,
    NOTE,
    READER,
    CountedKeys,
    Meter,
    associated,
    carry,
    client,
)
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.access import AccessItem, AccessKind, AccessRequest, AccessResponse, AccessResult
from protocols.dlms.action import MethodReference
from protocols.dlms.client import AccessDone, Associated, AttributeReference, ClientState, GetDone, Refused, SetDone
from protocols.dlms.data import NULL, boolean, date_time, double_long_unsigned, octet_string, unsigned
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, Mechanism
from protocols.dlms.gbt import GbtAborted, GbtEndpoint, GeneralBlockTransfer
from protocols.dlms.general import (
    AgreedKey,
    AgreementScheme,
    GeneralCiphering,
    GeneralHeader,
    GeneralSigning,
    IdentifiedKey,
    KeyId,
    WrappedKey,
)
from protocols.dlms.notification import DataNotification, DataNotificationConfirm, EventNotification
from protocols.dlms.security.agreement import decode_public_key, derive_key, encode_public_key, new_private_key
from protocols.dlms.security.agreement import shared_secret as ecdh
from protocols.dlms.security.general_protection import KeyScheme
from protocols.dlms.security.key_management import KeyId as TransferredKey
from protocols.dlms.security.key_management import (
    accept_key_transfer,
    agreed_key,
    agreement_offer,
    agreement_part,
    key_transfer,
    unwrap_key,
    wrap_key,
)
from protocols.dlms.security.keys import Policy, Suite, SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys, FixedPeerKeys
from protocols.dlms.security.signing import DeterministicSigner, RandomSigner, Verifier
from protocols.errors import LocalProtocolError, RemoteProtocolError

NAME_VALUE = AttributeReference(1, NAME, 2)
NOTE_VALUE = AttributeReference(1, NOTE, 2)
ENERGY_VALUE = AttributeReference(3, ENERGY, 2)
BUFFER = AttributeReference(7, MANY, 2)
ECHO = MethodReference(3, ENERGY, 1)

plain_references = references.map(lambda item: item._replace(selector=None))
items = st.one_of(
    references.map(AccessItem.get),
    st.builds(AccessItem.set, references, data),
    st.builds(AccessItem.action, methods, data),
)
results = st.one_of(
    st.builds(AccessResult, st.sampled_from((AccessKind.GET, AccessKind.SET)), st.sampled_from(DataAccessResult), data),
    st.builds(AccessResult, st.just(AccessKind.ACTION), st.sampled_from(ActionResult), data),
)
headers = st.builds(GeneralHeader, octets, octets, octets, octets, octets)
key_infos = st.one_of(
    st.none(),
    st.builds(IdentifiedKey, st.sampled_from(KeyId)),
    st.builds(WrappedKey, octets),
    st.builds(AgreedKey, st.sampled_from(AgreementScheme), octets),
)
CODECS: dict[str, tuple[st.SearchStrategy[Any], Callable[[bytes], Any]]] = {
    "ACCESS request": (st.builds(AccessRequest, u32, tuples(items), octets), AccessRequest.decode),
    "ACCESS response": (st.builds(AccessResponse, u32, tuples(results), octets), AccessResponse.decode),
    "DataNotification": (st.builds(DataNotification, u32, data, octets), DataNotification.decode),
    "DataNotificationConfirm": (st.builds(DataNotificationConfirm, u32, octets), DataNotificationConfirm.decode),
    "EventNotification": (
        st.builds(EventNotification, plain_references, data, st.none() | octets),
        EventNotification.decode,
    ),
    "general-block-transfer": (
        st.builds(
            GeneralBlockTransfer,
            st.booleans(),
            st.booleans(),
            st.integers(0, 63),
            st.integers(0, 65535),
            st.integers(0, 65535),
            octets,
        ),
        GeneralBlockTransfer.decode,
    ),
    "general-ciphering": (st.builds(GeneralCiphering, headers, key_infos, octets), GeneralCiphering.decode),
    "general-signing": (st.builds(GeneralSigning, headers, octets, octets), GeneralSigning.decode),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.requirement("OSI-7")
@quick
@given(draw=st.data())
def test_general_apdus_come_back_and_damage_is_the_peers_error(name: str, draw: st.DataObject) -> None:
    strategy, decode = CODECS[name]
    apdu = draw.draw(strategy)
    raw = apdu.encode()
    assert decode(raw) == apdu
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            decode(raw[:end])
    damaged = bytearray(raw)
    damaged[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(strategies.u8)
    for candidate in (bytes(damaged), raw[:1] + draw.draw(st.binary(max_size=50)), raw + b"\x00"):
        try:
            decode(candidate)
        except RemoteProtocolError:
            continue


# ACCESS


def test_access_reads_writes_and_invokes_in_one_request() -> None:
    meter = Meter(rows=5)
    association = associated(meter)
    todo = (
        AccessItem.get(NAME_VALUE),
        AccessItem.set(NOTE_VALUE, octet_string(b"written")),
        AccessItem.get(NOTE_VALUE),
        AccessItem.action(ECHO, unsigned(7)),
        AccessItem.get(AttributeReference(3, ENERGY, 9)),
        AccessItem.action(ECHO, boolean(True)),
        AccessItem.get(BUFFER),
    )
    (done,) = carry(meter, association, association.access(*todo))
    assert isinstance(done, AccessDone)
    success = DataAccessResult.SUCCESS
    assert done.results == (
        AccessResult(AccessKind.GET, success, octet_string(meter.name.content)),
        AccessResult(AccessKind.SET, success),
        AccessResult(AccessKind.GET, success, octet_string(b"written")),
        AccessResult(AccessKind.ACTION, ActionResult.SUCCESS, unsigned(7)),
        AccessResult(AccessKind.GET, DataAccessResult.OBJECT_UNDEFINED),
        AccessResult(AccessKind.ACTION, ActionResult.TEMPORARY_FAILURE),
        AccessResult(AccessKind.GET, success, meter.table.whole()),
    )


def test_access_stops_at_the_first_error_where_asked_to_and_may_be_unconfirmed() -> None:
    meter = Meter()
    reader = associated(meter, READER)
    todo = (AccessItem.get(AttributeReference(3, ENERGY, 9)), AccessItem.get(NAME_VALUE))
    answer = meter.server.handle(READER, AccessRequest(3 << 29 | 5, todo).encode(), 0.0)
    assert answer is not None
    assert [item.result for item in AccessResponse.decode(answer).results] == [
        DataAccessResult.OBJECT_UNDEFINED,
        DataAccessResult.OTHER_REASON,
    ]
    assert meter.server.handle(READER, AccessRequest(5, todo).encode(), 0.0) is None
    assert reader.state is ClientState.ASSOCIATED


# general-block-transfer


def shuttle(left: GbtEndpoint, right: GbtEndpoint, apdu: bytes, lost: Callable[[int], bool]) -> bytes:
    """Send `apdu` from left to right; `lost(n)` says whether the n-th APDU on the line is lost."""
    line = [(right, left, raw) for raw in left.send(apdu)]
    sent = 0
    for _ in range(10_000):
        if not line:
            line += [(right, left, raw) for raw in left.repeat()]  # a time-out of the sender
        target, source, raw = line.pop(0)
        sent += 1
        if lost(sent):
            continue
        outgoing, complete = target.receive(GeneralBlockTransfer.decode(raw))
        if complete is not None:
            return complete
        line += [(source, target, answer) for answer in outgoing]
    raise AssertionError("the transfer does not end")


@quick
@given(
    st.binary(min_size=1, max_size=600),
    st.integers(5, 60),
    st.integers(1, 9),
    st.lists(st.booleans(), max_size=60),
)
@pytest.mark.requirement("UC-III.1")
def test_blocks_arrive_whole_whatever_is_lost(apdu: bytes, size: int, window: int, losses: list[bool]) -> None:
    left, right = GbtEndpoint(size), GbtEndpoint(size, window=window)
    left.expect(window)
    assert shuttle(left, right, apdu, lambda sent: sent <= len(losses) and losses[sent - 1]) == apdu


def test_window_is_streamed_and_its_last_block_asks_for_an_answer() -> None:
    sender = GbtEndpoint(10, window=4)
    sender.expect(3)
    blocks = [GeneralBlockTransfer.decode(raw) for raw in sender.send(bytes(65))]
    assert [(item.block_number, item.streaming, item.last_block) for item in blocks] == [
        (1, True, False),
        (2, True, False),
        (3, False, False),
    ]
    following, complete = sender.receive(GeneralBlockTransfer(True, False, 3, 1, 1, b""))
    assert complete is None
    numbers = [GeneralBlockTransfer.decode(raw).block_number for raw in following]
    assert numbers == [2, 3, 4], "block 2 was lost: go on behind the last acknowledged one"


def test_peer_that_takes_no_blocks_or_sends_too_many_ends_the_transfer() -> None:
    sender = GbtEndpoint(10)
    sender.send(bytes(65))
    with pytest.raises(GbtAborted):
        sender.receive(GeneralBlockTransfer(True, False, 0, 1, 1, b""))
    receiver = GbtEndpoint(10, limit_bytes=15)
    receiver.receive(GeneralBlockTransfer(False, False, 1, 1, 0, bytes(10)))
    with pytest.raises(GbtAborted):
        receiver.receive(GeneralBlockTransfer(False, False, 1, 2, 0, bytes(10)))


WITHOUT_SERVICE_BLOCKS = Conformance(0x7FFFFF) & ~(
    Conformance.BLOCK_GET | Conformance.BLOCK_SET | Conformance.BLOCK_ACTION
)


@pytest.mark.parametrize("ciphered", [True, False])
def test_anything_long_travels_in_general_blocks(ciphered: bool) -> None:
    meter = Meter(rows=100, max_receive_pdu_bytes=256)
    client_sap = MANAGEMENT if ciphered else READER
    association = associated(meter, client_sap, max_receive_pdu_bytes=200, conformance=WITHOUT_SERVICE_BLOCKS)
    assert carry(meter, association, association.get(BUFFER)) == [GetDone((meter.table.whole(),))]
    (done,) = carry(meter, association, association.access(AccessItem.get(BUFFER)))
    assert done == AccessDone((AccessResult(AccessKind.GET, DataAccessResult.SUCCESS, meter.table.whole()),))
    if ciphered:
        value = octet_string(bytes(index % 251 for index in range(3000)))
        assert carry(meter, association, association.set(NOTE_VALUE, value)) == [SetDone((DataAccessResult.SUCCESS,))]
        assert meter.note.content == value.value


def test_server_streams_windows_where_the_transport_takes_them_and_recovers_lost_blocks() -> None:
    meter = Meter(rows=100)
    association = associated(meter, READER, max_receive_pdu_bytes=200, conformance=WITHOUT_SERVICE_BLOCKS, gbt_window=6)
    answers = list(meter.server.handle_all(READER, association.get(BUFFER), 0.0))
    assert len(answers) == 1, "the server does not know our window yet"
    events: list[object] = []
    sizes = []
    for exchange in range(200):
        out: list[bytes] = []
        for number, answer in enumerate(answers):
            if (exchange, number) in ((2, 3), (5, 0)):
                continue  # lost
            for event in association.receive(answer):
                if hasattr(event, "apdu"):
                    out.append(event.apdu)
                else:
                    events.append(event)
        if events:
            break
        request = out[0] if out else association.repeat()
        answers = list(meter.server.handle_all(READER, request, 0.0))
        sizes.append(len(answers))
    assert events == [GetDone((meter.table.whole(),))]
    assert max(sizes) == 6


def test_repeated_request_in_blocks_is_not_done_twice() -> None:
    meter = Meter(max_receive_pdu_bytes=256)
    association = associated(meter, conformance=WITHOUT_SERVICE_BLOCKS)
    apdu = association.set(NOTE_VALUE, octet_string(bytes(400)))
    answer = meter.server.handle(MANAGEMENT, apdu, 0.0)
    again = meter.server.handle(MANAGEMENT, association.repeat(), 0.0)
    assert answer is not None
    assert again is not None
    assert carry(meter, association, _send(association.receive(again))) == [SetDone((DataAccessResult.SUCCESS,))]
    assert not meter.server.refusals


def _send(events: Any) -> bytes:
    (event,) = events
    apdu: bytes = event.apdu
    return apdu


# notifications


@pytest.mark.requirement("UC-IV.1")
def test_notifications_are_protected_by_the_policy_and_understood_by_the_client() -> None:
    meter = Meter()
    association = associated(meter)
    when = DateTime.from_utc_s(1_790_000_000)
    push = DataNotification(1, double_long_unsigned(5), when.encode())
    sealed = meter.server.notify(MANAGEMENT, push.encode())
    assert sealed[0] == 0xDB
    (event,) = association.receive(sealed)
    assert DataNotification.decode(event.apdu) == push  # type: ignore[union-attr]
    happened = EventNotification(ENERGY_VALUE, date_time(when), when.encode())
    (event,) = association.receive(meter.server.notify(MANAGEMENT, happened.encode()))
    assert EventNotification.decode(event.apdu) == happened  # type: ignore[union-attr]
    assert meter.server.notify(READER, push.encode()) == push.encode()
    with pytest.raises(LocalProtocolError):
        meter.server.notify(99, push.encode())
    with pytest.raises(LocalProtocolError):
        meter.server.notify(READER, b"\xc0")


# suite 1

CLIENT_SIGNING, CLIENT_AGREEMENT, METER_SIGNING, METER_AGREEMENT, STRANGER = (
    new_private_key(CountedKeys(f"asymmetric {name}")) for name in range(5)
)
MASTER = bytes(range(0x50, 0x60))


def equip(meter: Meter, **changes: Any) -> Meter:
    """Give the meter suite 1, its keys and its client's."""
    peers = FixedPeerKeys({CLIENT_TITLE: CLIENT_SIGNING.public_key()}, {CLIENT_TITLE: CLIENT_AGREEMENT.public_key()})
    meter.security.asymmetric = AsymmetricKeys(DeterministicSigner(METER_SIGNING), METER_AGREEMENT, peers)
    meter.security.suite = Suite.SUITE_1
    meter.security.keys.master = MASTER
    return meter


def their_keys(signing: ec.EllipticCurvePrivateKey = CLIENT_SIGNING) -> AsymmetricKeys:
    peers = FixedPeerKeys({METER_TITLE: METER_SIGNING.public_key()}, {METER_TITLE: METER_AGREEMENT.public_key()})
    return AsymmetricKeys(RandomSigner(signing), CLIENT_AGREEMENT, peers)


def suite_1_client(asymmetric: AsymmetricKeys | None = None, **changes: Any) -> Any:
    keys = SymmetricKeys(KEYS.encryption, KEYS.authentication, KEYS.broadcast, MASTER)
    settings = {"mechanism": Mechanism.HIGH_ECDSA, "symmetric_keys": keys} | changes
    association = client(MANAGEMENT, **settings)
    security = association._security  # noqa: SLF001
    assert security is not None
    security.suite = Suite.SUITE_1
    security.asymmetric = asymmetric or their_keys()
    return association


@pytest.mark.requirement("UC-I.1")
def test_ecdsa_proves_both_sides() -> None:
    meter = equip(Meter(mechanism=Mechanism.HIGH_ECDSA))
    association = suite_1_client()
    (done,) = carry(meter, association, association.associate())
    assert isinstance(done, Associated)
    assert carry(meter, association, association.get(ENERGY_VALUE)) == [GetDone((double_long_unsigned(123_456),))]


@pytest.mark.requirement("UC-I.3")
def test_wrong_signing_key_is_refused_by_either_side() -> None:
    meter = equip(Meter(mechanism=Mechanism.HIGH_ECDSA))
    association = suite_1_client(their_keys(STRANGER))
    (refused,) = carry(meter, association, association.associate())
    assert isinstance(refused, Refused)
    assert meter.server.refusals["wrong_proof"] == 1
    impostor = equip(Meter(mechanism=Mechanism.HIGH_ECDSA))
    assert impostor.security.asymmetric is not None
    impostor.security.asymmetric.signer = DeterministicSigner(STRANGER)
    association = suite_1_client()
    (refused,) = carry(impostor, association, association.associate())
    assert isinstance(refused, Refused)
    assert "proof is wrong" in refused.reason
    unknown = equip(Meter(mechanism=Mechanism.HIGH_ECDSA))
    assert unknown.security.asymmetric is not None
    unknown.security.asymmetric.peers = FixedPeerKeys({})
    (refused,) = carry(unknown, association, association.associate())
    assert isinstance(refused, Refused)
    assert unknown.server.refusals["untrusted_certificate"] == 1


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("scheme", [None, *KeyScheme])
@pytest.mark.requirement("SEC-2")
def test_general_ciphering_and_signing_carry_every_service(scheme: KeyScheme | None, sign: bool) -> None:
    meter = equip(Meter(mechanism=Mechanism.HIGH_ECDSA, rows=60))
    association = suite_1_client(key_scheme=scheme, sign=sign, max_receive_pdu_bytes=700)
    carry(meter, association, association.associate())
    assert association.state is ClientState.ASSOCIATED
    for _ in range(3):
        done = carry(meter, association, association.get(ENERGY_VALUE))
        assert done == [GetDone((double_long_unsigned(123_456),))]
    value = octet_string(bytes(2000))
    assert carry(meter, association, association.set(NOTE_VALUE, value)) == [SetDone((DataAccessResult.SUCCESS,))]
    assert carry(meter, association, association.get(BUFFER)) == [GetDone((meter.table.whole(),))]
    assert not meter.server.refusals


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("scheme", list(KeyScheme))
@pytest.mark.requirement("SEC-1")
def test_damaged_or_replayed_general_apdus_are_refused(scheme: KeyScheme, sign: bool) -> None:
    meter = equip(Meter(mechanism=Mechanism.HIGH_ECDSA))
    association = suite_1_client(key_scheme=scheme, sign=sign)
    carry(meter, association, association.associate())
    request = association.set(NOTE_VALUE, octet_string(b"by an attacker"))
    for position in range(1, len(request), 3):
        damaged = bytearray(request)
        damaged[position] ^= 0x01
        meter.server.handle(MANAGEMENT, bytes(damaged), 0.0)
    assert meter.note.content == b"note"
    assert meter.server.handle(MANAGEMENT, request, 0.0) is not None
    assert meter.note.content == b"by an attacker"
    meter.note.content = b"note"
    meter.server.handle(MANAGEMENT, request, 0.0)
    assert meter.note.content == b"note"
    assert meter.server.refusals["replay"] == 1
    later = equip(Meter(mechanism=Mechanism.HIGH_ECDSA, store=meter.store))
    another = suite_1_client()
    another._security.send.advance_to(later.security.least_client_counter)  # noqa: SLF001
    carry(later, another, another.associate())
    assert another.state is ClientState.ASSOCIATED
    later.server.handle(MANAGEMENT, request, 0.0)
    assert later.note.content == b"note", "a key that was used is not taken again, restarts included"


@pytest.mark.requirement("SEC-1")
def test_signed_requests_without_ciphering_are_replayed_in_vain() -> None:
    meter = equip(Meter(mechanism=Mechanism.HIGH_ECDSA, policy=Policy.NONE))
    association = suite_1_client(sign=True, policy=Policy.NONE)
    carry(meter, association, association.associate())
    request = association.set(NOTE_VALUE, octet_string(b"signed"))
    assert meter.server.handle(MANAGEMENT, request, 0.0) is not None
    assert meter.note.content == b"signed"
    meter.note.content = b"note"
    meter.server.handle(MANAGEMENT, request, 0.0)
    assert meter.note.content == b"note"


def test_key_agreement_vector() -> None:
    ephemeral = ec.derive_private_key(
        0x47DAB03842E5B6E74828EF4F449B378D7DD1A5DAE1FFCA5AE0B0BE0AD18EC57E, ec.SECP256R1()
    )
    static = ec.derive_private_key(0xAAD3FD0732E991CF52A74C66C1F2827DDC53522A2E0A169D7C4FFCC0FB5D6A4D, ec.SECP256R1())
    secret = bytes.fromhex("0D4385BA0DD756CBCAB9887EB538396EE8F090A14C1079B4359F115B977F4615")
    assert ecdh(ephemeral, static.public_key()) == ecdh(static, ephemeral.public_key()) == secret
    key = derive_key(secret, bytes.fromhex("4D4D4D0000BC614E"), bytes.fromhex("4D4D4D0000000001"))
    assert key == bytes.fromhex("59A71FD81C929A86A99438DA17A66C05")


def test_public_keys_are_checked() -> None:
    raw = encode_public_key(STRANGER.public_key())
    assert encode_public_key(decode_public_key(raw)) == raw
    for wrong in (raw[:-1], bytes(64), raw[:-1] + bytes((raw[-1] ^ 1,))):
        with pytest.raises(RemoteProtocolError):
            decode_public_key(wrong)


@pytest.mark.requirement("SEC-2")
def test_key_wrap_vector_and_transfer() -> None:
    master, key = bytes(range(16)), bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    wrapped = bytes.fromhex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
    assert wrap_key(master, key) == wrapped
    assert unwrap_key(master, wrapped) == key
    argument = key_transfer(master, {TransferredKey.ENCRYPTION: key, TransferredKey.MASTER: master})
    assert accept_key_transfer(argument, master) == {TransferredKey.ENCRYPTION: key, TransferredKey.MASTER: master}
    for wrong in (NULL, key_transfer(key, {TransferredKey.ENCRYPTION: key}), octet_string(wrapped)):
        with pytest.raises(RemoteProtocolError):
            accept_key_transfer(wrong, master)
    assert key.hex() not in repr(argument)


@pytest.mark.requirement("SEC-2")
def test_ephemeral_key_agreement_gives_both_sides_one_key() -> None:
    client_key, meter_key = (new_private_key(CountedKeys(name)) for name in ("client side", "meter side"))
    offer = agreement_offer(TransferredKey.ENCRYPTION, client_key, RandomSigner(CLIENT_SIGNING))
    answer = agreement_offer(TransferredKey.ENCRYPTION, meter_key, DeterministicSigner(METER_SIGNING))
    key_id, client_public = agreement_part(offer, Verifier(CLIENT_SIGNING.public_key()))
    _, meter_public = agreement_part(answer, Verifier(METER_SIGNING.public_key()))
    assert key_id is TransferredKey.ENCRYPTION
    at_meter = agreed_key(meter_key, client_public, CLIENT_TITLE, METER_TITLE)
    assert at_meter == agreed_key(client_key, meter_public, CLIENT_TITLE, METER_TITLE)
    with pytest.raises(RemoteProtocolError, match="signature"):
        agreement_part(offer, Verifier(METER_SIGNING.public_key()))


@pytest.mark.requirement("SEC-2")
def test_transferred_keys_hold_from_the_next_request_on() -> None:
    meter, store = Meter(), None
    association = associated(meter, store=store)
    fresh = bytes(range(0x80, 0x90))
    meter.security.stage(encryption=fresh)
    assert carry(meter, association, association.get(NAME_VALUE)), "the answer is still under the old key"
    assert meter.security.keys.encryption == fresh
    association._security.change_keys(SymmetricKeys(fresh, KEYS.authentication))  # type: ignore[union-attr] # noqa: SLF001
    assert carry(meter, association, association.get(ENERGY_VALUE)) == [GetDone((double_long_unsigned(123_456),))]
