"""What a program makes of a model: its version, its objects beside or in place of the model's own."""

from __future__ import annotations

from pydantic import ValidationError

from meters.firmware.catalogue import check_row
from meters.firmware.companion_tables import CompanionError
from meters.firmware.compiled import compile_model
from meters.firmware.slots import InstalledImage
from meters.models.schema import MeterModel, ObjectRow
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.program import Program

_made: dict[tuple[int, bytes], tuple[MeterModel, MeterModel, Program]] = {}


def apply_image(model: MeterModel, image: InstalledImage) -> tuple[MeterModel, Program]:
    """The model as the image's program has it, and the program. Made once for all meters of a model.

    Raises FirmwareError if the program cannot run on this model.
    """
    key = (id(model), image.head.manifest.program_sha256 + image.version.encode("ascii"))
    found = _made.get(key)
    if found is None or found[0] is not model:
        program = Program.decode(image.program)
        found = _made[key] = (model, with_program(model, program, image.version), program)
    return found[1], found[2]


def with_program(model: MeterModel, program: Program, version: str) -> MeterModel:
    """Raises FirmwareError naming the first object that the firmware cannot build."""
    rows = {(row.obis, row.class_id): row for row in model.objects}
    for number, fields in enumerate(program.objects):
        row = _checked_row(model, number, fields)
        rows[row.obis, row.class_id] = row
    changed = model.model_copy(update={"firmware_version": version, "objects": list(rows.values())})
    try:
        compile_model(changed)
    except CompanionError as error:
        raise FirmwareError(FirmwareFault.PROGRAM, str(error)) from None
    return changed


def _checked_row(model: MeterModel, number: int, fields: dict[str, object]) -> ObjectRow:
    try:
        row = ObjectRow.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FirmwareError(FirmwareFault.PROGRAM, f"objects[{number}].{place}: {first['msg']}") from None
    problem = check_row(row, model)
    if problem is not None:
        message = f"objects[{number}] ({row.obis}): {problem.key}: {problem.message}"
        raise FirmwareError(FirmwareFault.PROGRAM, message)
    return row
