"""The concentrator's own update: a signed update.tar.gz in one of two slots, on trial until it has proved itself.

The start-up script reads the state, counts the starts of a trial, and goes back to the fallback if it is not confirmed.
The state is one line in one file, replaced by renaming: a power cut leaves the old one or the new one.
"""

from __future__ import annotations

import enum
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.errors import TwinError

MAX_ARCHIVE_BYTES = 16 * 1024 * 1024
_ARCHIVE, _DIGEST, _STATE = "update.tar.gz", "update.sha256", "state"
_DAEMON = "daemon"


class UpdateError(TwinError):
    """An update is refused, or cannot be stored. The program that runs stays."""


class Slot(enum.StrEnum):
    FACTORY = "factory"
    A = "a"
    B = "b"


class Status(enum.StrEnum):
    CONFIRMED = "confirmed"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class ProgramState:
    """Which program starts: `SLOT STATUS TRIES FALLBACK`, as the start-up script reads and writes it."""

    slot: Slot = Slot.FACTORY
    status: Status = Status.CONFIRMED
    tries: int = 0
    fallback: Slot = Slot.FACTORY

    def encode(self) -> str:
        return f"{self.slot} {self.status} {self.tries} {self.fallback}\n"

    @classmethod
    def decode(cls, text: str) -> ProgramState:
        """Raises UpdateError if it is no such line."""
        try:
            slot, status, tries, fallback = text.split()
            return cls(Slot(slot), Status(status), int(tries), Slot(fallback))
        except ValueError as error:
            raise UpdateError(f"the state of the program is damaged: {text[:80]!r}") from error


class Updater:
    """The two slots in `folder`. `public_key_pem` is the maker's key for signatures; without it nothing installs."""

    def __init__(self, folder: Path, public_key_pem: bytes | None) -> None:
        self._folder = folder
        self._public_key_pem = public_key_pem
        self._upload = bytearray()

    def state(self) -> ProgramState:
        """What runs. Raises UpdateError if the state is damaged."""
        try:
            return ProgramState.decode((self._folder / _STATE).read_text(encoding="ascii"))
        except FileNotFoundError:
            return ProgramState()
        except (OSError, UnicodeDecodeError) as error:
            raise UpdateError("the state of the program cannot be read") from error

    def upload(self, offset: int, data: bytes) -> int:
        """Take a piece of an archive; offset 0 begins anew. Gives the size so far. Raises UpdateError on a gap."""
        if offset == 0:
            self._upload.clear()
        if offset != len(self._upload):
            raise UpdateError(f"the piece begins at {offset}, {len(self._upload)} bytes are here")
        if offset + len(data) > MAX_ARCHIVE_BYTES:
            raise UpdateError(f"the archive is longer than {MAX_ARCHIVE_BYTES} bytes")
        self._upload += data
        return len(self._upload)

    def install(self, signature: bytes) -> Slot:
        """Check the uploaded archive and put it on trial for the next start. Gives its slot.

        Raises UpdateError if the signature, the archive or the storage is not good.
        """
        archive = bytes(self._upload)
        self._check_signature(archive, signature)
        _check_archive(archive)
        old = self.state()
        if old.status is Status.TRIAL:
            raise UpdateError("the last update has not been confirmed yet")
        slot = Slot.B if old.slot is Slot.A else Slot.A
        try:
            target = self._folder / slot
            target.mkdir(parents=True, exist_ok=True)
            _write(target / _ARCHIVE, archive)
            _write(target / _DIGEST, f"{hashlib.sha256(archive).hexdigest()}  {_ARCHIVE}\n".encode())
            _sync_folder(target)
            self._keep(ProgramState(slot, Status.TRIAL, 0, old.slot))
        except OSError as error:
            raise UpdateError(f"the update cannot be stored: {error.strerror}") from error
        self._upload.clear()
        return slot

    def confirm(self) -> bool:
        """The running program has proved itself. Gives whether it was on trial."""
        state = self.state()
        if state.status is not Status.TRIAL:
            return False
        try:
            self._keep(ProgramState(state.slot, Status.CONFIRMED, 0, state.fallback))
        except OSError as error:
            raise UpdateError(f"the update cannot be confirmed: {error.strerror}") from error
        return True

    def _check_signature(self, archive: bytes, signature: bytes) -> None:
        if self._public_key_pem is None:
            raise UpdateError("no key for updates has been provisioned")
        try:
            key = serialization.load_pem_public_key(self._public_key_pem)
        except ValueError as error:
            raise UpdateError("the key for updates is no public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise UpdateError("the key for updates is no ECDSA key")
        try:
            key.verify(signature, archive, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise UpdateError("the signature is not the maker's") from None

    def _keep(self, state: ProgramState) -> None:
        temporary = self._folder / f"{_STATE}.new"
        _write(temporary, state.encode().encode("ascii"))
        temporary.rename(self._folder / _STATE)
        _sync_folder(self._folder)


def _check_archive(archive: bytes) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            names = [member.name for member in tar if member.isfile()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UpdateError("update.tar.gz cannot be unpacked") from error
    if names != [_DAEMON]:
        raise UpdateError("update.tar.gz holds something else than the daemon")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
