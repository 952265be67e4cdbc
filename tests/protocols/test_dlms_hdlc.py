"""HDLC: frames, negotiation, segments, windows, lost and damaged frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from dlms_strategies import quick
from dlms_support import ENERGY, MANY, READER, Meter, client
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.client import AttributeReference
from protocols.dlms.data import double_long_unsigned
from protocols.dlms.hdlc.client import (
    ApduReceived,
    Connected,
    Disconnected,
    HdlcClient,
    HdlcClientConfig,
    HdlcEvent,
    PrimaryState,
    Write,
)
from protocols.dlms.hdlc.frames import (
    Frame,
    FrameDecoder,
    FrameError,
    FrameType,
    HdlcAddress,
    UnknownControl,
    checksum,
)
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.dlms.hdlc.server import HdlcServer, HdlcServerConfig, StationState
from protocols.dlms.reading import Flow, T, associate, read_value
from protocols.errors import LocalProtocolError, RemoteProtocolError

PUBLIC_CLIENT = HdlcAddress(16)
METER = HdlcAddress(1, 17)

addresses = st.one_of(
    st.builds(HdlcAddress, st.integers(0, 127)),
    st.builds(HdlcAddress, st.integers(0, 127), st.integers(0, 127), st.just(2)),
    st.builds(HdlcAddress, st.integers(0, 0x3FFF), st.integers(0, 0x3FFF), st.just(4)),
)
numbered = st.builds(
    Frame,
    addresses,
    addresses,
    st.just(FrameType.I),
    st.booleans(),
    st.integers(0, 7),
    st.integers(0, 7),
    st.booleans(),
    st.binary(max_size=60),
)
supervisory = st.builds(
    Frame,
    addresses,
    addresses,
    st.sampled_from((FrameType.RR, FrameType.RNR)),
    st.booleans(),
    st.just(0),
    st.integers(0, 7),
)
unnumbered = st.builds(
    Frame,
    addresses,
    addresses,
    st.sampled_from((FrameType.SNRM, FrameType.UA, FrameType.DM, FrameType.FRMR, FrameType.UI)),
    st.booleans(),
    information=st.binary(max_size=60),
)
frames = st.one_of(numbered, supervisory, unnumbered)


def test_checksum_of_the_check_string() -> None:
    """CRC-16/X-25 of "123456789" is 906E."""
    assert checksum(b"123456789") == bytes.fromhex("6E90")


def test_snrm_and_ua_of_the_field() -> None:
    """As meters and clients exchange them: one-byte addresses, no parameters."""
    snrm = bytes.fromhex("7EA0070321930F017E")
    decoder = FrameDecoder()
    (frame,) = decoder.feed(snrm)
    assert frame == Frame(HdlcAddress(1), HdlcAddress(16), FrameType.SNRM, final=True)
    assert isinstance(frame, Frame)
    assert frame.encode() == snrm


@quick
@given(frames)
@pytest.mark.requirement("OSI-7")
def test_frame_comes_back_as_it_was_and_damage_is_noticed(frame: Frame) -> None:
    raw = frame.encode()[1:-1]
    assert Frame.decode(raw) == frame
    for end in range(len(raw)):
        with pytest.raises(FrameError):
            Frame.decode(raw[:end])
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 0x20
        with pytest.raises(FrameError):
            Frame.decode(bytes(damaged))


@quick
@given(st.lists(st.one_of(frames.map(Frame.encode), st.binary(max_size=20)), max_size=6), st.data())
def test_line_may_be_cut_anywhere_and_carry_junk(parts: list[bytes], draw: st.DataObject) -> None:
    stream = b"".join(parts)
    whole, cut = FrameDecoder().feed(stream), []
    decoder = FrameDecoder()
    while stream:
        size = draw.draw(st.integers(1, len(stream)))
        cut += decoder.feed(stream[:size])
        stream = stream[size:]
    assert [str(item) for item in cut] == [str(item) for item in whole]


@quick
@given(st.lists(frames, max_size=5))
def test_frames_may_share_their_flags(sent: list[Frame]) -> None:
    raw = b"\x7e" + b"".join(frame.encode()[1:] for frame in sent)
    assert FrameDecoder().feed(raw) == sent


@pytest.mark.parametrize(
    ("upper", "lower", "size"), [(128, None, 1), (1, 128, 2), (0x4000, 1, 4), (1, 1, 3), (1, None, 2), (1, 1, 1)]
)
def test_address_that_does_not_exist_is_our_bug(upper: int, lower: int | None, size: int) -> None:
    with pytest.raises(LocalProtocolError):
        HdlcAddress(upper, lower, size)


def test_address_takes_the_room_that_it_needs() -> None:
    assert HdlcAddress(1).encode() == bytes.fromhex("03")
    assert HdlcAddress(1, 17).encode() == bytes.fromhex("0223")
    assert HdlcAddress(1, 1000).encode() == bytes.fromhex("00020ED1")


@quick
@given(st.builds(LinkParameters, st.integers(32, 2030), st.integers(32, 2030), st.integers(1, 7), st.integers(1, 7)))
def test_parameters_come_back_and_truncation_is_the_peers_error(parameters: LinkParameters) -> None:
    raw = parameters.encode()
    assert LinkParameters.decode(raw) == parameters
    for end in range(1, len(raw)):
        with pytest.raises(RemoteProtocolError):
            LinkParameters.decode(raw[:end])


def test_parameters_that_are_missing_or_out_of_range_are_made_right() -> None:
    assert LinkParameters.decode(b"") == LinkParameters(128, 128, 1, 1)
    assert LinkParameters.decode(bytes.fromhex("818007050201000701FF")) == LinkParameters(256, 128, 7, 1)
    ours, theirs = LinkParameters(1000, 500, 7, 3), LinkParameters(200, 600, 2, 5)
    assert ours.answer_to(theirs) == LinkParameters(600, 200, 5, 2)


class LinkLostError(Exception):
    """The line was worse than the client's patience."""


