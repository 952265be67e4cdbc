"""What a scenario file may say about the grid: feeder, solar plants, sky, grid code."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat

from grid.codes import CODES
from grid.der.settings import PROFILES
from grid.feeder.equipment import CONDUCTORS, TRANSFORMERS
from meters.datafile import FileModel

Phase = Literal[1, 2, 3]
assert CODES.keys() == PROFILES.keys(), "every grid code has its inverter profile"


class SpanSettings(FileModel):
    """A piece of the feeder. `start` is `busbar` or a meter, `end` the meter whose pole stands there."""

    start: str
    end: str
    conductor: Literal[*CONDUCTORS]  # type: ignore[valid-type]
    length_m: FiniteFloat = Field(gt=0, le=5000)


class PvSettings(FileModel):
    """Panels and an inverter behind a meter. The inverter follows the scenario's grid code unless `profile` says."""

    meter: str
    peak_w: FiniteFloat = Field(gt=0, le=1e6)
    rating_va: FiniteFloat | None = Field(default=None, gt=0, le=1e6)
    """The inverter's; without it, that of the panels."""
    profile: Literal[*PROFILES] | None = None  # type: ignore[valid-type]
    category: Literal["I", "II", "III"] = "III"
    volt_var: bool = False
    volt_watt: bool = False
    droop: bool = True
    over_voltage_trip_pu: FiniteFloat | None = Field(default=None, ge=1.0, le=1.3)
    """OV1 as an installer has set it, with the longest clearing time that the category allows."""


class SkySettings(FileModel):
    latitude_deg: FiniteFloat = Field(default=-1.29, ge=-90, le=90)
    longitude_deg: FiniteFloat = Field(default=36.82, ge=-180, le=180)
    cloudiness: FiniteFloat = Field(default=0.3, ge=0, le=1)
    """Share of time under clouds; when they pass is drawn from the run's seed."""


class GridSettings(FileModel):
    """The feeder of a scenario. Without `spans`, the shortest tree over the meters' positions carries it."""

    code: Literal[*CODES] = "kenya"  # type: ignore[valid-type]
    nominal_v: FiniteFloat = Field(default=230.0, gt=0, le=1000)
    """Between phase and neutral: the meters' nominal voltage."""
    source_pu: FiniteFloat = Field(default=1.0, ge=0.5, le=1.5)
    """Voltage above the transformer, per unit of nominal."""
    transformer: Literal[*TRANSFORMERS] = "100kva"  # type: ignore[valid-type]
    transformer_position: tuple[FiniteFloat, FiniteFloat] | None = None
    """None: beside the concentrator."""
    spans: list[SpanSettings] = []
    drop_m: FiniteFloat = Field(default=15.0, gt=0, le=500)
    phases: dict[str, Phase] = {}
    """Phase of single-phase meters; the others are dealt out in turn."""
    pv: list[PvSettings] = []
    sky: SkySettings = SkySettings()
