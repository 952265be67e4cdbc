"""What rows of a model say under `with`, by class."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from meters.datafile import FileModel
from protocols.dlms.obis import ObisCode

_CLOCK_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def _checked_obis(value: str) -> str:
    return value if value == "billing" else str(ObisCode.parse(value))


def _checked_time(value: str) -> str:
    if not _CLOCK_TIME.fullmatch(value):
        raise ValueError(f"{value!r} is no time of day such as 06:30")
    return value


class ScriptStep(FileModel):
    """One action of a script: write an attribute of an object, or call a method. `billing` stands for the companion
    profile's monthly profile."""

    set: str | None = None
    call: str | None = None
    class_id: int = Field(alias="class")
    attribute: int | None = None
    method: int | None = None
    text: str | None = None

    @field_validator("set", "call")
    @classmethod
    def _is_obis(cls, value: str | None) -> str | None:
        return None if value is None else _checked_obis(value)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        wrote = (self.set is not None, self.attribute is not None)
        called = (self.call is not None, self.method is not None)
        if (wrote, called) not in (((True, True), (False, False)), ((False, False), (True, True))):
            raise ValueError("a step has set and attribute, or call and method")
        return self


class ScriptTableSettings(FileModel):
    scripts: dict[int, list[ScriptStep]] = Field(min_length=1)


class ScriptReference(FileModel):
    table: str
    script: int = Field(ge=1, le=65_535)

    @field_validator("table")
    @classmethod
    def _is_obis(cls, value: str) -> str:
        return _checked_obis(value)


class DaySettings(FileModel):
    id: int = Field(ge=0, le=255)
    actions: dict[str, int] = Field(min_length=1)
    """Script by time of day."""

    @field_validator("actions")
    @classmethod
    def _are_times(cls, value: dict[str, int]) -> dict[str, int]:
        for time in value:
            _checked_time(time)
        return value


class CalendarSettings(FileModel):
    """A calendar with one season: day identifiers from Monday to Sunday, and what happens on each of them."""

    name: str = Field(min_length=1, max_length=16)
    table: str
    week: tuple[int, int, int, int, int, int, int]
    days: list[DaySettings] = Field(min_length=1)

    @field_validator("table")
    @classmethod
    def _is_obis(cls, value: str) -> str:
        return _checked_obis(value)

    @model_validator(mode="after")
    def _days_are_there(self) -> Self:
        missing = set(self.week) - {day.id for day in self.days}
        if missing:
            raise ValueError(f"the week has days {sorted(missing)}, which are not among days")
        return self


class ScheduleSettings(ScriptReference):
    """When a script runs: at a time of day, on a day of the month or every day; never without `time`."""

    time: str | None = None
    day: int | Literal["every"] = "every"

    @field_validator("time")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        return None if value is None else _checked_time(value)


class WatchSettings(FileModel):
    """The object whose attribute 2 is watched, and the script table of what to do."""

    monitors: str
    class_id: int = Field(default=3, alias="class")
    table: str

    @field_validator("monitors", "table")
    @classmethod
    def _is_obis(cls, value: str) -> str:
        return _checked_obis(value)


class PushItem(FileModel):
    obis: str | None = None
    class_id: int | None = Field(default=None, alias="class")
    attribute: int = 2
    profile: str | None = None

    @field_validator("obis")
    @classmethod
    def _is_obis(cls, value: str | None) -> str | None:
        return None if value is None else _checked_obis(value)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.profile is None) == (self.obis is None) or (self.obis is None) != (self.class_id is None):
            raise ValueError("an item has obis and class, or profile")
        return self


class PushSettings(FileModel):
    """What a push carries, in order: objects with class and attribute, or a companion profile's table by name."""

    objects: list[PushItem] = Field(min_length=1, max_length=16)
    alarms: bool = False
    """Begun by alarms, and not spread out."""
    randomisation_s: int = Field(default=600, ge=0, le=65_535)
    """By how much a push is delayed at most, so that a neighbourhood does not speak at once."""
