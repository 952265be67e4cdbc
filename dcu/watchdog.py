"""A thread that says whether the event loop still turns: what the start-up script watches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path

_LOG = logging.getLogger(__name__)


class Watchdog:
    """Writes the system's uptime in seconds into a file as long as the loop answers. A context manager.

    The file is in RAM. Whoever finds it older than its patience may end the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, file: Path, interval_s: float = 30.0) -> None:
        self._loop = loop
        self._file = file
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._loop.call_soon_threadsafe(self._note)

    def _note(self) -> None:
        """On the loop: only a loop that turns gets here."""
        try:
            self._file.write_text(f"{int(time.monotonic())}\n", encoding="ascii")
        except OSError as error:
            _LOG.warning("the watchdog's file cannot be written: %s", error.strerror)
