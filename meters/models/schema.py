"""What a meter model's file may say. Models are data: a meter is a model, an identity, keys and hardware."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat, field_validator, model_validator

from meters.datafile import FileModel
from protocols.dlms.obis import ObisCode
from protocols.dlms.units import Unit
from protocols.leakage_protection import MAX_LINES

AssociationName = Literal["public", "reader", "management", "broadcast"]
ASSOCIATION_NAMES: tuple[AssociationName, ...] = ("public", "reader", "management", "broadcast")


class CrystalSettings(FileModel):
    """The RTC's crystal; what differs from meter to meter is drawn within these limits."""

    offset_ppm: FiniteFloat = Field(default=20.0, ge=0, le=200)
    """Standard deviation of the offset among meters of this model."""
    curvature_ppm_per_c2: FiniteFloat = -0.034
    ageing_ppm_per_year: FiniteFloat = 1.0


class FlashSettings(FileModel):
    page_bytes: int = Field(default=256, ge=64, le=4096)
    pages_per_block: int = Field(default=16, ge=2, le=256)
    block_count: int = Field(default=512, ge=64, le=8192)


class AssociationSettings(FileModel):
    """One association that a client can open, by its service access point."""

    client_sap: int = Field(ge=0, le=0x7F)
    mechanism: Literal["none", "low", "high", "broadcast"]
    """`high` is GMAC under suite 0, ECDSA under suite 1. `broadcast` is pre-established, under the broadcast key."""


class Rights(FileModel):
    """What one association may do with an object: attribute and method identifiers, or all of them."""

    read: Literal["all"] | frozenset[int] = frozenset()
    write: frozenset[int] = frozenset()
    invoke: Literal["all"] | frozenset[int] = frozenset()

    def may_read(self, attribute_id: int) -> bool:
        """Attribute 1, the logical name, can be read wherever the object is seen."""
        return attribute_id == 1 or self.read == "all" or attribute_id in self.read

    def may_write(self, attribute_id: int) -> bool:
        return attribute_id in self.write

    def may_invoke(self, method_id: int) -> bool:
        return self.invoke == "all" or method_id in self.invoke


class ObjectRow(FileModel):
    """One COSEM object: a class, what it measures or shows, and who may do what with it."""

    obis: str
    class_id: int = Field(alias="class", ge=0, le=0xFFFF)
    name: str = Field(min_length=1)
    rights: str
    measures: str | None = None
    """The quantity or demand behind a register, as `meters.firmware.quantities` names it."""
    shows: str | None = None
    """What a Data object shows, as `meters.firmware.catalogue` names it."""
    unit: str | None = None
    scaler: int = Field(default=0, ge=-12, le=12)
    type: str | None = None
    """Data type of the value, as IEC 62056-5-3 names it: long-unsigned, double-long-unsigned, ..."""
    settings: dict[str, Any] = Field(default_factory=dict, alias="with")

    @field_validator("obis")
    @classmethod
    def _is_obis(cls, value: str) -> str:
        return str(ObisCode.parse(value))

    @field_validator("unit")
    @classmethod
    def _is_unit(cls, value: str | None) -> str | None:
        if value is not None and value not in UNITS:
            raise ValueError(f"no such unit; there are: {', '.join(UNITS)}")
        return value

    @property
    def code(self) -> ObisCode:
        return ObisCode.parse(self.obis)


UNITS = {unit.symbol: unit for unit in Unit if unit.symbol} | {"": Unit.COUNT}


class MeterModel(FileModel):
    """A whole model file."""

    model: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    title: str
    manufacturer: str = Field(pattern=r"^[A-Z]{3}$")
    """The FLAG association's three letters."""
    legacy: bool = False
    """True flags a model whose security is not up to present needs."""
    about: str = ""
    phases: Literal[1, 3]
    nominal_voltage_v: FiniteFloat = Field(default=230.0, gt=0)
    nominal_frequency_hz: FiniteFloat = Field(default=50.0, gt=0)
    maximum_current_a: FiniteFloat = Field(default=60.0, gt=0)
    hardware_revision: str
    firmware_version: str
    demand_period_s: int = Field(default=1800, ge=60, le=86_400)
    security_suites: tuple[Literal[0, 1], ...] = (0, 1)
    time_zone_deviation_min: int = Field(default=0, ge=-720, le=840)
    """What must be added to local time to get UTC, as the Clock's attribute 3 has it."""
    crystal: CrystalSettings = CrystalSettings()
    flash: FlashSettings = FlashSettings()
    hold_up_s: FiniteFloat = Field(default=0.5, ge=0, le=60)
    supply_frequency_hz: tuple[FiniteFloat, FiniteFloat] = (45.0, 65.0)
    """Lowest and highest frequency of mains that the meter's supply runs on, ends included."""
    tenant_lines: int = Field(default=1, ge=1, le=MAX_LINES)
    """Lines behind the meter, each with a relay of its own; more than one needs a disconnector."""
    relay: Literal["mosfet", "thyristor", "contactor"] = "mosfet"
    leakage_sensor: Literal["type-b", "type-a", "type-ac"] | None = None
    """Which residual-current sensor each line has; None: no leakage protection."""
    companion: str | None = None
    """A companion profile by name, or a file beside the model's: logs, profiles, and what event codes mean."""
    associations: dict[AssociationName, AssociationSettings]
    rights: dict[str, dict[AssociationName, Rights]]
    objects: list[ObjectRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _saps_differ(self) -> Self:
        saps = [association.client_sap for association in self.associations.values()]
        if len(set(saps)) != len(saps):
            raise ValueError("two associations have the same client_sap; give each its own")
        return self

    @model_validator(mode="after")
    def _lines_have_relays(self) -> Self:
        if not self.has_disconnector and (self.tenant_lines > 1 or self.leakage_sensor is not None):
            raise ValueError("tenant_lines and leakage_sensor need a Disconnect control (class 70) among the objects")
        return self

    @property
    def poles(self) -> tuple[str, ...]:
        """What the relay of a line interrupts."""
        return ("L", "N") if self.phases == 1 else ("L1", "L2", "L3", "N")

    @property
    def has_disconnector(self) -> bool:
        """The model has an object to switch its supply with (class 70)."""
        return any(row.class_id == 70 for row in self.objects)

    def rights_of(self, row: ObjectRow, association: AssociationName) -> Rights | None:
        """What `association` may do with the object; None if it does not even see it."""
        return self.rights[row.rights].get(association)
