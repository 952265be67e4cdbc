"""Multicast and echo over real MACs on the simulated air, on one channel and hopping, as tshark sees them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from protocols.mesh.config import LinkKey, MeshConfig, RadioSettings, Role
from protocols.mesh.events import EchoReplyReceived, MeshEvent
from protocols.mesh.ipv6 import ALL_MPL_FORWARDERS
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import profile_named
from protocols.rcp.codes import ChannelFunction
from twin.air.air import Air, AirSettings
from twin.air.obstacles import Position
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop, run_virtual

KEY = bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
PREFIX = bytes.fromhex("fd00000000000001")
IN_1, FSK_5 = 5, 8
NODE_COUNT = 6
ROUNDS = 10


def _address(index: int) -> bytes:
    return PREFIX + bytes(7) + bytes((index + 1,))


def _runner(air: Air, loop: VirtualLoop, seeds: Seeds, index: int, function: ChannelFunction) -> MeshRunner:
    name, is_root = f"n{index}", index == 0
    eui64 = bytes.fromhex("02000000000000") + bytes((index + 1,))
    radio = air.add_radio(name, eui64, Position(200.0 * index, 0.0))
    config = MeshConfig(
        eui64,
        "kibera",
        (LinkKey(1, KEY),),
        role=Role.ROOT if is_root else Role.ROUTER,
        pan_id=0x1234 if is_root else None,
        prefix=PREFIX if is_root else None,
        radio=RadioSettings(plan=IN_1, fsk_mode=FSK_5, channel_function=function),
    )
    profile = profile_named("bench" if function is ChannelFunction.FIXED else "bench-hopping")
    return MeshRunner(config, profile, timers=loop, link=radio.host, rng=seeds.stream(f"mesh/{name}"))


async def _play(loop: VirtualLoop, capture: Path, function: ChannelFunction) -> tuple[list[list[bytes]], list[int]]:
    """What every node received by multicast, and the sequence numbers of the echoes that the root got."""
    seeds = Seeds(4)
    air = Air(loop, seeds, settings=AirSettings(plan=IN_1, fsk_mode=FSK_5))
    air.capture_to(capture)
    runners = [_runner(air, loop, seeds, index, function) for index in range(NODE_COUNT)]
    received: list[list[bytes]] = [[] for _ in runners]
    echoes: list[int] = []

    def note(event: MeshEvent) -> None:
        if isinstance(event, EchoReplyReceived):
            echoes.append(event.sequence)

    runners[0].on_event = note
    for runner, taken in zip(runners, received, strict=True):
        runner.bind_udp(4059, lambda source, port, payload, taken=taken: taken.append(payload))
        runner.start()
    await asyncio.sleep(120.0)
    for number in range(ROUNDS):
        runners[0].send_udp(4059, ALL_MPL_FORWARDERS, 4059, bytes((number,)) * 300)
        await asyncio.sleep(5.0)
    for index in range(1, NODE_COUNT):
        runners[0].send_echo(_address(index), 7, index, b"are you there?")
        await asyncio.sleep(10.0)
    await asyncio.sleep(60.0)
    air.close()
    return received, echoes


@pytest.mark.requirement("NET-4", "NET-6", "OSI-4")
@pytest.mark.parametrize("function", [ChannelFunction.FIXED, ChannelFunction.DH1CF])
def test_every_node_gets_every_multicast_once_and_answers_an_echo(tmp_path: Path, function: ChannelFunction) -> None:
    loop = VirtualLoop()
    capture = tmp_path / "air.pcap"
    received, echoes = run_virtual(_play(loop, capture, function), loop)
    assert loop.unhandled == []
    wanted = [bytes((number,)) * 300 for number in range(ROUNDS)]
    assert [sorted(taken) for taken in received[1:]] == [wanted] * (NODE_COUNT - 1)
    assert echoes == list(range(1, NODE_COUNT))
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: make system")
    key = f'uat:ieee802154_keys:"{KEY.hex()}","1","No hash"'
    command = ["tshark", "-r", str(capture), "-o", key, "-Y"]

    def matching(display_filter: str) -> int:
        done = subprocess.run([*command, display_filter], capture_output=True, text=True, timeout=120, check=True)
        return len(done.stdout.splitlines())

    assert matching("ipv6.opt.mpl.sequence && udp.dstport == 4059") >= ROUNDS * NODE_COUNT
    assert matching("icmpv6.type == 159 && icmpv6.mpl.seed_info.min_sequence") > 0
    assert matching("icmpv6.opt.aro.eui64") >= 2 * (NODE_COUNT - 1)
    assert matching("_ws.malformed") == 0
