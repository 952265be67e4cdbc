"""One node's radio: its MAC beside the air, and the serial line to its host."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from protocols.mesh.mac import Mac, Phy
from protocols.ports import Timers, Trace
from twin.air.obstacles import Position
from twin.air.stations import RadioUser, Station

_BITS_PER_BYTE_8N1 = 10.0


class HostedMac(RadioUser, Protocol):
    """A MAC with a serial side and a power switch, as `protocols.mesh.mac.Mac` is."""

    def power_on(self) -> None: ...

    def power_off(self) -> None: ...

    def host_data(self, data: bytes) -> None: ...


class MacFactory(Protocol):
    def __call__(
        self, timers: Timers, phy: Phy, rng: random.Random, write_host: Callable[[bytes], None], *, trace: Trace | None
    ) -> HostedMac: ...


def default_mac(
    timers: Timers, phy: Phy, rng: random.Random, write_host: Callable[[bytes], None], *, trace: Trace | None
) -> HostedMac:
    """The project's own MAC."""
    return Mac(timers, phy, rng, write_host, trace=trace)


class SerialEnd:
    """One end of an in-memory serial line. Bytes arrive at the other end in order, never within the call.

    At `baud` (8N1) they take their time on the line; without it they arrive at once. What is on the line when it is
    cut is lost, as is what arrives before `on_data` was called.
    """

    def __init__(self, timers: Timers, baud: float | None) -> None:
        self._timers = timers
        self._byte_s = 0.0 if baud is None else _BITS_PER_BYTE_8N1 / baud
        self._line_free_s = 0.0
        self._cuts = 0
        self._peer: SerialEnd | None = None
        self._callback: Callable[[bytes], None] | None = None

    @classmethod
    def pair(cls, timers: Timers, baud: float | None = None) -> tuple[SerialEnd, SerialEnd]:
        """Both ends of a new line."""
        first, second = cls(timers, baud), cls(timers, baud)
        first._peer, second._peer = second, first
        return first, second

    def write(self, data: bytes) -> None:
        arrival_s = max(self._timers.time(), self._line_free_s) + len(data) * self._byte_s
        self._line_free_s = arrival_s
        self._timers.call_at(arrival_s, self._leave_line, bytes(data), self._cuts)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._callback = callback

    def cut(self) -> None:
        """Lose what is on the line in this direction."""
        self._cuts += 1
        self._line_free_s = 0.0

    def receive(self, data: bytes) -> None:
        """Bytes have come over the line to this end."""
        if self._callback is not None:
            self._callback(data)

    def _leave_line(self, data: bytes, cuts: int) -> None:
        if cuts == self._cuts and self._peer is not None:
            self._peer.receive(data)


class Radio:
    """A radio co-processor in operation. `host` is the end of its serial line for the meter or the DCU."""

    def __init__(
        self,
        station: Station,
        rng: random.Random,
        *,
        mac_factory: MacFactory = default_mac,
        serial_baud: float | None = None,
        trace: Trace | None = None,
    ) -> None:
        timers = station.medium.timers
        self.station = station
        self._radio_end, self.host = SerialEnd.pair(timers, serial_baud)
        self.mac = mac_factory(timers, station, rng, self._radio_end.write, trace=trace)
        self._radio_end.on_data(self._from_host)
        station.user = self.mac
        self.mac.power_on()

    @property
    def name(self) -> str:
        return self.station.name

    @property
    def eui64(self) -> bytes:
        return self.station.identity

    @property
    def position(self) -> Position:
        return self.station.position

    @property
    def alive(self) -> bool:
        return self.station.alive

    def power_off(self) -> None:
        """Break off what it sends, forget everything, lose what is on the serial line. Does nothing if it is off."""
        if not self.station.alive:
            return
        self.station.medium.power_off(self.station)
        self.mac.power_off()
        self._radio_end.cut()
        self.host.cut()

    def power_on(self) -> None:
        """Start again, unconfigured: the host is told `Ready`. Does nothing if it is on."""
        if self.station.alive:
            return
        self.station.medium.power_on(self.station)
        self.mac.power_on()

    def _from_host(self, data: bytes) -> None:
        if self.station.alive:
            self.mac.host_data(data)
