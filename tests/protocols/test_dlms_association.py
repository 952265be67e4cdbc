"""Associations end to end: client and server over APDUs carried by hand."""

from __future__ import annotations

import pytest
from dlms_support import (
    CLIENT_TITLE,
    ENERGY,
    KEYS,
    MANAGEMENT,
    MANY,
    METER_TITLE,
    NAME,
    NOTE,
    PUBLIC,
    READER,
    Meter,
    associated,
    carry,
    client,
)

from protocols.dlms.acse import Aare, Aarq
from protocols.dlms.action import MethodOutcome
from protocols.dlms.client import (
    ActionDone,
    Associated,
    AttributeReference,
    ClientState,
    GetDone,
    MethodReference,
    Refused,
    Released,
    RequestFailed,
    Send,
    SetDone,
)
from protocols.dlms.data import Data, boolean, double_long_unsigned, integer, octet_string, unsigned
from protocols.dlms.enums import (
    DEFAULT_CONFORMANCE,
    AcseProviderDiagnostic,
    AcseUserDiagnostic,
    ActionResult,
    AssociationResult,
    Conformance,
    ContextName,
    DataAccessResult,
    ErrorKind,
    Mechanism,
)
from protocols.dlms.exception import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.get import GetRequestNext, GetResponseWithBlock, decode_response
from protocols.dlms.initiate import InitiateRequest, InitiateResponse
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.keys import Policy
from protocols.errors import LocalProtocolError, RemoteProtocolError

NAME_VALUE = AttributeReference(1, NAME, 2)
NOTE_VALUE = AttributeReference(1, NOTE, 2)
ENERGY_VALUE = AttributeReference(3, ENERGY, 2)
TABLE_BUFFER = AttributeReference(7, MANY, 2)
ECHO = MethodReference(3, ENERGY, 1)

