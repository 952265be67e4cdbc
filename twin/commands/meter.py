"""`twin meter`: one emulated meter that runs by itself, for any DLMS client."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from grid.household import Household
from meters.firmware.mesh_node import MeshSettings
from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.meter import Meter, MeterHardware
from meters.models.library import load_model, packaged_models
from meters.models.schema import MeterModel
from protocols.errors import BadInputError
from protocols.loads import ConstantLoad, LoadSource, PhaseLoad
from protocols.ports import ByteLink
from twin.clock.clocks import RealClock
from twin.clock.seeds import SystemKeys
from twin.commands.output import write_result
from twin.rigs.bench_verbs import Bench
from twin.rigs.meter_air import AirAddress, LinkKeys, mesh_settings, open_air
from twin.rigs.meter_bench import bench_address, open_bench
from twin.rigs.meter_ports import ListenAddress, open_port
from twin.rigs.meter_state import MeterState, open_state
from twin.rigs.provisioning import meter_eui64
from twin.scenarios.loading import load_scenario

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Options:
    model: MeterModel
    addresses: tuple[ListenAddress, ...]
    air: AirAddress | None
    mesh: MeshSettings | None
    identity: MeterIdentity | None
    keys: MeterKeys | None
    keys_file: Path | None
    load_w: float | None
    bench: ListenAddress | None


def meter(
    model: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="A model's name or file; `twin model list` names those that are here."),
    ] = "ihm5000-1p",
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="tcp://HOST:PORT, udp://HOST:PORT (port 0 picks a free one), hdlc:PTY, or air:udp://HOST:PORT to join "
            "the mesh on an air that `twin air` runs there. May be repeated.",
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Key file (JSON). Without it, fresh keys are made and kept in the state folder."
        ),
    ] = None,
    state: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the meter's flash, keys and identity; made if need be.")
    ] = Path("meter-state"),
    load_w: Annotated[
        float | None, typer.Option(metavar="W", help="A constant load in watts instead of a household's.")
    ] = None,
    bench: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="tcp://HOST:PORT for the bench's verbs (clock, supply, flash, covers, terminals) by JSON-RPC, a "
            "request a line; the method `verbs` lists them. For loopback only.",
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="With air: whose radio plan and timers; that of `twin air`."),
    ] = "village",
    place: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="With air: be this meter of the scenario, at its place."),
    ] = None,
    mesh_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With air: JSON with the mesh's group_key in hex, as a run's keys.json."),
    ] = None,
) -> None:
    """Run one meter until it is interrupted. Its flash survives: the next start is a power-up of the same meter."""
    meter_model = load_model(model)
    air, addresses = _addresses(listen or ["tcp://127.0.0.1:4059"])
    options = _Options(
        model=meter_model,
        addresses=addresses,
        air=air,
        mesh=None if air is None else _mesh(scenario, mesh_keys),
        identity=None if place is None else _identity(scenario, place),
        keys=None if keys is None else _keys_for(meter_model, keys),
        keys_file=keys,
        load_w=load_w,
        bench=None if bench is None else bench_address(bench),
    )
    with open_state(state) as meter_state:
        clock = RealClock()
        clock.run(_run(options, meter_state, clock))


def _addresses(texts: list[str]) -> tuple[AirAddress | None, tuple[ListenAddress, ...]]:
    airs = [air for air in map(AirAddress.parse, texts) if air is not None]
    if len(airs) > 1:
        raise BadInputError("a meter has one radio: name one air", key="--listen")
    return next(iter(airs), None), tuple(ListenAddress.parse(text) for text in texts if AirAddress.parse(text) is None)


def _mesh(scenario: str, keys: Path | None) -> MeshSettings:
    if keys is None:
        raise BadInputError("is needed to join a mesh: a JSON file with its group_key in hex", key="--mesh-keys")
    return mesh_settings(load_scenario(scenario).scenario, LinkKeys.load(keys))


def _identity(scenario: str, name: str) -> MeterIdentity:
    meters = load_scenario(scenario).scenario.meters
    for number, settings in enumerate(meters, 1):
        if settings.name == name:
            return MeterIdentity(settings.serial, meter_eui64(number))
    known = ", ".join(settings.name for settings in meters)
    raise BadInputError(f"no meter {name!r} in {scenario}; there are: {known}", key="--as")


def _keys_for(model: MeterModel, path: Path) -> MeterKeys:
    keys = MeterKeys.load(path)
    if model.security_suites and keys.suite not in model.security_suites:
        known = " or ".join(str(suite) for suite in model.security_suites)
        raise BadInputError(f"model {model.model} has security suite {known}", file=str(path), key="suite")
    return keys


async def _run(options: _Options, state: MeterState, clock: RealClock) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        clock.loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        link = None
        if options.air is not None:
            link = await open_air(options.air)
            stack.callback(link.close)
        device = _build(options, state, clock, stack, link)
        ports = [] if options.air is None else [str(options.air)]
        for address in options.addresses:
            port = await open_port(address, device)
            stack.push_async_callback(port.close)
            ports.append(str(port.address))
        line = {
            "listening": ports[0],
            "listeners": ports,
            "model": device.model.model,
            "serial": device.identity.serial,
            "eui64": device.identity.eui64.hex(),
            "keys": str(options.keys_file or state.keys_file),
            "state": str(state.folder),
        }
        if options.bench is not None:
            opened = await open_bench(options.bench, Bench(device, clock.loop))
            stack.push_async_callback(opened.close)
            line["bench"] = str(opened.address)
        write_result(json.dumps(line) + "\n")
        await stop.wait()


def _build(
    options: _Options, state: MeterState, clock: RealClock, stack: AsyncExitStack, link: ByteLink | None
) -> Meter:
    source, model = SystemKeys(), options.model
    identity = state.identity(model, source, options.identity)
    rng = random.Random(identity.serial)
    flash = state.flash(model)
    stack.callback(flash.close)
    hardware = MeterHardware.for_model(
        model, clock, clock.loop, _load(options, random.Random(f"{identity.serial}/home")), rng, flash=flash
    )
    hardware.rtc.advance(state.clock_offset_s())
    device = Meter(
        model,
        identity,
        options.keys or state.keys(model, identity, source),
        hardware,
        timers=clock.loop,
        rng=rng,
        key_source=source,
        trace=_log,
        radio=link,
        mesh=options.mesh,
    )
    device.power_on()
    stack.callback(_switch_off, device, state)
    firmware = device.firmware
    if firmware is not None:
        firmware.services.clock.on_change.append(lambda *_: state.keep_clock_offset(hardware.rtc.offset_s))
    return device


def _switch_off(device: Meter, state: MeterState) -> None:
    """An orderly end: the capacitor lasts for the last checkpoint."""
    state.keep_clock_offset(device.rtc.offset_s)
    device.power.cut()
    device.power.cut_at_once()


def _load(options: _Options, rng: random.Random) -> LoadSource:
    model = options.model
    if options.load_w is not None:
        share = PhaseLoad(options.load_w / model.phases, 0.0, model.nominal_voltage_v)
        return ConstantLoad((share,) * model.phases, model.nominal_frequency_hz)
    return Household(
        rng,
        phases=model.phases,
        nominal_v=model.nominal_voltage_v,
        nominal_hz=model.nominal_frequency_hz,
        local_offset_s=-60 * model.time_zone_deviation_min,
    )


def _log(kind: str, /, **fields: object) -> None:
    logger.info("%s %s", kind, " ".join(f"{name}={value}" for name, value in fields.items()))


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command(help=f"Run one emulated meter by itself. Models: {', '.join(packaged_models())}.")(meter)
