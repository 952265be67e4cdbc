"""`python -m dcu`: the concentrator as a process of its own, in the guest and natively.

With `--config FILE` it runs from that file. With `--state FOLDER --maintenance DEVICE` it is given identity, keys and
addresses over a serial line, keeps them in the folder, and runs from there at every later start.

Logs go to standard error, one JSON object a line. Ends with 0 after SIGTERM or SIGINT, 2 for a bad configuration,
3 when storage or radio cannot be used or are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from pathlib import Path

from dcu import __version__
from dcu.config_file import Provisioning, load
from dcu.serial_link import SerialError
from dcu.service import Concentrator, Service, ServiceOptions, end_on_signal
from dcu.storage import StorageError
from dcu.watchdog import Watchdog
from protocols.errors import BadInputError

EXIT_OK, EXIT_BAD_INPUT, EXIT_UNUSABLE = 0, 2, 3
_LOG = logging.getLogger("dcu")


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, concentrator, message, and the traceback if there is one."""

    def __init__(self, dcu_id: str) -> None:
        super().__init__()
        self._dcu_id = dcu_id

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "dcu": self._dcu_id,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


async def _run(provisioning: Provisioning) -> int:
    """Until a signal asks to end, or the radio is lost."""
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[str] = loop.create_future()

    def lost(why: str) -> None:
        if not ending.done():
            ending.set_result(why)

    end_on_signal(loop, ending)
    concentrator = Concentrator(provisioning, loop, lost)
    try:
        reason = await ending
    finally:
        await concentrator.stop()
    return EXIT_UNUSABLE if reason else EXIT_OK


async def _serve(options: ServiceOptions, alive: Path | None) -> int:
    """A concentrator that is provisioned over its maintenance line."""
    loop = asyncio.get_running_loop()
    service = Service(options, loop)
    with Watchdog(loop, alive) if alive is not None else contextlib.nullcontext():
        reason = await service.run()
    if reason:
        _LOG.error("the daemon ends: %s", reason)
    return EXIT_UNUSABLE if reason else EXIT_OK


def main(arguments: list[str] | None = None) -> int:
    """Run the concentrator; gives the exit status."""
    parser = argparse.ArgumentParser(prog="dcu", description="The OpenAMI concentrator's daemon")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="configuration, JSON")
    source.add_argument("--state", type=Path, metavar="FOLDER", help="where provisioning is kept")
    parser.add_argument("--maintenance", metavar="DEVICE", help="serial line of the maintenance interface")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"), metavar="FOLDER", help="files in RAM")
    parser.add_argument("--program", type=Path, metavar="FOLDER", help="slots of the daemon's own update")
    parser.add_argument("--alive", type=Path, metavar="FILE", help="file that shows a watcher that the daemon lives")
    parser.add_argument("--set-clock", action="store_true", help="provisioning may set the system's clock")
    parser.add_argument(
        "--on-provisioned", type=Path, metavar="PROGRAM", help="run with the workspace when provisioning has changed"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    if (options.state is None) != (options.maintenance is None):
        parser.error("--state and --maintenance belong together")
    try:
        return _main(options)
    except BadInputError as error:
        print(f"dcu: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (StorageError, SerialError, OSError) as error:
        print(f"dcu: {error}", file=sys.stderr)
        return EXIT_UNUSABLE


def _main(options: argparse.Namespace) -> int:
    if options.state is not None:
        _log_lines(options.log_level, "dcu")
        service = ServiceOptions(
            options.state,
            options.maintenance,
            options.workspace.absolute(),
            options.program,
            sets_clock=options.set_clock,
            on_provisioned=options.on_provisioned,
        )
        return asyncio.run(_serve(service, options.alive))
    provisioning = load(options.config)
    _log_lines(options.log_level, provisioning.dcu.dcu_id)
    return asyncio.run(_run(provisioning))


def _log_lines(level: str, name: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(name))
    logging.basicConfig(level=level.upper(), handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
