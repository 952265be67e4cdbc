"""A fake meter with a load profile, a clock that can be wrong, and pushes. Bytes are real from the wrapper up."""

from __future__ import annotations

from typing import Any

from dcu_fakes import CLIENT_TITLE, START_UTC_S, Clock, DataObject, FakeMeter, Values

from protocols.dlms.data import (
    Data,
    Readable,
    array,
    decode,
    double_long_unsigned,
    encode,
    octet_string,
    structure,
    unsigned,
)
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import Mechanism
from protocols.dlms.notification import DataNotification
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Attribute, Caller, InterfaceClass, Method, full_access
from protocols.dlms.profile import ListedRows, select
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.selective import CaptureObject
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity
from protocols.dlms.wrapper import Wpdu
from protocols.headend import messages as m
from twin.clock.seeds import SeededKeys

LOAD = ObisCode.parse("1-0:99.1.0*255")
PERIOD_S = 1800
COLUMNS = (
    CaptureObject(8, ObisCode.parse("0-0:1.0.0*255"), 2),
    CaptureObject(1, ObisCode.parse("0-0:96.10.1*255"), 2),
    CaptureObject(3, ObisCode.parse("1-0:1.8.0*255"), 2),
)
PUSHED = (CaptureObject(1, ObisCode.parse("0-0:42.0.0*255"), 2), CaptureObject(7, LOAD, 2))


def load_row(captured_utc_s: float, energy_wh: int, status: int = 0) -> bytes:
    moment = octet_string(DateTime.from_utc_s(captured_utc_s).encode())
    return encode(structure(moment, unsigned(status), double_long_unsigned(energy_wh)))


class ProfileObject(Values):
    INTERFACE = InterfaceClass(
        7,
        1,
        "Profile generic",
        (
            Attribute(2, "buffer", selectors=(1, 2)),
            Attribute(3, "capture_objects"),
            Attribute(4, "capture_period"),
        ),
    )

    def __init__(self, meter: ProfileMeter) -> None:
        columns = array(column.to_data() for column in COLUMNS)
        super().__init__(LOAD, {3: columns, 4: double_long_unsigned(PERIOD_S)})
        self._meter = meter

    __slots__ = ("_meter",)

    def read(self, attribute_id: int, selector: Any, caller: Caller) -> Any:
        if attribute_id != 2:
            return super().read(attribute_id, selector, caller)
        self._meter.range_reads += 1
        answer: Readable = select(ListedRows(self._meter.rows), COLUMNS, selector)
        return answer


class SettableClock(Clock):
    INTERFACE = InterfaceClass(8, 0, "Clock", (Attribute(2, "time"),), (Method(6, "shift_time"),))
    __slots__ = ("_meter",)

    def __init__(self, meter: ProfileMeter) -> None:
        super().__init__(ObisCode.parse("0-0:1.0.0*255"), {2: meter.time})
        self._meter = meter

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        self._meter.sets.append(caller.client_sap)
        self._meter.offset_s = DateTime.decode(value.value).to_utc_s() - self._meter.true_utc_s()

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        self._meter.shifts.append(argument.value)
        self._meter.offset_s += argument.value
        return None


class PushSetup(Values):
    INTERFACE = InterfaceClass(40, 0, "Push setup", (Attribute(2, "push_object_list"),))


class ProfileMeter(FakeMeter):
    """Verbs: `capture` a row, `push` some, `offset_s` of its clock."""

    def __init__(self, number: int) -> None:
        self.rows: list[bytes] = []
        self.range_reads = 0
        self.offset_s = 0.0
        self.sets: list[int] = []
        self.shifts: list[int] = []
        self.broadcast_key = bytes((0x40 + number,)) * 16
        super().__init__(number)

    def true_utc_s(self) -> float:
        return START_UTC_S + (self.loop.time() if self.loop is not None else 0.0)

    def time(self) -> Data:
        return octet_string(DateTime.from_utc_s(self.true_utc_s() + self.offset_s).encode())

    def capture(self, captured_utc_s: float, status: int = 0) -> None:
        self.rows.append(load_row(captured_utc_s, 1000 + len(self.rows), status))

    def _objects(self) -> list[Any]:
        kept = [item for item in super()._objects() if not isinstance(item, Clock)]
        pushed = PushSetup(ObisCode.parse("0-0:25.9.0*255"), {2: array(item.to_data() for item in PUSHED)})
        return [*kept, SettableClock(self), ProfileObject(self), pushed]

    def restart(self) -> None:
        self._restarts += 1
        counter = DataObject(
            ObisCode.parse("0-0:43.1.0*255"), {2: lambda: double_long_unsigned(security.least_client_counter)}
        )
        objects = [*self._objects(), counter]
        everything = full_access(objects)
        configs = (
            AssociationConfig(1, Mechanism.HIGH_GMAC, everything, 1, ciphered=True),
            AssociationConfig(16, Mechanism.NONE, full_access([counter]), 2),
            AssociationConfig(102, Mechanism.NONE, everything, 4, ciphered=True, pre_established=True),
        )
        keys = SymmetricKeys(self.keys.encryption, self.keys.authentication, self.broadcast_key)
        security = ServerSecurity(
            self.title,
            keys,
            self._store,
            policy=Policy.AUTHENTICATED_AND_ENCRYPTED,
            client_system_title=CLIENT_TITLE,
        )
        self.server = CosemServer(
            objects,
            [Association(config) for config in configs],
            security=security,
            keys=SeededKeys(self.eui64 + bytes((self._restarts,))),
        )

    def credentials(self, *, key: bytes | None = None) -> m.MeterCredentials:
        given = super().credentials(key=key)
        return m.MeterCredentials(
            given.serial,
            given.system_title,
            given.security_suite,
            given.encryption_key,
            given.authentication_key,
            self.broadcast_key,
        )

    def push(self, rows: list[bytes]) -> bytes:
        """The datagram of a push with these rows."""
        body = structure(octet_string(b"OAM"), array(decode(row) for row in rows))
        apdu = self.server.notify(1, DataNotification(1, body).encode(), channel="root")
        return Wpdu(1, 1, apdu).encode()


__all__ = ["LOAD", "PERIOD_S", "ProfileMeter", "load_row"]
