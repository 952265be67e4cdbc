"""AT commands of a cellular modem (3GPP TS 27.007): the line discipline, and the results that are used here.

A command is a line that ends with CR. What the modem says comes as lines between CR LF: information, a final result, or
an unsolicited code at any time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "3GPP TS 27.007"
MAX_LINE_BYTES = 512
_TEXT = re.compile(r"[ -~]*")
_FIELD = re.compile(r'\s*(?:"([^"]*)"|([^",]*))\s*(,|$)')


class Technology(Enum):
    """What a network is, from the oldest to the youngest."""

    G2 = "2g"
    G3 = "3g"
    G4 = "4g"


class AccessTechnology(IntEnum):
    """The AcT values of +CREG, +CEREG and +COPS."""

    GSM = 0
    GSM_COMPACT = 1
    UTRAN = 2
    GSM_EGPRS = 3
    UTRAN_HSDPA = 4
    UTRAN_HSUPA = 5
    UTRAN_HSPA = 6
    E_UTRAN = 7

    @property
    def technology(self) -> Technology:
        if self is AccessTechnology.E_UTRAN:
            return Technology.G4
        gsm = (AccessTechnology.GSM, AccessTechnology.GSM_COMPACT, AccessTechnology.GSM_EGPRS)
        return Technology.G2 if self in gsm else Technology.G3


class WirelessService(IntEnum):
    """Values of +WS46: which technologies the modem may use."""

    GSM = 12
    ANY = 25
    GSM_UTRAN = 29

    @property
    def technologies(self) -> tuple[Technology, ...]:
        """The best one first."""
        every = (Technology.G4, Technology.G3, Technology.G2)
        return {WirelessService.GSM: every[2:], WirelessService.GSM_UTRAN: every[1:]}.get(self, every)


class RegistrationStatus(IntEnum):
    """The stat of +CREG and +CEREG, as far as they are the same."""

    IDLE = 0
    HOME = 1
    SEARCHING = 2
    DENIED = 3
    UNKNOWN = 4
    ROAMING = 5

    @property
    def is_registered(self) -> bool:
        return self in (RegistrationStatus.HOME, RegistrationStatus.ROAMING)


class SimState(Enum):
    """What +CPIN? answers; ABSENT is +CME ERROR: 10 instead."""

    READY = "READY"
    PIN = "SIM PIN"
    PUK = "SIM PUK"
    ABSENT = ""


class EquipmentError(IntEnum):
    """+CME ERROR, the codes that are told apart here."""

    NOT_ALLOWED = 3
    NOT_SUPPORTED = 4
    SIM_NOT_INSERTED = 10
    SIM_PIN_REQUIRED = 11
    SIM_PUK_REQUIRED = 12
    SIM_FAILURE = 13
    INCORRECT_PASSWORD = 16
    NO_NETWORK = 30
    UNKNOWN = 100


def fields_of(text: str) -> list[str]:
    """What stands between commas, without quotation marks. Raises RemoteProtocolError for an open quotation."""
    found: list[str] = []
    place = 0
    while True:
        match = _FIELD.match(text, place)
        if match is None:
            raise RemoteProtocolError("a parameter is neither quoted nor plain", offset=place, spec=SPEC)
        found.append(match[1] if match[1] is not None else match[2].strip())
        place = match.end()
        if not match[3]:
            if place != len(text):
                raise RemoteProtocolError("something behind the last parameter", offset=place, spec=SPEC)
            return found


def _parameters(line: str, prefix: str) -> list[str]:
    name, colon, rest = line.partition(":")
    if name != prefix or not colon:
        raise RemoteProtocolError(f"no {prefix}", offset=0, spec=SPEC)
    return fields_of(rest)


def _number(text: str, least: int, most: int, what: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise RemoteProtocolError(f"{what} must be {least} to {most}", spec=SPEC)
    return int(text)


@dataclass(frozen=True, slots=True)
class Registration:
    """+CREG (circuit-switched: 2G, 3G) and +CEREG (4G), as answer or unsolicited.

    `area` and `cell` in hexadecimal, empty when not told; `access` says on which technology.
    """

    PREFIXES: ClassVar[tuple[str, str]] = ("+CREG", "+CEREG")
    prefix: str
    status: RegistrationStatus
    area: str = ""
    cell: str = ""
    access: AccessTechnology | None = None

    def encode(self, *, mode: int | None = None) -> str:
        """`mode` is the first parameter of an answer; unsolicited codes have none."""
        head = f"{self.prefix}: " + ("" if mode is None else f"{mode},") + str(self.status.value)
        return head if self.access is None else f'{head},"{self.area}","{self.cell}",{self.access.value}'

    @classmethod
    def decode(cls, line: str, *, is_answer: bool) -> Registration:
        prefix = line.partition(":")[0]
        if prefix not in cls.PREFIXES:
            raise RemoteProtocolError("no +CREG or +CEREG", offset=0, spec=SPEC)
        fields = _parameters(line, prefix)[is_answer:]
        if not fields:
            raise RemoteProtocolError(f"{prefix} without a status", spec=SPEC)
        number = _number(fields[0], 0, 10, "the status")
        status = RegistrationStatus(number) if number <= RegistrationStatus.ROAMING else RegistrationStatus.UNKNOWN
        if len(fields) < 4:
            return cls(prefix, status)
        for text in fields[1:3]:
            if re.fullmatch("[0-9A-Fa-f]{1,8}", text) is None:
                raise RemoteProtocolError("area and cell are hexadecimal", spec=SPEC)
        access = AccessTechnology(_number(fields[3], 0, 7, "AcT"))
        return cls(prefix, status, fields[1], fields[2], access)


@dataclass(frozen=True, slots=True)
class SignalQuality:
    """+CSQ: received strength in dBm, -113 to -51 in steps of 2; None when the modem cannot tell."""

    rss_dbm: int | None

    def encode(self) -> str:
        if self.rss_dbm is None:
            return "+CSQ: 99,99"
        return f"+CSQ: {min(max((self.rss_dbm + 113) // 2, 0), 31)},99"

    @classmethod
    def decode(cls, line: str) -> SignalQuality:
        fields = _parameters(line, "+CSQ")
        if len(fields) != 2:
            raise RemoteProtocolError("+CSQ has two parameters", spec=SPEC)
        number = _number(fields[0], 0, 99, "the strength")
        if 31 < number < 99:
            raise RemoteProtocolError("the strength is 0 to 31, or 99", spec=SPEC)
        return cls(None if number == 99 else 2 * number - 113)


@dataclass(frozen=True, slots=True)
class Operator:
    """+COPS?: the network's name; empty when there is none."""

    name: str
    access: AccessTechnology | None = None

    def encode(self) -> str:
        return f'+COPS: 0,0,"{self.name}",{self.access.value}' if self.access is not None else "+COPS: 0"

    @classmethod
    def decode(cls, line: str) -> Operator:
        fields = _parameters(line, "+COPS")
        if len(fields) < 3:
            return cls("")
        return cls(fields[2], AccessTechnology(_number(fields[3], 0, 7, "AcT")) if len(fields) > 3 else None)


