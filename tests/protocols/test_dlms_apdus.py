"""Every APDU: round trip, truncation at every byte, junk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dlms_strategies as strategies
import pytest
from dlms_strategies import blocks, methods, octets, quick, references, tuples, u8, u32
from dlms_strategies import small as data
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import action, get
from protocols.dlms import set as set_apdu
from protocols.dlms.acse import Aare, Aarq, Rlre, Rlrq
from protocols.dlms.enums import (
    AcseProviderDiagnostic,
    AcseUserDiagnostic,
    AssociationResult,
    Conformance,
    ErrorKind,
    ErrorService,
    ReleaseRequestReason,
    ReleaseResponseReason,
    ServiceError,
    StateError,
)
from protocols.dlms.exception import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.initiate import InitiateRequest, InitiateResponse
from protocols.dlms.wrapper import Wpdu, WrapperDecoder
from protocols.errors import LocalProtocolError, RemoteProtocolError

conformance = st.integers(0, 0x7FFFFF).map(Conformance)
maybe = st.none() | octets
maybe_u8 = st.none() | u8
u16 = st.integers(0, 0xFFFF)
diagnostics = st.one_of(st.sampled_from(AcseUserDiagnostic), st.sampled_from(AcseProviderDiagnostic))
plain_errors = st.sampled_from([error for error in ServiceError if error is not ServiceError.INVOCATION_COUNTER_ERROR])
access_results = tuples(strategies.access_results)
outcomes = strategies.outcomes

CODECS: dict[str, tuple[st.SearchStrategy[Any], Callable[[bytes], Any]]] = {
    "AARQ": (
        st.builds(
            Aarq,
            context=u8,
            user_information=maybe,
            mechanism=maybe_u8,
            authentication_value=maybe,
            calling_ap_title=maybe,
            calling_ae_qualifier=maybe,
            calling_ae_invocation_id=st.none() | st.integers(0, 127),
            authentication_functional_unit=st.booleans(),
            called_ap_title=maybe,
        ),
        Aarq.decode,
    ),
    "AARE": (
        st.builds(
            Aare,
            context=u8,
            result=st.sampled_from(AssociationResult),
            diagnostic=diagnostics,
            user_information=maybe,
            mechanism=maybe_u8,
            authentication_value=maybe,
            responding_ap_title=maybe,
            responding_ae_qualifier=maybe,
        ),
        Aare.decode,
    ),
    "RLRQ": (st.builds(Rlrq, st.none() | st.sampled_from(ReleaseRequestReason), maybe), Rlrq.decode),
    "RLRE": (st.builds(Rlre, st.none() | st.sampled_from(ReleaseResponseReason), maybe), Rlre.decode),
    "InitiateRequest": (
        st.builds(InitiateRequest, conformance, u16, maybe, st.booleans(), maybe_u8, u8),
        InitiateRequest.decode,
    ),
    "InitiateResponse": (st.builds(InitiateResponse, conformance, u16, maybe_u8, u8, u16), InitiateResponse.decode),
    "ExceptionResponse": (
        st.one_of(
            st.builds(ExceptionResponse, st.sampled_from(StateError), plain_errors),
            st.builds(
                ExceptionResponse,
                st.sampled_from(StateError),
                st.just(ServiceError.INVOCATION_COUNTER_ERROR),
                u32,
            ),
        ),
        ExceptionResponse.decode,
    ),
    "ConfirmedServiceError": (
        st.builds(ConfirmedServiceError, st.sampled_from(ErrorService), st.sampled_from(ErrorKind), u8),
        ConfirmedServiceError.decode,
    ),
    "GET request": (
        st.one_of(
            st.builds(get.GetRequestNormal, u8, references),
            st.builds(get.GetRequestNext, u8, u32),
            st.builds(get.GetRequestWithList, u8, tuples(references)),
        ),
        get.decode_request,
    ),
    "GET response": (
        st.one_of(
            st.builds(get.GetResponseNormal, u8, strategies.get_results),
            st.builds(get.GetResponseWithBlock, u8, st.booleans(), u32, octets | strategies.access_results),
            st.builds(get.GetResponseWithList, u8, tuples(strategies.get_results)),
        ),
        get.decode_response,
    ),
    "SET request": (
        st.one_of(
            st.builds(set_apdu.SetRequestNormal, u8, references, data),
            st.builds(set_apdu.SetRequestWithFirstDataBlock, u8, references, blocks),
            st.builds(set_apdu.SetRequestWithDataBlock, u8, blocks),
            st.builds(set_apdu.SetRequestWithList, u8, tuples(references), tuples(data)),
            st.builds(set_apdu.SetRequestWithListAndFirstDataBlock, u8, tuples(references), blocks),
        ),
        set_apdu.decode_request,
    ),
    "SET response": (
        st.one_of(
            st.builds(set_apdu.SetResponseNormal, u8, strategies.access_results),
            st.builds(set_apdu.SetResponseDataBlock, u8, u32),
            st.builds(set_apdu.SetResponseLastDataBlock, u8, strategies.access_results, u32),
            st.builds(set_apdu.SetResponseLastDataBlockWithList, u8, access_results, u32),
            st.builds(set_apdu.SetResponseWithList, u8, access_results),
        ),
        set_apdu.decode_response,
    ),
    "ACTION request": (
        st.one_of(
            st.builds(action.ActionRequestNormal, u8, methods, st.none() | data),
            st.builds(action.ActionRequestNextPblock, u8, u32),
            st.builds(action.ActionRequestWithList, u8, tuples(methods), tuples(data)),
            st.builds(action.ActionRequestWithFirstPblock, u8, methods, blocks),
            st.builds(action.ActionRequestWithListAndFirstPblock, u8, tuples(methods), blocks),
            st.builds(action.ActionRequestWithPblock, u8, blocks),
        ),
        action.decode_request,
    ),
    "ACTION response": (
        st.one_of(
            st.builds(action.ActionResponseNormal, u8, outcomes),
            st.builds(action.ActionResponseWithPblock, u8, blocks),
            st.builds(action.ActionResponseWithList, u8, tuples(outcomes)),
            st.builds(action.ActionResponseNextPblock, u8, u32),
        ),
        action.decode_response,
    ),
    "WPDU": (st.builds(Wpdu, u16, u16, octets), Wpdu.decode),
}
names = pytest.mark.parametrize("name", CODECS)


@names
@pytest.mark.requirement("OSI-7")
@quick
@given(draw=st.data())
def test_apdu_comes_back_as_it_was_and_truncated_is_the_peers_error(name: str, draw: st.DataObject) -> None:
    strategy, decode = CODECS[name]
    apdu = draw.draw(strategy)
    raw = apdu.encode()
    assert decode(raw) == apdu
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            decode(raw[:end])
    with pytest.raises(RemoteProtocolError):
        decode(raw + b"\x00")


@names
@quick
@given(draw=st.data())
def test_junk_and_damaged_apdus_are_the_peers_error_or_an_apdu(name: str, draw: st.DataObject) -> None:
    strategy, decode = CODECS[name]
    raw = bytearray(draw.draw(strategy).encode())
    for _ in range(draw.draw(st.integers(1, 4))):
        raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(u8)
    for candidate in (
        bytes(raw),
        draw.draw(st.binary(max_size=60)),
        bytes(raw[:1]) + draw.draw(st.binary(max_size=60)),
    ):
        try:
            decode(candidate)
        except RemoteProtocolError:
            continue


@quick
@given(st.lists(st.builds(Wpdu, u16, u16, octets), max_size=5), st.data())
def test_stream_of_wpdus_may_be_cut_anywhere(wpdus: list[Wpdu], draw: st.DataObject) -> None:
    stream = b"".join(wpdu.encode() for wpdu in wpdus)
    decoder, found = WrapperDecoder(), []
    while stream:
        size = draw.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert found == wpdus


def test_stream_that_is_out_of_step_is_given_up() -> None:
    with pytest.raises(RemoteProtocolError, match="version"):
        WrapperDecoder().feed(b"\x00\x02" + b"\x00" * 6)
    with pytest.raises(RemoteProtocolError, match="100 at most"):
        WrapperDecoder(100).feed(bytes.fromhex("0001001000010065"))


def test_apdu_too_long_for_the_wrapper_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        Wpdu(1, 16, b"x" * 0x10000).encode()
