"""Messages between concentrator and head-end: both directions, schemas, refusals."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.groups import BroadcastGroup
from protocols.headend.json_text import decode_json, encode_json
from protocols.headend.messages import (
    CHANNELS,
    MESSAGE_TYPES,
    Credentials,
    CredentialsRequest,
    CredentialsStatus,
    DcuState,
    DcuStatus,
    Event,
    KeyPurpose,
    Message,
    MeterCredentials,
    MissingReason,
    MissingValue,
    ObjectReference,
    PublicKey,
    ReadingRequest,
    ReadingResponse,
    ReadingStatus,
    ReadingValue,
    Registration,
    RegistrationAck,
    RegistrationStatus,
    channel_of,
    decode_message,
    encode_message,
    message_schema,
)
from protocols.headend.quantities import ON_DEMAND, QUANTITIES
from protocols.headend.topics import Channel, Topic, dcu_subscriptions, headend_subscriptions

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
serials = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", fullmatch=True)
eui64s = st.binary(min_size=8, max_size=8)
keys = st.binary(min_size=16, max_size=32)
times = st.integers(0, 253_402_300_799_999)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
decimals = st.builds(
    lambda digits, scale: Decimal(digits).scaleb(scale), st.integers(-(2**63), 2**64), st.integers(-12, 9)
)
obis_codes = st.builds("{}-{}:{}.{}.{}*{}".format, *[st.integers(0, 255)] * 6)
wrapped_keys = st.binary(min_size=24, max_size=24)
groups = st.builds(
    BroadcastGroup, eui64s.map(lambda half: 2 * half), wrapped_keys.map(lambda k: k[:16]), *[wrapped_keys] * 2
)
meters = st.builds(
    MeterCredentials, serials, eui64s, st.integers(0, 2), keys, keys, st.none() | groups, st.none() | names
)
values = st.builds(ReadingValue, obis_codes, decimals | names, st.text("VAWhzr", max_size=16), st.none() | times)
missing = st.builds(MissingValue, obis_codes, st.sampled_from(MissingReason))
granted = st.builds(Credentials, ids, eui64s, st.just(CredentialsStatus.GRANTED), meters)
withheld = st.builds(Credentials, ids, eui64s, st.sampled_from([CredentialsStatus.UNKNOWN, CredentialsStatus.REVOKED]))
good = st.builds(
    ReadingResponse,
    ids,
    serials,
    st.just(ReadingStatus.OK),
    times,
    st.lists(values, max_size=4).map(tuple),
    st.lists(missing, max_size=4).map(tuple),
    st.none() | times,
    st.integers(0, 9),
    names,
)
failed = st.builds(ReadingResponse, ids, serials, st.sampled_from([ReadingStatus.TIMEOUT, ReadingStatus.ERROR]), times)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(CredentialsRequest, ids, eui64s, times),
    granted,
    withheld,
    st.builds(
        Registration,
        ids,
        serials,
        eui64s,
        eui64s,
        names,
        names,
        names,
        names,
        st.integers(0, 2),
        st.integers(0, 7),
        st.lists(
            st.builds(PublicKey, st.sampled_from(KeyPurpose), st.binary(min_size=64, max_size=64)), max_size=2
        ).map(tuple),
        times,
    ),
    st.builds(RegistrationAck, ids, eui64s, st.sampled_from(RegistrationStatus), names),
    st.builds(
        ReadingRequest,
        ids,
        serials,
        st.lists(st.builds(ObjectReference, obis_codes, st.integers(0, 65535)), min_size=1, max_size=4).map(tuple),
        times,
    ),
    good,
    failed,
    st.builds(
        Event,
        ids,
        st.from_regex("[a-z][a-z0-9-]{0,63}", fullmatch=True),
        times,
        st.none() | serials,
        st.none() | eui64s,
        st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,63}", fullmatch=True), names, max_size=4).map(
            lambda pairs: tuple(sorted(pairs.items()))
        ),
    ),
    st.builds(DcuStatus, st.sampled_from(DcuState), names, st.booleans(), st.none() | times),
)

SAMPLE = ReadingResponse(
    "read-1",
    "IHM0001",
    ReadingStatus.OK,
    1_772_323_200_123,
    (ReadingValue("1-0:32.7.0*255", Decimal("230.10"), "V"),),
    attempts=2,
)


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(encode_message(SAMPLE)) | members).encode()


@given(messages)
def test_what_is_encoded_is_decoded_the_same(message: Message) -> None:
    payload = encode_message(message)
    assert decode_message(payload, channel_of(message)) == message
    assert encode_message(decode_message(payload)) == payload


@given(messages)
def test_every_message_validates_against_its_schema(message: Message) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(message_schema(type(message))).validate(json.loads(encode_message(message)))


def test_schemas_are_schemas_and_refuse_what_the_decoder_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for of in MESSAGE_TYPES.values():
        jsonschema.Draft202012Validator.check_schema(message_schema(of))
    validator = jsonschema.Draft202012Validator(message_schema(ReadingResponse))
    for payload in (changed(extra=1), changed(status="late"), changed(attempts=-1), changed(request_id="")):
        assert not validator.is_valid(json.loads(payload))
        with pytest.raises(RemoteProtocolError):
            decode_message(payload)


@given(messages, st.data())
def test_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    payload = encode_message(message)
    with pytest.raises(RemoteProtocolError):
        decode_message(payload[: data.draw(st.integers(0, len(payload) - 1))])


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(junk)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(messages, st.data())
def test_any_other_value_of_a_member_is_decoded_or_refused(message: Message, data: st.DataObject) -> None:
    body = json.loads(encode_message(message))
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)
    try:
        decoded = decode_message(json.dumps(body).encode())
    except RemoteProtocolError:
        return
    assert decode_message(encode_message(decoded)) == decoded


def test_the_text_of_a_message_is_stable() -> None:
    assert encode_message(SAMPLE).decode() == (
        '{"attempts":2,"completed_utc":"2026-03-01T00:00:00.123Z","detail":"","missing":[],"request_id":"read-1",'
        '"serial":"IHM0001","status":"ok","type":"reading-response",'
        '"values":[{"obis":"1-0:32.7.0*255","unit":"V","value":230.10}]}'
    )


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("serial", None, "field serial: must be a string"),
        ("serial", "", "field serial: must have 1 to 32 characters"),
        ("serial", "a b", "field serial: must match"),
        ("status", "late", "field status: must be one of ok"),
        ("completed_utc", "2026-02-30T00:00:00.000Z", "field completed_utc: is not a date"),
        ("completed_utc", "2026-03-01", "field completed_utc: must be UTC"),
        ("attempts", True, "field attempts: must be an integer"),
        ("attempts", 1.5, "field attempts: must be an integer"),
        ("values", {}, "field values: must be an array"),
        ("values", [{}], r"field values\[0\].obis: is missing"),
        ("values", [{"obis": "1-0:1.8.0*255", "value": None, "unit": ""}], r"values\[0\].value: must be a number"),
        ("detail", "\ud800", "field detail: holds an unpaired surrogate"),
        ("unheard", 1, "field message: has 1 unknown members"),
        ("type", "nothing", "field type: is unknown"),
        ("type", 5, "field type: is missing"),
    ],
)
def test_a_wrong_field_is_named(member: str, value: object, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        decode_message(changed(**{member: value}))


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"type":"event","type":"event"}',
        b'{"type":NaN}',
        b'{"type":' + b"9" * 5000 + b"}",
        b'{"type":1e999999999}',
        b'{"type":1.' + b"0" * 100_000 + b"}",
        b" " * 300_000,
        b"\xff",
    ],
)
def test_hostile_json_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(payload)


def test_values_and_status_must_agree() -> None:
    with pytest.raises(RemoteProtocolError, match="values"):
        decode_message(changed(status="timeout"))
    with pytest.raises(LocalProtocolError, match="credentials"):
        encode_message(Credentials("c-1", bytes(8), CredentialsStatus.GRANTED))


def test_our_own_mistakes_are_local_errors() -> None:
    with pytest.raises(LocalProtocolError, match="serial"):
        encode_message(ReadingRequest("r", "", (ObjectReference("1-0:1.8.0*255", 3),), 0))
    with pytest.raises(LocalProtocolError):
        encode_json(1.5)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        encode_json(Decimal("NaN"))
    with pytest.raises(LocalProtocolError):
        Topic("a/b", Channel.EVENT)


def test_a_message_travels_only_on_its_channel() -> None:
    payload = encode_message(SAMPLE)
    assert decode_message(payload, Channel.RESPONSE) == SAMPLE
    with pytest.raises(RemoteProtocolError, match="may not travel"):
        decode_message(payload, Channel.EVENT)
    assert {of for types in CHANNELS.values() for of in types} == set(get_args(Message))


def test_keys_are_in_no_repr_and_no_error() -> None:
    key = bytes.fromhex("00112233445566778899aabbccddeeff")
    message = Credentials("c-1", bytes(8), CredentialsStatus.GRANTED, MeterCredentials("S1", bytes(8), 0, key, key))
    assert key.hex() not in repr(message)
    assert repr(key) not in repr(message)
    body = json.loads(encode_message(message))
    body["meter"]["encryption_key"] = key.hex() + "zz"
    with pytest.raises(RemoteProtocolError, match=r"field meter\.encryption_key") as caught:
        decode_message(json.dumps(body).encode())
    assert key.hex() not in str(caught.value)


@pytest.mark.parametrize("channel", list(Channel))
def test_topics_round_trip(channel: Channel) -> None:
    topic = Topic("dcu-1", channel)
    assert Topic.decode(topic.encode()) == topic
    assert topic.encode() == f"openami/v1/dcu/dcu-1/{channel.value}"


@pytest.mark.parametrize(
    "text", ["", "openami/v1/dcu", "openami/v1/dcu//event", "openami/v1/dcu/a/b/event", "openami/v1/dcu/a/nothing"]
)
def test_foreign_topics_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Topic.decode(text)


def test_every_channel_has_one_direction() -> None:
    to_dcu = {text.rsplit("/", 1)[1] for text in dcu_subscriptions("d")}
    to_headend = {text.rsplit("/", 1)[1] for text in headend_subscriptions()}
    assert to_dcu | to_headend == set(Channel)
    assert not to_dcu & to_headend


def test_quantities_are_named_once_and_the_usual_ones_exist() -> None:
    assert len({item.name for item in QUANTITIES}) == len({item.obis for item in QUANTITIES}) == len(QUANTITIES)
    assert set(ON_DEMAND) <= {item.name for item in QUANTITIES}


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(10**30), 10**30) | decimals | names, st.lists, max_leaves=9)
)
def test_json_values_round_trip_exactly(value: Any) -> None:
    assert decode_json(encode_json(value)) == value