class Line:
    """A client, a meter and the wire between them, in time that this class keeps."""

    def __init__(
        self,
        *,
        server: LinkParameters | None = None,
        primary: LinkParameters | None = None,
        address: HdlcAddress = METER,
        lost: Callable[[int], bool] = lambda _: False,
    ) -> None:
        widest = LinkParameters(2030, 2030, 7, 7)
        self.meter = Meter(rows=120)
        self.closed: list[int] = []
        self.server = HdlcServer(
            HdlcServerConfig(physical_address=17, parameters=server or widest),
            lambda client_sap, _server_sap, apdu, now: self.meter.server.handle(client_sap, apdu, now),
            on_disconnect=self.closed.append,
        )
        config = HdlcClientConfig(HdlcAddress(READER), address, primary or widest)
        self.primary = HdlcClient(config)
        self.now = 0.0
        self._lost = lost
        self._sent = 0
        self.frames = 0

    def _carry(self, data: bytes) -> bytes:
        """What is left of some frames when lost ones are taken out."""
        kept = b""
        decoder = FrameDecoder()
        for frame in decoder.feed(data):
            assert isinstance(frame, Frame)
            self._sent += 1
            self.frames += 1
            kept += b"" if self._lost(self._sent) else frame.encode()
        return kept

    def exchange(self, data: bytes) -> list[HdlcEvent]:
        """Carry bytes to and fro, with time-outs, until something is heard that is not to be written."""
        for _ in range(1000):
            answer = self._carry(self.server.receive(self._carry(data), self.now))
            events = self.primary.receive(answer, self.now)
            if not any(isinstance(event, Write) for event in events) and not events:
                deadline = self.primary.next_timer()
                if deadline is None:
                    return []
                self.now = deadline
                events = self.primary.handle_timer(self.now)
            told = [event for event in events if not isinstance(event, Write)]
            if told:
                return told
            data = b"".join(event.data for event in events if isinstance(event, Write))
        raise AssertionError("the exchange does not end")

    def run(self, flow: Flow[T]) -> T:
        apdu = next(flow)
        while True:
            (event,) = self.exchange(self.primary.send(apdu, self.now))
            if not isinstance(event, ApduReceived):
                raise LinkLostError(event)
            try:
                apdu = flow.send(event.apdu)
            except StopIteration as done:
                result: T = done.value
                return result


@pytest.mark.parametrize("size", [32, 128, 2030])
@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.requirement("UNECE-1")
def test_readings_and_profiles_travel_in_segments_and_windows(size: int, window: int) -> None:
    limits = LinkParameters(size, size, window, window)
    line = Line(server=limits)
    (connected,) = line.exchange(line.primary.connect(0.0))
    assert connected == Connected(limits)
    association = client(READER, max_receive_pdu_bytes=65535)
    line.run(associate(association))
    assert line.run(read_value(association, AttributeReference(3, ENERGY, 2))) == double_long_unsigned(123_456)
    assert line.run(read_value(association, AttributeReference(7, MANY, 2))) == line.meter.table.whole()
    assert line.server.state_of(READER) is StationState.CONNECTED
    assert line.exchange(line.primary.disconnect(line.now)) == [Disconnected()]
    assert line.closed == [READER]
    assert line.server.state_of(READER) is StationState.DISCONNECTED


