"""NMEA 0183 sentences that carry time and fix, and the stream in which a receiver sends them between its marks.

A sentence is `$`, a talker and a type, fields between commas, `*`, the exclusive or of all octets between `$` and `*`
in two hexadecimal digits, CR LF; 82 characters at most. RMC, GGA and ZDA are standard; PUBX,04 is u-blox's own sentence
and the only one of them that tells how many leap seconds the receiver reckons with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import ClassVar

from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "NMEA 0183"
ON_TIME_MARK = 0x01
"""The octet that a receiver sends at the beginning of a second; it is part of no sentence."""
MAX_SENTENCE_BYTES = 82
_MARK = bytes((ON_TIME_MARK,))
_BREAKS = re.compile(b"([" + _MARK + b"\n])")
_SENTENCE = re.compile(r"\$([ -#%-)+-~]*)\*([0-9A-Fa-f]{2})")
_TIME = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})(?:\.([0-9]{1,3}))?")
_DATE = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")


class FixQuality(IntEnum):
    """The sixth field of GGA."""

    NONE = 0
    GPS = 1
    DIFFERENTIAL = 2


def checksum(body: str) -> int:
    """The exclusive or of the octets between `$` and `*`."""
    value = 0
    for octet in body.encode("ascii"):
        value ^= octet
    return value


def frame(body: str) -> bytes:
    """A whole sentence. Raises LocalProtocolError for one that is too long, or not of printable ASCII."""
    line = f"${body}*{checksum(body):02X}\r\n" if body.isascii() else ""
    if not line or _SENTENCE.fullmatch(line[:-2]) is None or len(line) > MAX_SENTENCE_BYTES:
        raise LocalProtocolError(f"{body!r} is no body of a sentence")
    return line.encode("ascii")


def unframe(line: bytes) -> list[str]:
    """The fields of a sentence without its CR LF, talker and type first. Raises RemoteProtocolError."""
    if len(line) + 2 > MAX_SENTENCE_BYTES:
        raise RemoteProtocolError(f"a sentence of {len(line) + 2} octets", spec=SPEC)
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("a sentence is not ASCII", offset=error.start, spec=SPEC) from None
    found = _SENTENCE.fullmatch(text)
    if found is None:
        raise RemoteProtocolError("no sentence: $, printable characters, *, two digits", spec=SPEC)
    if checksum(found[1]) != int(found[2], 16):
        raise RemoteProtocolError("the checksum of a sentence is wrong", offset=len(line) - 2, spec=SPEC)
    return found[1].split(",")


@dataclass(frozen=True, slots=True, order=True)
class TimeOfDay:
    """UTC, to a hundredth; `second` is 60 in a leap second."""

    hour: int
    minute: int
    second: int
    hundredth: int = 0

    def __post_init__(self) -> None:
        limits = ((self.hour, 23), (self.minute, 59), (self.second, 60), (self.hundredth, 99))
        if any(not 0 <= value <= limit for value, limit in limits):
            raise RemoteProtocolError("no time of day", spec=SPEC)

    @property
    def is_leap(self) -> bool:
        return self.second == 60

    def encode(self) -> str:
        return f"{self.hour:02}{self.minute:02}{self.second:02}.{self.hundredth:02}"

    @classmethod
    def decode(cls, text: str) -> TimeOfDay | None:
        """None for an empty field: the receiver does not know."""
        if not text:
            return None
        found = _TIME.fullmatch(text)
        if found is None:
            raise RemoteProtocolError("no time of day: hhmmss.ss", spec=SPEC)
        hundredth = int((found[4] or "0").ljust(2, "0")[:2])
        return cls(int(found[1]), int(found[2]), int(found[3]), hundredth)


def utc_s(day: date, time: TimeOfDay) -> float:
    """POSIX seconds. A leap second has those of the second before it, as POSIX clocks repeat it."""
    second = 59 if time.is_leap else time.second
    moment = datetime(day.year, day.month, day.day, time.hour, time.minute, second, tzinfo=UTC)
    return moment.timestamp() + time.hundredth / 100


@dataclass(frozen=True, slots=True)
class Position:
    """Latitude and longitude in degrees, north and east positive; a ten-thousandth of a minute is kept."""

    latitude_deg: float
    longitude_deg: float

    def __post_init__(self) -> None:
        if not (abs(self.latitude_deg) <= 90 and abs(self.longitude_deg) <= 180):
            raise RemoteProtocolError("no position on Earth", spec=SPEC)

    def encode(self) -> str:
        return f"{_angle(self.latitude_deg, 2, 'NS')},{_angle(self.longitude_deg, 3, 'EW')}"

    @classmethod
    def decode(cls, fields: list[str]) -> Position | None:
        """From four fields; None if they are empty."""
        if not any(fields):
            return None
        return cls(_degrees(fields[0], fields[1], 2, "NS"), _degrees(fields[2], fields[3], 3, "EW"))


def _angle(value_deg: float, digits: int, sides: str) -> str:
    ten_thousandths = round(abs(value_deg) * 600_000)
    whole, rest = divmod(ten_thousandths, 600_000)
    return f"{whole:0{digits}}{rest / 10_000:07.4f},{sides[value_deg < 0]}"


def _degrees(text: str, side: str, digits: int, sides: str) -> float:
    found = re.fullmatch(rf"([0-9]{{{digits}}})([0-9]{{2}}(?:\.[0-9]{{1,7}})?)", text)
    if found is None or not side or side not in sides or float(found[2]) >= 60:
        raise RemoteProtocolError("no angle: degrees, minutes and side", spec=SPEC)
    value = int(found[1]) + float(found[2]) / 60
    return -value if side == sides[1] else value


def _number(text: str) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise RemoteProtocolError("no number", spec=SPEC)
    return float(text)


def _natural(text: str, least: int, most: int, what: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise RemoteProtocolError(f"{what} must be {least} to {most}", spec=SPEC)
    return int(text)


def _expect(fields: list[str], least: int, what: str) -> None:
    if len(fields) < least:
        raise RemoteProtocolError(f"{what} with {len(fields)} fields, {least} needed", spec=SPEC)


def _short_date(text: str) -> date | None:
    """ddmmyy; the years are 2000 to 2099."""
    if not text:
        return None
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        return date(2000 + int(found[3]), int(found[2]), int(found[1]))
    except ValueError:
        raise RemoteProtocolError("no date: ddmmyy", spec=SPEC) from None


@dataclass(frozen=True, slots=True)
class Rmc:
    """Recommended minimum: time, date, position, and whether the receiver vouches for them."""

    TYPE: ClassVar[str] = "RMC"
    time: TimeOfDay | None
    is_valid: bool
    day: date | None
    position: Position | None = None

    def encode(self, talker: str = "GP") -> bytes:
        time = self.time.encode() if self.time else ""
        place = self.position.encode() if self.position else ",,,"
        motion = "0.0,0.0" if self.position else ","
        day = self.day.strftime("%d%m%y") if self.day else ""
        status, mode = ("A", "A") if self.is_valid else ("V", "N")
        return frame(f"{talker}RMC,{time},{status},{place},{motion},{day},,,{mode}")

    @classmethod
    def decode(cls, fields: list[str]) -> Rmc:
        _expect(fields, 12, "RMC")
        if fields[2] not in ("A", "V"):
            raise RemoteProtocolError("the status of RMC is A or V", spec=SPEC)
        for text in (fields[7], fields[8]):
            _number(text)
        return cls(TimeOfDay.decode(fields[1]), fields[2] == "A", _short_date(fields[9]), Position.decode(fields[3:7]))


@dataclass(frozen=True, slots=True)
class Gga:
    """The fix: its quality, and how many satellites it rests on."""

    TYPE: ClassVar[str] = "GGA"
    time: TimeOfDay | None
    quality: FixQuality
    satellites: int
    position: Position | None = None
    altitude_m: float | None = None

    def encode(self, talker: str = "GP") -> bytes:
        time = self.time.encode() if self.time else ""
        place = self.position.encode() if self.position else ",,,"
        height = "" if self.altitude_m is None else f"{self.altitude_m:.1f}"
        hdop = "1.0" if self.quality else "99.9"
        return frame(f"{talker}GGA,{time},{place},{self.quality.value},{self.satellites:02},{hdop},{height},M,,M,,")

    @classmethod
    def decode(cls, fields: list[str]) -> Gga:
        _expect(fields, 15, "GGA")
        quality = _natural(fields[6] or "0", 0, 8, "the quality of GGA")
        return cls(
            TimeOfDay.decode(fields[1]),
            FixQuality(min(quality, FixQuality.DIFFERENTIAL)),
            _natural(fields[7] or "0", 0, 99, "the satellites of GGA"),
            Position.decode(fields[2:6]),
            _number(fields[9]),
        )


@dataclass(frozen=True, slots=True)
class Zda:
    """Time and date with the whole year."""

    TYPE: ClassVar[str] = "ZDA"
    time: TimeOfDay | None
    day: date | None

    def encode(self, talker: str = "GP") -> bytes:
        time = self.time.encode() if self.time else ""
        day = self.day.strftime("%d,%m,%Y") if self.day else ",,"
        return frame(f"{talker}ZDA,{time},{day},00,00")

    @classmethod
    def decode(cls, fields: list[str]) -> Zda:
        _expect(fields, 5, "ZDA")
        time = TimeOfDay.decode(fields[1])
        if not any(fields[2:5]):
            return cls(time, None)
        day, month = _natural(fields[2], 1, 31, "the day"), _natural(fields[3], 1, 12, "the month")
        try:
            return cls(time, date(_natural(fields[4], 1980, 9999, "the year"), month, day))
        except ValueError:
            raise RemoteProtocolError("the month has not that day", spec=SPEC) from None


@dataclass(frozen=True, slots=True)
class LeapSeconds:
    """PUBX,04, as far as it is of use: GPS time minus UTC in whole seconds, and whether that is only the receiver's
    default (a `D` behind the number) because no almanac has told it yet."""

    TYPE: ClassVar[str] = "04"
    time: TimeOfDay | None
    day: date | None
    leap_s: int
    is_default: bool = False

    def encode(self) -> bytes:
        time = self.time.encode() if self.time else ""
        day = self.day.strftime("%d%m%y") if self.day else ""
        mark = "D" if self.is_default else ""
        return frame(f"PUBX,04,{time},{day},,,{self.leap_s}{mark},0,0.000,0")

    @classmethod
    def decode(cls, fields: list[str]) -> LeapSeconds:
        _expect(fields, 8, "PUBX,04")
        leap_s = _natural(fields[6].removesuffix("D"), 0, 99, "leap seconds")
        return cls(TimeOfDay.decode(fields[2]), _short_date(fields[3]), leap_s, fields[6].endswith("D"))


@dataclass(frozen=True, slots=True)
class Txt:
    """A text of the receiver for people, such as the state of its antenna. `severity`: 0 error to 7 user."""

    TYPE: ClassVar[str] = "TXT"
    severity: int
    text: str

    def encode(self, talker: str = "GP") -> bytes:
        return frame(f"{talker}TXT,01,01,{self.severity:02},{self.text}")

    @classmethod
    def decode(cls, fields: list[str]) -> Txt:
        _expect(fields, 5, "TXT")
        return cls(_natural(fields[3], 0, 99, "the severity of TXT"), ",".join(fields[4:]))


Sentence = Rmc | Gga | Zda | LeapSeconds | Txt
_STANDARD: dict[str, Callable[[list[str]], Sentence]] = {kind.TYPE: kind.decode for kind in (Rmc, Gga, Zda, Txt)}


def decode(line: bytes) -> Sentence | None:
    """A sentence without its CR LF; None for a type that is not used here. Raises RemoteProtocolError."""
    fields = unframe(line)
    if fields[0] == "PUBX":
        return LeapSeconds.decode(fields) if fields[1:2] == [LeapSeconds.TYPE] else None
    known = _STANDARD.get(fields[0][2:]) if len(fields[0]) == 5 else None
    return None if known is None else known(fields)


class NmeaStream:
    """Cuts what a receiver sends into marks and lines. Never raises: what is longer than a sentence is dropped."""

    def __init__(self, *, on_mark: Callable[[], None], on_line: Callable[[bytes], None]) -> None:
        self._on_mark = on_mark
        self._on_line = on_line
        self._rest = bytearray()
        self.dropped_bytes = 0

    def feed(self, data: bytes) -> None:
        for part in _BREAKS.split(data):
            if part == _MARK:
                self._drop()
                self._on_mark()
            elif part == b"\n":
                line, self._rest = bytes(self._rest).removesuffix(b"\r"), bytearray()
                if line:
                    self._on_line(line)
            else:
                self._rest += part
                if len(self._rest) >= MAX_SENTENCE_BYTES:
                    self._drop()

    def _drop(self) -> None:
        self.dropped_bytes += len(self._rest)
        self._rest.clear()
