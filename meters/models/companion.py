"""Companion profiles: which logs and profiles a market's meters have, what is in them, and what event codes mean."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from meters.datafile import DataFile, FileModel, parse, read_text
from meters.firmware.event_names import MeterEvent
from protocols.dlms.obis import ObisCode
from protocols.errors import BadInputError

_SPECIAL_COLUMNS = ("clock", "status", "code")


def _obis(value: str) -> str:
    return str(ObisCode.parse(value))


class _Table(FileModel):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")
    title: str
    obis: str
    entries: int = Field(ge=1, le=20_000)
    columns: list[str] = Field(min_length=1, max_length=32)
    """`clock`, `status` or `code`, or an object and its attribute, `1-0:1.8.0*255` or `1-0:1.6.0*255/5`. A question
    mark behind it leaves the column out on models that have no such object."""

    @field_validator("obis")
    @classmethod
    def _is_obis(cls, value: str) -> str:
        return _obis(value)

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, value: list[str]) -> list[str]:
        for column in value:
            if column not in _SPECIAL_COLUMNS:
                obis, _, attribute = column.removesuffix("?").partition("/")
                ObisCode.parse(obis)
                if attribute and not attribute.isdigit():
                    raise ValueError(f"{column!r}: behind the slash stands the number of an attribute")
        if value[0] != "clock":
            raise ValueError("the first column must be clock")
        return value


class LogTable(_Table):
    """An event log, and the Data object with the code of its newest event."""

    code: str

    @field_validator("code")
    @classmethod
    def _is_code(cls, value: str) -> str:
        return _obis(value)


class ProfileTable(_Table):
    """A profile that is captured again and again. `status` is the Data object with its status byte."""

    period: Literal["day", "month"] | int
    """Seconds, or by the local calendar."""
    status: str | None = None

    @model_validator(mode="after")
    def _has_status(self) -> Self:
        if isinstance(self.period, int) and not 60 <= self.period <= 86_400:
            raise ValueError("a period lies between 60 and 86400 seconds")
        if ("status" in self.columns) != (self.status is not None):
            raise ValueError("a status column and the OBIS code of its object (status) go together")
        if "code" in self.columns:
            raise ValueError("code is a column of event logs")
        return self


class EventRow(FileModel):
    log: str
    code: int = Field(ge=0, le=65_535)


class Companion(FileModel):
    """A whole companion file."""

    companion: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    title: str
    about: str
    logs: list[LogTable] = Field(min_length=1)
    profiles: list[ProfileTable] = Field(min_length=1)
    events: dict[MeterEvent, EventRow]
    """Events that are not here are not recorded."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [table.name for table in (*self.logs, *self.profiles)]
        if len(set(names)) != len(names):
            raise ValueError("two logs or profiles have the same name")
        logs = {log.name for log in self.logs}
        for event, row in self.events.items():
            if row.log not in logs:
                raise ValueError(f"event {event.value} goes to a log {row.log!r} that is not there")
        return self


def packaged_companions() -> list[str]:
    """Names of the companion profiles that come with the project."""
    folder = resources.files("meters.models").joinpath("companions")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@functools.cache
def load_companion(name_or_path: str) -> Companion:
    """The companion of that name, or in that file. Raises BadInputError with file, line and key."""
    return _find(name_or_path).check(Companion)


def _find(name_or_path: str) -> DataFile:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml", ".json"):
        return parse(read_text(path), name_or_path)
    known = packaged_companions()
    if name_or_path not in known:
        raise BadInputError(f"no companion profile {name_or_path!r}; there are: {', '.join(known)}", key="companion")
    source = resources.files("meters.models").joinpath("companions", f"{name_or_path}.yaml")
    return parse(source.read_text(encoding="utf-8"), f"{name_or_path}.yaml (packaged)")
