"""What stands beside the emulated concentrator: devices on its serial lines, and the links behind its interfaces."""

from __future__ import annotations

from typing import Any

from twin.rigs.equipment import CELLULAR, SATELLITE, Equipment
from twin.rigs.qemu.lines import bridge
from twin.rigs.qemu.machine import Machine

GPS_DEVICE, GPS_BAUD = "/dev/ttymxc3", 9600
MODEM_DEVICE, MODEM_BAUD = "/dev/ttymxc4", 115_200
INTERFACES = {SATELLITE: ("eth0", "10.0.2.2"), CELLULAR: ("eth1", "10.0.3.2")}
"""The guest's interface for each way, and the address at which it reaches the host's loopback interface."""


def device_sections(equipment: Equipment) -> dict[str, Any]:
    """The sections `uplink`, `modem` and `time` of the daemon's configuration, as far as there are such devices."""
    sections: dict[str, Any] = {}
    if equipment.proxies:
        sections["uplink"] = {
            name: {"host": INTERFACES[name][1], "port": proxy.address[1], "interface": INTERFACES[name][0]}
            for name, proxy in equipment.proxies.items()
        }
        if equipment.modem is not None:
            sections["modem"] = {"device": MODEM_DEVICE, "baud": MODEM_BAUD}
    references: dict[str, Any] = {}
    if equipment.gps is not None:
        references |= {"gps_device": GPS_DEVICE, "gps_baud": GPS_BAUD}
    if equipment.ptp_server is not None:
        event_port, general_port = equipment.ptp_server.ports
        host = INTERFACES[SATELLITE][1]
        references["ptp"] = {"host": host, "event_port": event_port, "general_port": general_port}
    if references:
        sections["time"] = {**references, "sets_system_clock": True}
    return sections


def connect_devices(machine: Machine, equipment: Equipment) -> None:
    """Join the devices to the machine's lines. To be done after every start."""
    if equipment.gps is not None:
        bridge(machine.line("gps"), equipment.gps.line)
    if equipment.modem is not None:
        bridge(machine.line("modem"), equipment.modem.line)
