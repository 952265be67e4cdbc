"""The type tests of an inverter that come with the project, from their file."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal

from pydantic import Field, FiniteFloat

from grid.der.categories import Category
from grid.der.procedures import Procedure, Stage
from meters.datafile import FileModel, parse
from protocols.errors import BadInputError

_FILE = "ieee1547-1.yaml"
Band = tuple[FiniteFloat, FiniteFloat]


class StageRow(FileModel):
    name: str
    seconds: FiniteFloat
    voltage_pu: FiniteFloat = 1.0
    hz: FiniteFloat | None = None
    phase_deg: FiniteFloat = 0.0
    over_s: FiniteFloat = 0.0
    available_pct: FiniteFloat = Field(default=100.0, ge=0, le=100)
    throughout: str | None = None
    at_end: str | None = None
    active_pct: Band | None = None
    reactive_pct: Band | None = None
    stops_within_s: Band | None = None


class ProcedureRow(FileModel):
    name: str = Field(pattern=r"^[a-z][a-zA-Z0-9-]{0,60}$")
    title: str
    requirement: Literal["GRID-1", "GRID-2"]
    profile: str = "ieee1547-60"
    category: Category = Category.II
    settings: dict[str, Any] = {}
    stages: list[StageRow] = Field(min_length=1)


class ProcedureFile(FileModel):
    procedures: list[ProcedureRow] = Field(min_length=1)


def procedures() -> dict[str, Procedure]:
    """All of them by name, in the order of the file."""
    source = resources.files("twin.grid").joinpath(_FILE)
    rows = parse(source.read_text(encoding="utf-8"), f"{_FILE} (packaged)").check(ProcedureFile).procedures
    return {
        row.name: Procedure(
            row.name,
            row.title,
            row.requirement,
            tuple(Stage(**stage.model_dump()) for stage in row.stages),
            row.profile,
            row.category,
            row.settings,
        )
        for row in rows
    }


def procedure_named(name: str) -> Procedure:
    """Raises BadInputError for a name that there is not."""
    known = procedures()
    if name not in known:
        raise BadInputError(f"no procedure {name!r}; there are {', '.join(known)}", key="procedure")
    return known[name]
