"""The devices beside the emulated concentrator, as its provisioning names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcu.config import DcuConfig
from dcu.config_file import load
from twin.clock.clocks import RealClock
from twin.clock.seeds import Seeds
from twin.rigs.brokers import BrokerAccess
from twin.rigs.equipment import Equipment, open_equipment
from twin.rigs.qemu.dcu import guest_provisioning
from twin.scenarios.schema import DcuSettings

CONFIG = DcuConfig(dcu_id="IHM4000-0001", eui64=bytes(range(8)), system_title=bytes(8), link_key=bytes(range(16)))
BROKER = BrokerAccess("127.0.0.1", 12345, "IHM4000-0001", "secret")


def _told(folder: Path, *, gps: bool, modem: bool, ptp: bool = False) -> tuple[dict[str, object], Equipment]:
    clock = RealClock()
    found: list[tuple[dict[str, object], Equipment]] = []

    async def main() -> None:
        settings = DcuSettings(id="IHM4000-0001", position=(0, 0), gps=gps, modem=modem, ptp=ptp)
        async with open_equipment(
            settings, [], clock, Seeds(1), None, ("127.0.0.1", 9), lambda kind, /, **fields: None, reaches_host=True
        ) as equipment:
            told = guest_provisioning(CONFIG, BROKER, equipment=equipment).config
            ports = {name: proxy.address[1] for name, proxy in equipment.proxies.items()}
            for name, port in ports.items():
                assert told["uplink"][name]["port"] == port
            found.append((told, equipment))

    clock.run(main())
    (folder / "dcu.json").write_text(json.dumps(found[0][0]))
    load(folder / "dcu.json")
    return found[0]


def test_devices_are_named_with_their_lines_and_interfaces(tmp_path: Path) -> None:
    told, _ = _told(tmp_path, gps=True, modem=True)
    assert told["modem"] == {"device": "/dev/ttymxc4", "baud": 115_200}
    assert told["time"] == {"gps_device": "/dev/ttymxc3", "gps_baud": 9600, "sets_system_clock": True}
    devices = load(tmp_path / "dcu.json").devices
    ways = dict(devices.ways)
    assert (ways["satellite"].host, ways["satellite"].interface) == ("10.0.2.2", "eth0")
    assert (ways["cellular"].host, ways["cellular"].interface) == ("10.0.3.2", "eth1")
    assert ways["satellite"].port != ways["cellular"].port


@pytest.mark.parametrize("gps", [False, True])
def test_grandmaster_is_named_with_the_ports_at_which_it_listens(tmp_path: Path, gps: bool) -> None:
    _told(tmp_path, gps=gps, modem=False, ptp=True)
    devices = load(tmp_path / "dcu.json").devices
    assert devices.ptp is not None
    assert devices.ptp.host == "10.0.2.2"
    assert len({devices.ptp.event_port, devices.ptp.general_port}) == 2
    assert (devices.gps is not None) == gps


def test_concentrator_without_devices_is_told_of_none(tmp_path: Path) -> None:
    told, _ = _told(tmp_path, gps=False, modem=False)
    assert not {"uplink", "modem", "time"} & set(told)
