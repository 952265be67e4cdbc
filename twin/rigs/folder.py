"""The folder that a run leaves."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from protocols.errors import BadInputError, LocalProtocolError
from protocols.ports import Trace
from twin.clock.clocks import RunClock

_MARKER = "events.jsonl"
_FILES_OF_A_RUN = (
    "report.html", "report.xml", "report.json", "air.pcap", "keys.json", "events.jsonl", "run.log", "mdms.sqlite",
)  # fmt: skip
_FOLDERS_OF_A_RUN = ("dcu", "mosquitto", "pictures", "trips")


def default_folder(scenario: str, seed: int, root: Path = Path("runs")) -> Path:
    """A folder that is not there yet: runs/NAME-SEED, or with a number behind it."""
    folder, number = root / f"{scenario}-{seed}", 2
    while folder.exists():
        folder, number = root / f"{scenario}-{seed}-{number}", number + 1
    return folder


class RunFolder:
    """Where one run writes. An earlier run's files in the same folder are replaced; foreign files are not touched.

    Raises BadInputError where `path` is a file, holds files that no run wrote, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()) and not (path / _MARKER).exists():
                raise BadInputError("is not empty, and no run made it; name another folder with --out", file=str(path))
            for name in _FILES_OF_A_RUN:
                (path / name).unlink(missing_ok=True)
            for name in _FOLDERS_OF_A_RUN:
                if (path / name).is_dir():
                    shutil.rmtree(path / name)
        except OSError as error:
            raise BadInputError(f"cannot be used as a run folder: {error.strerror}", file=str(path)) from None

    def file(self, name: str) -> Path:
        return self.path / name

    def written(self) -> tuple[str, ...]:
        """Names of the files in it, sorted."""
        return tuple(sorted(entry.name for entry in self.path.iterdir() if entry.is_file()))

    def log_handler(self) -> logging.Handler:
        """A handler that keeps the log of the run, warnings and worse with their tracebacks, in `run.log`."""
        handler = logging.FileHandler(self.file("run.log"), mode="w", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        handler.setLevel(logging.INFO)
        return handler


class EventTrace:
    """Writes `events.jsonl`: a line an event, with the run's time in seconds. Bytes are written as hex."""

    def __init__(self, file: TextIO, clock: RunClock) -> None:
        self._file = file
        self._clock = clock
        self.counts: dict[str, int] = {}
        self.listeners: list[Callable[[str, dict[str, object]], None]] = []
        """Called with kind and fields after each event; they must not raise."""

    def __call__(self, kind: str, /, **fields: object) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        event: dict[str, object] = {"t": round(self._clock.now(), 6), "kind": kind}
        for name, value in fields.items():
            if name in event:
                raise LocalProtocolError(f"event {kind!r} may not have a field {name!r}")
            event[name] = _plain(value)
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
        for listener in self.listeners:
            listener(kind, event)

    def of(self, node: str) -> Trace:
        """The same trace for one node: every event carries its name."""

        def trace(kind: str, /, **fields: object) -> None:
            self(kind, **{**fields, "node": node})

        return trace

    def close(self) -> None:
        self._file.close()


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case float():
            return round(value, 9)
        case None | bool() | int() | str():
            return value
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)
