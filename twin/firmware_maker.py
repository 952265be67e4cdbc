"""Making firmware files: a vendor's source file becomes a program, checked against the model that it is for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from meters.datafile import DataFile, FileModel
from meters.firmware.image_program import with_program
from meters.models.library import load_model
from protocols.dlms.security.signing import Signer
from protocols.errors import BadInputError, LocalProtocolError
from protocols.firmware.code import Routine, assemble
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import build_firmware
from protocols.firmware.manifest import MAX_PROGRAM_BYTES
from protocols.firmware.program import Program, Resource


class RoutineSource(FileModel):
    """Code, and when it runs: at the start, or every so many seconds after it."""

    code: str
    every_s: int | None = Field(default=None, ge=1, le=65_535)


class ResourceSource(FileModel):
    """Data that travels with the program: a file beside the source, or bytes that do not compress."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[ -~]+$")
    file: str | None = None
    random_bytes: int | None = Field(default=None, ge=1, le=MAX_PROGRAM_BYTES)
    """Test images of a given size: the same bytes for the same name."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.file is None) == (self.random_bytes is None):
            raise ValueError("a resource has file or random_bytes")
        return self


class FirmwareSource(FileModel):
    """A firmware source file."""

    model: str
    version: str
    hardware_revisions: list[str] = Field(min_length=1)
    about: str = ""
    objects: list[dict[str, Any]] = []
    """Rows as a model file has them: added to the model's, or in place of those with the same code and class."""
    routines: list[RoutineSource] = []
    resources: list[ResourceSource] = []


def make_program(source: FirmwareSource, file: DataFile | None = None) -> Program:
    """The program of a source, checked against its model. Raises BadInputError naming file, line and key."""
    routines = [_routine(number, routine, file) for number, routine in enumerate(source.routines)]
    folder = Path(file.name).parent if file is not None else Path()
    resources = [
        Resource(item.name, _content(number, item, folder, file)) for number, item in enumerate(source.resources)
    ]
    program = Program(tuple(source.objects), tuple(routines), tuple(resources))
    try:
        with_program(load_model(source.model), program, source.version)
    except FirmwareError as error:
        raise _error(file, str(error), "objects") from None
    return program


def make_firmware(source: FirmwareSource, signer: Signer, file: DataFile | None = None) -> bytes:
    """The signed file of a source. Raises BadInputError."""
    program = make_program(source, file)
    try:
        return build_firmware(
            program.encode(),
            signer,
            model=source.model,
            hardware_revisions=source.hardware_revisions,
            version=source.version,
            about=source.about,
        )
    except LocalProtocolError as error:
        raise _error(file, str(error)) from None


def answer_source(
    version: str,
    *,
    model: str,
    hardware_revisions: Sequence[str],
    code: str = "push 41\npush 1\nadd\nstore 0\n",
    random_bytes: int = 0,
) -> FirmwareSource:
    """A small firmware for tests: `code` at the start, and an object 0-0:96.128.0*255 that shows its variable 0."""
    row = {"obis": ANSWER, "class": 1, "name": "Answer", "shows": "program_variable", "with": {"variable": 0}}
    resources = [ResourceSource(name="filler", random_bytes=random_bytes)] if random_bytes else []
    return FirmwareSource(
        model=model,
        version=version,
        hardware_revisions=list(hardware_revisions),
        about="made for a test",
        objects=[{**row, "rights": "readers"}],
        routines=[RoutineSource(code=code)],
        resources=resources,
    )


ANSWER = "0-0:96.128.0*255"
"""In the range that OBIS leaves to manufacturers (0-0:96.128 to 96.199)."""


def _routine(number: int, routine: RoutineSource, file: DataFile | None) -> Routine:
    try:
        return Routine(routine.every_s or 0, assemble(routine.code))
    except BadInputError as error:
        message = f"line {error.line} of the code: {str(error).partition(': ')[2]}"
        raise _error(file, message, "routines", number, "code") from None


def _content(number: int, item: ResourceSource, folder: Path, file: DataFile | None) -> bytes:
    if item.random_bytes is not None:
        return random.Random(item.name).randbytes(item.random_bytes)
    try:
        return (folder / str(item.file)).read_bytes()
    except OSError as error:
        raise _error(file, f"{item.file} cannot be read: {error.strerror}", "resources", number, "file") from None


def _error(file: DataFile | None, message: str, *place: str | int) -> BadInputError:
    return BadInputError(message) if file is None else file.error(message, *place)
