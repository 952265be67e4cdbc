"""The sections of the configuration that name devices, and lines that cannot be opened."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dcu.config import ModemPolicy, SimSlot, TimePolicy
from dcu.config_file import Provisioning, load
from dcu.device_config import DevicePlaces, PtpPlace, SerialPlace, WayPlace
from dcu.device_lines import DeviceLines, keep_system_clock
from dcu.discipline import TimeSample
from dcu.timekeeper import Timekeeper
from protocols.errors import BadInputError
from protocols.headend.time_check import TimeSource

BASE: dict[str, Any] = {
    "dcu_id": "dcu-1",
    "eui64": "0212740100000001",
    "system_title": "4f414d4443553031",
    "link_key": "00" * 16,
    "radio_device": "/dev/null",
    "storage": "storage",
    "broker": {"host": "127.0.0.1", "port": 1883, "client_id": "dcu-1"},
}
WAYS = {
    "satellite": {"host": "10.0.2.2", "port": 40001, "interface": "eth0"},
    "cellular": {"host": "10.0.3.2", "port": 40002},
}
MODEM = {"device": "/dev/ttymxc4", "sims": [{"apn": "one.net"}, {"apn": "two", "pin": "1234"}]}


def read(folder: Path, **sections: object) -> Provisioning:
    path = folder / "dcu.json"
    path.write_text(json.dumps(BASE | sections))
    return load(path)


def test_the_documented_sections_are_understood(tmp_path: Path) -> None:
    time = {
        "gps_device": "/dev/ttymxc3",
        "gps_baud": 9600,
        "sets_system_clock": True,
        "ptp": {"host": "10.0.2.2", "event_port": 319, "general_port": 320},
        "policy": {"holdover_ppm": 0.2},
    }
    modem = MODEM | {"baud": 115200, "select_sim": "AT+QUIMSLOT={slot}", "policy": {"poll_s": 10}}
    found = read(tmp_path, uplink=WAYS | {"policy": {"give_up_s": 30, "return_after": 5}}, modem=modem, time=time)
    assert found.devices == DevicePlaces(
        ways=(("satellite", WayPlace("10.0.2.2", 40001, "eth0")), ("cellular", WayPlace("10.0.3.2", 40002))),
        modem=SerialPlace("/dev/ttymxc4", 115200),
        gps=SerialPlace("/dev/ttymxc3", 9600),
        ptp=PtpPlace("10.0.2.2"),
        sets_system_clock=True,
    )
    sims = (SimSlot("one.net"), SimSlot("two", "1234"))
    assert found.dcu.modem == ModemPolicy(sims=sims, select_sim="AT+QUIMSLOT={slot}", poll_s=10)
    assert (found.dcu.uplink.give_up_s, found.dcu.uplink.return_after) == (30, 5)
    assert found.dcu.time.holdover_ppm == 0.2
    assert "1234" not in repr(found)


def test_without_them_there_is_one_way_and_the_system_s_clock(tmp_path: Path) -> None:
    assert read(tmp_path).devices == DevicePlaces()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"uplink": {"satellite": WAYS["satellite"]}}, "uplink.cellular: is missing"),
        ({"uplink": WAYS | {"balloon": {}}}, "uplink.balloon: is not a known key"),
        ({"uplink": WAYS | {"cellular": {"host": "x", "port": 0}}}, "uplink.cellular.port: must be an integer"),
        ({"uplink": WAYS | {"cellular": {"host": "x", "port": 1, "interface": "i" * 16}}}, "at most 15 bytes"),
        ({"uplink": WAYS | {"policy": {"give_up_s": -1}}}, "uplink.policy.give_up_s: must be a positive number"),
        ({"modem": MODEM}, "modem: is of use only with `uplink`"),
        ({"uplink": WAYS, "modem": MODEM | {"sims": []}}, "modem.sims: must name one or two SIMs"),
        ({"uplink": WAYS, "modem": MODEM | {"sims": {}}}, "modem.sims: must be a list"),
        ({"uplink": WAYS, "modem": MODEM | {"sims": [{"pin": "12"}]}}, r"modem.sims\[0\].pin: must have 4 to 8 digits"),
        ({"uplink": WAYS, "modem": MODEM | {"sims": [{"apn": 'a"b'}]}}, r"modem.sims\[0\].apn: an access point"),
        ({"uplink": WAYS, "modem": MODEM | {"select_sim": "AT+X"}}, "modem.select_sim: must be an AT command with"),
        (
            {"uplink": WAYS, "modem": MODEM | {"select_sim": "AT+X={slot}{0}"}},
            "modem.select_sim: must be an AT command",
        ),
        ({"uplink": WAYS, "modem": MODEM | {"baud": 300}}, "modem.baud: must be an integer"),
        ({"time": {"gps": "/dev/x"}}, "time.gps: is not a known key"),
        ({"time": {"sets_system_clock": 1}}, "time.sets_system_clock: must be true or false"),
        ({"time": {"ptp": {"event_port": 319}}}, "time.ptp.host: is missing"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        read(tmp_path, **sections)
    assert "1234" not in str(caught.value)


def test_a_device_that_cannot_be_opened_is_done_without(tmp_path: Path) -> None:
    async def main() -> None:
        places = DevicePlaces(gps=SerialPlace(str(tmp_path / "none"), 9600), modem=SerialPlace("/dev/null", 115200))
        lines = DeviceLines(places, asyncio.get_running_loop())
        assert lines.devices.gps is None
        assert lines.devices.modem is None
        assert set(lines.troubles) == {"gps", "modem"}
        assert "No such file" in lines.troubles["gps"]
        lines.close()

    asyncio.run(main())


class _Timers:
    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, callback: object, *args: object) -> Any:
        return self

    def cancel(self) -> None:
        """Nothing ever runs."""


def test_the_system_s_clock_is_set_only_by_a_clock_that_knows() -> None:
    keeper = Timekeeper(
        TimePolicy(),
        oscillator_s=lambda: 0.0,
        initial_utc_s=1000.0,
        timers=_Timers(),
        trace=lambda kind, /, **fields: None,
    )
    system, sets = [500.0], []

    def set_clock(utc_s: float) -> None:
        sets.append(utc_s)
        system[0] = utc_s

    async def main() -> None:
        async def once() -> None:
            task = asyncio.get_running_loop().create_task(keep_system_clock(keeper, set_clock, lambda: system[0]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        await once()
        assert sets == [], "it has never had a reference"
        keeper.offer(TimeSource.GPS, TimeSample(0.0, 2000.0, 0.001))
        await once()
        assert sets == [2000.0]
        await once()
        assert sets == [2000.0], "what is right is left alone"

    asyncio.run(main())
