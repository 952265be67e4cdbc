"""The technician's end of a concentrator's maintenance line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class Line:
    """A serial line whose other end is the test."""

    def __init__(self) -> None:
        self.said = b""
        self.receive: Callable[[bytes], None] = lambda data: None

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self.receive = callback

    def write(self, data: bytes) -> None:
        self.said += data

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said.splitlines()]
