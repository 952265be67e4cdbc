"""Timer profiles of the mesh, as data, and the deadlines of one node."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from protocols.errors import BadInputError

_DAOS_PER_DELAY = 4
"""How many nodes may send a DAO within one DAO delay when all are asked to."""

_SPREAD_OF_LIFETIME = 1 / 8
"""Longest share of a route's lifetime in which everybody's DAOs are spread: half of it has passed when one is due."""


def earliest(*deadlines: float | None) -> float | None:
    """The first deadline, None if there is none. Asked after every message: a loop is faster than `min`."""
    first: float | None = None
    for at in deadlines:
        if at is not None and (first is None or at < first):
            first = at
    return first


@dataclass(frozen=True, slots=True)
class TrickleProfile:
    """RFC 6206: interval bounds in seconds, redundancy constant `k` (0: never suppress)."""

    imin_s: float
    doublings: int
    k: int

    @property
    def imax_s(self) -> float:
        return self.imin_s * (1 << self.doublings)


@dataclass(frozen=True, slots=True)
class AuthenticationTimers:
    """Join state 2, where devices authenticate by certificates."""

    first_within_s: float = 10.0
    """Longest random delay before a device asks for the first time."""
    retry_s: float = 60.0
    """Without an answer, ask again; doubled with each attempt."""
    attempts: int = 5
    refused_s: float = 300.0
    """A device that was refused waits so long before it asks again; doubled with each refusal."""
    refused_max_s: float = 14_400.0
    retransmit_s: float = 15.0
    """The authenticator repeats what was not answered; doubled with each repetition."""
    retransmissions: int = 4
    parallel: int = 4
    """Devices that the authenticator talks to at the same time: they share the root's first hop."""
    activation_s: float = 1200.0
    """From the installation of a new group key to its use."""
    removal_s: float = 1200.0
    """From then to the end of the key before it."""


@dataclass(frozen=True, slots=True)
class MplProfile:
    """Multicast (RFC 7731, 5.4): trickle of data and of control messages, and how often each may go out."""

    data: TrickleProfile
    data_expirations: int
    control: TrickleProfile
    control_expirations: int
    buffer_s: float
    """How long a message is kept for neighbours that lack it, such as those that join late."""
    seed_lifetime_s: float
    """How long a seed's sequence numbers are remembered: longer than any forwarder may keep a message."""
    buffered_max: int = 64
    """Messages of one seed; less than half of the sequence numbers."""
    buffered_bytes_max: int = 16_384
    """Of the messages of one seed together: more is no node's memory, nor for every newcomer to be sent again."""


MPL_SMALL = MplProfile(TrickleProfile(1.0, 3, 8), 3, TrickleProfile(10.0, 5, 1), 10, 600.0, 1800.0)
MPL_LARGE = MplProfile(TrickleProfile(10.0, 3, 8), 3, TrickleProfile(60.0, 3, 1), 10, 900.0, 1800.0)


@dataclass(frozen=True, slots=True)
class TimersProfile:
    """All waiting of a mesh node, named in every report."""

    name: str
    discovery: TrickleProfile
    """PAS and PCS of a node that looks for a PAN."""
    advertisement: TrickleProfile
    """PA and PC of a node that is in one."""
    pan_selection_window_s: float
    """From the first PA heard to the choice between the PANs."""
    configuration_attempts: int
    """PCS sent without a PC in answer before another PAN is looked for."""
    pan_version_lifetime_s: float
    pan_timeout_s: float
    dio_interval_min: int
    """As in the DODAG configuration option: exponent of 2 milliseconds."""
    dio_doublings: int
    dio_redundancy: int
    dis_interval_s: float
    """Between two DIS of a node without parent; doubled up to `dis_interval_max_s`."""
    dis_interval_max_s: float
    rpl_timeout_s: float
    """Without a parent for so long, a node looks for a PAN again."""
    dao_delay_s: float
    """Longest random delay before a DAO."""
    dao_ack_timeout_s: float
    """Doubled with each retry."""
    dao_retries: int
    path_lifetime: int
    """In lifetime units, below 255 (RFC 6550, 6.7.6)."""
    lifetime_unit_s: int
    etx_min_transmissions: int
    etx_min_interval_s: float
    suspect_timeout_s: float
    """How long a suspect route may stay before the root gives the node up."""
    route_refresh_interval_s: float
    """Least time between two requests of the root for everybody's DAO."""
    reassembly_timeout_s: float
    hold_s: float
    """How long a datagram may wait for a parent."""
    authentication: AuthenticationTimers = AuthenticationTimers()
    mpl: MplProfile = MPL_SMALL

    @property
    def dio(self) -> TrickleProfile:
        return TrickleProfile((1 << self.dio_interval_min) / 1000, self.dio_doublings, self.dio_redundancy)

    def dao_spread_s(self, network_size: int) -> float:
        """Longest delay before the DAO that a node sends because all are asked for one: it grows with the PAN.

        In a large PAN it grows with the hops too, about the square root of the size: around the root all of them share
        one channel. It stays well within a route's lifetime, whatever the size.
        """
        grown_s = self.dao_delay_s * max(1.0, network_size / _DAOS_PER_DELAY * self._width(network_size))
        return min(grown_s, self.path_lifetime_s * _SPREAD_OF_LIFETIME)

    def dao_ack_wait_s(self, network_size: int) -> float:
        """How long a DAO-ACK may take: repeated sooner, DAOs of a large PAN would meet their own acknowledgements."""
        return self.dao_ack_timeout_s * self._width(network_size)

    @staticmethod
    def _width(network_size: int) -> float:
        """Grows with the hops of a large PAN, about the square root of its size; 1 for a small one."""
        return max(1.0, math.sqrt(network_size) / _DAOS_PER_DELAY)

    @property
    def path_lifetime_s(self) -> float:
        return float(self.path_lifetime * self.lifetime_unit_s)


