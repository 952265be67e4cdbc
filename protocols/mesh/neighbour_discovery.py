"""Address registration at the parent (RFC 6775): NS and NA with the address registration option, neighbour cache."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError
from protocols.mesh.core import NodeCore
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import (
    ADDRESS_BYTES,
    Ipv6Packet,
    Protocol,
    is_multicast,
    link_local,
)

_SPEC = "RFC 6775, 4.1"
_LINK_HOP_LIMIT = 255
_OPTION_SOURCE_LINK_ADDRESS, _OPTION_ARO = 1, 33
_UNIT_BYTES = 8
_ARO_UNITS = _SOURCE_LINK_ADDRESS_UNITS = 2
_LIFETIME_UNIT_S = 60
_LIFETIME_MAX = 0xFFFF
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
CACHE_MAX = 256


class RegistrationStatus(enum.IntEnum):
    SUCCESS = 0
    DUPLICATE_ADDRESS = 1
    CACHE_FULL = 2


@dataclass(frozen=True, slots=True)
class RegistrationOption:
    """Address registration option (ARO). `lifetime_s` is carried in whole minutes; 0 ends the registration."""

    eui64: bytes
    lifetime_s: int
    status: int = RegistrationStatus.SUCCESS

    def encode(self) -> bytes:
        minutes = min(-(-self.lifetime_s // _LIFETIME_UNIT_S), _LIFETIME_MAX)
        return bytes((_OPTION_ARO, _ARO_UNITS, self.status, 0, 0, 0)) + minutes.to_bytes(2, "big") + self.eui64

    @classmethod
    def find(cls, options: bytes) -> RegistrationOption | None:
        """Among the options of a message, None if it is not there. Raises RemoteProtocolError if truncated."""
        reader = Reader(options, spec=_SPEC)
        found: RegistrationOption | None = None
        while reader.remaining:
            kind, units = reader.u8(), reader.u8()
            if not units:
                raise reader.error("an option without a length")
            content = reader.sub(units * _UNIT_BYTES - 2)
            if kind == _OPTION_ARO:
                status = content.u8()
                content.take(3)
                minutes = content.u16()
                found = cls(content.take(8), minutes * _LIFETIME_UNIT_S, status)
                content.expect_end()
        return found


@dataclass(frozen=True, slots=True)
class NeighbourSolicitation:
    """NS (RFC 4861, 4.3) with source link-layer address and registration."""

    target: bytes
    registration: RegistrationOption | None

    def encode(self) -> bytes:
        """The body of the ICMPv6 message."""
        options = b""
        if self.registration is not None:
            head = bytes((_OPTION_SOURCE_LINK_ADDRESS, _SOURCE_LINK_ADDRESS_UNITS))
            options = head + self.registration.eui64 + bytes(6) + self.registration.encode()
        return bytes(4) + self.target + options

    @classmethod
    def decode(cls, body: bytes) -> NeighbourSolicitation:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(body, spec="RFC 4861, 4.3")
        reader.take(4)
        return cls(reader.take(ADDRESS_BYTES), RegistrationOption.find(reader.rest()))


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """NA (RFC 4861, 4.4) of a router, solicited, with registration."""

    target: bytes
    registration: RegistrationOption | None

    def encode(self) -> bytes:
        """The body of the ICMPv6 message."""
        options = b"" if self.registration is None else self.registration.encode()
        return bytes((_ROUTER | _SOLICITED | _OVERRIDE, 0, 0, 0)) + self.target + options

    @classmethod
    def decode(cls, body: bytes) -> NeighbourAdvertisement:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(body, spec="RFC 4861, 4.4")
        reader.take(4)
        return cls(reader.take(ADDRESS_BYTES), RegistrationOption.find(reader.rest()))


class NeighbourDiscovery:
    """Both ends of one node: it registers its address at its parent, and keeps those of its children.

    `send` takes a packet and the neighbour; `registered` and `refused` tell of the parent's answer.
    """

    def __init__(
        self,
        core: NodeCore,
        send: Callable[[Ipv6Packet, bytes], None],
        registered: Callable[[bytes], None],
        refused: Callable[[bytes], None],
    ) -> None:
        self._core = core
        self._send = send
        self._registered = registered
        self._refused = refused
        self._lifetime_s = int(core.profile.path_lifetime_s)
        self._parents: dict[bytes, float] = {}
        self._cache: dict[bytes, tuple[bytes, float]] = {}

    def clear(self) -> None:
        """The node leaves its PAN."""
        self._parents.clear()
        self._cache.clear()

    # at the parent

    def is_registered(self, parent: bytes) -> bool:
        """Whether this node is registered there for at least half of the lifetime to come."""
        return self._parents.get(parent, 0.0) - self._core.now > self._lifetime_s / 2

    def forget(self, parent: bytes) -> None:
        """The parent failed: if it comes back, it may know nothing any more."""
        self._parents.pop(parent, None)

    def solicit(self, parent: bytes) -> None:
        """Register the own global address, if there is one."""
        source = self._core.address
        if source is None:
            return
        destination = link_local(parent)
        registration = RegistrationOption(self._core.config.eui64, self._lifetime_s)
        body = NeighbourSolicitation(destination, registration).encode()
        self._core.counters["ns_sent"] += 1
        self._send_message(Icmpv6Type.NEIGHBOR_SOLICITATION, body, source, destination, parent)

    def _send_message(self, kind: Icmpv6Type, body: bytes, source: bytes, destination: bytes, link: bytes) -> None:
        payload = Icmpv6Message(kind, 0, body).encode(source, destination)
        self._send(Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=_LINK_HOP_LIMIT), link)

    # messages

    def receive(self, packet: Ipv6Packet, message: Icmpv6Message, link_source: bytes) -> None:
        """NS or NA. Raises RemoteProtocolError."""
        if packet.hop_limit != _LINK_HOP_LIMIT or is_multicast(packet.destination):
            raise RemoteProtocolError("neighbour discovery from beyond the link", spec="RFC 4861, 7.1")
        if message.type == Icmpv6Type.NEIGHBOR_SOLICITATION:
            self._solicited(packet, NeighbourSolicitation.decode(message.body), link_source)
        else:
            self._advertised(NeighbourAdvertisement.decode(message.body), link_source)

    def _advertised(self, advertisement: NeighbourAdvertisement, link_source: bytes) -> None:
        answer = advertisement.registration
        if answer is None or answer.eui64 != self._core.config.eui64:
            return
        if answer.status == RegistrationStatus.SUCCESS:
            self._parents[link_source] = self._core.now + answer.lifetime_s
            self._registered(link_source)
        else:
            self._core.counters["registration_refused"] += 1
            self._core.trace("mesh.registration_refused", parent=link_source.hex(), status=answer.status)
            self._refused(link_source)

    def _solicited(self, packet: Ipv6Packet, solicitation: NeighbourSolicitation, link_source: bytes) -> None:
        if solicitation.target != packet.destination:
            raise RemoteProtocolError("a solicitation for another target")
        option = solicitation.registration
        if option is not None:
            if option.eui64 != link_source:
                raise RemoteProtocolError("a registration for somebody else", spec="RFC 6775, 6.5")
            status = self._register(packet.source, option)
            option = RegistrationOption(option.eui64, option.lifetime_s, status)
        body = NeighbourAdvertisement(solicitation.target, option).encode()
        self._core.counters["na_sent"] += 1
        # A refused address may not be used: the answer goes to the link-local one (RFC 6775, 6.5.2).
        is_good = option is None or option.status == RegistrationStatus.SUCCESS
        destination = packet.source if is_good else link_local(link_source)
        self._send_message(
            Icmpv6Type.NEIGHBOR_ADVERTISEMENT, body, self._core.link_local_address, destination, link_source
        )

    # the neighbour cache

    def _register(self, address: bytes, option: RegistrationOption) -> RegistrationStatus:
        now = self._core.now
        owner, ends_at = self._cache.get(address, (option.eui64, now))
        if owner != option.eui64 and ends_at > now:
            return RegistrationStatus.DUPLICATE_ADDRESS
        if not option.lifetime_s:
            self._cache.pop(address, None)
            return RegistrationStatus.SUCCESS
        if address not in self._cache and len(self._cache) >= CACHE_MAX:
            self._expire()
            if len(self._cache) >= CACHE_MAX:
                return RegistrationStatus.CACHE_FULL
        self._cache[address] = (option.eui64, now + option.lifetime_s)
        return RegistrationStatus.SUCCESS

    def _expire(self) -> None:
        now = self._core.now
        self._cache = {address: entry for address, entry in self._cache.items() if entry[1] > now}

    def children(self) -> dict[bytes, bytes]:
        """Registered addresses, and the EUI-64 of each."""
        self._expire()
        return {address: owner for address, (owner, _) in self._cache.items()}
