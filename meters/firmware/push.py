"""Pushing: what a push setup sends by itself, when, and in how many notifications."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from meters.firmware.clock import MeterClock
from meters.firmware.profiles import Profile
from meters.firmware.storage import RecordStore
from protocols.cursor import Reader
from protocols.dlms.data import Data, Encoded, Tag
from protocols.dlms.notification import DataNotification
from protocols.dlms.objects import Caller, CosemObject, object_key
from protocols.dlms.selective import CaptureObject
from protocols.ports import Cancellable, Timers

_BODY_BYTES = 900
"""Rows of a profile are spread over notifications of about this size: each fits one mesh datagram with protection."""

Send = Callable[[bytes], bool]
"""Takes a DataNotification; False if it cannot be sent now (no route)."""


@dataclass(frozen=True, slots=True)
class PushSettings:
    """Seconds and counts of class 40, attributes 5 to 7."""

    randomisation_s: int = 600
    retries: int = 3
    repetition_s: int = 60

    def encode(self) -> bytes:
        return self.randomisation_s.to_bytes(2, "big") + bytes((self.retries,)) + self.repetition_s.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> PushSettings:
        reader = Reader(raw)
        settings = cls(reader.u16(), reader.u8(), reader.u16())
        reader.expect_end()
        return settings


class Pusher:
    """One push setup at work. Rows of profiles go out once: those captured since the last push that was sent."""

    def __init__(
        self,
        name: str,
        objects: tuple[CaptureObject, ...],
        profiles: dict[bytes, Profile],
        clock: MeterClock,
        store: RecordStore,
        timers: Timers,
        rng: random.Random,
        guard: Callable[[Callable[[], None]], None],
        defaults: PushSettings | None = None,
    ) -> None:
        self._name = name
        self.objects = objects
        self._profiles = profiles
        self._clock = clock
        self._store = store
        self._timers = timers
        self._rng = rng
        self._guard = guard
        self._handle: Cancellable | None = None
        self._find: Callable[[bytes], CosemObject | None] = lambda key: None
        self._send: Send | None = None
        self._caller = Caller(client_sap=0)
        self._invoke_id = 0
        saved = store.get(f"push/{name}")
        self.settings = (defaults or PushSettings()) if saved is None else PushSettings.decode(saved)
        self.on_sent: Callable[[], None] = lambda: None
        """Called when all of a push is on its way."""
        self.sent = 0
        """Notifications sent since the start."""

    def bind(self, find: Callable[[bytes], CosemObject | None], send: Send | None) -> None:
        """`send` None: there is nowhere to push to."""
        self._find, self._send = find, send

    def configure(self, **changes: int) -> None:
        settings = replace(self.settings, **changes)
        self._store.put(f"push/{self._name}", settings.encode())
        self.settings = settings

    def push_now(self, *, is_last: bool = False) -> None:
        """Begin at once, for alarms; with `is_last` there is no time for another attempt."""
        self.stop()
        self._attempt(0 if is_last else self.settings.retries)

    def push(self) -> bool:
        """Begin, after a random delay that keeps a neighbourhood from speaking at once. False if there is nowhere."""
        if self._send is None:
            return False
        self.stop()
        self._arm(self._rng.uniform(0.0, float(self.settings.randomisation_s)), self.settings.retries)
        return True

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, wait_s: float, retries: int) -> None:
        when = self._timers.time() + wait_s
        self._handle = self._timers.call_at(when, lambda: self._guard(lambda: self._attempt(retries)))

    def _attempt(self, retries: int) -> None:
        self._handle = None
        now_s = self._clock.utc_s()
        send = self._send
        if send is not None and all(send(notification) for notification in self._notifications(now_s)):
            if self._profiles:
                self._store.put(f"push/{self._name}/until", int(now_s).to_bytes(8, "big"))
            self.on_sent()
        elif retries > 0:
            self._arm(float(self.settings.repetition_s), retries - 1)

    def _notifications(self, now_s: float) -> Iterator[bytes]:
        saved = self._store.get(f"push/{self._name}/until")
        since_s = now_s - 86_400 if saved is None else int.from_bytes(saved, "big") + 1
        key = next((key for item in self.objects if (key := _key(item)) in self._profiles), None)
        profile = None if key is None else self._profiles[key]
        rows: list[int] = [] if profile is None else profile.between(since_s, now_s)
        step = 1 if profile is None else max(1, _BODY_BYTES // profile.layout.row_bytes)
        chunks = [rows[start : start + step] for start in range(0, len(rows), step)] or [[]]
        for chunk in chunks:
            self._invoke_id = (self._invoke_id + 1) & 0xFFFFFF
            body = Data(Tag.STRUCTURE, tuple(self._value(item, chunk) for item in self.objects))
            self.sent += 1
            yield DataNotification(self._invoke_id, body, self._clock.date_time(now_s).encode()).encode()

    def _value(self, item: CaptureObject, rows: list[int]) -> Data | Encoded:
        profile = self._profiles.get(_key(item))
        if profile is not None and item.attribute_id == 2:
            return Encoded(b"".join(profile.stream(rows).chunks()))
        target = self._find(_key(item))
        if target is None:
            return Data(Tag.NULL, None)
        value = target.logical_name() if item.attribute_id == 1 else target.read(item.attribute_id, None, self._caller)
        return value if isinstance(value, Data | Encoded) else Data(Tag.NULL, None)


def _key(item: CaptureObject) -> bytes:
    return object_key(item.class_id, item.obis)
