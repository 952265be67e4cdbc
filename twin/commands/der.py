"""The verb `twin der`: an inverter with a SunSpec interface over Modbus TCP."""

from __future__ import annotations

import asyncio
import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from protocols.errors import BadInputError
from twin.commands.output import people, write_result
from twin.errors import RigError

if TYPE_CHECKING:
    from grid.der.grid_file import GridProfile
    from grid.der.inverter import Inverter

_STEP_S = 0.02


def register(app: typer.Typer) -> None:
    """Add `der` to the command."""
    app.command("der")(der)


def der(
    listen: Annotated[str, typer.Option(help="tcp://HOST:PORT; port 0 picks a free one.")] = "tcp://127.0.0.1:502",
    unit: Annotated[int, typer.Option(min=0, max=247, help="Modbus unit identifier.")] = 1,
    profile: Annotated[str, typer.Option(help="ieee1547-60, ieee1547-50 or kenya.")] = "ieee1547-50",
    category: Annotated[str, typer.Option(help="Abnormal operating performance: I, II or III.")] = "III",
    grid: Annotated[Path | None, typer.Option(help="CSV: time_s, voltage_pu or voltage_v, frequency_hz.")] = None,
    linear: Annotated[bool, typer.Option("--linear", help="Straight lines between the rows, not steps.")] = False,
    speed: Annotated[float, typer.Option(help="Simulated seconds in a second.")] = 1.0,
    available_pct: Annotated[float, typer.Option(help="What the sun gives, percent of the rated power.")] = 100.0,
    serial: Annotated[str, typer.Option(help="Serial number in the common model.")] = "DER-1",
) -> None:
    """Run an inverter after IEEE 1547-2018 and serve SunSpec models 1 and 701 to 714.

    Prints one line of JSON when it listens, and one for each change of its state. Ends on SIGINT or SIGTERM.
    """
    if find_spec("pymodbus") is None:
        raise RigError("needs pymodbus: install openami-twin[grid]")
    from grid.der.categories import Category
    from grid.der.grid_file import GridProfile, read_grid_file
    from grid.der.inverter import GridPoint, Inverter
    from grid.der.settings import PROFILES

    if profile not in PROFILES:
        raise BadInputError(f"no {profile!r}; there are {', '.join(PROFILES)}", key="--profile")
    if category not in list(Category):
        raise BadInputError(f"no {category!r}; there are {', '.join(Category)}", key="--category")
    if not 0.01 <= speed <= 1000.0:
        raise BadInputError(f"must be from 0.01 to 1000, is {speed:g}", key="--speed")
    if not 0.0 <= available_pct <= 100.0:
        raise BadInputError(f"must be from 0 to 100, is {available_pct:g}", key="--available-pct")
    host, port = _address(listen)
    inverter = Inverter(PROFILES[profile], Category(category))
    inverter.available_pct = available_pct
    if grid is None:
        over_time = GridProfile((0.0,), (GridPoint(1.0, PROFILES[profile].nominal_hz),))
    else:
        over_time = read_grid_file(grid, PROFILES[profile].nominal_v, linear=linear)
    asyncio.run(_serve(inverter, over_time, host, port, unit, speed, serial))


def _address(listen: str) -> tuple[str, int]:
    parts = urlsplit(listen)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "tcp" or not parts.hostname or port is None:
        raise BadInputError(f"must be tcp://HOST:PORT, is {listen!r}", key="--listen")
    return parts.hostname, port


async def _serve(
    inverter: Inverter, over_time: GridProfile, host: str, port: int, unit: int, speed: float, serial: str
) -> None:
    from grid.der.sunspec.device import SunSpecDevice
    from grid.der.sunspec.models import MODELS
    from grid.der.sunspec.server import SunSpecServer

    inverter.step(over_time.at(0.0), 0.0)
    server = SunSpecServer(SunSpecDevice(inverter, serial, unit), host, port, unit)
    try:
        bound_host, bound_port = await server.start()
    except OSError as error:
        raise RigError(f"cannot listen on {host}:{port}: {error}") from error
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    settings = inverter.settings
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    ready = {
        "listening": f"tcp://{shown}:{bound_port}",
        "unit": unit,
        "profile": inverter.profile.name,
        "category": settings.category.value,
        "models": list(MODELS),
    }
    write_result(json.dumps(ready) + "\n")
    try:
        await _live(inverter, over_time, speed, stopped)
    finally:
        await server.stop()


async def _live(inverter: Inverter, over_time: GridProfile, speed: float, stopped: asyncio.Event) -> None:
    """Step the inverter in pace with the clock; what a busy host missed is caught up with, step by step."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    lived, told = 0, 0
    while not stopped.is_set():
        due = int((loop.time() - started_s) * speed / _STEP_S)
        for _ in range(min(due - lived, 2000)):
            lived += 1
            inverter.step(over_time.at(lived * _STEP_S), _STEP_S)
        told = _tell(inverter, told)
        try:
            await asyncio.wait_for(stopped.wait(), timeout=_STEP_S)
        except TimeoutError:
            continue
    people().print("stopped", style="dim")


def _tell(inverter: Inverter, told: int) -> int:
    """Print changes of state that were not told yet; returns how many have been told in all."""
    total = inverter.event_count
    new = min(total - told, len(inverter.events))
    for record in list(inverter.events)[len(inverter.events) - new :]:
        line = {"at_s": round(record.at_s, 3), "state": record.after.value, "reason": record.reason}
        write_result(json.dumps(line) + "\n")
    return total
