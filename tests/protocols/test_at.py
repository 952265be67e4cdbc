"""AT results: both directions, answers told from unsolicited codes, and whatever noise a line may carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.at import (
    MAX_LINE_BYTES,
    AccessTechnology,
    EquipmentError,
    Final,
    LineStream,
    Operator,
    Registration,
    RegistrationStatus,
    SignalQuality,
    SimState,
    Technology,
    WirelessService,
    decode_sim_state,
    encode_command,
    encode_line,
    fields_of,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

HEX = st.text("0123456789ABCDEF", min_size=1, max_size=8)
REGISTRATIONS = st.one_of(
    st.builds(Registration, st.sampled_from(Registration.PREFIXES), st.sampled_from(RegistrationStatus)),
    st.builds(
        Registration,
        st.sampled_from(Registration.PREFIXES),
        st.sampled_from(RegistrationStatus),
        HEX,
        HEX,
        st.sampled_from(AccessTechnology),
    ),
)
NAMES = st.text("ABCdef 0123,()-", min_size=1, max_size=16)
DECODERS = (
    lambda line: Registration.decode(line, is_answer=True),
    lambda line: Registration.decode(line, is_answer=False),
    SignalQuality.decode,
    Operator.decode,
    decode_sim_state,
    Final.decode,
    fields_of,
)


@given(REGISTRATIONS, st.integers(0, 2))
def test_registration_survives_the_line_as_answer_and_unsolicited(found: Registration, mode: int) -> None:
    assert Registration.decode(found.encode(), is_answer=False) == found
    assert Registration.decode(found.encode(mode=mode), is_answer=True) == found


@given(st.none() | st.integers(0, 31).map(lambda step: 2 * step - 113))
def test_signal_survives_the_line(rss_dbm: int | None) -> None:
    assert SignalQuality.decode(SignalQuality(rss_dbm).encode()) == SignalQuality(rss_dbm)


@given(NAMES, st.sampled_from(AccessTechnology))
def test_operator_survives_the_line(name: str, access: AccessTechnology) -> None:
    assert Operator.decode(Operator(name, access).encode()) == Operator(name, access)


@given(
    st.sampled_from([Final(is_ok=True), Final(is_ok=False)])
    | st.builds(Final, st.just(False), st.sampled_from(EquipmentError))
)
def test_final_results_survive_the_line(final: Final) -> None:
    assert Final.decode(final.encode()) == final


@given(REGISTRATIONS, st.data())
def test_a_truncated_line_is_refused_or_says_less(found: Registration, data: st.DataObject) -> None:
    line = found.encode(mode=2)
    for decode in DECODERS:
        try:
            decode(line[: data.draw(st.integers(0, len(line) - 1))])
        except RemoteProtocolError:
            continue


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
    | st.text('+CREGOPSQN:,"0123456789 ', max_size=30)
)
def test_junk_is_refused(junk: str) -> None:
    for decode in DECODERS:
        for line in (
            junk,
            "+CREG: " + junk,
            "+CSQ: " + junk,
            "+COPS: " + junk,
            "+CPIN: " + junk,
            "+CME ERROR: " + junk,
        ):
            try:
                decode(line)
            except RemoteProtocolError:
                continue


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('+CEREG: 2,1,"1A2B","1C0FFEE",7', Technology.G4),
        ('+CREG: 2,5,"00C3","0000A1B2",6', Technology.G3),
        ('+CREG: 2,1,"00C3","A1B2",3', Technology.G2),
    ],
)
def test_the_technology_is_told_by_act(line: str, expected: Technology) -> None:
    found = Registration.decode(line, is_answer=True)
    assert found.status.is_registered
    assert found.access is not None
    assert found.access.technology is expected


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("+CPIN: READY", SimState.READY),
        ("+CPIN: SIM PIN", SimState.PIN),
        ("+CPIN: SIM PUK", SimState.PUK),
        ("+CPIN: PH-NET PIN", SimState.PUK),
    ],
)
def test_sim_states(line: str, state: SimState) -> None:
    assert decode_sim_state(line) is state


def test_services_name_technologies_from_the_best() -> None:
    assert WirelessService.ANY.technologies == (Technology.G4, Technology.G3, Technology.G2)
    assert WirelessService.GSM_UTRAN.technologies == (Technology.G3, Technology.G2)
    assert WirelessService.GSM.technologies == (Technology.G2,)


@pytest.mark.parametrize("text", ["", "+CSQ", "AT+X\r", "AT\u00e9"])
def test_what_is_no_command_is_not_sent(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_command(text)


@given(
    st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40), max_size=5),
    st.integers(1, 9),
)
def test_lines_are_found_however_they_are_cut(lines: list[str], size_bytes: int) -> None:
    found: list[str] = []
    stream = LineStream(found.append)
    data = b"".join(encode_line(line) for line in lines)
    for start in range(0, len(data), size_bytes):
        stream.feed(data[start : start + size_bytes])
    assert found == lines


@given(st.binary(max_size=3 * MAX_LINE_BYTES))
def test_noise_is_dropped_and_counted(noise: bytes) -> None:
    found: list[str] = []
    stream = LineStream(found.append)
    stream.feed(noise + b"\r\nOK\r\n")
    assert found[-1] == "OK"
    assert all(len(line) <= MAX_LINE_BYTES for line in found)
