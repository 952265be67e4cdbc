"""The concentrator's program: one file `daemon`, and the archive `update.tar.gz` that carries it.

The daemon is a Python zip application of the same `dcu` and `protocols` packages that run natively, with paho-mqtt.
It stands where the original has a compiled binary. Compiled modules lie beside the sources, so that the guest does not
compile them at each start; another Python than 3.11 takes the sources.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import py_compile
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from images.dcu.workshop import BuildError

PARTS = ("dcu", "protocols", "paho")
GUEST_PYTHON = (3, 11)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAIN = b"import sys\n\nfrom dcu.__main__ import main\n\nsys.exit(main())\n"
_INTERPRETER = b"#!/usr/bin/python3.11\n"


def package_folder(name: str) -> Path:
    """Where an importable package lies. Raises BuildError if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise BuildError(f"the Python package {name} is missing: pip install openami-twin")
    return Path(next(iter(spec.submodule_search_locations)))


def write_daemon(target: Path) -> None:
    """Write the zip application: executable, and the same bytes from the same sources."""
    buffer = io.BytesIO(_INTERPRETER)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _MAIN)
        for part in PARTS:
            folder = package_folder(part)
            for path in sorted(folder.rglob("*.py")):
                name = f"{part}/{path.relative_to(folder)}"
                _add(archive, name, path.read_bytes())
                if sys.version_info[:2] == GUEST_PYTHON:
                    _add(archive, name + "c", compiled(path, name))
    target.write_bytes(buffer.getvalue())
    target.chmod(0o755)


def check_daemon(daemon: Path) -> None:
    """Start the file once, for its version. Raises BuildError if it cannot even do that: no guest could run it."""
    done = subprocess.run(
        [sys.executable, str(daemon), "--version"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BuildError(f"the daemon does not start: {last}")


def compiled(path: Path, name: str) -> bytes:
    """The module as byte code that is taken without a look at its source. `name` is shown in tracebacks."""
    with tempfile.TemporaryDirectory() as folder:
        result = py_compile.compile(
            str(path), str(Path(folder) / "c"), name, doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
        assert result is not None
        return Path(result).read_bytes()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def write_update(target: Path, daemon: Path) -> None:
    """Write `update.tar.gz` with the daemon in it, the same bytes for the same daemon."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        content = daemon.read_bytes()
        member = tarfile.TarInfo("daemon")
        member.size, member.mode = len(content), 0o755
        archive.addfile(member, io.BytesIO(content))
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        file.write(buffer.getvalue())
