"""The command `twin`: one verb a module, one way to end.

Exit status: 0 everything passed, 1 something failed, 2 usage or a bad file, 3 the rig could not do it.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from importlib import metadata
from typing import Any

import typer
from typer.core import TyperGroup

from protocols.errors import BadInputError, TwinError
from twin.commands.output import ExitStatus, complain

_GC_THRESHOLDS = (50_000, 20, 50)

VERBS = ("run", "compare", "conform", "meter", "dlms", "air", "trip", "der", "firmware", "dcu", "doctor")
"""In the order of the help text; each is a module of this package with a function `register`."""


class Verbs(TyperGroup):
    """Imports the module of a verb when the verb is asked for: nobody waits for what another verb needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"twin.commands.{cmd_name}")
        alone = typer.Typer()
        alone.callback()(_nothing)
        module.register(alone)
        group: Any = typer.main.get_command(alone)
        return group.commands[cmd_name]


def _nothing() -> None:
    """Makes a group of a Typer with one command."""


app = typer.Typer(
    name="twin",
    cls=Verbs,
    help="A digital twin of an OpenAMI smart-metering system, for integration tests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openami-twin {metadata.version('openami-twin')}")
        raise typer.Exit


@app.callback()
def _common(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens, on stderr."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )


def main() -> None:
    """Entry point of the command."""
    # A run makes many short-lived objects and few cycles: looking for them less often is a tenth of its time.
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        app()
    except BadInputError as error:
        complain(str(error))
        sys.exit(ExitStatus.USAGE)
    except TwinError as error:
        complain(str(error))
        sys.exit(ExitStatus.RIG)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(ExitStatus.RIG)
    except Exception as error:
        logging.getLogger(__name__).info("unexpected error", exc_info=error)
        complain(f"unexpected {type(error).__name__}: {error}; this is a fault of twin itself (--verbose says where)")
        sys.exit(ExitStatus.RIG)
