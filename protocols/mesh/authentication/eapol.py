"""EAPOL (IEEE 802.1X-2010, 11) and its relay over UDP (Wi-SUN FAN, 6.5.2.1)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError

VERSION = 3
"""802.1X-2010, which Wi-SUN FAN names."""
RELAY_PORT = 10253
_SPEC = "IEEE 802.1X-2010, 11"
_RELAY_SPEC = "Wi-SUN FAN, EAPOL relay"


class EapolType(enum.IntEnum):
    EAP = 0
    START = 1
    LOGOFF = 2
    KEY = 3


class Kmp(enum.IntEnum):
    """Key management protocol in the MPX element and in the relay's message (IEEE 802.15.9, table 21)."""

    EAP = 1
    FOUR_WAY = 6
    GROUP_KEY = 7


@dataclass(frozen=True, slots=True)
class Eapol:
    """One EAPOL PDU."""

    type: EapolType
    body: bytes = field(repr=False)
    version: int = VERSION

    def encode(self) -> bytes:
        if len(self.body) > 0xFFFF:
            raise LocalProtocolError(f"an EAPOL body of {len(self.body)} bytes")
        return bytes((self.version, self.type)) + len(self.body).to_bytes(2, "big") + self.body

    @classmethod
    def decode(cls, data: bytes) -> Eapol:
        """Raises RemoteProtocolError if truncated, of an unknown type, or with bytes left over."""
        reader = Reader(data, spec=_SPEC)
        version, kind = reader.u8(), reader.u8()
        if kind not in list(EapolType):
            raise reader.error(f"EAPOL type {kind} is unknown")
        body = reader.take(reader.u16())
        reader.expect_end()
        return cls(EapolType(kind), body, version)


@dataclass(frozen=True, slots=True)
class RelayMessage:
    """What travels between a relay and the border router: whose EAPOL PDU it is (EUI-64), and under which KMP."""

    supplicant: bytes
    kmp: Kmp
    pdu: bytes = field(repr=False)

    def encode(self) -> bytes:
        return self.supplicant + bytes((self.kmp,)) + self.pdu

    @classmethod
    def decode(cls, data: bytes) -> RelayMessage:
        """Raises RemoteProtocolError if truncated or of an unknown KMP."""
        reader = Reader(data, spec=_RELAY_SPEC)
        supplicant, kmp = reader.take(8), reader.u8()
        if kmp not in list(Kmp):
            raise reader.error(f"KMP {kmp} is unknown")
        return cls(supplicant, Kmp(kmp), reader.rest())
