"""`twin run` as a user would type it, and what it left."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 900


@dataclass(frozen=True)
class Run:
    """A finished `twin run`."""

    folder: Path
    status: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return document

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["kind"] == kind]

    @property
    def group_key(self) -> str:
        key: str = json.loads((self.folder / "keys.json").read_text())["group_key"]
        return key


def twin_run(folder: Path, *arguments: str, limit_s: float = SECONDS, **environment: str) -> Run:
    """`twin run` in a process of its own, as a user would, whatever its verdict."""
    done = subprocess.run(
        [sys.executable, "-m", "twin", "run", *arguments, "--out", str(folder)],
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        env={**os.environ, **environment},
    )
    return Run(folder, done.returncode, done.stdout, done.stderr)
