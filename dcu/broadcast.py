"""Unconfirmed requests to all meters of a group at once: their pre-established association, under the group's keys."""

from __future__ import annotations

from typing import Protocol

from dcu.counters import StoredCounters
from dcu.storage import Storage
from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.data import Data, Tag, octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import GENERAL_GLO, Ciphering, wrap_general
from protocols.dlms.security.counters import MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.security.keys import Suite
from protocols.dlms.set import SetRequestNormal
from protocols.dlms.wrapper import Wpdu
from protocols.headend.groups import BroadcastGroup
from protocols.meter_identity import SERVER_SAP

BROADCAST_SAP = 102
CLASS_CLOCK = 8
CLOCK = ObisCode.parse("0-0:1.0.0*255")
_TIME, _SHIFT_TIME = 2, 6
UNCONFIRMED = 0x80
"""Invoke-id-and-priority: high priority, not confirmed."""
LEAP = 256
"""Counters left out at the start of a round: a meter that lost its power refuses up to 64 that it never saw."""


class BroadcastCarrier(Protocol):
    """Takes a datagram to the DLMS port of every meter in the mesh. Whether it arrived shows in what they do."""

    def send_to_all(self, payload: bytes) -> None: ...


class GroupSealer:
    """Protects requests for one group.

    Its invocation counter is on storage, under the group's name: no value is ever sent twice, under whatever suite.
    """

    def __init__(self, group: BroadcastGroup, storage: Storage, system_title: bytes) -> None:
        self._system_title = system_title
        self._gcm = Gcm(group.broadcast_key, group.authentication_key)
        self._send = SendCounter(StoredCounters(storage, "broadcast"), group.name)

    @property
    def counter(self) -> int:
        """The next one to be used."""
        return self._send.value

    def leap(self) -> None:
        """Go ahead of what meters may have given up in power cuts."""
        self._send.advance_to(self.counter + LEAP)

    def datagram(self, plain: bytes, suite: int) -> bytes:
        """A request, which must be an unconfirmed one, as it travels to meters of a security suite."""
        receive = ReceiveCounter(MemoryCounterStore(), "none")
        ciphering = Ciphering(self._gcm, Suite(suite), self._system_title, b"", self._send, receive)
        sealed = ciphering.seal(plain, AUTHENTICATED | ENCRYPTED | BROADCAST)
        apdu = wrap_general(GENERAL_GLO, self._system_title, sealed)
        return Wpdu(BROADCAST_SAP, SERVER_SAP, apdu).encode()


def set_clock(utc_s: float) -> bytes:
    """The request that sets a clock."""
    value = octet_string(DateTime.from_utc_s(utc_s).encode())
    return SetRequestNormal(UNCONFIRMED, AttributeReference(CLASS_CLOCK, CLOCK, _TIME), value).encode()


def shift_by_nothing() -> bytes:
    """A request that does nothing but use a counter up: all before it are refused from then on."""
    method = MethodReference(CLASS_CLOCK, CLOCK, _SHIFT_TIME)
    return ActionRequestNormal(UNCONFIRMED, method, Data(Tag.LONG, 0)).encode()
