"""What a scenario file may say. Everything in it is checked before anything runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, FiniteFloat, model_validator

from meters.datafile import FileModel
from twin.scenarios.grid_schema import GridSettings

Position = tuple[FiniteFloat, FiniteFloat]
"""East and north of the scenario's origin, in metres."""

Name = str


class RadioSettings(FileModel):
    """The radio plan that every node of the scenario uses."""

    region: Literal["NA-1", "EU-1", "IN-1"] = "EU-1"
    data_rate_kbps: Literal[50, 100, 150, 200, 300] = 50
    max_psdu_bytes: Literal[127, 2047] = 2047
    security: Literal["provisioned", "certificates"] = "provisioned"
    """How a meter gets the mesh's group key: from its installer, or by proving itself with its certificate."""
    hopping: bool = False
    """Every node hops under DH1CF; otherwise all stay on channel 0."""
    duty_cycle_limit: FiniteFloat | None = Field(default=None, gt=0, le=1)
    """The share of an hour that the region lets a node be on the air; the report warns of who was above it."""
    shadowing_db: FiniteFloat = Field(default=0.0, ge=0, le=20)
    """Standard deviation of the seeded loss that each link carries on top; it only ever shortens a link."""


class DcuSettings(FileModel):
    id: str = Field(pattern=r"^[A-Za-z0-9-]{3,32}$")
    position: Position
    gps: bool = False
    """A GPS receiver disciplines its clock; without one it is simply right."""
    ptp: bool = False
    """A PTP grandmaster is in its network, the other source of time."""
    modem: bool = False
    """A cellular modem with two SIMs stands by for the satellite link."""
    oscillator_ppm: FiniteFloat = Field(default=12.0, ge=-200, le=200)
    """How much too fast its processor counts seconds."""
    oscillator_swing_ppm: FiniteFloat = Field(default=0.3, ge=0, le=20)
    """By how much the temperature of the day moves that, up and down."""


class LinkOutage(FileModel):
    """A window in which one of the concentrator's links carries nothing, in seconds from the start of the run."""

    link: Literal["satellite", "cellular"]
    from_s: FiniteFloat = Field(ge=0)
    to_s: FiniteFloat = Field(ge=0)

    @model_validator(mode="after")
    def _ends_behind_its_beginning(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError("to_s must be greater than from_s")
        return self


class HouseholdSettings(FileModel):
    """The home behind a meter. What is left out is drawn from the run's seed."""

    people: int | None = Field(default=None, ge=1, le=8)
    daily_kwh: FiniteFloat | None = Field(default=None, gt=0, le=100)


class MeterSettings(FileModel):
    name: Name = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,15}$")
    serial: str = Field(pattern=r"^[A-Z0-9]{6,16}$")
    model: str = "ihm5000-1p"
    position: Position
    household: HouseholdSettings = HouseholdSettings()
    crystal_ppm: FiniteFloat | None = Field(default=None, ge=-200, le=200)
    tenant_lines: int | None = Field(default=None, ge=1, le=8)
    """Lines behind the meter, each with a relay and leakage sensor of its own; None: as the model says."""
    installed_at_s: FiniteFloat = Field(default=0.0, ge=0)
    """When it gets its power, in seconds from the start of the run, or from when `installed_after` is in the mesh."""
    installed_after: Name | None = None
    """Another meter: this one is not switched on before that one has joined."""
    mesh_certificate: Literal["valid", "foreign", "expired"] = "valid"
    """What its certificate for the mesh is worth, where `radio.security` is `certificates`."""
    suite: Literal[0, 1] = 0
    """Security suite: 0 proves itself by a symmetric key, 1 by a certificate."""
    certificate: Literal["valid", "foreign", "expired"] = "valid"
    """What its certificate is worth under suite 1. `foreign` is a counterfeit: another authority issued it."""
    known_to_hes: bool = True
    """False leaves the meter out of the head-end's shipment file: it must be refused."""
    wrong_key: bool = False
    """True gives the head-end another key than the meter has: the association must fail."""


