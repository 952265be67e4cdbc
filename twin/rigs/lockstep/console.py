"""The guest's console as a log whose lines carry the run's time."""

from __future__ import annotations

from collections import deque
from pathlib import Path

_KEPT_LINES = 200


class ConsoleLog:
    """Writes `dcu-console.log`: each line behind the run's time (s) at which it was seen to be complete.

    The guest stands still whenever it is looked at, so the times are the same in every run of a seed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._rest = b""
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)

    def add(self, data: bytes, now_s: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line, now_s)

    def note(self, text: str, now_s: float) -> None:
        """A line of the bench's own: what it does to the machine."""
        self._write(f"-- {text}".encode(), now_s)

    def close(self, now_s: float) -> None:
        if self._rest:
            self._write(self._rest, now_s)
            self._rest = b""
        self._file.close()

    def tail(self, lines: int = 15) -> str:
        """The console's last words."""
        return "\n".join([*self._last, self._rest.decode("utf-8", errors="replace")][-lines:]).strip()

    def _write(self, line: bytes, now_s: float) -> None:
        text = f"[{now_s:14.6f}] {line.rstrip().decode('utf-8', errors='replace')}"
        self._last.append(text)
        self._file.write(text + "\n")
        self._file.flush()
