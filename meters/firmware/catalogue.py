"""What a model's rows can be bound to: for each class the interface, the check of a row, and the object behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from meters.datafile import FileModel
from meters.firmware.control_makers import (
    make_activity_calendar,
    make_limiter,
    make_push_setup,
    make_register_activation,
    make_register_monitor,
    make_schedule,
    make_script_table,
    make_special_days,
)
from meters.firmware.objects.association import AssociationObject, SapAssignmentObject
from meters.firmware.objects.basic import (
    DataObject,
    DemandObject,
    MaximumDemandObject,
    RegisterObject,
)
from meters.firmware.objects.classes import (
    ACTIVITY_CALENDAR,
    ASSOCIATION_LN,
    CLOCK,
    DATA,
    DEMAND_REGISTER,
    DISCONNECT_CONTROL,
    EXTENDED_REGISTER,
    IMAGE_TRANSFER,
    LIMITER,
    PROFILE_GENERIC,
    PUSH_SETUP,
    REGISTER,
    REGISTER_ACTIVATION,
    REGISTER_MONITOR,
    SAP_ASSIGNMENT,
    SCRIPT_TABLE,
    SECURITY_SETUP,
    SINGLE_ACTION_SCHEDULE,
    SPECIAL_DAYS,
)
from meters.firmware.objects.clock import ClockObject
from meters.firmware.objects.group_security import GROUP_SECURITY_SETUP, GroupSecuritySetupObject
from meters.firmware.objects.image_transfer import ImageTransferObject
from meters.firmware.objects.profile import ProfileObject
from meters.firmware.objects.protection import THRESHOLDS
from meters.firmware.objects.security_setup import SecuritySetupObject
from meters.firmware.objects.shown import SHOWN
from meters.firmware.protection_makers import PROTECTION_SHOWS, make_disconnect_control, make_threshold
from meters.firmware.quantities import DEMAND_FIELDS, DEMAND_UNITS, QUANTITIES, phases_needed
from meters.firmware.row_values import TYPES, value_tag
from meters.firmware.services import Services
from meters.models.schema import UNITS, MeterModel, ObjectRow
from meters.models.settings import CalendarSettings, PushSettings, ScheduleSettings, ScriptTableSettings, WatchSettings
from protocols.dlms.objects import CosemObject, InterfaceClass
from protocols.dlms.units import ScalerUnit, Unit

Make = Callable[[Services, ObjectRow], CosemObject]


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a row of a model, and under which key."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class ClassBinding:
    """`uses` are the keys beside obis, class, name and rights that a row of this class may have; `settings` checks
    what stands under `with`."""

    interface: InterfaceClass
    make: Make
    uses: tuple[str, ...] = ()
    settings: type[FileModel] | None = None


def _make_data(services: Services, row: ObjectRow) -> CosemObject:
    return DataObject(services.obis(row), SHOWN[row.shows or ""], services, row)


def _make_register(services: Services, row: ObjectRow) -> CosemObject:
    if row.measures in THRESHOLDS:
        return make_threshold(services, row)
    quantity = QUANTITIES[row.measures or ""]
    return RegisterObject(services.obis(row), services.measurements, quantity, row.scaler, value_tag(row))


def _make_maximum_demand(services: Services, row: ObjectRow) -> CosemObject:
    demand = row.measures or ""
    quantity = QUANTITIES[f"{demand}_maximum"]
    return MaximumDemandObject(
        services.obis(row), services.measurements, services.clock, demand, quantity, row.scaler, value_tag(row)
    )


def _make_demand(services: Services, row: ObjectRow) -> CosemObject:
    demand = row.measures or ""
    scaler_unit = ScalerUnit(row.scaler, DEMAND_UNITS[demand])
    return DemandObject(services.obis(row), services.measurements, services.clock, demand, scaler_unit, value_tag(row))


def _make_clock(services: Services, row: ObjectRow) -> CosemObject:
    return ClockObject(services.obis(row), services.clock, measuring_period_s=services.model.demand_period_s)


def _make_association(services: Services, row: ObjectRow) -> CosemObject:
    return AssociationObject(
        services.obis(row),
        row.code[4],
        {association.config.instance: association for association in services.associations},
        services.object_lists,
        services.secrets.change_secret,
        has_group_setup=GROUP_SECURITY_SETUP in services.codes.values(),
    )


def _make_image_transfer(services: Services, row: ObjectRow) -> CosemObject:
    return ImageTransferObject(services.obis(row), services.image)


def _make_sap_assignment(services: Services, row: ObjectRow) -> CosemObject:
    return SapAssignmentObject(services.obis(row), services.identity.logical_device_name(services.model.manufacturer))


def _make_security_setup(services: Services, row: ObjectRow) -> CosemObject:
    if services.obis(row) == GROUP_SECURITY_SETUP:
        return GroupSecuritySetupObject(services.obis(row), services.security)
    return SecuritySetupObject(
        services.obis(row), services.security, services.secrets, services.device, services.key_source
    )


def _make_profile(services: Services, row: ObjectRow) -> CosemObject:
    if "log" in row.settings:
        return ProfileObject(services.obis(row), services.tables.logs[row.settings["log"]], services.clock, period_s=0)
    recorder = services.tables.profiles[row.settings["profile"]]
    return ProfileObject(
        services.obis(row),
        recorder.profile,
        services.clock,
        period_s=recorder.period_s,
        capture_now=recorder.capture_now,
    )


_MEASURED = ("measures", "unit", "scaler", "type")
BINDINGS = {
    binding.interface.class_id: binding
    for binding in (
        ClassBinding(DATA, _make_data, ("shows", "with")),
        ClassBinding(REGISTER, _make_register, _MEASURED),
        ClassBinding(EXTENDED_REGISTER, _make_maximum_demand, _MEASURED),
        ClassBinding(DEMAND_REGISTER, _make_demand, _MEASURED),
        ClassBinding(PROFILE_GENERIC, _make_profile, ("with",)),
        ClassBinding(CLOCK, _make_clock),
        ClassBinding(ASSOCIATION_LN, _make_association),
        ClassBinding(SAP_ASSIGNMENT, _make_sap_assignment),
        ClassBinding(IMAGE_TRANSFER, _make_image_transfer),
        ClassBinding(SECURITY_SETUP, _make_security_setup),
        ClassBinding(REGISTER_ACTIVATION, make_register_activation),
        ClassBinding(SCRIPT_TABLE, make_script_table, ("with",), ScriptTableSettings),
        ClassBinding(SPECIAL_DAYS, make_special_days),
        ClassBinding(ACTIVITY_CALENDAR, make_activity_calendar, ("with",), CalendarSettings),
        ClassBinding(SINGLE_ACTION_SCHEDULE, make_schedule, ("with",), ScheduleSettings),
        ClassBinding(PUSH_SETUP, make_push_setup, ("with",), PushSettings),
        ClassBinding(DISCONNECT_CONTROL, make_disconnect_control),
        ClassBinding(LIMITER, make_limiter, ("with",), WatchSettings),
        ClassBinding(REGISTER_MONITOR, make_register_monitor, ("with",), WatchSettings),
    )
}


def check_row(row: ObjectRow, model: MeterModel) -> RowProblem | None:
    """What is wrong with an object of a model, None if the firmware can build it."""
    binding = BINDINGS.get(row.class_id)
    if binding is None:
        known = ", ".join(str(class_id) for class_id in sorted(BINDINGS))
        return RowProblem("class", f"this firmware has no objects of class {row.class_id}; it has: {known}")
    for key in row.model_fields_set:
        name = {"class_id": "class", "settings": "with"}.get(key, key)
        if name not in ("obis", "class", "name", "rights", *binding.uses):
            return RowProblem(name, f"an object of class {row.class_id} has no such key; remove it")
    if row.rights not in model.rights:
        return RowProblem("rights", f"no such rights; there are: {', '.join(model.rights)}")
    if row.type is not None and row.type not in TYPES:
        return RowProblem("type", f"no such type; there are: {', '.join(TYPES)}")
    return _check_rights(row, model, binding.interface) or _check_settings(row, binding) or _check_source(row, model)


def _check_settings(row: ObjectRow, binding: ClassBinding) -> RowProblem | None:
    if binding.settings is None:
        return None
    try:
        binding.settings.model_validate(row.settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return RowProblem("with", f"{place}: {first['msg']}" if place else first["msg"])
    return None


def _check_rights(row: ObjectRow, model: MeterModel, interface: InterfaceClass) -> RowProblem | None:
    attributes, methods = set(interface.by_id), {method.id for method in interface.methods}
    for association, rights in model.rights[row.rights].items():
        read = set() if rights.read == "all" else set(rights.read)
        invoke = set() if rights.invoke == "all" else set(rights.invoke)
        for wrong in sorted((read | rights.write) - attributes):
            return RowProblem(
                "rights", f"{row.rights} gives {association} attribute {wrong}, which class {row.class_id} has not"
            )
        for wrong in sorted(invoke - methods):
            return RowProblem(
                "rights", f"{row.rights} gives {association} method {wrong}, which class {row.class_id} has not"
            )
    return None


def _check_source(row: ObjectRow, model: MeterModel) -> RowProblem | None:
    if row.class_id == DATA.class_id:
        if row.shows not in SHOWN:
            return RowProblem("shows", f"must be one of: {', '.join(SHOWN)}")
        if row.shows in PROTECTION_SHOWS and model.leakage_sensor is None:
            return RowProblem("shows", "is of the leakage protection; give the model a leakage_sensor")
        problem = SHOWN[row.shows].check(row)
        return None if problem is None else RowProblem("with", problem)
    if row.class_id == REGISTER.class_id:
        return _check_quantity(row, model)
    if row.class_id == PROFILE_GENERIC.class_id:
        return RowProblem("class", "profiles and logs come from the companion profile; name one under companion")
    if row.class_id in (EXTENDED_REGISTER.class_id, DEMAND_REGISTER.class_id):
        if row.measures not in DEMAND_FIELDS:
            return RowProblem("measures", f"must be one of: {', '.join(DEMAND_FIELDS)}")
        return _check_unit(row, DEMAND_UNITS[row.measures])
    if row.class_id == ASSOCIATION_LN.class_id and row.code[4] > len(model.associations):
        return RowProblem("obis", f"there are {len(model.associations)} associations; group E is 0 or one of them")
    return None


def _check_quantity(row: ObjectRow, model: MeterModel) -> RowProblem | None:
    if row.measures in THRESHOLDS:
        if model.leakage_sensor is None:
            return RowProblem("measures", "is of the leakage protection; give the model a leakage_sensor")
        return _check_unit(row, Unit.AMPERE)
    quantity = QUANTITIES.get(row.measures or "")
    if quantity is None:
        return RowProblem("measures", f"must be one of: {', '.join(QUANTITIES)}")
    if phases_needed(quantity.name) > model.phases:
        return RowProblem("measures", f"{quantity.name} is not in a meter with {model.phases} phase")
    return _check_unit(row, quantity.unit)


def _check_unit(row: ObjectRow, unit: Unit) -> RowProblem | None:
    if row.unit is not None and UNITS[row.unit] is not unit:
        return RowProblem("unit", f"{row.measures} is in {unit.symbol or 'no unit'}, not {row.unit}")
    return None
