"""The clock by broadcast: unconfirmed SETs over the meters' pre-established association, under the broadcast key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from dcu.counters import StoredCounters
from dcu.storage import Storage
from protocols.dlms.data import octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import GENERAL_GLO, Ciphering, wrap_general
from protocols.dlms.security.counters import MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.security.keys import Suite
from protocols.dlms.set import SetRequestNormal
from protocols.dlms.wrapper import Wpdu
from protocols.headend.messages import MeterCredentials
from protocols.meter_identity import SERVER_SAP

BROADCAST_SAP = 102
CLASS_CLOCK = 8
CLOCK = ObisCode.parse("0-0:1.0.0*255")
_TIME = 2
_UNCONFIRMED = 0x80
"""Invoke-id-and-priority: high priority, not confirmed."""
_LEAP = 256
"""Counters left out at the start of a round: a meter that lost its power refuses up to 64 that it never saw."""


class BroadcastCarrier(Protocol):
    """Takes a datagram to every meter of a group. Whether it arrived shows in their clocks."""

    def send(self, group: tuple[bytes, ...], datagram: bytes) -> None: ...


class UnicastCarrier:
    """A copy for each meter of the group, where the mesh has no multicast. `send` takes EUI-64 and datagram."""

    def __init__(self, send: Callable[[bytes, bytes], None]) -> None:
        self._send = send

    def send(self, group: tuple[bytes, ...], datagram: bytes) -> None:
        for eui64 in group:
            self._send(eui64, datagram)


class ClockBroadcaster:
    """Makes the datagrams. Each pair of keys has a counter of its own on storage, so no value is ever sent twice."""

    def __init__(self, storage: Storage, system_title: bytes) -> None:
        self._counters = StoredCounters(storage, "broadcast")
        self._system_title = system_title
        self._ciphering: dict[tuple[bytes, bytes], Ciphering] = {}

    def begin_round(self, credentials: MeterCredentials) -> None:
        """Go ahead of what meters may have given up in power cuts."""
        ciphering = self._of(credentials)
        if ciphering is not None:
            ciphering.send.advance_to(ciphering.send.value + _LEAP)

    def datagram(self, credentials: MeterCredentials, utc_s: float) -> bytes | None:
        """Sets the clock to `utc_s` for all who share these keys; None for a meter without a broadcast key."""
        ciphering = self._of(credentials)
        if ciphering is None:
            return None
        value = octet_string(DateTime.from_utc_s(utc_s).encode())
        plain = SetRequestNormal(_UNCONFIRMED, AttributeReference(CLASS_CLOCK, CLOCK, _TIME), value).encode()
        sealed = ciphering.seal(plain, AUTHENTICATED | ENCRYPTED | BROADCAST)
        apdu = wrap_general(GENERAL_GLO, self._system_title, sealed)
        return Wpdu(BROADCAST_SAP, SERVER_SAP, apdu).encode()

    def _of(self, credentials: MeterCredentials) -> Ciphering | None:
        if credentials.broadcast_key is None:
            return None
        keys = (credentials.broadcast_key, credentials.authentication_key)
        found = self._ciphering.get(keys)
        if found is None:
            name = hashlib.sha256(b"openami broadcast counter" + b"".join(keys)).hexdigest()[:16]
            receive = ReceiveCounter(MemoryCounterStore(), "none")
            send = SendCounter(self._counters, name)
            found = Ciphering(Gcm(*keys), Suite(credentials.security_suite), self._system_title, b"", send, receive)
            self._ciphering[keys] = found
        return found
