"""A primary station of a tester's own making: it sends right frames and wrong ones, and says what comes back."""

from __future__ import annotations

from dataclasses import replace

from protocols.dlms.hdlc.frames import Frame, FrameDecoder, FrameType, HdlcAddress, UnknownControl
from protocols.dlms.hdlc.link import LLC_COMMAND, LLC_RESPONSE
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.errors import RemoteProtocolError
from twin.conformance.plans.answers import SILENCE
from twin.conformance.serial import RESPONSE_S, SerialLine, server_address
from twin.conformance.tester import NoAnswerError, Role, Tester
from twin.conformance.verdicts import Record, equals

_MODULUS = 8
_MOST_FRAMES = 10_000


class Station:
    """One client address on a line, speaking to the meter's; counts N(S) and N(R) as a right primary does."""

    def __init__(self, line: SerialLine, client: HdlcAddress, server: HdlcAddress) -> None:
        self.line = line
        self.client = client
        self.server = server
        self.send_state = 0
        self.receive_state = 0
        self.parameters = LinkParameters()
        """As the UA stated them, from the meter's side."""

    @classmethod
    async def of(cls, tester: Tester, role: Role = Role.PUBLIC) -> Station:
        """A station on the target's line, after what was still on it is read away. Raises SkipCase without a line."""
        saps = tester.facts.saps
        station = cls(tester.open_line(), HdlcAddress(tester.sap(role)), server_address(saps, saps.server))
        while await station.line.read(0.0):
            continue
        return station

    # frames

    def frame(self, kind: FrameType, **changes: object) -> Frame:
        """A command with the poll bit; `changes` replace its fields."""
        return replace(Frame(self.server, self.client, kind, final=True), **changes)  # type: ignore[arg-type]

    async def ask(self, data: bytes | Frame, timeout_s: float = RESPONSE_S) -> list[Frame]:
        """Write, and read frames up to one with the final bit, or until nothing more comes."""
        self.line.write(data.encode() if isinstance(data, Frame) else data)
        decoder = FrameDecoder()
        frames: list[Frame] = []
        while True:
            received = await self.line.read(timeout_s)
            if not received:
                return frames
            for frame in decoder.feed(received):
                if isinstance(frame, UnknownControl):
                    raise RemoteProtocolError(str(frame))
                frames.append(frame)
            if frames and frames[-1].final:
                return frames

    async def outcome(self, data: bytes | Frame) -> str:
        """What comes back, in words."""
        return in_words(await self.ask(data))

    # a right link

    async def connect(self, information: bytes = b"") -> str:
        """SNRM; the counters begin anew, and the UA's parameters hold."""
        frames = await self.ask(self.frame(FrameType.SNRM, information=information))
        self.send_state = self.receive_state = 0
        if frames and frames[0].type is FrameType.UA:
            self.parameters = LinkParameters.decode(frames[0].information)
        return in_words(frames)

    async def disconnect(self) -> str:
        return await self.outcome(self.frame(FrameType.DISC))

    def information(self, apdu: bytes, **changes: object) -> Frame:
        """An I frame with one whole APDU; it does not move the counters."""
        frame = self.frame(
            FrameType.I, send=self.send_state, receive=self.receive_state, information=LLC_COMMAND + apdu
        )
        return replace(frame, **changes)  # type: ignore[arg-type]

    async def exchange(self, apdu: bytes) -> tuple[bytes, list[Frame]]:
        """Send an APDU, in segments if it must, and take the whole answer, as a right primary does.

        Raises NoAnswerError, RemoteProtocolError.
        """
        waiting = await self._send_segments(LLC_COMMAND + apdu)
        content, seen = b"", []
        for _ in range(_MOST_FRAMES):
            frames = await self.ask(waiting)
            if not frames:
                raise NoAnswerError("no answer on the line")
            seen += frames
            for frame in frames:
                if frame.type is FrameType.I and frame.send == self.receive_state:
                    self.receive_state = (self.receive_state + 1) % _MODULUS
                    content += frame.information
                    if not frame.segmented:
                        return _without_llc(content), seen
                elif frame.type is not FrameType.I and frame.type is not FrameType.RR:
                    raise _unexpected(frame, "information")
            waiting = self.frame(FrameType.RR, receive=self.receive_state)
        raise RemoteProtocolError(f"no end after {_MOST_FRAMES} frames")

    async def _send_segments(self, content: bytes) -> Frame:
        """Send all segments but the last, each acknowledged; the last one, to be sent."""
        size = self.parameters.receive_information_bytes
        while True:
            segment, content = content[:size], content[size:]
            frame = self.information(b"", information=segment, segmented=bool(content))
            self.send_state = (self.send_state + 1) % _MODULUS
            if not content:
                return frame
            for answer in await self.ask(frame):
                if answer.type is not FrameType.RR or answer.receive != self.send_state:
                    raise _unexpected(answer, "RR to a segment")


def _unexpected(frame: Frame, due: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"{in_words([frame])} where {due} is due", spec="IEC 62056-46")


def _without_llc(content: bytes) -> bytes:
    if content[:3] != LLC_RESPONSE:
        raise RemoteProtocolError("an answer without the LLC header of a response", spec="IEC 62056-46")
    return content[3:]


def in_words(frames: list[Frame]) -> str:
    """The types of frames, in order."""
    return " ".join(frame.type.name for frame in frames) or SILENCE


async def still_connects(station: Station, record: Record) -> None:
    """Whatever was refused, a right SNRM is answered afterwards."""
    record.measure("a right SNRM afterwards", await station.connect(), limit=equals("UA"))
    record.measure("DISC", await station.disconnect(), limit=equals("UA"))