VARIANTS = {
    "glo": {},
    "general-glo": {"general_ciphering": True},
    "ded": {"dedicated_key": True},
    "general-ded": {"dedicated_key": True, "general_ciphering": True},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def only(found: list[object]) -> object:
    (event,) = found
    return event


@pytest.mark.parametrize("client_sap", [PUBLIC, READER, MANAGEMENT])
@pytest.mark.requirement("OSI-5")
def test_each_association_opens_reads_and_closes(client_sap: int) -> None:
    meter, association = Meter(), client(client_sap)
    assert isinstance(only(carry(meter, association, association.associate())), Associated)
    assert carry(meter, association, association.get(NAME_VALUE)) == [GetDone((octet_string(meter.name.content),))]
    assert carry(meter, association, association.release()) == [Released()]
    assert association.state is ClientState.IDLE
    assert not meter.server.sessions


@variants
@pytest.mark.requirement("SEC-1")
def test_ciphered_forms_read_write_and_invoke(variant: str) -> None:
    meter = Meter()
    association = associated(meter, MANAGEMENT, **VARIANTS[variant])
    assert carry(meter, association, association.get(ENERGY_VALUE)) == [GetDone((double_long_unsigned(123_456),))]
    written = association.set(NOTE_VALUE, octet_string(b"new"))
    assert b"new" not in written
    assert carry(meter, association, written) == [SetDone((DataAccessResult.SUCCESS,))]
    assert meter.note.content == b"new"
    done = carry(meter, association, association.action(ECHO, unsigned(3)))
    assert done == [ActionDone((MethodOutcome(ActionResult.SUCCESS, unsigned(3)),))]


@pytest.mark.parametrize("policy", [Policy.AUTHENTICATED, Policy.ENCRYPTED, Policy.AUTHENTICATED_AND_ENCRYPTED])
@pytest.mark.requirement("SEC-1")
def test_every_policy_works_and_less_than_it_is_refused(policy: Policy) -> None:
    meter = Meter(policy=policy)
    association = associated(meter, MANAGEMENT, policy=policy)
    assert carry(meter, association, association.get(NAME_VALUE)) == [GetDone((octet_string(meter.name.content),))]
    for less in (Policy.NONE, Policy.AUTHENTICATED, Policy.ENCRYPTED):
        weaker = client(MANAGEMENT, store=None, policy=less)
        if policy & ~less:
            weaker.conformance = DEFAULT_CONFORMANCE
            assert isinstance(only(carry(meter, weaker, weaker.associate())), Refused)


@pytest.mark.requirement("SEC-3")
def test_rights_differ_by_association() -> None:
    meter = Meter()
    public, reader, management = (associated(meter, sap) for sap in (PUBLIC, READER, MANAGEMENT))
    undefined, denied = DataAccessResult.OBJECT_UNDEFINED, DataAccessResult.READ_WRITE_DENIED
    assert carry(meter, public, public.get(ENERGY_VALUE)) == [GetDone((undefined,))]
    assert carry(meter, reader, reader.get(ENERGY_VALUE)) == [GetDone((double_long_unsigned(123_456),))]
    assert carry(meter, reader, reader.set(ENERGY_VALUE, double_long_unsigned(0))) == [SetDone((denied,))]
    refused = ActionDone((MethodOutcome(ActionResult.READ_WRITE_DENIED),))
    assert carry(meter, reader, reader.action(ECHO, unsigned(1))) == [refused]
    written = carry(meter, management, management.set(ENERGY_VALUE, double_long_unsigned(0)))
    assert written == [SetDone((DataAccessResult.SUCCESS,))]


def test_results_say_what_is_wrong() -> None:
    meter = Meter()
    association = associated(meter)
    elsewhere = ObisCode.parse("1.0.99.99.0.255")

    def read(reference: AttributeReference) -> object:
        (done,) = carry(meter, association, association.get(reference))
        assert isinstance(done, GetDone)
        return done.results[0]

    assert read(AttributeReference(3, elsewhere, 2)) is DataAccessResult.OBJECT_UNDEFINED
    assert read(AttributeReference(1, ENERGY, 2)) is DataAccessResult.OBJECT_CLASS_INCONSISTENT
    assert read(AttributeReference(3, ENERGY, 9)) is DataAccessResult.OBJECT_UNDEFINED
    assert read(AttributeReference(3, ENERGY, -1)) is DataAccessResult.OBJECT_UNDEFINED
    assert read(AttributeReference(3, ENERGY, 1)) == octet_string(bytes(ENERGY))

    def write(reference: AttributeReference, value: Data) -> object:
        (done,) = carry(meter, association, association.set(reference, value))
        assert isinstance(done, SetDone)
        return done.results[0]

    assert write(NOTE_VALUE, unsigned(1)) is DataAccessResult.TYPE_UNMATCHED
    assert write(NOTE_VALUE, octet_string(b"unwritable")) is DataAccessResult.HARDWARE_FAULT
    assert write(AttributeReference(1, NOTE, 1), octet_string(b"")) is DataAccessResult.READ_WRITE_DENIED
    failed = carry(meter, association, association.action(ECHO, boolean(True)))
    assert failed == [ActionDone((MethodOutcome(ActionResult.TEMPORARY_FAILURE),))]
    nothing = carry(meter, association, association.action(ECHO, integer(1)))
    assert nothing == [ActionDone((MethodOutcome(ActionResult.SUCCESS),))]


@variants
@pytest.mark.requirement("UC-III.1")
def test_long_answers_come_in_blocks(variant: str) -> None:
    meter = Meter(rows=300)
    association = associated(meter, MANAGEMENT, max_receive_pdu_bytes=256, **VARIANTS[variant])
    apdu = association.get(TABLE_BUFFER)
    answer = meter.server.handle(MANAGEMENT, apdu, 0.0)
    assert answer is not None
    assert len(answer) <= 256
    assert meter.table.made < 20, "rows must not be made before they are sent"
    association.repeat()
    (event,) = association.receive(answer)
    assert carry(meter, association, event.apdu) == [GetDone((meter.table.whole(),))]  # type: ignore[union-attr]


def test_lists_of_attributes_fit_or_come_in_blocks() -> None:
    meter = Meter()
    for size in (1024, 128):
        association = associated(meter, READER, max_receive_pdu_bytes=size)
        missing = AttributeReference(3, ENERGY, 7)
        done = carry(meter, association, association.get(NAME_VALUE, missing, ENERGY_VALUE, TABLE_BUFFER))
        results = (
            octet_string(meter.name.content),
            DataAccessResult.OBJECT_UNDEFINED,
            double_long_unsigned(123_456),
            meter.table.whole(),
        )
        assert done == [GetDone(results)]


@pytest.mark.parametrize("size", [10, 900, 5000])
def test_values_of_any_length_are_written_and_passed_to_methods(size: int) -> None:
    meter = Meter(max_receive_pdu_bytes=256)
    association = associated(meter, MANAGEMENT, max_receive_pdu_bytes=300)
    value = octet_string(bytes(index % 251 for index in range(size)))
    assert carry(meter, association, association.set(NOTE_VALUE, value)) == [SetDone((DataAccessResult.SUCCESS,))]
    assert meter.note.content == value.value
    writes = ((NOTE_VALUE, octet_string(b"first")), (ENERGY_VALUE, unsigned(1)), (NOTE_VALUE, value))
    results = (DataAccessResult.SUCCESS, DataAccessResult.TYPE_UNMATCHED, DataAccessResult.SUCCESS)
    assert carry(meter, association, association.set_many(writes)) == [SetDone(results)]
    echoed = MethodOutcome(ActionResult.SUCCESS, value)
    assert carry(meter, association, association.action(ECHO, value)) == [ActionDone((echoed,))]
    calls = ((ECHO, value), (ECHO, boolean(True)), (ECHO, None))
    outcomes = (
        echoed,
        MethodOutcome(ActionResult.TEMPORARY_FAILURE),
        MethodOutcome(ActionResult.SUCCESS, Data(0, None)),
    )
    assert carry(meter, association, association.action_many(calls)) == [ActionDone(outcomes)]


def test_lost_block_is_sent_again_and_a_wrong_number_ends_the_transfer() -> None:
    meter = Meter()
    association = associated(meter, READER, max_receive_pdu_bytes=128)
    first = meter.server.handle(READER, association.get(TABLE_BUFFER), 0.0)
    assert first is not None
    invoke = first[2]

    def ask(number: int) -> GetResponseWithBlock:
        answer = meter.server.handle(READER, GetRequestNext(invoke, number).encode(), 0.0)
        assert answer is not None
        response = decode_response(answer)
        assert isinstance(response, GetResponseWithBlock)
        return response

    second = ask(1)
    assert ask(1) == second
    assert ask(2).block_number == 3
    assert ask(7).content is DataAccessResult.DATA_BLOCK_NUMBER_INVALID
    assert ask(3).content is DataAccessResult.NO_LONG_GET_IN_PROGRESS


def test_repeated_requests_and_answers_do_no_harm() -> None:
    meter = Meter()
    association = client()
    aarq = association.associate()
    first = meter.server.handle(MANAGEMENT, aarq, 0.0)
    second = meter.server.handle(MANAGEMENT, association.repeat(), 0.0)
    assert first is not None
    assert second is not None
    (proof,) = association.receive(first)
    assert association.receive(second) == ()
    answer = meter.server.handle(MANAGEMENT, proof.apdu, 0.0)  # type: ignore[union-attr]
    assert answer is not None
    assert isinstance(only(carry(meter, association, association.repeat())), Associated)
    with pytest.raises(RemoteProtocolError):
        association.receive(answer)
    request = association.get(NAME_VALUE)
    lost = meter.server.handle(MANAGEMENT, request, 0.0)
    assert lost is not None
    assert carry(meter, association, association.repeat()) == [GetDone((octet_string(meter.name.content),))]
    with pytest.raises(RemoteProtocolError):
        association.receive(lost)


@pytest.mark.parametrize("service", ["SET", "ACTION"])
def test_lost_answer_to_the_last_block_is_given_again_and_nothing_is_done_twice(service: str) -> None:
    meter = Meter(max_receive_pdu_bytes=256)
    association = associated(meter)
    value = octet_string(bytes(700))
    apdu = association.set(NOTE_VALUE, value) if service == "SET" else association.action(ECHO, value)
    done: list[object] = []
    writes = []
    for _ in range(20):
        answer = meter.server.handle(MANAGEMENT, apdu, 0.0)
        writes.append(meter.note.content)
        again = meter.server.handle(MANAGEMENT, association.repeat(), 0.0)
        assert answer is not None
        assert again is not None
        (event,) = association.receive(again)
        if not isinstance(event, Send):
            done.append(event)
            break
        apdu = event.apdu
    outcome = ActionDone((MethodOutcome(ActionResult.SUCCESS, value),))
    assert done == [SetDone((DataAccessResult.SUCCESS,)) if service == "SET" else outcome]
    assert not meter.server.refusals


def test_associations_that_are_not_used_are_closed() -> None:
    meter = Meter()
    associated(meter, READER)
    reader = client(READER)
    meter.server.handle(READER, reader.associate(), 100.0, channel="later")
    meter.server.close_idle(130.0, 60.0)
    assert [channel for _, channel in meter.server.sessions] == ["later"]


def test_association_belongs_to_the_channel_that_opened_it() -> None:
    meter = Meter()
    reader = client(READER)
    answer = meter.server.handle(READER, reader.associate(), 0.0, channel="a")
    assert answer is not None
    reader.receive(answer)
    apdu = reader.get(ENERGY_VALUE)
    stranger = meter.server.handle(READER, apdu, 0.0, channel="b")
    assert stranger is not None
    assert ExceptionResponse.decode(stranger)
    owner = meter.server.handle(READER, apdu, 0.0, channel="a")
    assert owner is not None
    assert reader.receive(owner) == (GetDone((double_long_unsigned(123_456),)),)
    meter.server.close("a")
    assert not meter.server.sessions


def test_number_of_associations_is_bounded_and_the_open_ones_go_first() -> None:
    meter = Meter()
    management = associated(meter)
    for channel in range(50):
        meter.server.handle(PUBLIC, client(PUBLIC).associate(), 0.0, channel=channel)
    assert len(meter.server.sessions) <= 8
    assert carry(meter, management, management.get(NAME_VALUE)) == [GetDone((octet_string(meter.name.content),))]


def aare_to(meter: Meter, client_sap: int, aarq: Aarq) -> Aare:
    answer = meter.server.handle(client_sap, aarq.encode(), 0.0)
    assert answer is not None
    return Aare.decode(answer)


INITIATE = InitiateRequest(Conformance.GET, 512).encode()


@pytest.mark.parametrize(
    ("client_sap", "aarq", "diagnostic"),
    [
        (99, Aarq(ContextName.LN, INITIATE), AcseUserDiagnostic.NO_REASON_GIVEN),
        (PUBLIC, Aarq(ContextName.SN, INITIATE), AcseUserDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED),
        (PUBLIC, Aarq(ContextName.LN_CIPHERED, INITIATE), AcseUserDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED),
        (READER, Aarq(ContextName.LN, INITIATE), AcseUserDiagnostic.AUTHENTICATION_REQUIRED),
        (
            READER,
            Aarq(ContextName.LN, INITIATE, mechanism=5),
            AcseUserDiagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED,
        ),
        (
            READER,
            Aarq(ContextName.LN, INITIATE, mechanism=1, authentication_value=b"wrong"),
            AcseUserDiagnostic.AUTHENTICATION_FAILURE,
        ),
        (
            MANAGEMENT,
            Aarq(ContextName.LN_CIPHERED, INITIATE, mechanism=5, authentication_value=b"12345678"),
            AcseUserDiagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED,
        ),
        (
            MANAGEMENT,
            Aarq(
                ContextName.LN_CIPHERED,
                INITIATE,
                mechanism=5,
                authentication_value=b"12345678",
                calling_ap_title=CLIENT_TITLE,
            ),
            AcseUserDiagnostic.AUTHENTICATION_REQUIRED,
        ),
        (PUBLIC, Aarq(ContextName.LN, None), AcseUserDiagnostic.NO_REASON_GIVEN),
        (PUBLIC, Aarq(ContextName.LN, b"junk"), AcseUserDiagnostic.NO_REASON_GIVEN),
    ],
)
def test_aarq_that_does_not_fit_is_rejected_with_its_diagnostic(
    client_sap: int, aarq: Aarq, diagnostic: AcseUserDiagnostic
) -> None:
    aare = aare_to(Meter(), client_sap, aarq)
    assert aare.result is AssociationResult.REJECTED_PERMANENT
    assert aare.diagnostic is diagnostic


@pytest.mark.requirement("OSI-5")
@pytest.mark.parametrize("version", ["0640", "0700", "00", ""])
def test_aarq_without_version_1_is_refused_by_the_provider(version: str) -> None:
    meter = Meter()
    aare = aare_to(meter, PUBLIC, Aarq(ContextName.LN, INITIATE, protocol_version=bytes.fromhex(version)))
    assert aare.result is AssociationResult.REJECTED_PERMANENT
    assert aare.diagnostic is AcseProviderDiagnostic.NO_COMMON_ACSE_VERSION
    assert meter.server.refusals["no_common_acse_version"] == 1
    good = aare_to(meter, PUBLIC, Aarq(ContextName.LN, INITIATE, protocol_version=bytes.fromhex("0780")))
    assert good.result is AssociationResult.ACCEPTED


@pytest.mark.parametrize(
    ("request_", "value"),
    [
        (InitiateRequest(Conformance.GET, 512, dlms_version=5), 1),
        (InitiateRequest(Conformance.READ, 512), 2),
        (InitiateRequest(Conformance.GET, 11), 3),
    ],
)
def test_initiate_that_does_not_fit_brings_a_confirmed_service_error(request_: InitiateRequest, value: int) -> None:
    aare = aare_to(Meter(), PUBLIC, Aarq(ContextName.LN, request_.encode()))
    assert aare.result is AssociationResult.REJECTED_PERMANENT
    assert aare.user_information is not None
    error = ConfirmedServiceError.decode(aare.user_information)
    assert (error.kind, error.value) == (ErrorKind.INITIATE, value)


def test_conformance_and_sizes_are_negotiated() -> None:
    aare = aare_to(Meter(), PUBLIC, Aarq(ContextName.LN, INITIATE))
    assert aare.user_information is not None
    response = InitiateResponse.decode(aare.user_information)
    assert response.conformance == Conformance.GET
    assert response.max_receive_pdu_bytes == 1024


def test_service_that_was_not_negotiated_is_refused() -> None:
    meter = Meter()
    reader = associated(meter, READER, conformance=Conformance.GET)
    reader.conformance = DEFAULT_CONFORMANCE
    for apdu in (reader.set(NOTE_VALUE, unsigned(1)),):
        (failed,) = carry(meter, reader, apdu)
        assert isinstance(failed, RequestFailed)
    (failed,) = carry(meter, reader, reader.get(NAME_VALUE, ENERGY_VALUE))
    assert isinstance(failed, RequestFailed)


def test_requests_out_of_order_are_our_bug() -> None:
    association = client(PUBLIC)
    for call in (association.release, association.repeat, lambda: association.get(NAME_VALUE)):
        with pytest.raises(LocalProtocolError):
            call()
    association.associate()
    with pytest.raises(LocalProtocolError):
        association.associate()
    association.abandon()
    assert association.state is ClientState.IDLE


@pytest.mark.parametrize("mechanism", [Mechanism.HIGH_GMAC, Mechanism.HIGH_SHA256])
@pytest.mark.requirement("UC-I.1")
def test_high_mechanisms_prove_both_sides(mechanism: Mechanism) -> None:
    meter = Meter(mechanism=mechanism)
    secret = meter.management.secret
    association = associated(meter, mechanism=mechanism, secret=secret)
    assert association.state is ClientState.ASSOCIATED
    if mechanism is Mechanism.HIGH_SHA256:
        other = Meter(mechanism=mechanism)
        wrong = client(mechanism=mechanism, secret=b"another")
        assert isinstance(only(carry(other, wrong, wrong.associate())), Refused)
        assert other.server.refusals["wrong_proof"] == 1


@pytest.mark.requirement("UC-I.3")
def test_meter_that_does_not_know_the_key_is_refused_by_the_client() -> None:
    meter = Meter(policy=Policy.NONE)
    association = client(policy=Policy.NONE)
    challenge = meter.server.handle(MANAGEMENT, association.associate(), 0.0)
    assert challenge is not None
    association.receive(challenge)
    forged = bytes.fromhex("C701C1000100") + b"\x09\x11" + b"\x10\x00\x00\x00\x01" + bytes(12)
    (refused,) = association.receive(forged)
    assert isinstance(refused, Refused)
    assert "proof" in refused.reason
    assert association.state is ClientState.IDLE


def test_keys_are_not_shown() -> None:
    meter = Meter()
    association = associated(meter, READER)
    shown = repr((KEYS, meter.management, association.config, meter.server.sessions, meter.server.associations))
    for secret in (KEYS.encryption, KEYS.authentication, meter.management.secret, association.config.secret):
        assert repr(secret)[2:-1] not in shown
    assert METER_TITLE
