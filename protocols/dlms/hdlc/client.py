"""The primary station: a client's end of a serial line, sans-I/O.

line.write(station.connect(now))
for event in station.receive(data, now): ...
line.write(station.send(apdu, now))
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocols.dlms.hdlc.frames import Frame, FrameDecoder, FrameType, HdlcAddress, UnknownControl
from protocols.dlms.hdlc.link import LLC_COMMAND, LLC_RESPONSE, Link, SequenceError
from protocols.dlms.hdlc.parameters import WIDEST, LinkParameters
from protocols.errors import LocalProtocolError, RemoteProtocolError


class PrimaryState(enum.Enum):
    DISCONNECTED = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    AWAITING = enum.auto()
    """A request is out."""
    DISCONNECTING = enum.auto()


class Cause(enum.Enum):
    CONNECT = enum.auto()
    ACCEPTED = enum.auto()
    SEND = enum.auto()
    ANSWERED = enum.auto()
    DISCONNECT = enum.auto()
    LOST = enum.auto()


TRANSITIONS = {
    (PrimaryState.DISCONNECTED, Cause.CONNECT): PrimaryState.CONNECTING,
    (PrimaryState.CONNECTING, Cause.ACCEPTED): PrimaryState.CONNECTED,
    (PrimaryState.CONNECTED, Cause.SEND): PrimaryState.AWAITING,
    (PrimaryState.AWAITING, Cause.ANSWERED): PrimaryState.CONNECTED,
    (PrimaryState.CONNECTED, Cause.DISCONNECT): PrimaryState.DISCONNECTING,
    (PrimaryState.AWAITING, Cause.DISCONNECT): PrimaryState.DISCONNECTING,
    **{(state, Cause.LOST): PrimaryState.DISCONNECTED for state in PrimaryState},
}


@dataclass(frozen=True, slots=True)
class Write:
    """Put these bytes on the line now."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    parameters: LinkParameters


