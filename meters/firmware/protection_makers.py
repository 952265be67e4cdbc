"""How the objects of leakage protection and of the lines' relays are built from a model's rows."""

from __future__ import annotations

from meters.firmware.event_names import MeterEvent
from meters.firmware.objects.control import DisconnectControlObject
from meters.firmware.objects.protection import ThresholdObject
from meters.firmware.protection.controller import ProtectionController
from meters.firmware.services import Services
from meters.models.schema import MeterModel, ObjectRow
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import CosemObject
from protocols.errors import LocalProtocolError
from protocols.leakage_protection import CLASS_DISCONNECT_CONTROL, KEPT_TRIPS, TRIP_PUSH

LINE_STATE, TRIP_RECORD = "protection_state", "trip_record"
PROTECTION_SHOWS = (LINE_STATE, TRIP_RECORD, "trips", "trips_read")
"""What Data objects show of the leakage protection."""


def line_rows(model: MeterModel) -> tuple[ObjectRow, ...]:
    """Rows that a model's own stand for as well: those of line 1 for the further lines (channel, value group B), the
    first trip slot for the others (group E)."""
    made = []
    for row in model.objects:
        code = row.code
        if row.class_id == CLASS_DISCONNECT_CONTROL or row.shows == LINE_STATE:
            made += [
                _copy(row, f"{code[0]}-{line - 1}:{code[2]}.{code[3]}.{code[4]}*{code[5]}", f"{row.name}, line {line}")
                for line in range(2, model.tenant_lines + 1)
            ]
        elif row.shows == TRIP_RECORD:
            made += [
                _copy(row, f"{code[0]}-{code[1]}:{code[2]}.{code[3]}.{slot}*{code[5]}", f"{row.name}, slot {slot}")
                for slot in range(1, KEPT_TRIPS)
            ]
    return tuple(made)


def _copy(row: ObjectRow, obis: str, name: str) -> ObjectRow:
    return row.model_copy(update={"obis": obis, "name": name})


def line_of(obis: ObisCode) -> int:
    """The line that an object belongs to, by its channel."""
    return obis[1] + 1


def make_disconnect_control(services: Services, row: ObjectRow) -> CosemObject:
    line = line_of(row.code)
    if line > len(services.supplies):
        raise LocalProtocolError(f"a disconnect control of line {line}, of {len(services.supplies)}")
    supply = services.supplies[line - 1]
    services.on_start.append(supply.start)
    return DisconnectControlObject(services.obis(row), supply)


def make_threshold(services: Services, row: ObjectRow) -> CosemObject:
    return ThresholdObject(
        services.obis(row),
        row.measures or "",
        protection_of(services),
        lambda: services.events.record(MeterEvent.PARAMETER_CHANGED),
    )


def protection_of(services: Services) -> ProtectionController:
    if services.protection is None:
        raise LocalProtocolError("an object of the leakage protection in a meter that has none")
    return services.protection


def announces_trips(row: ObjectRow) -> bool:
    """This push setup tells the concentrator of trips."""
    return row.code == TRIP_PUSH
