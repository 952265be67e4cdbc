"""The command `twin`: one verb a module, one way to end.

Exit status: 0 everything passed, 1 something failed, 2 usage or a bad file, 3 the rig could not do it.
"""

from __future__ import annotations

import logging
import sys
from importlib import metadata

import typer

from protocols.errors import BadInputError, TwinError
from twin.commands import conform, dcu, der, doctor, meter, run, trip
from twin.commands.output import ExitStatus, complain

app = typer.Typer(
    name="twin",
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


for verb in (run, conform, meter, trip, der, dcu, doctor):
    verb.register(app)


def main() -> None:
    """Entry point of the command."""
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
