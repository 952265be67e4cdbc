"""A model made ready for the firmware: what all meters of the model share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meters.firmware.catalogue import BINDINGS
from meters.firmware.companion_tables import CompanionTables, apply_companion
from meters.firmware.objects.association import ObjectList
from meters.firmware.protection_makers import line_rows
from meters.models.companion import load_companion
from meters.models.schema import ASSOCIATION_NAMES, AssociationName, MeterModel, ObjectRow, Rights
from protocols.dlms.enums import Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Access, AccessTable, InterfaceClass, MethodAccess, ObjectAccess, object_key
from protocols.dlms.server import AssociationConfig

INSTANCES: dict[AssociationName, int] = {name: number for number, name in enumerate(ASSOCIATION_NAMES, 1)}
"""Group E of each association's own object 0-0:40.0.E*255."""
_PDU_BYTES = 1024
_BROADCAST_PDU_BYTES = 1390
"""There is no block transfer in what nobody answers: an image block comes in one APDU."""


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """All objects with the companion profile's, OBIS codes by text, rights and object_list of each association by its
    instance."""

    model: MeterModel
    rows: tuple[ObjectRow, ...]
    tables: CompanionTables | None
    codes: Mapping[str, ObisCode]
    access: Mapping[int, AccessTable]
    object_lists: Mapping[int, ObjectList]
    row_values: dict[str, object] = field(default_factory=dict)
    """What rows mean, by OBIS code: filled while the first meter starts."""

    def configs(self, suite: int) -> dict[AssociationName, AssociationConfig]:
        """The associations that a meter of this model offers under a security suite."""
        return {
            name: AssociationConfig(
                client_sap=settings.client_sap,
                mechanism=_mechanism(settings.mechanism, suite),
                access=self.access[INSTANCES[name]],
                instance=INSTANCES[name],
                ciphered=settings.mechanism in ("high", "broadcast"),
                pre_established=settings.mechanism == "broadcast",
                max_receive_pdu_bytes=_BROADCAST_PDU_BYTES if settings.mechanism == "broadcast" else _PDU_BYTES,
            )
            for name, settings in self.model.associations.items()
        }


def _mechanism(name: str, suite: int) -> Mechanism:
    if name == "high":
        return Mechanism.HIGH_ECDSA if suite else Mechanism.HIGH_GMAC
    return Mechanism.LOW if name == "low" else Mechanism.NONE


_compiled: dict[int, CompiledModel] = {}


def compile_model(model: MeterModel) -> CompiledModel:
    """Made once for each model object."""
    found = _compiled.get(id(model))
    if found is None or found.model is not model:
        found = _compiled[id(model)] = _compile(model)
    return found


def _compile(model: MeterModel) -> CompiledModel:
    tables = None if model.companion is None else apply_companion(load_companion(model.companion), model)
    rows = (*model.objects, *line_rows(model), *(tables.rows if tables is not None else ()))
    codes = {row.obis: row.code for row in rows}
    listed = tuple((BINDINGS[row.class_id].interface, codes[row.obis]) for row in rows)
    access = {INSTANCES[name]: _access(model, rows, name) for name in model.associations}
    object_lists = {instance: ObjectList(listed, table) for instance, table in access.items()}
    return CompiledModel(model, rows, tables, codes, access, object_lists)


def _access(model: MeterModel, rows: tuple[ObjectRow, ...], name: AssociationName) -> AccessTable:
    shared: dict[tuple[int, str], ObjectAccess] = {}
    table: dict[bytes, ObjectAccess] = {}
    for row in rows:
        rights = model.rights_of(row, name)
        if rights is None:
            continue
        key = (row.class_id, row.rights)
        if key not in shared:
            shared[key] = _object_access(BINDINGS[row.class_id].interface, rights)
        table[object_key(row.class_id, row.code)] = shared[key]
    return table


def _object_access(interface: InterfaceClass, rights: Rights) -> ObjectAccess:
    attributes = {}
    for attribute in interface.attributes:
        access = Access.READ if rights.may_read(attribute.id) else Access.NONE
        attributes[attribute.id] = access | (Access.WRITE if rights.may_write(attribute.id) else Access.NONE)
    methods = {
        method.id: MethodAccess.INVOKE if rights.may_invoke(method.id) else MethodAccess.NONE
        for method in interface.methods
    }
    return ObjectAccess(attributes, methods)