class Fleet(FileModel):
    """Meters by number: on a grid around the concentrator, each moved by up to `jitter_m` either way."""

    count: Name
    """The scenario's parameter that says how many."""
    spacing_m: FiniteFloat = Field(gt=0, le=400)
    jitter_m: FiniteFloat = Field(default=0.0, ge=0, le=200)
    columns: int | None = Field(default=None, ge=1)
    """None: as many as make the grid a square."""
    layout_seed: int = 1
    model: str = "ihm5000-1p"
    installed_every_s: FiniteFloat = Field(default=0.0, ge=0)
    """Mean time between two meters' first power, in an order that the layout draws; 0: all at once."""


class Vegetation(FileModel):
    """A wood: every link that crosses the polygon loses `loss_db`."""

    polygon: list[Position] = Field(min_length=3)
    loss_db: FiniteFloat = Field(gt=0, le=100)


class Terrain(FileModel):
    """A ridge or a wall: every link that crosses the line loses `loss_db`."""

    line: list[Position] = Field(min_length=2)
    loss_db: FiniteFloat = Field(gt=0, le=100)


class Parameter(FileModel):
    """A value that `--set NAME=VALUE` may change; steps read it."""

    default: float | int | str | bool
    help: str
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None


class ScriptRow(FileModel):
    """One step of the script: which, with what, and how long it may take."""

    step: str
    title: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with")
    needs: list[str] = []
    """Steps that must have passed before; otherwise this one is skipped, and says why."""
    when: str | None = None
    """A parameter of the scenario; while it is 0, false or empty, the step is not part of the script."""
    attempts: int = Field(default=1, ge=1, le=10)
    timeout_s: FiniteFloat | None = Field(default=None, gt=0)


class Scenario(FileModel):
    """A whole scenario file."""

    scenario: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    title: str
    about: str = ""
    start: AwareDatetime = datetime(2026, 3, 2, 17, 0, tzinfo=UTC)
    timers: Literal["bench", "fan-small", "fan-large"] = "bench"
    radio: RadioSettings = RadioSettings()
    dcu: DcuSettings
    outages: list[LinkOutage] = []
    """Planned windows without a link; a step can cut and restore links, too."""
    meters: list[MeterSettings] = []
    fleet: Fleet | None = None
    capture: bool = True
    """False: no air.pcap, for runs whose capture would be gigabytes."""
    vegetation: list[Vegetation] = []
    terrain: list[Terrain] = []
    grid: GridSettings | None = None
    """The feeder that the meters hang on; without it each has a supply of its own, as homes see it."""
    parameters: dict[str, Parameter] = {}
    script: list[ScriptRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _outages_have_their_link(self) -> Self:
        if not self.dcu.modem and any(outage.link == "cellular" for outage in self.outages):
            raise ValueError("an outage of the cellular link needs dcu.modem: true")
        return self

    @model_validator(mode="after")
    def _fleet_has_its_parameter(self) -> Self:
        if self.fleet is not None:
            parameter = self.parameters.get(self.fleet.count)
            if parameter is None or type(parameter.default) is not int:
                raise ValueError(f"the fleet's count {self.fleet.count!r} is not a whole-number parameter; declare it")
        return self

    @model_validator(mode="after")
    def _certificates_fit_in_a_frame(self) -> Self:
        if self.radio.security == "certificates" and self.radio.max_psdu_bytes < 2047:
            raise ValueError("radio.security certificates needs radio.max_psdu_bytes 2047: EAPOL frames are not cut")
        return self

    @model_validator(mode="after")
    def _installed_one_after_another(self) -> Self:
        after = {meter.name: meter.installed_after for meter in self.meters}
        for name in after:
            chain = [name]
            while (following := after[chain[-1]]) is not None:
                if following not in after or following in chain:
                    trouble = "waits for itself" if following in after else "is no meter of this scenario"
                    raise ValueError(
                        f"installed_after of {chain[-1]!r}: {following!r} {trouble}; name an earlier meter"
                    )
                chain.append(following)
        return self

    @model_validator(mode="after")
    def _unique_rows(self) -> Self:
        titles = [row.title or row.step for row in self.script]
        for index, title in enumerate(titles):
            if title in titles[:index]:
                raise ValueError(f"two steps of the script are called {title!r}; give one another title")
        return self
