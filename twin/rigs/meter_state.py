"""The state folder of a meter that runs by itself: who it is, its keys, its flash, its clock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meters.hardware.flash import Flash, FlashGeometry
from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.models.schema import MeterModel
from protocols.errors import BadInputError
from protocols.ports import KeySource
from twin.errors import RigError

_EUI64_PREFIX = bytes.fromhex("0249484d")


@dataclass(frozen=True, slots=True)
class MeterState:
    """Files of one state folder, which belongs to this process as long as `open_state` lasts."""

    folder: Path

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.json"

    def identity(self, model: MeterModel, source: KeySource, wanted: MeterIdentity | None = None) -> MeterIdentity:
        """Who the meter is: `wanted` or drawn, once, then always the same.

        Raises BadInputError if the file is not ours, or says that the meter is another than `wanted`.
        """
        path = self.folder / "identity.json"
        if not path.exists():
            drawn = wanted or _draw_identity(source)
            _write(path, {"model": model.model, "serial": drawn.serial, "eui64": drawn.eui64.hex()})
        document = _read(path)
        try:
            identity = MeterIdentity(str(document["serial"]), bytes.fromhex(str(document["eui64"])))
        except (KeyError, ValueError) as error:
            raise BadInputError(f"not the identity of a meter ({error})", file=str(path)) from None
        if document.get("model") != model.model:
            raise BadInputError(
                f"this state is of a meter {document.get('model')!r}, not {model.model!r}; use another --state",
                file=str(path),
                key="model",
            )
        if wanted is not None and identity != wanted:
            raise BadInputError(
                f"this state is of meter {identity.serial}, not {wanted.serial}; use another --state",
                file=str(path),
                key="serial",
            )
        return identity

    def keys(self, model: MeterModel, identity: MeterIdentity, source: KeySource) -> MeterKeys:
        """The meter's own keys: made and written once, readable by the owner alone."""
        if not self.keys_file.exists():
            title = model.manufacturer.encode("ascii") + _number(identity.serial).to_bytes(5, "big")
            MeterKeys.generate(source, system_title=title).save(self.keys_file)
        return MeterKeys.load(self.keys_file)

    def flash(self, model: MeterModel) -> Flash:
        """The flash, whose contents live in the folder. Raises BadInputError if the image is damaged."""
        sizes = model.flash
        geometry = FlashGeometry(sizes.page_bytes, sizes.pages_per_block, sizes.block_count)
        flash = Flash.open(self.folder / "flash.bin", geometry)
        if flash.geometry != geometry:
            raise BadInputError(
                "this flash is of another size than the model's", file=str(self.folder / "flash.bin"), key="--state"
            )
        return flash

    def clock_offset_s(self) -> float:
        """How far the RTC was from true time: its cell keeps it running between two starts."""
        path = self.folder / "rtc.json"
        offset_s = _read(path).get("offset_s") if path.exists() else 0.0
        if not isinstance(offset_s, int | float):
            raise BadInputError("must be a number", file=str(path), key="offset_s")
        return float(offset_s)

    def keep_clock_offset(self, offset_s: float) -> None:
        _write(self.folder / "rtc.json", {"offset_s": round(offset_s, 3)})


def _draw_identity(source: KeySource) -> MeterIdentity:
    serial = f"{int.from_bytes(source.random_bytes(4), 'big') % 10**8:08d}"
    return MeterIdentity(serial, _EUI64_PREFIX + source.random_bytes(4))


def _number(serial: str) -> int:
    """The last digits of a serial number, which fit into five bytes."""
    return int("".join(filter(str.isdigit, serial))[-12:] or "0")


@contextmanager
def open_state(folder: Path) -> Iterator[MeterState]:
    """Make the folder if need be, and keep other meters out of it. Raises RigError if it cannot be had."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RigError(f"cannot use the state folder {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RigError(f"another meter runs on the state folder {folder}; give each its own --state") from None
        yield MeterState(folder)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot be read: {error}", file=str(path)) from None
    if not isinstance(document, dict):
        raise BadInputError("must be a JSON object", file=str(path))
    return document


def _write(path: Path, document: dict[str, object]) -> None:
    """Appears whole or not at all."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
