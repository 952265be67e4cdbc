"""Finding and checking meter models."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from meters.datafile import DataFile, parse, read_text
from meters.firmware.catalogue import check_row
from meters.firmware.companion_tables import CompanionError
from meters.firmware.compiled import compile_model
from meters.models.schema import MeterModel
from protocols.errors import BadInputError


def packaged_models() -> list[str]:
    """Names of the models that come with the project."""
    folder = resources.files("meters.models")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_model(name_or_path: str) -> MeterModel:
    """The packaged model of that name, or the model in that file. Raises BadInputError with file, line and key."""
    return check_model(_find(name_or_path))


def _find(name_or_path: str) -> DataFile:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml", ".json") or path.exists():
        return parse(read_text(path), name_or_path)
    known = packaged_models()
    if name_or_path not in known:
        raise BadInputError(f"no model of that name, and no such file; there are: {', '.join(known)}", key=name_or_path)
    source = resources.files("meters.models").joinpath(f"{name_or_path}.yaml")
    return parse(source.read_text(encoding="utf-8"), f"{name_or_path}.yaml (packaged)")


def check_model(file: DataFile) -> MeterModel:
    """The file as a model whose every object the firmware can build. Raises BadInputError with line and object."""
    model = _with_companion_path(file.check(MeterModel), file)
    first: dict[tuple[str, int], int] = {}
    for index, row in enumerate(model.objects):
        problem = check_row(row, model)
        if problem is not None:
            raise file.error(f"{row.obis} ({row.name}): {problem.message}", "objects", index, problem.key)
        key = (row.obis, row.class_id)
        if key in first:
            line = file.line_of(("objects", first[key], "obis"))
            raise file.error(f"{row.obis} stands here already (line {line})", "objects", index, "obis")
        first[key] = index
    try:
        compile_model(model)
    except CompanionError as error:
        raise file.error(str(error), "companion") from None
    return model


def _with_companion_path(model: MeterModel, file: DataFile) -> MeterModel:
    """A companion file stands beside the model's file."""
    if model.companion is None or not model.companion.endswith((".yaml", ".yml", ".json")):
        return model
    return model.model_copy(update={"companion": str(Path(file.name).parent / model.companion)})
