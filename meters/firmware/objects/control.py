"""Supply control: Disconnect control, Limiter, Register monitor (classes 70, 71, 21)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.firmware.objects.classes import DISCONNECT_CONTROL, LIMITER, REGISTER_MONITOR
from meters.firmware.storage import RecordStore
from meters.firmware.supply_control import SupplyControl, Trigger
from meters.firmware.watch import ThresholdWatch
from protocols.cursor import Reader
from protocols.dlms.data import (
    Data,
    Readable,
    array,
    boolean,
    decode,
    double_long_unsigned,
    encode,
    enumerated,
    integer,
    long_unsigned,
    octet_string,
    structure,
)
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import Selector

_SCRIPT_OVER, _SCRIPT_UNDER = 1, 2


class DisconnectControlObject(CosemObject):
    """Class 70."""

    INTERFACE = DISCONNECT_CONTROL
    __slots__ = ("_control",)

    def __init__(self, obis: ObisCode, control: SupplyControl) -> None:
        super().__init__(obis)
        self._control = control

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 2:
            return boolean(self._control.is_closed)
        return enumerated(self._control.state if attribute_id == 3 else self._control.mode)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 4:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if not self._control.set_mode(value.value):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "no such control mode")

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        is_local = caller.association is None
        if method_id == 1:
            trigger = Trigger.LOCAL_DISCONNECT if is_local else Trigger.REMOTE_DISCONNECT
        else:
            trigger = Trigger.LOCAL_RECONNECT if is_local else Trigger.REMOTE_RECONNECT
        if not self._control.apply(trigger):
            raise AccessDenied(ActionResult.OTHER_REASON, f"{trigger.value} is not possible now")
        return None


@dataclass(frozen=True, slots=True)
class Watched:
    """The attribute that is watched, and how to read it."""

    class_id: int
    obis: ObisCode
    attribute_id: int
    read: Callable[[], float]

    def to_data(self) -> Data:
        return structure(long_unsigned(self.class_id), octet_string(bytes(self.obis)), integer(self.attribute_id))


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """Thresholds in units of the watched value (0: no limit), durations in seconds."""

    normal: int = 0
    emergency: int = 0
    over_s: int = 60
    under_s: int = 60

    def encode(self) -> bytes:
        values = (self.normal, self.emergency, self.over_s, self.under_s)
        return b"".join(value.to_bytes(4, "big") for value in values)

    @classmethod
    def decode(cls, raw: bytes) -> LimiterSettings:
        reader = Reader(raw)
        settings = cls(reader.u32(), reader.u32(), reader.u32(), reader.u32())
        reader.expect_end()
        return settings


class LimiterObject(CosemObject):
    """Class 71: runs a script when a value stays above its threshold, and another when it is back.

    There is no emergency profile: `emergency_profile_active` is always false.
    """

    INTERFACE = LIMITER
    __slots__ = ("_events", "_run", "_settings", "_store", "_table", "_watch", "_watched")

    def __init__(
        self,
        obis: ObisCode,
        watched: Watched,
        make_watch: Callable[[Callable[[], float], Callable[[], None], Callable[[], None]], ThresholdWatch],
        table: ObisCode,
        run: Callable[[bytes, int], bool],
        store: RecordStore,
        events: EventRecorder,
    ) -> None:
        super().__init__(obis)
        self._watched = watched
        self._table = table
        self._run = run
        self._store = store
        self._events = events
        saved = store.get("limiter")
        self._settings = LimiterSettings() if saved is None else LimiterSettings.decode(saved)
        self._watch = make_watch(watched.read, self._over, self._under)

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        settings = self._settings
        values: dict[int, Data] = {
            2: self._watched.to_data(),
            3: double_long_unsigned(settings.normal),
            4: double_long_unsigned(settings.normal),
            5: double_long_unsigned(settings.emergency),
            6: double_long_unsigned(settings.over_s),
            7: double_long_unsigned(settings.under_s),
            8: structure(long_unsigned(0), octet_string(DateTime().encode()), double_long_unsigned(0)),
            9: array(()),
            10: boolean(False),
            11: structure(self._script(_SCRIPT_OVER), self._script(_SCRIPT_UNDER)),
        }
        return values[attribute_id]

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        names = {4: "normal", 5: "emergency", 6: "over_s", 7: "under_s"}
        if attribute_id not in names:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        settings = replace(self._settings, **{names[attribute_id]: value.value})
        self._store.put("limiter", settings.encode())
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Watch by the present settings."""
        settings = self._settings
        self._watch.configure(settings.normal or None, over_s=settings.over_s, under_s=settings.under_s)

    def _over(self) -> None:
        self._events.record(MeterEvent.LIMITER_EXCEEDED)
        self._run(self._table, _SCRIPT_OVER)

    def _under(self) -> None:
        self._events.record(MeterEvent.LIMITER_NORMAL)
        self._run(self._table, _SCRIPT_UNDER)

    def _script(self, number: int) -> Data:
        return structure(octet_string(bytes(self._table)), long_unsigned(number))


class RegisterMonitorObject(CosemObject):
    """Class 21 with one threshold: a script when the value rises above it, another when it falls back."""

    INTERFACE = REGISTER_MONITOR
    __slots__ = ("_store", "_table", "_threshold", "_watch", "_watched")

    def __init__(
        self,
        obis: ObisCode,
        watched: Watched,
        make_watch: Callable[[Callable[[], float], Callable[[], None], Callable[[], None]], ThresholdWatch],
        table: ObisCode,
        run: Callable[[bytes, int], bool],
        store: RecordStore,
    ) -> None:
        super().__init__(obis)
        self._watched = watched
        self._table = table
        self._store = store
        self._watch = make_watch(watched.read, lambda: _ignore(run(table, 1)), lambda: _ignore(run(table, 2)))
        saved = store.get(self._key)
        self._threshold: Data | None = None if saved is None else decode(saved)

    @property
    def _key(self) -> str:
        return f"monitor/{self.obis}"

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 2:
            return array(() if self._threshold is None else (self._threshold,))
        if attribute_id == 3:
            return self._watched.to_data()
        up, down = (structure(octet_string(bytes(self._table)), long_unsigned(number)) for number in (1, 2))
        return array((structure(up, down),))

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 2:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if len(value.value) > 1 or any(not isinstance(item.value, int) for item in value.value):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "one numeric threshold, or none")
        threshold = value.value[0] if value.value else None
        if threshold is None:
            self._store.delete(self._key)
        else:
            self._store.put(self._key, encode(threshold))
        self._threshold = threshold
        self.start()

    def start(self) -> None:
        """Watch by the present threshold."""
        self._watch.configure(None if self._threshold is None else float(self._threshold.value))


def _ignore(done: bool) -> None:
    """A script that was refused is traced by its runner."""
