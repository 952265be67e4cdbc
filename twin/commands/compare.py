"""`twin compare`: two runs of one scenario side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as ShownTable

from protocols.errors import BadInputError
from twin.commands.output import ExitStatus, people, write_result
from twin.rigs.comparison.differences import Comparison, compare
from twin.rigs.comparison.finished import FinishedRun, load_run


def register(app: typer.Typer) -> None:
    app.command("compare")(compare_runs)


def compare_runs(
    first: Annotated[Path, typer.Argument(help="Run folder.")],
    second: Annotated[Path, typer.Argument(help="Run folder of the same scenario and seed, made another way.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON on stdout.")] = False,
) -> None:
    """Compare what two runs of a scenario left: the same steps, the same rows in the MDMS, the same order of events.

    Made for one scenario with the native daemon and with the ARM image. Times may differ, and are shown as tables.
    Exit status 0 if all that must agree does, 1 if not.
    """
    one, other = load_run(first), load_run(second)
    for name in ("scenario", "seed"):
        if getattr(one, name) != getattr(other, name):
            raise BadInputError(
                f"has {name} {getattr(other, name)}, and {first} has {getattr(one, name)}; they cannot be compared",
                file=str(second),
            )
    comparison = compare(one, other)
    if as_json:
        document = {"same": comparison.holds, **asdict(comparison)}
        write_result(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(one, other, comparison)
    raise typer.Exit(ExitStatus.PASSED if comparison.holds else ExitStatus.FAILED)


def _show(one: FinishedRun, other: FinishedRun, comparison: Comparison) -> None:
    console = people()
    console.print(
        f"[bold]{one.scenario}[/] [dim](seed {one.seed}): {one.how} in {one.folder}, {other.how} in {other.folder}[/]"
    )
    for item in comparison.agreements:
        word, style = ("SAME", "bold green") if item.holds else ("DIFFERS", "bold red")
        if item.is_empty:
            word, style = "NONE", "dim"
        counts = f"{item.shared} the same" if item.holds else f"{item.first} and {item.second}, {item.shared} the same"
        console.print(f"[{style}]{word:>8}[/]  {item.what} [dim]({counts})[/]")
        if item.detail:
            console.print(f"          {item.detail}")
    for table in comparison.tables:
        shown = ShownTable(title=table.title, title_justify="left", title_style="bold")
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            shown.add_row(*map(str, row))
        console.print()
        console.print(shown)