@quick
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 7))
def test_nothing_is_lost_or_doubled_on_a_bad_line(losses: list[bool], window: int) -> None:
    # no more losses in a row than the client's patience
    kept = [lost and not all(losses[max(0, index - 2) : index]) for index, lost in enumerate(losses)]
    limits = LinkParameters(64, 64, window, window)
    line = Line(server=limits, lost=lambda sent: sent <= len(kept) and kept[sent - 1])
    (connected,) = line.exchange(line.primary.connect(0.0))
    if isinstance(connected, Disconnected):
        return
    association = client(READER, max_receive_pdu_bytes=65535)
    with contextlib.suppress(LinkLostError):
        line.run(associate(association))
        assert line.run(read_value(association, AttributeReference(7, MANY, 2))) == line.meter.table.whole()


def test_server_that_is_silent_is_given_up() -> None:
    line = Line(lost=lambda _: True)
    (event,) = line.exchange(line.primary.connect(0.0))
    assert isinstance(event, Disconnected)
    assert "no answer" in event.reason
    assert line.primary.state is PrimaryState.DISCONNECTED
    assert line.now == pytest.approx(8.0)


def station(**changes: int) -> tuple[HdlcServer, list[bytes]]:
    """A server that gives APDUs back, connected with a client at 16."""
    heard: list[bytes] = []

    def echo(_client_sap: int, _server_sap: int, apdu: bytes, _now: float) -> bytes:
        heard.append(apdu)
        return apdu

    return HdlcServer(HdlcServerConfig(physical_address=17), echo), heard


def command(
    kind: FrameType, *, to: HdlcAddress = METER, final: bool = True, send: int = 0, receive: int = 0, info: bytes = b""
) -> bytes:
    return Frame(to, PUBLIC_CLIENT, kind, final, send, receive, information=info).encode()


def answers(server: HdlcServer, data: bytes, now: float = 0.0) -> list[Frame]:
    found = FrameDecoder().feed(server.receive(data, now))
    assert all(isinstance(item, Frame) for item in found)
    return found  # type: ignore[return-value]


APDU = bytes.fromhex("E6E600") + b"apdu"


def test_modes_and_their_answers() -> None:
    server, heard = station()
    assert [item.type for item in answers(server, command(FrameType.RR))] == [FrameType.DM]
    assert [item.type for item in answers(server, command(FrameType.I, info=APDU))] == [FrameType.DM]
    assert [item.type for item in answers(server, command(FrameType.DISC))] == [FrameType.DM]
    assert [item.type for item in answers(server, command(FrameType.SNRM))] == [FrameType.UA]
    (answer,) = answers(server, command(FrameType.I, info=APDU))
    assert (answer.type, answer.send, answer.receive, answer.final) == (FrameType.I, 0, 1, True)
    assert answer.information == bytes.fromhex("E6E700") + b"apdu"
    (again,) = answers(server, command(FrameType.I, info=APDU))
    assert again == answer, "a repeated request gets its answer again, and is not done again"
    assert heard == [b"apdu"]
    (ready,) = answers(server, command(FrameType.RR, receive=1))
    assert (ready.type, ready.receive) == (FrameType.RR, 1)
    assert [item.type for item in answers(server, command(FrameType.DISC))] == [FrameType.UA]
    assert [item.type for item in answers(server, command(FrameType.DISC))] == [FrameType.DM]


@pytest.mark.parametrize(
    ("destination", "is_ours"),
    [
        (HdlcAddress(1), True),
        (HdlcAddress(1, 17), True),
        (HdlcAddress(1, 17, 4), True),
        (HdlcAddress(2, 17), False),
        (HdlcAddress(1, 18), False),
        (HdlcAddress(0x7F), False),
        (HdlcAddress(1, 0x7F), False),
        (HdlcAddress(0x3FFF, 0x3FFF, 4), False),
    ],
)
def test_only_frames_for_this_station_are_answered(destination: HdlcAddress, is_ours: bool) -> None:
    server, _ = station()
    found = answers(server, command(FrameType.SNRM, to=destination))
    assert bool(found) is is_ours
    if found:
        assert (found[0].destination, found[0].source) == (PUBLIC_CLIENT, destination)


def test_broadcast_is_heard_and_not_answered() -> None:
    server, heard = station()
    assert answers(server, command(FrameType.UI, to=HdlcAddress(0x3FFF, 0x3FFF, 4), info=APDU)) == []
    assert heard == [b"apdu"]
    (answer,) = answers(server, command(FrameType.UI, info=APDU))
    assert (answer.type, answer.information[3:]) == (FrameType.UI, b"apdu")


def test_what_breaks_the_procedure_is_rejected_with_its_reason() -> None:
    server, _ = station()
    answers(server, command(FrameType.SNRM, info=LinkParameters(128, 64, 1, 1).encode()))
    (rejected,) = answers(server, command(FrameType.RR, receive=5))
    assert (rejected.type, rejected.information[2]) == (FrameType.FRMR, 0x08)
    (rejected,) = answers(server, command(FrameType.I, info=APDU + bytes(200)))
    assert (rejected.type, rejected.information[2]) == (FrameType.FRMR, 0x04)
    unknown = bytearray(command(FrameType.DISC)[1:-3])
    unknown[5] = 0xEF
    raw = b"\x7e" + bytes(unknown) + checksum(bytes(unknown)) + b"\x7e"
    assert isinstance(FrameDecoder().feed(raw)[0], UnknownControl)
    (rejected,) = answers(server, raw)
    assert (rejected.type, rejected.information[0], rejected.information[2]) == (FrameType.FRMR, 0xEF, 0x01)
    assert server.counters["frame_reject"] == 3


