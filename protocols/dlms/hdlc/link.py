"""Numbered information transfer, the same on both sides of a link: segments, windows, going back to what was lost."""

from __future__ import annotations

from collections import deque

from protocols.dlms.hdlc.frames import Frame, FrameType, HdlcAddress
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.errors import RemoteProtocolError

LLC_COMMAND, LLC_RESPONSE = bytes.fromhex("E6E600"), bytes.fromhex("E6E700")
_MODULUS = 8


class SequenceError(RemoteProtocolError):
    """N(R) acknowledges what was never sent: the link must be reset."""


class Link:
    """State of one link in normal response mode. `own_llc` goes before what is sent, `peer_llc` is cut off."""

    def __init__(
        self,
        own: HdlcAddress,
        peer: HdlcAddress,
        parameters: LinkParameters,
        own_llc: bytes,
        peer_llc: bytes,
        *,
        max_apdu_bytes: int,
    ) -> None:
        self._own = own
        self._peer = peer
        self.parameters = parameters
        self._own_llc = own_llc
        self._peer_llc = peer_llc
        self._max_apdu_bytes = max_apdu_bytes
        self._outgoing: deque[tuple[bytes, bool]] = deque()
        """Segments not acknowledged, the oldest first; the second says whether more of the APDU follow."""
        self._in_flight = 0
        self._send = 0
        self._receive = 0
        self._incoming = bytearray()

    @property
    def has_outgoing(self) -> bool:
        return bool(self._outgoing)

    @property
    def is_reassembling(self) -> bool:
        """Whether more segments of an APDU are due."""
        return bool(self._incoming)

    def queue(self, apdu: bytes) -> None:
        """Cut an APDU into segments to be sent."""
        content, size = self._own_llc + apdu, self.parameters.transmit_information_bytes
        for start in range(0, len(content), size):
            self._outgoing.append((content[start : start + size], start + size < len(content)))

    def window(self) -> list[Frame]:
        """The frames that may be sent now; the last one polls."""
        room = min(len(self._outgoing), self.parameters.transmit_window) - self._in_flight
        frames = []
        for index in range(self._in_flight, self._in_flight + room):
            content, more = self._outgoing[index]
            frames.append(
                Frame(
                    self._peer,
                    self._own,
                    FrameType.I,
                    final=index == self._in_flight + room - 1,
                    send=(self._send + index) % _MODULUS,
                    receive=self._receive,
                    segmented=more,
                    information=content,
                )
            )
        self._in_flight += max(room, 0)
        return frames

    def go_back(self) -> None:
        """What was not acknowledged is sent again."""
        self._in_flight = 0

    def acknowledge(self, receive: int) -> None:
        """Take N(R). Raises SequenceError if it is not one of what was sent."""
        count = (receive - self._send) % _MODULUS
        if count > self._in_flight:
            raise SequenceError(f"N(R) {receive} with N(S) {self._send} and {self._in_flight} in flight")
        for _ in range(count):
            self._outgoing.popleft()
        self._send = receive
        self._in_flight -= count

    def accept(self, frame: Frame) -> bytes | None:
        """Take an I frame: an APDU if it is complete with it. A frame out of sequence is passed over.

        Raises RemoteProtocolError if the LLC header is wrong or the APDU grows too long.
        """
        if frame.send != self._receive:
            return None
        self._receive = (self._receive + 1) % _MODULUS
        self._incoming += frame.information
        if len(self._incoming) > self._max_apdu_bytes + len(self._peer_llc):
            self._incoming.clear()
            raise RemoteProtocolError(f"an APDU of more than {self._max_apdu_bytes} bytes")
        if frame.segmented:
            return None
        content = bytes(self._incoming)
        self._incoming.clear()
        if content[: len(self._peer_llc)] != self._peer_llc:
            raise RemoteProtocolError("an LLC header that is not of DLMS")
        return content[len(self._peer_llc) :]

    def receive_ready(self) -> Frame:
        return Frame(self._peer, self._own, FrameType.RR, final=True, receive=self._receive)

    def reject_information(self, control: int, *, unknown: bool, too_long: bool, bad_receive: bool) -> bytes:
        """The information field of FRMR: the control byte, V(S) and V(R), and why."""
        states = self._receive << 5 | ((self._send + self._in_flight) % _MODULUS) << 1
        return bytes((control, states, unknown | too_long << 2 | bad_receive << 3))
