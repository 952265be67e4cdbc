"""What the concentrator keeps over a restart, as named byte strings that a power cut cannot tear."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from protocols.errors import TwinError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class StorageError(TwinError):
    """The store could not take or give a record: full, read-only or broken. What was there before is still there."""


class Storage(Protocol):
    """Named records. What `write` and `append` returned from survives a power cut.

    A power cut in `write` leaves the old record or the new one; in `append`, the old one followed by any part of the
    addition: whoever appends must be able to see a torn tail. Names are lower-case letters, digits, `.`, `_`, `-`.
    Raises StorageError when the medium refuses.
    """

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, data: bytes) -> None: ...

    def append(self, name: str, data: bytes) -> None: ...

    def delete(self, name: str) -> None: ...

    def names(self) -> list[str]:
        """Every record's name, sorted."""
        ...


class MemoryStorage:
    """Records in memory: what a virtual run keeps over a restart of the concentrator."""

    def __init__(self) -> None:
        self._records: dict[str, bytes] = {}
        self.bytes_written = 0

    def read(self, name: str) -> bytes | None:
        return self._records.get(_checked(name))

    def write(self, name: str, data: bytes) -> None:
        self._records[_checked(name)] = bytes(data)
        self.bytes_written += len(data)

    def append(self, name: str, data: bytes) -> None:
        self._records[_checked(name)] = self._records.get(name, b"") + data
        self.bytes_written += len(data)

    def delete(self, name: str) -> None:
        self._records.pop(_checked(name), None)

    def names(self) -> list[str]:
        return sorted(self._records)


class CountingStorage:
    """Another storage, and how often it has refused: what was asked meanwhile may lack something."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.refusals = 0

    def read(self, name: str) -> bytes | None:
        with self._counted():
            return self._storage.read(name)

    def write(self, name: str, data: bytes) -> None:
        with self._counted():
            self._storage.write(name, data)

    def append(self, name: str, data: bytes) -> None:
        with self._counted():
            self._storage.append(name, data)

    def delete(self, name: str) -> None:
        with self._counted():
            self._storage.delete(name)

    def names(self) -> list[str]:
        return self._storage.names()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            self.refusals += 1
            raise


class FileStorage:
    """One file per record in `folder`, which is made if it is missing.

    `write` is write to a temporary file, fsync, rename, fsync of the folder; `append` is write and fsync.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left_over in sorted(folder.glob("*~")):
                left_over.unlink()
        except OSError as error:
            raise StorageError(f"cannot use {folder} for records: {error.strerror}") from error

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / _checked(name)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read record {name}: {error.strerror}") from error

    def write(self, name: str, data: bytes) -> None:
        target = self._folder / _checked(name)
        temporary = self._folder / f"{name}~"
        try:
            _write_synced(temporary, data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            temporary.rename(target)
            self._sync_folder()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StorageError(f"cannot write record {name}: {error.strerror}") from error

    def append(self, name: str, data: bytes) -> None:
        target = self._folder / _checked(name)
        is_new = not target.exists()
        try:
            _write_synced(target, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if is_new:
                self._sync_folder()
        except OSError as error:
            raise StorageError(f"cannot append to record {name}: {error.strerror}") from error

    def delete(self, name: str) -> None:
        try:
            (self._folder / _checked(name)).unlink(missing_ok=True)
            self._sync_folder()
        except OSError as error:
            raise StorageError(f"cannot delete record {name}: {error.strerror}") from error

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if not path.name.endswith("~"))

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError(f"{name!r} is no name of a record")
    return name


def _write_synced(path: Path, data: bytes, flags: int) -> None:
    descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
