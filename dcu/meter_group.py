"""The group of meters that share the broadcast keys: who is in it, who is brought in, and what is sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from dcu.broadcast import BroadcastCarrier, GroupSealer, shift_by_nothing
from dcu.dlms_session import MeterSession
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.meter_access import MeterAccess
from dcu.registry import Meter
from dcu.sessions import Sessions
from dcu.storage import Storage, StorageError
from dcu.vault import CredentialVault
from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, Tag
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.key_management import KeyId, key_transfer_of
from protocols.headend.groups import BroadcastGroup
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_RECORD = "group."
_SECURITY_SETUP = MethodReference(64, ObisCode.parse("0-0:43.0.1*255"), 2)
_COUNTER = AttributeReference(1, ObisCode.parse("0-0:43.1.1*255"), 2)
_TRIES = 3
_LOOKS = 2
_OVERTAKEN_S = 3.0


class MeterGroup:
    """Meters are brought in when somebody has something for all of them, and stay in over restarts.

    Bringing one in: the head-end's wrapped keys go to it by key_transfer, then a request under them that does nothing,
    to that meter alone. It starts the meter's counter where the group's is: what was sent to the group before could
    else be played to it again.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        system_title: bytes,
        vault: CredentialVault,
        sessions: Sessions,
        access: MeterAccess,
        carrier: BroadcastCarrier,
        trace: Trace,
    ) -> None:
        self._storage = storage
        self._system_title = system_title
        self._vault = vault
        self._sessions = sessions
        self._access = access
        self._carrier = carrier
        self._trace = trace
        self._sealers: dict[str, GroupSealer] = {}
        self._unable: dict[bytes, str] = {}
        self.counters: Counter[str] = Counter()

    def is_member(self, meter: Meter) -> bool:
        """Whether the meter has the present keys of its group."""
        group = self._group_of(meter)
        return group is not None and self._storage.read(_RECORD + meter.name) == group.name.encode()

    async def admit(self, meters: Iterable[Meter]) -> list[Meter]:
        """Bring in those who are not in yet; who is in now. Who does not answer, or cannot be in, is left out."""
        wanted = list(meters)
        await asyncio.gather(*(self._admit(meter) for meter in wanted if not self.is_member(meter)))
        return [meter for meter in wanted if self.is_member(meter)]

    def begin_round(self, members: Iterable[Meter]) -> None:
        """Before the first of some requests: meters that lost their power refuse some counters that they never saw."""
        for sealer in {id(sealer): sealer for sealer, _ in self._addressed(members)}.values():
            sealer.leap()

    def broadcast(self, members: Iterable[Meter], make: Callable[[], bytes]) -> int:
        """Send an unconfirmed request to all members by multicast: one datagram for each security suite among them, and
        more only while some have old keys. `make` gives the request (an APDU without protection) as it is sent."""
        addressed = self._addressed(members)
        for sealer, suite in addressed:
            self._carrier.send_to_all(sealer.datagram(make(), suite))
        self.counters["broadcasts"] += len(addressed)
        return len(addressed)

    def _group_of(self, meter: Meter) -> BroadcastGroup | None:
        credentials = self._vault.find(meter.eui64)
        return None if credentials is None else credentials.broadcast_group

    def _addressed(self, members: Iterable[Meter]) -> list[tuple[GroupSealer, int]]:
        """Groups and security suites of these meters."""
        found: dict[tuple[str, int], tuple[GroupSealer, int]] = {}
        for meter in members:
            credentials = self._vault.find(meter.eui64)
            if credentials is not None and credentials.broadcast_group is not None:
                group, suite = credentials.broadcast_group, credentials.security_suite
                found[group.name, suite] = (self._sealer(group), suite)
        return list(found.values())

    def _sealer(self, group: BroadcastGroup) -> GroupSealer:
        if group.name not in self._sealers:
            self._sealers[group.name] = GroupSealer(group, self._storage, self._system_title)
        return self._sealers[group.name]

    async def _admit(self, meter: Meter) -> None:
        credentials = self._vault.find(meter.eui64)
        group = None if credentials is None else credentials.broadcast_group
        if credentials is None or group is None or self._unable.get(meter.eui64) == group.name:
            return
        for _ in range(_TRIES):
            try:
                async with self._access.turn(meter):
                    if await self._bring_in(meter, group, credentials.security_suite):
                        self._storage.write(_RECORD + meter.name, group.name.encode())
                        self.counters["admitted"] += 1
                        self._trace("dcu-group-admitted", eui64=meter.name, group=group.name)
                        return
            except (NoAnswerError, StorageError) as error:
                self.counters["unanswered"] += 1
                _LOG.warning("meter %s cannot be brought into the group: %s", meter.name, error)
            except MeterRefusedError as error:
                self._refused(meter, group, str(error))
                return

    def _refused(self, meter: Meter, group: BroadcastGroup, why: str) -> None:
        self._unable[meter.eui64] = group.name
        self.counters["unable"] += 1
        _LOG.warning("meter %s is not in the group: %s", meter.name, why)
        self._trace("dcu-group-unable", eui64=meter.name, group=group.name, why=why)

    async def _bring_in(self, meter: Meter, group: BroadcastGroup, suite: int) -> bool:
        """Whether the meter has shown that it follows the group's counter. Raises MeterRefusedError, NoAnswerError."""
        sealer = self._sealer(group)
        session = self._sessions.find(meter.eui64)
        keys = {
            KeyId.BROADCAST: group.wrapped_broadcast_key,
            KeyId.AUTHENTICATION: group.wrapped_authentication_key,
        }
        if not await session.invoke_once(_SECURITY_SETUP, key_transfer_of(keys)):
            raise MeterRefusedError("unsupported", "it does not take the group's keys")
        for _ in range(_TRIES):
            counter = sealer.counter
            self._sessions.send_to(meter.eui64, sealer.datagram(shift_by_nothing(), suite))
            for _ in range(_LOOKS):
                least = await _least_counter(session)
                if least is None:
                    raise MeterRefusedError("unsupported", "it does not show its broadcast counter")
                if least > counter:
                    return True
                # The question may have overtaken the request; another request would make a replay of the first.
                await asyncio.sleep(_OVERTAKEN_S)
        return False


async def _least_counter(session: MeterSession) -> int | None:
    """The least broadcast counter that the meter accepts; None if it does not say."""
    (answer,) = await session.get([_COUNTER])
    if isinstance(answer, Data) and answer.tag == Tag.DOUBLE_LONG_UNSIGNED and isinstance(answer.value, int):
        return answer.value
    return None
