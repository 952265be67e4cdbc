"""General block transfer: any APDU in numbered blocks, with windows and recovery of lost ones (IEC 62056-5-3).

`GbtEndpoint` is one side. Blocks of a window are streamed; the last one of a window asks for an acknowledgement,
which names the last block that came in order, and sending goes on behind it. What a lost acknowledgement or a lost end
of a window leaves hanging, `repeat` moves on.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.dlms.data import decode_length, encode_length
from protocols.errors import RemoteProtocolError

GENERAL_BLOCK_TRANSFER = 0xE0
OVERHEAD_BYTES = 9
"""Tag, block control, two numbers and a length of 3 bytes."""
MAX_WINDOW = 63
_LAST, _STREAMING = 0x80, 0x40
_SPEC = "IEC 62056-5-3, general-block-transfer"


@dataclass(frozen=True, slots=True)
class GeneralBlockTransfer:
    """Tag E0. `window` is how many blocks the sender of this APDU can take in a row; `streaming` says that more
    follow before an answer is expected."""

    last_block: bool
    streaming: bool
    window: int
    block_number: int
    block_number_ack: int
    content: bytes

    def encode(self) -> bytes:
        control = (_LAST if self.last_block else 0) | (_STREAMING if self.streaming else 0) | self.window
        head = bytes((GENERAL_BLOCK_TRANSFER, control))
        numbers = self.block_number.to_bytes(2, "big") + self.block_number_ack.to_bytes(2, "big")
        return head + numbers + encode_length(len(self.content)) + self.content

    @classmethod
    def decode(cls, raw: bytes) -> GeneralBlockTransfer:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=_SPEC)
        if reader.u8() != GENERAL_BLOCK_TRANSFER:
            raise reader.error("not a general-block-transfer")
        control, number, acknowledged = reader.u8(), reader.u16(), reader.u16()
        content = reader.take(decode_length(reader))
        reader.expect_end()
        return cls(
            bool(control & _LAST), bool(control & _STREAMING), control & MAX_WINDOW, number, acknowledged, content
        )


class GbtAborted(RemoteProtocolError):  # noqa: N818 (what the peer did)
    """The transfer cannot go on: too long, or the peer takes no blocks."""


class GbtEndpoint:
    """One side of one exchange: at most one APDU each way.

    `window` is what this side takes in a row, `burst` what it sends in a row at most, whatever the peer can take, and
    `limit_bytes` the longest APDU that it puts together.
    """

    def __init__(
        self, block_bytes: int, *, window: int = 1, burst: int = MAX_WINDOW, limit_bytes: int = 0x10_0000
    ) -> None:
        self._block_bytes = block_bytes
        self._window = window
        self._burst = burst
        self._limit_bytes = limit_bytes
        self._peer_window = 1
        self._outgoing: list[bytes] = []
        self._acknowledged = 0
        self._sent = 0
        self._incoming = bytearray()
        self._received = 0
        self._is_complete = False
        self._acknowledgements = 0

    @property
    def is_sent(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return self._acknowledged == len(self._outgoing)

    def send(self, apdu: bytes) -> list[bytes]:
        """Cut `apdu` into blocks; the first window of them."""
        size = self._block_bytes
        self._outgoing += [apdu[start : start + size] for start in range(0, len(apdu), size)] or [b""]
        return self._next_window()

    def expect(self, peer_window: int) -> None:
        """What the peer can take in a row, where that is known before it has sent a block."""
        self._peer_window = max(1, min(peer_window, self._burst))

    def receive(self, block: GeneralBlockTransfer) -> tuple[list[bytes], bytes | None]:
        """APDUs to send now, and the APDU that is complete with this block.

        Raises GbtAborted if the transfer cannot go on.
        """
        if block.window == 0 and not self.is_sent:
            raise GbtAborted("the peer takes no more blocks", spec=_SPEC)
        self._peer_window = max(1, min(block.window, self._burst))
        if self._acknowledged < block.block_number_ack <= self._sent:
            self._acknowledged = block.block_number_ack
        complete = self._take(block) if block.content or block.last_block else None
        if block.streaming:
            return [], complete
        if not self.is_sent:
            self._sent = self._acknowledged  # what was sent and not acknowledged is lost: go back
            return self._next_window(), complete
        if complete is not None or (self._is_complete and not block.content):
            return [], complete
        return [self._acknowledgement()], None

    def repeat(self) -> list[bytes]:
        """Nothing came for too long: the window again, or the acknowledgement again."""
        if not self.is_sent:
            self._sent = self._acknowledged
            return self._next_window()
        return [self._acknowledgement()]

    def _take(self, block: GeneralBlockTransfer) -> bytes | None:
        if self._is_complete or block.block_number != self._received + 1:
            return None  # a repetition, or behind a gap: our acknowledgement says where to go on
        if not block.content and not (block.last_block and self._incoming):
            return None  # an acknowledgement alone
        if len(self._incoming) + len(block.content) > self._limit_bytes:
            raise GbtAborted(f"an APDU of more than {self._limit_bytes} bytes", spec=_SPEC)
        self._incoming += block.content
        self._received += 1
        if not block.last_block:
            return None
        self._is_complete = True
        return bytes(self._incoming)

    def _next_window(self) -> list[bytes]:
        end = min(self._acknowledged + self._peer_window, len(self._outgoing))
        blocks = []
        for index in range(self._sent, end):
            is_last = index + 1 == len(self._outgoing)
            streaming = index + 1 < end
            block = GeneralBlockTransfer(
                is_last, streaming, self._window, index + 1, self._received, self._outgoing[index]
            )
            blocks.append(block.encode())
        self._sent = end
        return blocks

    def _acknowledgement(self) -> bytes:
        self._acknowledgements = (self._acknowledgements % 0xFFFF) + 1
        number = len(self._outgoing) + self._acknowledgements
        block = GeneralBlockTransfer(True, False, self._window, number & 0xFFFF, self._received, b"")
        return block.encode()
