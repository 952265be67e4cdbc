"""Scripts: writes and calls on the meter's own objects, run by calendars, schedules and monitors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocols.dlms.data import Data, integer, octet_string
from protocols.dlms.enums import ActionResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject, object_key
from protocols.errors import RemoteProtocolError
from protocols.ports import Trace

WRITE, EXECUTE = 1, 2
FIRMWARE_SAP = 0


@dataclass(frozen=True, slots=True)
class ScriptAction:
    """`service` is WRITE or EXECUTE; `index` the attribute or method."""

    service: int
    class_id: int
    obis: ObisCode
    index: int
    parameter: Data


Script = tuple[ScriptAction, ...]


class ScriptRunner:
    """Runs scripts by their table and selector, once it has been given the objects."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._tables: dict[bytes, Mapping[int, Script]] = {}
        self._find: Callable[[bytes], CosemObject | None] = lambda key: None
        self._caller = Caller(client_sap=FIRMWARE_SAP)

    def add_table(self, obis: ObisCode, scripts: Mapping[int, Script]) -> None:
        self._tables[obis] = scripts

    def bind(self, find: Callable[[bytes], CosemObject | None]) -> None:
        """`find` gives the object with a key."""
        self._find = find

    def run(self, table: bytes, selector: int) -> bool:
        """Run every action of a script. False if there is no such script, or an action was refused (traced)."""
        script = self._tables.get(table, {}).get(selector)
        if script is None:
            return False
        results = [self._run(action) for action in script]  # one that is refused does not stop the others
        return all(results)

    def _run(self, action: ScriptAction) -> bool:
        target = self._find(object_key(action.class_id, action.obis))
        try:
            if target is None:
                raise AccessDenied(ActionResult.OBJECT_UNDEFINED, "no such object")
            if action.service == WRITE:
                target.write(action.index, action.parameter, self._caller)
            else:
                target.invoke(action.index, action.parameter, self._caller)
        except (AccessDenied, RemoteProtocolError) as error:
            self._trace("meter.script_refused", obis=str(action.obis), index=action.index, reason=str(error))
            return False
        return True


def call(class_id: int, obis: ObisCode, method_id: int) -> ScriptAction:
    return ScriptAction(EXECUTE, class_id, obis, method_id, integer(0))


def write_text(class_id: int, obis: ObisCode, attribute_id: int, text: str) -> ScriptAction:
    return ScriptAction(WRITE, class_id, obis, attribute_id, octet_string(text.encode("ascii")))
