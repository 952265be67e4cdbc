"""`python -m dcu --config FILE`: the concentrator as a process of its own, in the guest and natively.

Logs go to standard error, one JSON object a line. Ends with 0 after SIGTERM or SIGINT, 2 for a bad configuration,
3 when storage or radio cannot be used or are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from dcu import __version__
from dcu.config_file import BrokerAddress, Provisioning, load
from dcu.daemon import Dcu
from dcu.serial_link import SerialError, open_serial
from dcu.storage import FileStorage, StorageError
from dcu.uplink import Uplink
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


class _FileTrace:
    """Trace events as JSON lines in a file, with seconds on the loop's clock."""

    def __init__(self, file: TextIO | None, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        self._loop = loop

    def __call__(self, kind: str, /, **fields: object) -> None:
        if self._file is not None:
            event = {"t_s": round(self._loop.time(), 6), "kind": kind, **fields}
            self._file.write(json.dumps(event, default=str) + "\n")
            self._file.flush()


class _SystemKeys:
    def random_bytes(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)


def _uplink(broker: BrokerAddress, loop: asyncio.AbstractEventLoop, rng: random.Random) -> Uplink:
    from dcu.mqtt_uplink import MqttOptions, MqttUplink, TlsOptions  # paho is slow to import in the guest

    tls = broker.tls
    options = MqttOptions(
        host=broker.host,
        port=broker.port,
        client_id=broker.client_id,
        username=broker.username,
        password=broker.password,
        keep_alive_s=broker.keep_alive_s,
        tls=None
        if tls is None
        else TlsOptions(Path(tls.ca_file), Path(tls.certificate_file), Path(tls.key_file), tls.server_name),
    )
    return MqttUplink(options, loop, rng)


async def _run(provisioning: Provisioning, trace_file: TextIO | None) -> int:
    """Until a signal asks to end, or the radio is lost."""
    loop = asyncio.get_running_loop()
    rng = random.SystemRandom()
    ending: asyncio.Future[str] = loop.create_future()

    def end(reason: str) -> None:
        if not ending.done():
            ending.set_result(reason)

    storage = FileStorage(provisioning.storage)
    radio = open_serial(provisioning.radio_device, provisioning.radio_baud, loop, lambda why: end(f"radio: {why}"))
    try:
        dcu = Dcu(
            provisioning.dcu,
            loop=loop,
            radio=radio,
            uplink=_uplink(provisioning.broker, loop, rng),
            storage=storage,
            key_source=_SystemKeys(),
            rng=rng,
            utc_s=time.time,
            trace=_FileTrace(trace_file, loop),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, "")
        dcu.start()
        reason = await ending
        await dcu.stop()
    finally:
        radio.close()
    return EXIT_UNUSABLE if reason else EXIT_OK


def main(arguments: list[str] | None = None) -> int:
    """Run the concentrator; gives the exit status."""
    parser = argparse.ArgumentParser(prog="dcu", description="The OpenAMI concentrator's daemon")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration, JSON")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    try:
        provisioning = load(options.config)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines(provisioning.dcu.dcu_id))
        logging.basicConfig(level=options.log_level.upper(), handlers=[handler])
        if provisioning.trace_file is None:
            return asyncio.run(_run(provisioning, None))
        with provisioning.trace_file.open("a", encoding="utf-8") as trace_file:
            return asyncio.run(_run(provisioning, trace_file))
    except BadInputError as error:
        print(f"dcu: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (StorageError, SerialError, OSError) as error:
        print(f"dcu: {error}", file=sys.stderr)
        return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
