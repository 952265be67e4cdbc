"""What a person sees: progress and verdicts on stderr, results on stdout."""

from __future__ import annotations

import enum
import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from twin.conformance.verdicts import CaseResult, Verdict

STYLES = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.TIMEOUT: "bold yellow",
    Verdict.SKIP: "dim",
    Verdict.NOT_COVERED: "dim",
}


class ExitStatus(enum.IntEnum):
    """Exit statuses of the command, as every verb uses them."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    RIG = 3


def exit_status(verdict: Verdict) -> ExitStatus:
    match verdict:
        case Verdict.PASS:
            return ExitStatus.PASSED
        case Verdict.FAIL:
            return ExitStatus.FAILED
        case _:
            return ExitStatus.RIG


def people() -> Console:
    """The console for people: stderr, with colour and progress where it is a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    people().print(f"[bold red]error:[/] {escape(message)}")


def progress_bar(console: Console) -> Progress:
    """A spinner with what is running, where somebody looks; nothing where the output goes to a file."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def print_case(console: Console, result: CaseResult) -> None:
    """One line a case, and under it whatever did not hold."""
    duration_s = result.last.ended_s - result.attempts[0].started_s
    style = STYLES[result.verdict]
    rows = f"  [dim]{' '.join(result.requirements)}[/]" if result.requirements else ""
    console.print(f"[{style}]{result.verdict:>8}[/]  {escape(result.title)} [dim]({duration_s:.1f} s)[/]{rows}")
    if result.last.reason:
        console.print(f"          [{style}]{escape(result.last.reason)}[/]")


def write_result(text: str) -> None:
    """A result for machines, on stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()
