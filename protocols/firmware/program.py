"""The program in a firmware file: the objects that it adds to the meter, its routines, and what it carries along.

sections, each: tag u8 | size u32 | content
1 objects    canonical JSON, an array of rows as a model file has them
2 routine    period u16 (s, 0: at the start) | size u16 | code
3 resource   size of name u8 | name | data
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.firmware.code import Routine, disassemble
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.manifest import MAX_PROGRAM_BYTES
from protocols.headend.json_text import Json, decode_json, encode_json

_OBJECTS, _ROUTINE, _RESOURCE = 1, 2, 3
MAX_OBJECTS = 64
MAX_ROUTINES = 16
MAX_RESOURCES = 64
_MAX_OBJECTS_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Resource:
    """Data under a name that the meter stores with the program: tables, fonts, texts."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Program:
    """`objects` are rows in the grammar of model files; the meter checks them against its own model."""

    objects: tuple[dict[str, Any], ...] = ()
    routines: tuple[Routine, ...] = ()
    resources: tuple[Resource, ...] = ()

    def encode(self) -> bytes:
        """Raises LocalProtocolError beyond the limits of the format."""
        out = _section(_OBJECTS, encode_json(list(self.objects)))
        out += b"".join(_section(_ROUTINE, routine.encode()) for routine in self.routines)
        for resource in self.resources:
            name = resource.name.encode("ascii", "replace")
            out += _section(_RESOURCE, bytes((min(len(name), 255),)) + name[:255] + resource.data)
        try:
            Program.decode(out)
        except FirmwareError as error:
            raise LocalProtocolError(f"program: {error}") from None
        return out

    @classmethod
    def decode(cls, data: bytes) -> Program:
        """Raises FirmwareError for what `encode` does not make."""
        if len(data) > MAX_PROGRAM_BYTES:
            raise FirmwareError(FirmwareFault.SIZE, f"a program of {len(data)} bytes, at most {MAX_PROGRAM_BYTES}")
        reader = Reader(data)
        objects: list[dict[str, Any]] = []
        routines: list[Routine] = []
        resources: list[Resource] = []
        try:
            while reader.remaining:
                tag = reader.u8()
                section = reader.sub(reader.u32())
                if tag == _OBJECTS:
                    objects += _rows(section)
                elif tag == _ROUTINE:
                    routines.append(Routine.decode(section))
                    disassemble(routines[-1].code)
                elif tag == _RESOURCE:
                    name = section.take(section.u8()).decode("ascii", "replace")
                    resources.append(Resource(name, section.rest()))
                else:
                    raise section.error(f"section {tag} is not known")
                section.expect_end()
        except FirmwareError:
            raise
        except RemoteProtocolError as error:
            raise FirmwareError(FirmwareFault.PROGRAM, str(error)) from None
        _check_counts(objects, routines, resources)
        return cls(tuple(objects), tuple(routines), tuple(resources))


def _section(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + len(content).to_bytes(4, "big") + content


def _rows(section: Reader) -> list[dict[str, Any]]:
    rows: Json = decode_json(section.rest(), _MAX_OBJECTS_BYTES)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise section.error("objects are an array of rows")
    return [row for row in rows if isinstance(row, dict)]


def _check_counts(objects: list[dict[str, Any]], routines: list[Routine], resources: list[Resource]) -> None:
    for what, count, limit in (
        ("objects", len(objects), MAX_OBJECTS),
        ("routines", len(routines), MAX_ROUTINES),
        ("resources", len(resources), MAX_RESOURCES),
    ):
        if count > limit:
            raise FirmwareError(FirmwareFault.PROGRAM, f"{count} {what}, at most {limit} are allowed")
