"""Alarms of meters, told to the head-end as they come."""

from __future__ import annotations

from collections import Counter

from dcu.headend import Headend
from dcu.registry import Registry
from protocols.dlms.notification import DataNotification
from protocols.errors import RemoteProtocolError
from protocols.meter_alarms import AlarmNotice, is_alarm
from protocols.ports import Trace

EVENT_ALARM = "meter-alarm"


class MeterAlarms:
    """Each alarm that arrives is one event: the meter's counter refuses what comes twice."""

    def __init__(self, headend: Headend, registry: Registry, trace: Trace) -> None:
        self._headend = headend
        self._registry = registry
        self._trace = trace
        self.counters: Counter[str] = Counter()

    def take(self, eui64: bytes, apdu: bytes) -> bool:
        """Whether a DataNotification, its protection verified, was an alarm."""
        try:
            body = DataNotification.decode(apdu).body
            if not is_alarm(body):
                return False
            notice = AlarmNotice.from_data(body)
        except RemoteProtocolError:
            return False
        meter = self._registry.find(eui64)
        serial = None if meter is None or meter.identity is None else meter.identity.serial
        names = " ".join(notice.alarms.names)
        self.counters["alarms"] += 1
        self._trace("dcu-alarm", eui64=eui64.hex(), alarms=names)
        details = {"alarms": names, "register": f"{notice.alarms.value:08x}", "meter_time": str(notice.time)}
        self._headend.report(EVENT_ALARM, serial=serial, eui64=eui64, details=details)
        return True