@dataclass(frozen=True, slots=True)
class ApduReceived:
    apdu: bytes


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link has ended; `reason` is empty if it was asked for."""

    reason: str = ""


HdlcEvent = Write | Connected | ApduReceived | Disconnected


@dataclass(frozen=True, slots=True)
class HdlcClientConfig:
    """Times in seconds. After `max_retries` time-outs in a row, or `max_idle_polls` polls that the server answers
    without saying anything, the link is given up."""

    client: HdlcAddress
    server: HdlcAddress
    parameters: LinkParameters = field(default=WIDEST)
    response_s: float = 2.0
    max_retries: int = 3
    max_idle_polls: int = 10
    max_apdu_bytes: int = 0xFFFF


class HdlcClient:
    def __init__(self, config: HdlcClientConfig) -> None:
        self._config = config
        self._decoder = FrameDecoder()
        self._link: Link | None = None
        self._last = b""
        self._deadline: float | None = None
        self._retries = 0
        self._idle_polls = 0
        self._expects_answer = True
        self.state = PrimaryState.DISCONNECTED

    def connect(self, now: float) -> bytes:
        """SNRM. Raises LocalProtocolError unless DISCONNECTED."""
        self._advance(Cause.CONNECT)
        self._link = None
        self._retries = 0
        return self._out(self._command(FrameType.SNRM, self._config.parameters.encode()), now)

    def send(self, apdu: bytes, now: float, *, expects_answer: bool = True) -> bytes:
        """The first frames of a request. Raises LocalProtocolError unless CONNECTED.

        Without `expects_answer` the link is ready for the next request once the server has taken this one.
        """
        self._advance(Cause.SEND)
        link = self._require_link()
        link.queue(apdu)
        self._retries = self._idle_polls = 0
        self._expects_answer = expects_answer
        return self._out(_encode(link.window()), now)

    def disconnect(self, now: float) -> bytes:
        """DISC. Raises LocalProtocolError unless connected."""
        self._advance(Cause.DISCONNECT)
        self._retries = 0
        return self._out(self._command(FrameType.DISC), now)

    def receive(self, data: bytes, now: float) -> list[HdlcEvent]:
        """What these bytes mean. Frames that are damaged or not for us are passed over; the time-out repairs."""
        events: list[HdlcEvent] = []
        for frame in self._decoder.feed(data):
            if isinstance(frame, UnknownControl) or not self._is_for_us(frame):
                continue
            events += self._on_frame(frame, now)
        return events

    def next_timer(self) -> float | None:
        """When `handle_timer` is due, in seconds."""
        return self._deadline

    def handle_timer(self, now: float) -> list[HdlcEvent]:
        """Send again what was not answered; at last give up."""
        if self._deadline is None or now < self._deadline:
            return []
        self._decoder.reset()
        self._retries += 1
        if self._retries > self._config.max_retries:
            return self._lost(f"no answer after {self._retries} attempts")
        return [Write(self._out(self._last, now))]

    # frames

    def _is_for_us(self, frame: Frame) -> bool:
        return frame.destination == self._config.client and frame.source == self._config.server

    def _on_frame(self, frame: Frame, now: float) -> list[HdlcEvent]:
        if frame.type is FrameType.UA:
            return self._on_acknowledgement(frame)
        if frame.type is FrameType.DM:
            was_asked = self.state is PrimaryState.DISCONNECTING
            return self._lost("" if was_asked else "the server is disconnected (DM)")
        if frame.type is FrameType.FRMR:
            return self._lost(f"the server rejects a frame (FRMR {frame.information.hex()})")
        if self._link is None or self.state is not PrimaryState.AWAITING:
            return []
        if frame.type in (FrameType.I, FrameType.RR):
            return self._transfer(self._link, frame, now)
        return []

    def _on_acknowledgement(self, frame: Frame) -> list[HdlcEvent]:
        if self.state is PrimaryState.DISCONNECTING:
            return self._lost("")
        if self.state is not PrimaryState.CONNECTING:
            return []
        config = self._config
        try:
            stated = LinkParameters.decode(frame.information)
        except RemoteProtocolError as error:
            return self._lost(str(error))
        agreed = config.parameters.answer_to(stated)
        self._link = Link(
            config.client, config.server, agreed, LLC_COMMAND, LLC_RESPONSE, max_apdu_bytes=config.max_apdu_bytes
        )
        self._advance(Cause.ACCEPTED)
        self._deadline = None
        return [Connected(agreed)]

    def _transfer(self, link: Link, frame: Frame, now: float) -> list[HdlcEvent]:
        try:
            link.acknowledge(frame.receive)
            apdu = link.accept(frame) if frame.type is FrameType.I else None
        except SequenceError as error:
            return self._lost(str(error))
        except RemoteProtocolError:
            apdu = None
        self._retries = 0
        if apdu is not None:
            self._advance(Cause.ANSWERED)
            self._deadline = None
            return [ApduReceived(apdu)]
        if not frame.final:
            return []
        link.go_back()
        frames = link.window()
        if frames:
            return [Write(self._out(_encode(frames), now))]
        return self._poll(link, frame, now)

    def _poll(self, link: Link, frame: Frame, now: float) -> list[HdlcEvent]:
        """Everything of ours has arrived: ask for the rest of the answer, if one is due."""
        if not self._expects_answer and not link.is_reassembling:
            self._advance(Cause.ANSWERED)
            self._deadline = None
            return []
        self._idle_polls = self._idle_polls + 1 if frame.type is FrameType.RR else 0
        if self._idle_polls > self._config.max_idle_polls:
            return self._lost("the server acknowledges and does not answer")
        return [Write(self._out(link.receive_ready().encode(), now))]

    def _command(self, kind: FrameType, information: bytes = b"") -> bytes:
        config = self._config
        return Frame(config.server, config.client, kind, final=True, information=information).encode()

    def _out(self, data: bytes, now: float) -> bytes:
        self._last, self._deadline = data, now + self._config.response_s
        return data

    def _lost(self, reason: str) -> list[HdlcEvent]:
        self._advance(Cause.LOST)
        self._link, self._deadline = None, None
        return [Disconnected(reason)]

    def _require_link(self) -> Link:
        if self._link is None:
            raise LocalProtocolError("no link")
        return self._link

    def _advance(self, cause: Cause) -> None:
        state = TRANSITIONS.get((self.state, cause))
        if state is None:
            raise LocalProtocolError(f"{cause.name} while {self.state.name}")
        self.state = state


def _encode(frames: list[Frame]) -> bytes:
    return b"".join(frame.encode() for frame in frames)
