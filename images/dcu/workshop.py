"""Where an image is made: outside programs that say how to be installed, and steps whose results are kept by input."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from protocols.errors import TwinError

Progress = Callable[[str], None]
_LAST_LINES = 12
_KEPT_RESULTS = 5


class BuildError(TwinError):
    """An image cannot be built: a program or package is missing, or a tool refused. Says which, and what to do."""


PROGRAMS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "fdtput": "device-tree-compiler",
    "mkfs.ubifs": "mtd-utils",
    "ubinize": "mtd-utils",
    "depmod": "kmod",
    "make": "make",
    "xz": "xz-utils",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
    "arm-linux-gnueabihf-strip": "gcc-arm-linux-gnueabihf",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-img": "qemu-utils",
}
"""Every outside program that an image needs, and the Debian package that it comes in."""

_ALSO_HERE = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str:
    """The program's path. Raises BuildError that says which package to install."""
    path = shutil.which(name) or shutil.which(name, path=_ALSO_HERE)
    if path is None:
        raise BuildError(f"{name} is missing: apt-get install {PROGRAMS[name]}")
    return path


def missing_programs(names: tuple[str, ...] = tuple(PROGRAMS)) -> list[str]:
    """Those of `names` that are not installed."""
    return [name for name in names if not (shutil.which(name) or shutil.which(name, path=_ALSO_HERE))]


def run(
    name: str, *arguments: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run one of PROGRAMS to its end, and give its standard output. Raises BuildError with its last lines if it fails.

    It runs in the C locale and in UTC.
    """
    surroundings = {**os.environ, "LC_ALL": "C", "TZ": "UTC", **(environment or {})}
    done = subprocess.run(
        [find_program(name), *map(str, arguments)],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        raise BuildError(f"{name} failed (status {done.returncode}):\n  {said}")
    return done.stdout


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(root: Path, pattern: str = "*") -> str:
    """SHA-256 over names and contents of the files below `root` that match, in hexadecimal. Caches are left out."""
    total = hashlib.sha256()
    for path in sorted(root.rglob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(f"{path.relative_to(root)}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


class Workshop:
    """A cache folder of finished steps, each under the hash of what went into it."""

    def __init__(self, cache: Path, progress: Progress) -> None:
        """Raises BuildError if the folder cannot be used."""
        self.cache = cache.absolute()
        self.progress = progress
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"cannot use {cache} for images: {error.strerror}") from error

    def step(self, name: str, inputs: list[str], make: Callable[[Path], None], what: str) -> Path:
        """The folder with the step's result: the one made before from the same inputs, or a new one by `make(folder)`.

        `what` is shown while it is being made. A step that fails leaves nothing behind.
        """
        key = hashlib.sha256("\0".join([name, *inputs]).encode()).hexdigest()[:16]
        done = self.cache / f"{name}-{key}"
        if done.is_dir():
            os.utime(done)
            return done
        with self._locked(name):
            if done.is_dir():
                return done
            self.progress(what)
            partial = self.cache / f".{name}-{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            partial.rename(done)
            self._forget_old(name)
        return done

    def _forget_old(self, name: str) -> None:
        """Keep the results that were used last: sources change often, and an image is large."""
        results = sorted(self.cache.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in results[_KEPT_RESULTS:]:
            shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Two builds at the same time make a step once."""
        with (self.cache / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
