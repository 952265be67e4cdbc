"""What SNRM and UA negotiate: lengths of information fields, and windows (IEC 62056-46)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader

_FORMAT, _GROUP = 0x81, 0x80
_TRANSMIT_INFORMATION, _RECEIVE_INFORMATION, _TRANSMIT_WINDOW, _RECEIVE_WINDOW = 5, 6, 7, 8
DEFAULT_INFORMATION_BYTES = 128
MAX_INFORMATION_BYTES = 2030
LEAST_INFORMATION_BYTES = 32
DEFAULT_WINDOW = 1
MAX_WINDOW = 7
_SPEC = "IEC 62056-46, parameter negotiation"


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """Seen from the side that states them."""

    transmit_information_bytes: int = DEFAULT_INFORMATION_BYTES
    receive_information_bytes: int = DEFAULT_INFORMATION_BYTES
    transmit_window: int = DEFAULT_WINDOW
    receive_window: int = DEFAULT_WINDOW

    def encode(self) -> bytes:
        """The information field of SNRM or UA."""
        group = b""
        for parameter, value in (
            (_TRANSMIT_INFORMATION, self.transmit_information_bytes),
            (_RECEIVE_INFORMATION, self.receive_information_bytes),
        ):
            size = 1 if value < 0x100 else 2
            group += bytes((parameter, size)) + value.to_bytes(size, "big")
        for parameter, value in ((_TRANSMIT_WINDOW, self.transmit_window), (_RECEIVE_WINDOW, self.receive_window)):
            group += bytes((parameter, 4)) + value.to_bytes(4, "big")
        return bytes((_FORMAT, _GROUP, len(group))) + group

    @classmethod
    def decode(cls, information: bytes) -> LinkParameters:
        """What is not stated has its default; values out of range are brought into it, as the standard bids.

        Raises RemoteProtocolError if truncated or malformed.
        """
        if not information:
            return cls()
        reader = Reader(information, spec=_SPEC)
        if reader.u8() != _FORMAT or reader.u8() != _GROUP:
            raise reader.error("not the negotiation of link parameters")
        group = reader.sub(reader.u8())
        reader.expect_end()
        values = {
            _TRANSMIT_INFORMATION: DEFAULT_INFORMATION_BYTES,
            _RECEIVE_INFORMATION: DEFAULT_INFORMATION_BYTES,
            _TRANSMIT_WINDOW: DEFAULT_WINDOW,
            _RECEIVE_WINDOW: DEFAULT_WINDOW,
        }
        while group.remaining:
            parameter = group.u8()
            content = group.take(group.u8())
            if parameter in values and 1 <= len(content) <= 4:
                values[parameter] = int.from_bytes(content, "big")
        return cls(
            _between(LEAST_INFORMATION_BYTES, values[_TRANSMIT_INFORMATION], MAX_INFORMATION_BYTES),
            _between(LEAST_INFORMATION_BYTES, values[_RECEIVE_INFORMATION], MAX_INFORMATION_BYTES),
            _between(1, values[_TRANSMIT_WINDOW], MAX_WINDOW),
            _between(1, values[_RECEIVE_WINDOW], MAX_WINDOW),
        )

    def answer_to(self, peer: LinkParameters) -> LinkParameters:
        """What holds on this side, between what it can do and what the peer proposes."""
        return LinkParameters(
            min(self.transmit_information_bytes, peer.receive_information_bytes),
            min(self.receive_information_bytes, peer.transmit_information_bytes),
            min(self.transmit_window, peer.receive_window),
            min(self.receive_window, peer.transmit_window),
        )


WIDEST = LinkParameters(MAX_INFORMATION_BYTES, MAX_INFORMATION_BYTES, MAX_WINDOW, MAX_WINDOW)
"""All that the standard allows."""


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
