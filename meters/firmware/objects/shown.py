"""What Data objects (class 1) can show: names that a model's rows give under `shows`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meters.firmware.event_names import MeterEvent
from meters.firmware.objects.protection import trip_slot_data, trips_data
from meters.firmware.protection_makers import line_of, protection_of
from meters.firmware.services import Services
from meters.models.schema import ObjectRow
from protocols.dlms.data import Data, Tag, double_long_unsigned, long64, octet_string, unsigned
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.objects import AccessDenied
from protocols.dlms.security.certificates import CertificateType
from protocols.firmware.code import VARIABLES

_LONGEST_TEXT_BYTES = 64


def _no_settings(row: ObjectRow) -> str | None:
    return f"{row.shows} takes no settings" if row.settings else None


def _one_text(row: ObjectRow) -> str | None:
    value = row.settings.get("value", "")
    if set(row.settings) - {"value"} or not isinstance(value, str) or not value.isascii():
        return "needs value: an ASCII text, and nothing else"
    return None


def _one_variable(row: ObjectRow) -> str | None:
    value = row.settings.get("variable")
    if set(row.settings) != {"variable"} or type(value) is not int or not 0 <= value < VARIABLES:
        return f"needs variable: a number from 0 to {VARIABLES - 1}, and nothing else"
    return None


def _from_companion(row: ObjectRow) -> str | None:
    return f"{row.shows} comes from the companion profile; name one under companion"


@dataclass(frozen=True, slots=True)
class Shown:
    """`accept` makes the object writable; `check` says what is wrong with a row's settings."""

    value: Callable[[Services, ObjectRow], Data]
    accept: Callable[[Services, ObjectRow, Data], None] | None = None
    check: Callable[[ObjectRow], str | None] = _no_settings


def _text(value: str) -> Data:
    return octet_string(value.encode("ascii"))


def _public_key(kind: CertificateType) -> Callable[[Services, ObjectRow], Data]:
    return lambda services, row: octet_string(services.device.public_point(kind))


def _parameter_key(row: ObjectRow) -> str:
    return f"data/{row.obis}"


def _read_parameter(services: Services, row: ObjectRow) -> Data:
    saved = services.parameters.get(_parameter_key(row))
    return octet_string(str(row.settings.get("value", "")).encode("ascii") if saved is None else saved)


def _write_parameter(services: Services, row: ObjectRow, value: Data) -> None:
    if not isinstance(value.value, bytes):
        raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
    if len(value.value) > _LONGEST_TEXT_BYTES:
        raise AccessDenied(DataAccessResult.OTHER_REASON, f"at most {_LONGEST_TEXT_BYTES} bytes")
    services.parameters.put(_parameter_key(row), value.value)


def _clear_alarms(services: Services, row: ObjectRow, value: Data) -> None:
    alarms = services.alarms
    kept = _alarm_bits(value)
    if kept & ~int(alarms.register):
        raise AccessDenied(DataAccessResult.OTHER_REASON, "alarms are cleared, never set")
    alarms.clear(kept)
    services.events.record(MeterEvent.ALARM_REGISTER_CLEARED)


def _alarm_bits(value: Data) -> int:
    if value.tag != Tag.DOUBLE_LONG_UNSIGNED:
        raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
    return int(value.value)


def _read_trips_taken(services: Services, row: ObjectRow) -> Data:
    return double_long_unsigned(0 if services.announcer is None else services.announcer.taken)


def _write_trips_taken(services: Services, row: ObjectRow, value: Data) -> None:
    if type(value.value) is not int or services.announcer is None:
        raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
    if not services.announcer.take_over(value.value):
        raise AccessDenied(DataAccessResult.OTHER_REASON, f"there is no trip {value.value}")


SHOWN = {
    "logical_device_name": Shown(
        lambda services, row: octet_string(services.identity.logical_device_name(services.model.manufacturer))
    ),
    "serial_number": Shown(lambda services, row: _text(services.identity.serial)),
    "eui64": Shown(lambda services, row: octet_string(services.identity.eui64)),
    "manufacturer": Shown(lambda services, row: _text(services.model.manufacturer)),
    "model_name": Shown(lambda services, row: _text(services.model.model)),
    "hardware_revision": Shown(lambda services, row: _text(services.model.hardware_revision)),
    "firmware_version": Shown(lambda services, row: _text(services.firmware_version)),
    "signing_public_key": Shown(_public_key(CertificateType.DIGITAL_SIGNATURE)),
    "agreement_public_key": Shown(_public_key(CertificateType.KEY_AGREEMENT)),
    "invocation_counter": Shown(lambda services, row: double_long_unsigned(services.security.least_client_counter)),
    "broadcast_counter": Shown(lambda services, row: double_long_unsigned(services.security.least_broadcast_counter)),
    "start_count": Shown(lambda services, row: double_long_unsigned(services.start_count)),
    "clock_set_count": Shown(lambda services, row: double_long_unsigned(services.clock.set_count)),
    "unix_time": Shown(lambda services, row: double_long_unsigned(max(0, int(services.clock.utc_s())))),
    "active_rate": Shown(lambda services, row: unsigned(services.measurements.rate)),
    "event_code": Shown(lambda services, row: services.tables.event_code(row.settings["log"]), check=_from_companion),
    "profile_status": Shown(
        lambda services, row: services.tables.profiles[row.settings["profile"]].status.value(), check=_from_companion
    ),
    "image_report": Shown(lambda services, row: octet_string(services.image.report.encode("ascii", "replace"))),
    "program_variable": Shown(
        lambda services, row: long64(services.machine.variables[row.settings["variable"]]), check=_one_variable
    ),
    "alarm_register": Shown(lambda services, row: double_long_unsigned(int(services.alarms.register)), _clear_alarms),
    "alarm_filter": Shown(
        lambda services, row: double_long_unsigned(int(services.alarms.filter)),
        lambda services, row, value: services.alarms.set_filter(_alarm_bits(value)),
    ),
    "alarm_descriptor": Shown(lambda services, row: double_long_unsigned(int(services.alarms.descriptor))),
    "protection_state": Shown(
        lambda services, row: protection_of(services).state(line_of(services.obis(row))).to_data()
    ),
    "trips": Shown(lambda services, row: trips_data(protection_of(services), services.clock)),
    "trips_read": Shown(_read_trips_taken, _write_trips_taken),
    "trip_record": Shown(lambda services, row: trip_slot_data(protection_of(services), services.obis(row)[4])),
    "text": Shown(lambda services, row: _text(str(row.settings.get("value", ""))), check=_one_text),
    "parameter": Shown(_read_parameter, _write_parameter, check=_one_text),
}
