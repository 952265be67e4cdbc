"""Which devices stand beside the concentrator, as its configuration file says it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from dcu.config import ModemPolicy, SimSlot, TimePolicy, UplinkPolicy
from dcu.config_sections import Section
from dcu.uplink_manager import Way
from protocols.errors import BadInputError

_MODEM_NUMBERS = tuple(row.name for row in dataclasses.fields(ModemPolicy) if row.name not in ("sims", "select_sim"))
_MODEM_BAUD, _GPS_BAUD = 115_200, 9600
PTP_EVENT_PORT, PTP_GENERAL_PORT = 319, 320


@dataclass(frozen=True, slots=True)
class WayPlace:
    """Where the broker is reached over one way; `interface` binds the connection to a network interface."""

    host: str
    port: int
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class SerialPlace:
    """A serial device and its speed."""

    device: str
    baud: int


@dataclass(frozen=True, slots=True)
class PtpPlace:
    """A PTP grandmaster that serves by unicast."""

    host: str
    event_port: int = PTP_EVENT_PORT
    general_port: int = PTP_GENERAL_PORT


@dataclass(frozen=True, slots=True)
class DevicePlaces:
    """What is connected, and where. Nothing of it has to be there."""

    ways: tuple[tuple[str, WayPlace], ...] = ()
    modem: SerialPlace | None = None
    gps: SerialPlace | None = None
    ptp: PtpPlace | None = None
    sets_system_clock: bool = False


@dataclass(frozen=True, slots=True)
class Policies:
    """What the same sections say of how the devices are used."""

    uplink: UplinkPolicy = field(default_factory=UplinkPolicy)
    modem: ModemPolicy = field(default_factory=ModemPolicy)
    time: TimePolicy = field(default_factory=TimePolicy)


def take_devices(root: Section) -> tuple[DevicePlaces, Policies]:
    """The sections `uplink`, `modem` and `time`. Raises BadInputError that names the key."""
    places: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    if "uplink" in root:
        places["ways"], policies["uplink"] = _uplink(root.section("uplink"))
    if "modem" in root:
        if not places.get("ways"):
            raise BadInputError("is of use only with `uplink`, which says where its way leads", key="modem")
        places["modem"], policies["modem"] = _modem(root.section("modem"))
    if "time" in root:
        policies["time"] = _time(root.section("time"), places)
    return DevicePlaces(**places), Policies(**policies)


def _uplink(section: Section) -> tuple[tuple[tuple[str, WayPlace], ...], UplinkPolicy]:
    ways = tuple((way.value, _way(section.section(way.value))) for way in Way)
    policy = section.section("policy").numbers(UplinkPolicy) if "policy" in section else UplinkPolicy()
    section.end()
    return ways, policy


def _way(section: Section) -> WayPlace:
    host, port = section.text("host"), section.integer("port", 1, 65_535)
    interface = section.text("interface") if "interface" in section else None
    if interface is not None and len(interface.encode()) > 15:
        raise BadInputError("a network interface's name has at most 15 bytes", key=section.key("interface"))
    section.end()
    return WayPlace(host, port, interface)


def _modem(section: Section) -> tuple[SerialPlace, ModemPolicy]:
    place = SerialPlace(
        section.text("device"), section.integer("baud", 9600, 921_600) if "baud" in section else _MODEM_BAUD
    )
    known: dict[str, Any] = {}
    if "sims" in section:
        known["sims"] = _sims(section)
    if "select_sim" in section:
        known["select_sim"] = _select_sim(section)
    if "policy" in section:
        policy = section.section("policy")
        known |= {name: policy.number(name, 0.1, 86_400) for name in _MODEM_NUMBERS if name in policy}
        policy.end()
    section.end()
    return place, ModemPolicy(**known)


def _sims(section: Section) -> tuple[SimSlot, ...]:
    found = tuple(_sim(item) for item in section.sections("sims"))
    if not 1 <= len(found) <= 2:
        raise BadInputError("must name one or two SIMs", key=section.key("sims"))
    return found


def _sim(section: Section) -> SimSlot:
    apn = section.text("apn") if "apn" in section else SimSlot().apn
    if re.fullmatch("[A-Za-z0-9.-]{1,63}", apn) is None:
        raise BadInputError("an access point's name has letters, digits, dots and hyphens", key=section.key("apn"))
    pin = section.text("pin") if "pin" in section else None
    if pin is not None and re.fullmatch("[0-9]{4,8}", pin) is None:
        raise BadInputError("must have 4 to 8 digits", key=section.key("pin"))
    section.end()
    return SimSlot(apn, pin)


def _select_sim(section: Section) -> str:
    text = section.text("select_sim")
    if re.fullmatch(r"AT[ -z|~]*\{slot\}[ -z|~]*", text) is None:
        raise BadInputError(
            "must be an AT command with {slot} for the number of the slot", key=section.key("select_sim")
        )
    return text


def _time(section: Section, places: dict[str, Any]) -> TimePolicy:
    if "gps_device" in section:
        baud = section.integer("gps_baud", 9600, 921_600) if "gps_baud" in section else _GPS_BAUD
        places["gps"] = SerialPlace(section.text("gps_device"), baud)
    if "ptp" in section:
        ptp = section.section("ptp")
        ports = {name: ptp.integer(name, 1, 65_535) for name in ("event_port", "general_port") if name in ptp}
        places["ptp"] = PtpPlace(ptp.text("host"), **ports)
        ptp.end()
    if "sets_system_clock" in section:
        places["sets_system_clock"] = section.flag("sets_system_clock")
    policy = section.section("policy").numbers(TimePolicy) if "policy" in section else TimePolicy()
    section.end()
    return policy
