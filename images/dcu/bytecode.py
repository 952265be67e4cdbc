"""Byte code that is the same for the same sources."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.dcu.workshop import BuildError

_COMPILER = """
import json, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for source, target, name in json.load(sys.stdin):
    py_compile.compile(source, target, name, doraise=True, invalidation_mode=mode)
"""


def compile_modules(modules: Sequence[tuple[Path, str]]) -> list[bytes]:
    """Each module, given by its source and the name for tracebacks, as byte code that is taken without a look at it.

    In a process of its own: byte code marks the objects that something else refers to at that moment, and in a process
    that has done other things before, other objects are. Raises BuildError for a module that does not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        targets = [Path(folder) / f"{number}.pyc" for number in range(len(modules))]
        rows = [(str(path), str(target), name) for (path, name), target in zip(modules, targets, strict=True)]
        done = subprocess.run(
            [sys.executable, "-S", "-s", "-c", _COMPILER],
            input=json.dumps(rows),
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["the compiler said nothing"])[-1]
            raise BuildError(f"a module does not compile: {last}")
        return [target.read_bytes() for target in targets]
