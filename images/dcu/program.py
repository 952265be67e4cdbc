"""The concentrator's program: one file `daemon`, and the archive `update.tar.gz` that carries it.

The daemon is a Python zip application of the same `dcu` and `protocols` packages that run natively, with paho-mqtt.
It stands where the original has a compiled binary. Compiled modules lie beside the sources, so that the guest does not
compile them at each start; another Python than 3.11 takes the sources.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from images.dcu import bytecode
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
        for name, content in _modules():
            _add(archive, name, content)
    target.write_bytes(buffer.getvalue())
    target.chmod(0o755)


def _modules() -> Iterator[tuple[str, bytes]]:
    """Sources, each followed by its byte code where this Python is the guest's."""
    paths = [(path, part) for part in PARTS for path in sorted(package_folder(part).rglob("*.py"))]
    sources = [(path, f"{part}/{path.relative_to(package_folder(part))}") for path, part in paths]
    is_guest_python = sys.version_info[:2] == GUEST_PYTHON
    codes = iter(bytecode.compile_modules(sources) if is_guest_python else [])
    for path, name in sources:
        yield name, path.read_bytes()
        if is_guest_python:
            yield name + "c", next(codes)


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
