"""The head-end on a real socket, with a real browser's kind of client."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from twin.backhaul.link import Backhaul
from twin.brokers.access import AccessRules, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.clock.clocks import RealClock
from twin.errors import RigError
from twin.hes.hes import Hes
from twin.hes.http import serve_http

pytest.importorskip("uvicorn", reason="serving the console needs uvicorn")


def make_hes(clock: RealClock) -> Hes:
    broker = MemoryBroker(clock.loop, AccessRules((headend_client("h"),)))
    options = ClientOptions("hes", username="hes", password="h")
    uplink = broker.uplink(Backhaul(clock.loop, random.Random(1), "lan"), options, random.Random(2))
    return Hes(clock, uplink=uplink, rng=random.Random(3), trace=lambda kind, **fields: None, vault_key=bytes(32))


def test_console_and_interface_are_served_and_the_port_is_freed() -> None:
    clock = RealClock()

    async def main() -> None:
        hes = make_hes(clock)
        hes.start()
        async with serve_http(hes.app) as (host, port):
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as browser:
                assert "Head-end console" in (await browser.get("/")).text
                assert (await browser.get("/api/health")).json()["status"] == "ok"
                assert (await browser.get("/api/meters/none")).status_code == 404
            with pytest.raises(RigError, match="cannot listen"):
                async with serve_http(hes.app, host, port):
                    pass
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        await hes.stop()

    clock.run(asyncio.wait_for(main(), 30))