def decode_sim_state(line: str) -> SimState:
    """+CPIN. What is asked for besides PIN and PUK (a network's lock, PIN2) cannot be used here, either: PUK."""
    text = ",".join(_parameters(line, "+CPIN"))
    try:
        return SimState(text) if text else SimState.PUK
    except ValueError:
        return SimState.PUK


@dataclass(frozen=True, slots=True)
class Final:
    """A final result: OK, or an error with its +CME code (None for a plain ERROR)."""

    is_ok: bool
    error: EquipmentError | None = None

    def encode(self) -> str:
        if self.is_ok:
            return "OK"
        return "ERROR" if self.error is None else f"+CME ERROR: {self.error.value}"

    @classmethod
    def decode(cls, line: str) -> Final | None:
        """None for a line that is no final result. Raises RemoteProtocolError for a code that is no number."""
        if line == "OK":
            return cls(is_ok=True)
        if line in ("ERROR", "NO CARRIER", "COMMAND NOT SUPPORT"):
            return cls(is_ok=False)
        if not line.startswith("+CME ERROR:"):
            return None
        number = _number(line.partition(":")[2].strip(), 0, 9999, "the error's code")
        known = {member.value for member in EquipmentError}
        return cls(is_ok=False, error=EquipmentError(number) if number in known else EquipmentError.UNKNOWN)


def encode_command(text: str) -> bytes:
    """A command line. Raises LocalProtocolError for characters that a line cannot have."""
    if _TEXT.fullmatch(text) is None or not text.upper().startswith("AT"):
        raise LocalProtocolError("a command is AT and printable characters")
    return text.encode("ascii") + b"\r"


def encode_line(text: str) -> bytes:
    """A line from the modem."""
    if _TEXT.fullmatch(text) is None:
        raise LocalProtocolError("a line has printable characters only")
    return b"\r\n" + text.encode("ascii") + b"\r\n"


class LineStream:
    """Cuts what comes into lines at CR or LF, empty ones left out. Never raises: noise is dropped and counted."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = bytearray()
        self.dropped_bytes = 0

    def feed(self, data: bytes) -> None:
        for octet in data:
            if octet in b"\r\n":
                line, self._rest = bytes(self._rest), bytearray()
                if line:
                    self._on_line(line.decode("ascii"))
            elif 0x20 <= octet < 0x7F and len(self._rest) < MAX_LINE_BYTES:
                self._rest.append(octet)
            else:
                self.dropped_bytes += 1
