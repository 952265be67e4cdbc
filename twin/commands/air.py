"""`twin air`: the radio medium in a process of its own, for meters of ours and for third parties' firmware."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from protocols.errors import BadInputError
from twin.air.air import Air, AirSettings
from twin.air.gateway.ports import Place, Places, RcpPort, ZepPort, listen_udp
from twin.air.obstacles import Position
from twin.clock.clocks import RealClock
from twin.clock.seeds import Seeds
from twin.commands.output import write_result
from twin.errors import RigError
from twin.rigs.provisioning import DCU_EUI64, meter_eui64
from twin.rigs.radio import radio_numbers
from twin.scenarios.loading import load_scenario
from twin.scenarios.schema import Scenario


def air(
    listen: Annotated[
        str, typer.Option(metavar="URL", help="udp://HOST:PORT for RCP: meters of ours, whose MAC runs here.")
    ] = "udp://127.0.0.1:0",
    zep: Annotated[
        str | None, typer.Option(metavar="URL", help="udp://HOST:PORT for ZEP v2: firmware that has its own MAC.")
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="Places, obstacles and radio plan; its meters and script are not run."),
    ] = "village",
    pcap: Annotated[Path | None, typer.Option(metavar="FILE", help="Capture every frame, for Wireshark.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of shadowing, fading and collisions.")] = 1,
) -> None:
    """Run the air in real time until it is interrupted. Peers take the scenario's places in the order they come."""
    listen_at = _address(listen, "--listen")
    zep_at = None if zep is None else _address(zep, "--zep")
    loaded = load_scenario(scenario).scenario
    clock = RealClock()
    clock.run(_run(clock, loaded, Seeds(seed), listen_at, zep_at, pcap))


def _address(text: str, option: str) -> tuple[str, int]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadInputError(str(error), key=option) from None
    if parts.scheme != "udp" or not parts.hostname or port is None or parts.path:
        raise BadInputError(f"{text!r} is not udp://HOST:PORT", key=option)
    return parts.hostname, port


async def _run(
    clock: RealClock,
    scenario: Scenario,
    seeds: Seeds,
    listen_at: tuple[str, int],
    zep_at: tuple[str, int] | None,
    pcap: Path | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        clock.loop.add_signal_handler(number, stop.set)
    medium, places = _build_air(scenario, clock, seeds), _places(scenario)
    with ExitStack() as stack:
        stack.callback(medium.close)
        if pcap is not None:
            try:
                medium.capture_to(pcap, start_utc_s=clock.utc_s() - clock.loop.time())
            except OSError as error:
                raise BadInputError(f"cannot be written: {error.strerror}", file=str(pcap)) from None
        listening = await _open(RcpPort(medium, places), listen_at, stack)
        line: dict[str, object] = {"listening": listening, "scenario": scenario.scenario}
        if zep_at is not None:
            line["zep"] = await _open(ZepPort(medium, places, seeds, clock.loop, clock.utc_s), zep_at, stack)
        write_result(json.dumps(line) + "\n")
        await stop.wait()


async def _open(port: RcpPort | ZepPort, at: tuple[str, int], stack: ExitStack) -> str:
    try:
        transport, (host, number) = await listen_udp(port, *at)
    except OSError as error:
        raise RigError(f"cannot listen on udp://{at[0]}:{at[1]}: {error.strerror}") from None
    stack.callback(transport.close)
    return f"udp://{host}:{number}"


def _build_air(scenario: Scenario, clock: RealClock, seeds: Seeds) -> Air:
    plan, mode = radio_numbers(scenario)
    settings = AirSettings(
        plan=plan,
        fsk_mode=mode,
        max_psdu_bytes=scenario.radio.max_psdu_bytes,
        shadowing_sigma_db=scenario.radio.shadowing_db,
    )
    made = Air(clock.loop, seeds, settings=settings)
    for wood in scenario.vegetation:
        made.add_vegetation(wood.polygon, wood.loss_db)
    for ridge in scenario.terrain:
        made.add_terrain(ridge.line, ridge.loss_db)
    return made


def _places(scenario: Scenario) -> Places:
    dcu = Place("DCU", DCU_EUI64, Position(*scenario.dcu.position))
    meters = tuple(
        Place(meter.name, meter_eui64(number), Position(*meter.position))
        for number, meter in enumerate(scenario.meters, 1)
    )
    return Places(dcu, meters)


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command(no_args_is_help=False)(air)
