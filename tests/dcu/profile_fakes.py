"""A fake meter with a load profile, a clock that can be wrong, and pushes. Bytes are real from the wrapper up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcu_fakes import CLIENT_TITLE, START_UTC_S, Clock, DataObject, FakeMeter, Values

from meters.firmware.objects.group_security import GROUP_SECURITY_SETUP, GroupSecuritySetupObject
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
from protocols.dlms.security.key_management import wrap_key
from protocols.dlms.security.keys import Policy, SymmetricKeys
from protocols.dlms.selective import CaptureObject
from protocols.dlms.server import Association, AssociationConfig, CosemServer, ServerSecurity
from protocols.dlms.wrapper import Wpdu
from protocols.headend import messages as m
from protocols.headend.groups import BroadcastGroup
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
        if argument.value == 0:
            return None
        self._meter.shifts.append(argument.value)
        self._meter.offset_s += argument.value
        return None


class PushSetup(Values):
    INTERFACE = InterfaceClass(40, 0, "Push setup", (Attribute(2, "push_object_list"),))


GROUP_KEYS = (b"\x42" * 16, b"\x43" * 16)


def group_of(master_key: bytes, keys: tuple[bytes, bytes] = GROUP_KEYS) -> BroadcastGroup:
    """What the head-end gives of a group for the meter with this master key."""
    return BroadcastGroup(*keys, *(wrap_key(master_key, key) for key in keys))


class ProfileMeter(FakeMeter):
    """Verbs: `capture` a row, `push` some, `offset_s` of its clock."""

    has_group_setup = True
    """False for a meter of an older design, which can be in no group."""

    def __init__(self, number: int) -> None:
        self.rows: list[bytes] = []
        self.range_reads = 0
        self.offset_s = 0.0
        self.sets: list[int] = []
        self.shifts: list[int] = []
        self.master_key = bytes((0xC0 + number,)) * 16
        self.symmetric: SymmetricKeys | None = None
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
        own = SymmetricKeys(self.keys.encryption, self.keys.authentication, bytes(16), self.master_key)
        security = ServerSecurity(
            self.title,
            self.symmetric or own,
            self._store,
            policy=Policy.AUTHENTICATED_AND_ENCRYPTED,
            client_system_title=CLIENT_TITLE,
            on_keys=self._keep,
        )
        counter = DataObject(
            ObisCode.parse("0-0:43.1.0*255"), {2: lambda: double_long_unsigned(security.least_client_counter)}
        )
        broadcast_counter = DataObject(
            ObisCode.parse("0-0:43.1.1*255"), {2: lambda: double_long_unsigned(security.least_broadcast_counter)}
        )
        objects = [*self._objects(), counter, broadcast_counter]
        if self.has_group_setup:
            objects.append(GroupSecuritySetupObject(GROUP_SECURITY_SETUP, security))
        everything = full_access(objects)
        configs = (
            AssociationConfig(1, Mechanism.HIGH_GMAC, everything, 1, ciphered=True),
            AssociationConfig(16, Mechanism.NONE, full_access([counter]), 2),
            AssociationConfig(102, Mechanism.NONE, everything, 4, ciphered=True, pre_established=True),
        )
        self.server = CosemServer(
            objects,
            [Association(config) for config in configs],
            security=security,
            keys=SeededKeys(self.eui64 + bytes((self._restarts,))),
        )

    def _keep(self, keys: SymmetricKeys) -> None:
        self.symmetric = keys

    def credentials(self, *, key: bytes | None = None) -> m.MeterCredentials:
        return replace(super().credentials(key=key), broadcast_group=group_of(self.master_key))

    def push(self, rows: list[bytes]) -> bytes:
        """The datagram of a push with these rows."""
        body = structure(octet_string(b"OAM"), array(decode(row) for row in rows))
        apdu = self.server.notify(1, DataNotification(1, body).encode(), channel="root")
        return Wpdu(1, 1, apdu).encode()


__all__ = ["LOAD", "PERIOD_S", "ProfileMeter", "load_row"]
