"""`python -m dcu` as a process, with emulated receiver, modem and links on real sockets: what the head-end is told."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dcu.uplink import UplinkListener
from protocols.headend.messages import Event, decode_message
from protocols.headend.topics import Channel
from protocols.ports import ByteLink
from twin.backhaul.gps import GpsReceiver
from twin.backhaul.link import Backhaul
from twin.backhaul.modem import Modem
from twin.backhaul.proxy import BackhaulProxy
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.broker import Broker
from twin.brokers.client import ClientOptions, MqttClient
from twin.brokers.tcp import TcpConnector, address_of, serve_broker
from twin.clock.clocks import RealClock

PATIENCE_S = 90.0
ROOT = Path(__file__).parents[2]


class Line(asyncio.Protocol):
    """A serial line as a unix socket that the daemon opens; `device` is at its other end."""

    def __init__(self, device: ByteLink | None) -> None:
        self._device = device

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._device is not None:
            assert isinstance(transport, asyncio.Transport)
            self._device.on_data(transport.write)

    def data_received(self, data: bytes) -> None:
        if self._device is not None:
            self._device.write(data)


class Headend:
    """Hears every event, and waits for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def heard(self, topic: str, payload: bytes) -> None:
        message = decode_message(payload, Channel.EVENT)
        assert isinstance(message, Event)
        self.events.append(message)
        self._changed.set()

    async def wait_for(self, kind: str, **details: str) -> None:
        """Until an event of that kind with these details came, at any time."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(
                event.kind == kind and details.items() <= dict(event.details).items() for event in self.events
            ):
                self._changed.clear()
                await self._changed.wait()


def _configuration(folder: Path, ports: dict[str, int]) -> dict[str, Any]:
    ways: dict[str, Any] = {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}
    policy = {"give_up_s": 5, "stalled_s": 8, "probe_s": 1, "probe_max_s": 1, "return_after": 2}
    return {
        "dcu_id": "dcu-1",
        "eui64": "0212740100000001",
        "system_title": "4f414d4443553031",
        "link_key": "00" * 16,
        "radio_device": str(folder / "radio"),
        "storage": "storage",
        "broker": {
            "host": "127.0.0.1",
            "port": 1,
            "client_id": "dcu-1",
            "username": "dcu-1",
            "password": "one",
            "keep_alive_s": 5,
        },
        "uplink": ways | {"policy": policy},
        "modem": {"device": str(folder / "modem")},
        "time": {"gps_device": str(folder / "gps")},
    }


@pytest.mark.requirement("NET-5")
def test_the_daemon_changes_its_way_and_keeps_time_by_gps(tmp_path: Path) -> None:
    clock = RealClock()

    async def main() -> None:
        loop = clock.loop
        async with AsyncExitStack() as stack:
            rules = AccessRules((dcu_client("dcu-1", "one"), headend_client("head")))
            broker = Broker(clock.timers, rules)
            server = await serve_broker(broker)
            stack.callback(broker.close_all)
            stack.callback(server.close)
            headend = Headend()
            options = ClientOptions("hes", "hes", "head")
            client = MqttClient(clock.timers, TcpConnector(loop, *address_of(server)), options, random.Random(1))
            client.subscribe("openami/v1/dcu/+/event")
            client.start(UplinkListener(lambda _: None, lambda _: None, headend.heard, lambda _: None))
            stack.callback(client.stop)

            links = {
                name: Backhaul(clock.timers, random.Random(2), "4g", name=name) for name in ("satellite", "cellular")
            }
            ports = {}
            for name, link in links.items():
                proxy = BackhaulProxy(link, address_of(server), loop)
                await proxy.start()
                stack.push_async_callback(proxy.stop)
                ports[name] = proxy.address[1]
            gps = GpsReceiver(clock, random.Random(3), time_to_fix_s=0.5)
            modem = Modem(clock.timers, links["cellular"])
            gps.power_on()
            stack.callback(gps.power_off)
            devices = {"radio": None, "gps": gps.line, "modem": modem.line}
            for name, device in devices.items():
                line = await loop.create_unix_server(lambda device=device: Line(device), str(tmp_path / name))
                stack.callback(line.close)

            config = tmp_path / "dcu.json"
            config.write_text(json.dumps(_configuration(tmp_path, ports)))
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dcu", "--config", str(config), cwd=ROOT, stderr=subprocess.DEVNULL
            )
            try:
                await headend.wait_for("clock-synchronised", source="gps")
                await headend.wait_for("cellular-changed", state="ready", technology="4g")
                links["satellite"].cut()
                await headend.wait_for("uplink-changed", to="cellular")
                links["satellite"].restore()
                await headend.wait_for("uplink-changed", to="satellite", reason="preferred-is-back")
            finally:
                daemon.terminate()
                status = await daemon.wait()
            assert status == 0
            identifiers = [event.id for event in headend.events]
            numbers = [int(identifier.rpartition(".")[2]) for identifier in dict.fromkeys(identifiers)]
            assert numbers == sorted(numbers), "in the order in which they happened"

    clock.run(main())