FAN_SMALL = TimersProfile(
    name="fan-small",
    discovery=TrickleProfile(15.0, 2, 1),
    advertisement=TrickleProfile(15.0, 2, 1),
    pan_selection_window_s=15.0,
    configuration_attempts=5,
    pan_version_lifetime_s=240.0,
    pan_timeout_s=1800.0,
    dio_interval_min=15,
    dio_doublings=2,
    dio_redundancy=0,
    dis_interval_s=15.0,
    dis_interval_max_s=60.0,
    rpl_timeout_s=600.0,
    dao_delay_s=5.0,
    dao_ack_timeout_s=10.0,
    dao_retries=4,
    path_lifetime=120,
    lifetime_unit_s=60,
    etx_min_transmissions=4,
    etx_min_interval_s=60.0,
    suspect_timeout_s=300.0,
    route_refresh_interval_s=60.0,
    reassembly_timeout_s=60.0,
    hold_s=60.0,
)

FAN_LARGE = TimersProfile(
    name="fan-large",
    discovery=TrickleProfile(60.0, 4, 1),
    advertisement=TrickleProfile(60.0, 4, 1),
    pan_selection_window_s=60.0,
    configuration_attempts=5,
    pan_version_lifetime_s=900.0,
    pan_timeout_s=3600.0,
    dio_interval_min=19,
    dio_doublings=1,
    dio_redundancy=10,
    dis_interval_s=60.0,
    dis_interval_max_s=240.0,
    rpl_timeout_s=1800.0,
    dao_delay_s=60.0,
    dao_ack_timeout_s=60.0,
    dao_retries=4,
    path_lifetime=240,
    lifetime_unit_s=60,
    etx_min_transmissions=4,
    etx_min_interval_s=60.0,
    suspect_timeout_s=900.0,
    route_refresh_interval_s=300.0,
    reassembly_timeout_s=60.0,
    hold_s=60.0,
    mpl=MPL_LARGE,
)

# Joins take seconds, and a quiet hour costs a few frames a node: intervals start short and double far.
BENCH = TimersProfile(
    name="bench",
    discovery=TrickleProfile(0.5, 7, 1),
    advertisement=TrickleProfile(0.5, 14, 2),
    pan_selection_window_s=1.0,
    configuration_attempts=6,
    pan_version_lifetime_s=14_400.0,
    pan_timeout_s=43_200.0,
    dio_interval_min=9,
    dio_doublings=14,
    dio_redundancy=6,
    dis_interval_s=1.0,
    dis_interval_max_s=16.0,
    rpl_timeout_s=60.0,
    dao_delay_s=0.5,
    dao_ack_timeout_s=2.0,
    dao_retries=3,
    path_lifetime=240,
    lifetime_unit_s=120,
    etx_min_transmissions=4,
    etx_min_interval_s=60.0,
    suspect_timeout_s=60.0,
    route_refresh_interval_s=10.0,
    reassembly_timeout_s=10.0,
    hold_s=20.0,
    mpl=MplProfile(TrickleProfile(0.5, 4, 3), 3, TrickleProfile(2.0, 5, 1), 4, 120.0, 600.0),
    authentication=AuthenticationTimers(
        first_within_s=1.0,
        retry_s=8.0,
        refused_s=60.0,
        refused_max_s=3600.0,
        retransmit_s=3.0,
        activation_s=60.0,
        removal_s=60.0,
    ),
)

# A discovery burst goes out on every channel: a second on the 69 channels of EU-1 at 50 kb/s, in which its sender hears
# nothing. Four of them fit into the first interval.
BENCH_HOPPING = replace(
    BENCH,
    name="bench-hopping",
    discovery=TrickleProfile(4.0, 4, 1),
    advertisement=TrickleProfile(4.0, 11, 2),
    pan_selection_window_s=4.0,
)

PROFILES = {profile.name: profile for profile in (FAN_SMALL, FAN_LARGE, BENCH, BENCH_HOPPING)}


def profile_named(name: str) -> TimersProfile:
    """Raises BadInputError for a name that is not in PROFILES."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise BadInputError(f"no timer profile {name!r}; there are: {known}", key="timers") from None
