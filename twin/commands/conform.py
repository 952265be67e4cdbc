"""`twin conform`: hold a meter against the conformance cases."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meters.keys import MeterKeys
from protocols.errors import BadInputError
from twin.commands.output import STYLES, exit_status, people, print_case, progress_bar, write_result
from twin.conformance.campaign import ConformOptions, ConformRun, chosen_cases, run_conformance
from twin.conformance.cases import OUR_READING, Case
from twin.conformance.report import to_json
from twin.conformance.selection import Shard
from twin.conformance.targets import TargetSpec
from twin.conformance.verdicts import CaseResult
from twin.rigs.folder import RunFolder, default_folder


def register(app: typer.Typer) -> None:
    app.command()(conform)


def conform(
    target: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help="twin (our IHM-5000), model:NAME|FILE, tcp://HOST:PORT, udp://HOST:PORT or hdlc:DEVICE. A stranger's "
            "access points go behind it: ?public=16&reader=32&management=1&server=1, "
            "and a serial line's physical address: &physical=17.",
        ),
    ] = "twin",
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key file (JSON) of a stranger's meter; see twin meter.")
    ] = None,
    select: Annotated[
        str, typer.Option(metavar="EXPR", help="pytest's -k grammar over case and requirement names.")
    ] = "",
    shard: Annotated[str, typer.Option(metavar="I/N", help="Run one of N parts.")] = "1/1",
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier report.json: only what got worse fails.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; runs/conform-SEED if not given.")] = None,
    seed: Annotated[int, typer.Option(help="One seed, one result, on the virtual clock.")] = 1,
    allow_changes: Annotated[
        bool,
        typer.Option("--allow-changes", help="Also run what a stranger's meter keeps: keys, policies, lock-outs."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the selected cases, and run none.")] = False,
) -> None:
    """Run the conformance cases against a meter, and leave a folder with report.html, report.xml and report.json.

    Exit status 0: all passed (or nothing got worse than the baseline), 1: something failed (or got worse), 2: usage,
    3: the rig could not do it.
    """
    spec = TargetSpec.parse(target)
    if keys is not None and spec.is_emulated:
        raise BadInputError("an emulated meter gets fresh keys from the seed; leave --keys out", key="--keys")
    options = ConformOptions(
        target=spec,
        keys_file=keys,
        keys=None if keys is None else MeterKeys.load(keys),
        expression=select,
        shard=Shard.parse(shard),
        baseline_file=baseline,
        seed=seed,
        may_change=allow_changes,
    )
    if list_them:
        _list(chosen_cases(options), as_json=as_json)
        return
    folder = RunFolder(out or default_folder("conform", seed))
    console = people()
    console.print(f"[bold]Conformance of {spec.text}[/] [dim]({OUR_READING})[/]")
    started = time.perf_counter()
    with progress_bar(console) as bar:
        task = bar.add_task("setting up", total=None)

        def show(case: Case, result: CaseResult | None) -> None:
            bar.update(task, description=case.name)
            if result is not None:
                print_case(console, result)

        run = run_conformance(options, folder, show)
    _summary(console, run, folder, time.perf_counter() - started)
    if as_json:
        write_result(to_json(run.report))
    raise typer.Exit(exit_status(run.verdict))


def _list(cases: tuple[Case, ...], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "name": case.name,
                "purpose": case.purpose,
                "requirements": list(case.requirements),
                "layers": {"osi": case.layers.osi, "sgam": case.layers.sgam, "unece": case.layers.unece},
                "needs": [need.value for need in sorted(case.needs)],
            }
            for case in cases
        ]
        write_result(json.dumps({"note": OUR_READING, "cases": rows}, indent=2, ensure_ascii=False) + "\n")
        return
    write_result("".join(f"{case.name:28} {' '.join(case.requirements):24} {case.purpose}\n" for case in cases))


def _summary(console: Console, run: ConformRun, folder: RunFolder, wall_s: float) -> None:
    report = run.report
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items() if count)
    console.print(f"[{STYLES[report.verdict]}]{report.verdict:>8}[/]  [bold]{counts}[/] [dim]({wall_s:.1f} s)[/]")
    for warning in report.warnings:
        console.print(f" [bold yellow]WARNING[/]  {warning}")
    if run.comparison is not None:
        for title, changes in (("worse", run.comparison.regressions), ("better", run.comparison.improvements)):
            for change in changes:
                console.print(f"          {title}: {change}")
        console.print(
            f"          baseline: {len(run.comparison.regressions)} worse, "
            f"{len(run.comparison.improvements)} better, {run.comparison.known_failures} known failures"
        )
    console.print(f"          report: {folder.file('report.html')}")
    console.print(f"          repeat: {report.command}")
