"""`twin air` and `twin meter` as processes, and a border router of the test's own: they meet on the air."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocols.dlms.wrapper import Wpdu
from protocols.mesh.config import LinkKey, MeshConfig, Role
from protocols.mesh.events import MeshEvent, NodeReachable
from protocols.mesh.runner import MeshRunner
from protocols.meter_identity import WRAPPER_PORT
from twin.rigs.meter_air import AirAddress, LinkKeys, mesh_settings, open_air
from twin.rigs.provisioning import DCU_EUI64
from twin.scenarios.loading import load_scenario

WAIT_S = 120.0
GROUP_KEY = bytes(range(16))
PUBLIC_AARQ = bytes.fromhex("601d a109060760857405080101 be10 040e 01000000065f1f04001f3fffffff".replace(" ", ""))
PUBLIC_SAP, SERVER_SAP = 16, 1


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "twin", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process, json.loads(line)


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=WAIT_S)[1]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"group_key": GROUP_KEY.hex()}))
    return path


@pytest.fixture
def air_address(tmp_path: Path) -> Iterator[str]:
    process, said = start("air", "--listen", "udp://127.0.0.1:0", "--pcap", str(tmp_path / "air.pcap"))
    yield f"air:{said['listening']}"
    end(process)
    assert process.returncode == 0


async def associate_over_the_mesh(air: str, meter_eui64: bytes, keys: LinkKeys) -> bytes:
    """Be the root beside the air, wait for the meter, open its public association. Returns the AARE."""
    address = AirAddress.parse(air)
    assert address is not None
    link = await open_air(address)
    settings = mesh_settings(load_scenario("village").scenario, keys)
    reached: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_event(event: MeshEvent) -> None:
        if isinstance(event, NodeReachable) and event.eui64 == meter_eui64 and not reached.done():
            reached.set_result(event.address)

    def on_datagram(source: bytes, port: int, payload: bytes) -> None:
        if source == reached.result() and not answered.done():
            answered.set_result(payload)

    root = MeshRunner(
        MeshConfig(
            DCU_EUI64, settings.network_name, settings.keys, role=Role.ROOT, pan_id=0x1234,
            prefix=bytes.fromhex("fd00000000000001"), radio=settings.radio,
        ),
        settings.profile, timers=asyncio.get_running_loop(), link=link, rng=Random(1), on_event=on_event,
    )  # fmt: skip
    root.bind_udp(WRAPPER_PORT, on_datagram)
    root.start()
    try:
        async with asyncio.timeout(WAIT_S):
            meter = await reached
            aarq = Wpdu(PUBLIC_SAP, SERVER_SAP, PUBLIC_AARQ).encode()
            while not answered.done():
                root.send_udp(WRAPPER_PORT, meter, WRAPPER_PORT, aarq)
                await asyncio.wait([answered], timeout=5.0)
            return await answered
    finally:
        root.stop()
        link.close()


@pytest.mark.requirement("VEND-1")
def test_meter_joins_the_mesh_on_an_air_of_its_own_process_and_answers(
    air_address: str, keys_file: Path, tmp_path: Path
) -> None:
    process, said = start(
        *("meter", "--as", "B", "--listen", air_address, "--listen", "tcp://127.0.0.1:0"),
        *("--mesh-keys", str(keys_file), "--state", str(tmp_path / "state")),
    )
    try:
        assert said["listeners"][0] == air_address
        assert said["listeners"][1].startswith("tcp://127.0.0.1:")
        aare = asyncio.run(
            associate_over_the_mesh(air_address, bytes.fromhex(said["eui64"]), LinkKeys((LinkKey(1, GROUP_KEY),)))
        )
    finally:
        errors = end(process)
    assert process.returncode == 0, errors
    wpdu = Wpdu.decode(aare)
    assert (wpdu.source_port, wpdu.destination_port) == (SERVER_SAP, PUBLIC_SAP)
    assert wpdu.apdu[0] == 0x61
    assert bytes.fromhex("a203020100") in wpdu.apdu, "association-result: accepted"
    assert GROUP_KEY.hex() not in errors


@pytest.mark.parametrize(
    ("listen", "keys", "told"),
    [
        ("air:udp://127.0.0.1:9", None, "--mesh-keys"),
        ("air:udp://127.0.0.1:9", "{}", "group_key"),
        ("air:udp://127.0.0.1:9", '{"group_key": "00"}', "group_key"),
        ("air:udp://127.0.0.1:9", "not json", "JSON"),
        ("air:tcp://127.0.0.1:9", '{"group_key": "00"}', "air:udp://HOST:PORT"),
        ("air:udp://127.0.0.1", '{"group_key": "00"}', "air:udp://HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said_before_the_meter_starts(
    listen: str, keys: str | None, told: str, tmp_path: Path
) -> None:
    arguments = ["--listen", listen, "--state", str(tmp_path / "state")]
    if keys is not None:
        (tmp_path / "keys.json").write_text(keys)
        arguments += ["--mesh-keys", str(tmp_path / "keys.json")]
    done = subprocess.run(
        [sys.executable, "-m", "twin", "meter", *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "state").exists()


def test_meter_of_no_scenario_or_of_another_state_is_refused(keys_file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "identity.json").write_text('{"model": "ihm5000-1p", "serial": "7", "eui64": "0249484d00000007"}')
    for name, told in (("Z", "no meter 'Z' in village"), ("B", "this state is of meter 7, not IHM5000002")):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twin", "meter", "--listen", "air:udp://127.0.0.1:9", "--as", name),
                *("--mesh-keys", str(keys_file), "--state", str(state)),
            ],
            capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert told in done.stderr