def test_silence_ends_a_frame_and_a_link() -> None:
    server, _ = station()
    snrm = command(FrameType.SNRM)
    server.receive(snrm[:5], 0.0)
    assert server.next_timer() == pytest.approx(0.5)
    server.handle_timer(0.5)
    assert answers(server, snrm, 1.0)
    assert server.state_of(16) is StationState.CONNECTED
    assert server.next_timer() == pytest.approx(121.0)
    server.handle_timer(121.0)
    assert server.state_of(16) is StationState.DISCONNECTED
    assert server.counters["inter_octet_time_out"] == server.counters["inactivity_time_out"] == 1


@quick
@given(st.lists(st.one_of(st.binary(max_size=40), frames.map(Frame.encode)), max_size=8))
def test_server_and_client_survive_anything_on_the_line(parts: list[bytes]) -> None:
    server, _ = station()
    answers(server, command(FrameType.SNRM))
    primary = HdlcClient(HdlcClientConfig(PUBLIC_CLIENT, METER))
    primary.connect(0.0)
    primary.receive(Frame(PUBLIC_CLIENT, METER, FrameType.UA, final=True).encode(), 0.0)
    primary.send(b"apdu", 0.0)
    for number, part in enumerate(parts):
        server.receive(part, float(number))
        primary.receive(part, float(number))


@quick
@given(st.integers(0, 7), st.integers(0, 7), st.sampled_from((FrameType.I, FrameType.RR, FrameType.FRMR, FrameType.DM)))
def test_client_survives_any_answer(send: int, receive: int, kind: FrameType) -> None:
    primary = HdlcClient(HdlcClientConfig(PUBLIC_CLIENT, METER))
    primary.connect(0.0)
    primary.receive(Frame(PUBLIC_CLIENT, METER, FrameType.UA, final=True).encode(), 0.0)
    primary.send(b"apdu", 0.0)
    for _ in range(20):
        if primary.state is PrimaryState.AWAITING:
            frame = Frame(PUBLIC_CLIENT, METER, kind, True, send if kind is FrameType.I else 0, receive)
            primary.receive(frame.encode(), 0.0)
    assert primary.state in (PrimaryState.AWAITING, PrimaryState.DISCONNECTED, PrimaryState.CONNECTED)


def test_request_without_answer_leaves_the_link_ready() -> None:
    silent = HdlcServer(HdlcServerConfig(physical_address=17), lambda *_: None)
    primary = HdlcClient(HdlcClientConfig(PUBLIC_CLIENT, METER))
    primary.receive(silent.receive(primary.connect(0.0), 0.0), 0.0)
    request = primary.send(b"unconfirmed", 0.0, expects_answer=False)
    assert primary.receive(silent.receive(request, 0.0), 0.0) == []
    assert primary.state is PrimaryState.CONNECTED
    events = primary.receive(silent.receive(primary.send(b"confirmed", 0.0), 0.0), 0.0)
    for _ in range(20):
        writes = [event.data for event in events if isinstance(event, Write)]
        if not writes:
            break
        events = primary.receive(silent.receive(writes[0], 0.0), 0.0)
    assert isinstance(events[0], Disconnected)


def test_independent_implementation_reads_our_frames_and_we_read_its() -> None:
    pytest.importorskip("dlms_cosem")
    from dlms_cosem.hdlc import address
    from dlms_cosem.hdlc import frames as their_frames

    meter = address.HdlcAddress(logical_address=1, physical_address=17, address_type="server")
    they = address.HdlcAddress(logical_address=16, physical_address=None, address_type="client")
    server, heard = station()
    snrm = their_frames.SetNormalResponseModeFrame(destination_address=meter, source_address=they)
    raw = server.receive(snrm.to_bytes(), 0.0)
    parsed = their_frames.UnNumberedAcknowledgmentFrame.from_bytes(raw)
    assert parsed.information.startswith(bytes.fromhex("8180"))
    information = their_frames.InformationFrame(
        destination_address=meter,
        source_address=they,
        payload=APDU,
        send_sequence_number=0,
        receive_sequence_number=0,
        segmented=False,
        final=True,
    )
    raw = server.receive(information.to_bytes(), 0.0)
    assert heard == [b"apdu"]
    answer = their_frames.InformationFrame.from_bytes(raw)
    assert bytes(answer.payload)[3:] == b"apdu"
