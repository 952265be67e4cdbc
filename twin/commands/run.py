"""`twin run`: play a scenario, and leave a run folder with its verdicts."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from protocols.errors import BadInputError
from twin.clock.clocks import ClockKind
from twin.commands.output import STYLES, exit_status, people, print_case, progress_bar, write_result
from twin.conformance.verdicts import CaseResult
from twin.rigs.folder import RunFolder, default_folder
from twin.rigs.lockstep.costs import Costs
from twin.rigs.options import DEFAULT_DATABASE, AirKind, BrokerKind, DcuKind, RunOptions, choose
from twin.scenarios.loading import load_scenario, packaged_scenarios

if TYPE_CHECKING:
    from twin.conformance.report import RunReport


def register(app: typer.Typer) -> None:
    app.command()(run)


def _list(wanted: bool) -> None:
    if wanted:
        for name, title in packaged_scenarios().items():
            typer.echo(f"{name:20} {title}")
        raise typer.Exit


def run(
    scenario: Annotated[str, typer.Argument(help="Name of a packaged scenario, or a scenario file (YAML).")],
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/SCENARIO-SEED if not given.")] = None,
    clock: Annotated[ClockKind | None, typer.Option(help="virtual, unless something real asks for real.")] = None,
    broker: Annotated[BrokerKind, typer.Option(help="MQTT broker between DCU and head-end.")] = BrokerKind.MEMORY,
    dcu: Annotated[DcuKind, typer.Option(help="qemu runs the ARMv7 image, on either clock.")] = DcuKind.NATIVE,
    db: Annotated[str, typer.Option(help="MDMS database: an SQLAlchemy URL.")] = DEFAULT_DATABASE,
    air: Annotated[AirKind, typer.Option(help="scapy dissects and rebuilds every frame on its way.")] = AirKind.BYTES,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the scenario, or a place in its file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    list_them: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True, help="List the packaged scenarios.")
    ] = False,
) -> None:
    """Play a scenario through every layer, and judge it.

    Leaves a folder with report.html, report.xml (JUnit), report.json, air.pcap and keys.json (for Wireshark),
    events.jsonl, the MDMS database and run.log.
    """
    # Imported here, so that other verbs need not wait for databases and web frameworks.
    from twin.conformance.report import to_json
    from twin.rigs.run import run_scenario

    options = choose(seed=seed, clock=clock, broker=broker, air=air, database=db, dcu=dcu)
    loaded = load_scenario(scenario, overrides)
    folder = RunFolder(out or default_folder(loaded.scenario.scenario, seed))
    console = people()
    console.print(f"[bold]{loaded.scenario.title}[/] [dim](seed {seed}, {options.clock} clock)[/]")
    started = time.perf_counter()
    with progress_bar(console) as bar:
        task = bar.add_task("setting up", total=None)
        if options.dcu is DcuKind.QEMU:
            _prepare_dcu(console, options.clock, lambda what: bar.update(task, description=what))

        def show(title: str, result: CaseResult | None) -> None:
            bar.update(task, description=title)
            if result is not None:
                print_case(console, result)

        report = run_scenario(loaded, options, folder, repeat_command(scenario, options, overrides or []), show)
    _summary(console, report, folder, time.perf_counter() - started)
    if as_json:
        write_result(to_json(report))
    raise typer.Exit(exit_status(report.verdict))


def _prepare_dcu(console: Console, clock: ClockKind, show: Callable[[str], None]) -> None:
    """Build the image and its snapshot if this is the first time; a file or a pipe gets the progress as lines."""
    import twin.rigs.lockstep.dcu as lockstep
    import twin.rigs.qemu.dcu as qemu

    def progress(what: str) -> None:
        if not console.is_terminal:
            console.print(f"[dim]{what}[/]")
        show(what)

    if clock is ClockKind.VIRTUAL:
        lockstep.prepare(progress)
    else:
        qemu.prepare(progress)


def _summary(console: Console, report: RunReport, folder: RunFolder, wall_s: float) -> None:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items() if count)
    console.print(f"[{STYLES[report.verdict]}]{report.verdict:>8}[/]  [bold]{counts}[/]")
    console.print(
        f"          {report.simulated_s:,.0f} simulated seconds in {wall_s:.1f} s; report: {folder.file('report.html')}"
    )
    costs = Costs.load(folder.path)
    if costs is not None:
        console.print(f"          {costs.text()}")
    console.print(f"          repeat: {report.command}")


def repeat_command(scenario: str, options: RunOptions, overrides: list[str]) -> str:
    """The command that repeats a run, wherever its folder is."""
    words = ["twin", "run", scenario, "--seed", str(options.seed), "--clock", str(options.clock)]
    if options.broker is not BrokerKind.MEMORY:
        words += ["--broker", str(options.broker)]
    if options.air is not AirKind.BYTES:
        words += ["--air", str(options.air)]
    if options.dcu is not DcuKind.NATIVE:
        words += ["--dcu", str(options.dcu)]
    if options.database != DEFAULT_DATABASE:
        words += ["--db", _without_password(options.database)]
    for override in overrides:
        words += ["--set", override]
    return shlex.join(words)


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise BadInputError(
            "is not an SQLAlchemy URL, such as postgresql+psycopg://user@host/name", key="--db"
        ) from None
