"""The root's side of RPL: the DODAG's parameters, the DAO table, source routes, repair (RFC 6550, non-storing)."""

from __future__ import annotations

import heapq
import random
from collections import Counter

from protocols.mesh.ipv6 import eui64_of
from protocols.mesh.rpl import lollipop
from protocols.mesh.rpl.messages import (
    INFINITE_RANK,
    LIFETIME_INFINITE,
    Dao,
    DaoAck,
    DaoStatus,
    Dio,
    DodagConfiguration,
    PrefixInformation,
)
from protocols.mesh.rpl.port import RootPort
from protocols.mesh.rpl.routes import RouteEntry, RouteTable
from protocols.mesh.timers import TimersProfile, earliest
from protocols.mesh.trickle import Trickle

_VERSION_LEAP = 8
"""Versions that one start may use up: a restarted root's first one is newer than those of its life before."""
_CIRCLE = 128


class RplRoot:
    """The root of one DODAG. `address` is its global address, which is the DODAGID too."""

    def __init__(
        self,
        address: bytes,
        eui64: bytes,
        port: RootPort,
        profile: TimersProfile,
        rng: random.Random,
        counters: Counter[str],
        *,
        start_count: int = 0,
        nodes_max: int = 4096,
    ) -> None:
        self._address = address
        self._eui64 = eui64
        self._port = port
        self._profile = profile
        self._counters = counters
        self._nodes_max = nodes_max
        self._trickle = Trickle(profile.dio, rng)
        self._table = RouteTable(eui64)
        self._unreported: set[bytes] = set()
        self._expiries: list[tuple[float, bytes]] = []
        self._refresh_allowed_at = 0.0
        self._refresh_at: float | None = None
        self._has_started = False
        self._has_past = start_count > 1
        self._advertise_at: float | None = None
        self._configuration = DodagConfiguration(
            dio_interval_min=profile.dio_interval_min,
            dio_doublings=profile.dio_doublings,
            dio_redundancy=profile.dio_redundancy,
            path_lifetime=profile.path_lifetime,
            lifetime_unit_s=profile.lifetime_unit_s,
        )
        self.instance_id = 0
        self.version = start_count * _VERSION_LEAP % _CIRCLE
        self.dtsn = self.version
        self.rank = self._configuration.min_hop_rank_increase

    # life

    @property
    def node_count(self) -> int:
        return len(self._table)

    def start(self, now: float) -> None:
        """Advertise a version that nobody has heard yet.

        A node that follows a version of this root's life before would otherwise see no reason for a new DAO. A root
        that knows of such a life knows such a version, too, and does not let its nodes wait; whoever has heard a newer
        one tells it. One that knows of none asks who is there, and listens a little before.
        """
        if self._has_started:
            self.version = lollipop.increment(self.version)
        knows_its_past, self._has_started = self._has_started or self._has_past, True
        if knows_its_past:
            self._trickle.start(now)
            self._send_dio(None)
            return
        self._advertise_at = now + self._profile.dis_interval_s
        self._port.send_dis(None)

    def stop(self) -> None:
        self._trickle.stop()
        self._table.clear()
        self._unreported.clear()
        self._expiries.clear()
        self._refresh_at = self._advertise_at = None

    def next_deadline(self) -> float | None:
        expiry = self._expiries[0][0] if self._expiries else None
        return earliest(self._trickle.deadline, self._advertise_at, self._refresh_at, expiry)

    def handle_timer(self, now: float) -> None:
        if self._advertise_at is not None and now >= self._advertise_at:
            self._advertise_at = None
            self._trickle.start(now)
        if self._trickle.handle(now):
            self._send_dio(None)
        if self._refresh_at is not None and now >= self._refresh_at:
            self._refresh_at = None
            self._ask_for_daos(now)
        while self._expiries and self._expiries[0][0] <= now:
            _, eui64 = heapq.heappop(self._expiries)
            self._expire(eui64, now)

    # DIO and DIS

    def _send_dio(self, destination: bytes | None) -> None:
        dio = Dio(
            instance_id=self.instance_id,
            version=self.version,
            rank=self.rank,
            dtsn=self.dtsn,
            dodag_id=self._address,
            etx_128=0,
            configuration=self._configuration,
            prefix=PrefixInformation(self._address),
        )
        self._port.send_dio(dio, destination)

    def handle_dis(self, source: bytes, *, is_multicast: bool, now: float) -> None:
        if is_multicast:
            self._trickle.reset(now)
        elif self._trickle.is_running:
            self._send_dio(source)

    def handle_dio(self, dio: Dio, now: float) -> None:
        """Somebody's DIO: a version that is not this root's own comes from its life before, and is overtaken."""
        if dio.dodag_id != self._address or dio.rank == INFINITE_RANK:
            return
        if self._advertise_at is not None:
            if not lollipop.is_newer(self.version, dio.version):
                self.version = lollipop.increment(dio.version)
        elif dio.version == self.version:
            self._trickle.hear_consistent()
        elif lollipop.is_newer(self.version, dio.version):
            self._trickle.reset(now)
        else:
            self.version = dio.version
            self.repair_globally(now)

    def repair_globally(self, now: float) -> None:
        """A new DODAG version: everybody chooses parents anew."""
        self._counters["global_repair"] += 1
        self.version = lollipop.increment(self.version)
        self._trickle.start(now)

    def request_refresh(self, now: float) -> None:
        """Ask everybody for a DAO, as often as the profile allows (DTSN, RFC 6550, 9.6).

        Not before all could have answered the request before: it would only add answers to those under way.
        """
        if now >= self._refresh_allowed_at:
            self._ask_for_daos(now)
        elif self._refresh_at is None:
            self._refresh_at = self._refresh_allowed_at

    def _ask_for_daos(self, now: float) -> None:
        self._counters["dao_refresh"] += 1
        round_s = self._profile.dao_spread_s(len(self._table) + 1) + self._profile.dao_ack_timeout_s
        interval_s = max(self._profile.route_refresh_interval_s, round_s)
        self._refresh_allowed_at = now + interval_s
        self.dtsn = lollipop.increment(self.dtsn)
        self._trickle.start(now)

    # DAO

    def handle_dao(self, source: bytes, dao: Dao, now: float) -> DaoAck | None:
        """Take a node's DAO in; the acknowledgement to send, None if none is due.

        A node speaks for itself alone: a DAO for another target, or with parents outside the prefix, is rejected.
        """
        prefix = self._address[:8]
        addresses = (dao.target, *(transit.parent for transit in dao.transits))
        if dao.target != source or any(address[:8] != prefix for address in addresses):
            self._counters["dao_refused"] += 1
            return DaoAck(dao.instance_id, dao.sequence, DaoStatus.REJECTED)
        eui64 = eui64_of(dao.target)
        entry = self._table.get(eui64)
        if entry is None and len(self._table) >= self._nodes_max:
            self._counters["dao_table_full"] += 1
            return DaoAck(dao.instance_id, dao.sequence, DaoStatus.REJECTED)
        self._learn(eui64, entry, dao, now)
        return DaoAck(dao.instance_id, dao.sequence) if dao.ack_requested else None

    def _learn(self, eui64: bytes, entry: RouteEntry | None, dao: Dao, now: float) -> None:
        first = dao.transits[0]
        sequence = first.path_sequence
        has_restarted = entry is not None and _has_restarted(entry, dao)
        if entry is not None and not has_restarted and lollipop.is_newer(entry.path_sequence, sequence):
            self._counters["dao_stale"] += 1
            return
        if first.path_lifetime == 0:
            self._forget(eui64, "the node took its route back", now)
            return
        ordered = sorted(dao.transits, key=lambda transit: -transit.path_control)
        lifetime_s = float(first.path_lifetime * self._configuration.lifetime_unit_s)
        forever = first.path_lifetime == LIFETIME_INFINITE
        learnt = RouteEntry(
            eui64=eui64,
            parents=tuple(eui64_of(transit.parent) for transit in ordered),
            path_sequence=sequence,
            dao_sequence=dao.sequence,
            expires_at=float("inf") if forever else now + lifetime_s,
            is_reported=entry is not None and entry.is_reported,
            has_restarted=has_restarted or (entry is not None and entry.has_restarted),
            suspect_since=None if entry is None else entry.suspect_since,
        )
        self._table.put(learnt)
        if not forever:
            heapq.heappush(self._expiries, (learnt.expires_at, eui64))
        if learnt.has_restarted or not learnt.is_reported:
            self._unreported.add(eui64)
        self._update_reachability()

    def _update_reachability(self) -> None:
        """Report those whose chain to the root has become whole, and who restarted.

        A restart may have to wait for its chain: after a blackout, parents of the life before can make a loop.
        """
        for eui64 in sorted(self._unreported):
            entry = self._table.get(eui64)
            if entry is None:
                self._unreported.discard(eui64)
            elif (route := self._table.route(eui64)) is not None:
                self._unreported.discard(eui64)
                has_restarted, entry.has_restarted = entry.has_restarted, False
                entry.is_reported = True
                entry.suspect_since = None
                self._port.node_reachable(eui64, len(route), has_restarted)

    def _expire(self, eui64: bytes, now: float) -> None:
        entry = self._table.get(eui64)
        if entry is None:
            return
        if entry.expires_at <= now:
            self._forget(eui64, "the route's lifetime has ended", now)
        elif self._is_overdue(entry, now):
            self._forget(eui64, "the route stayed suspect", now)
        elif entry.suspect_since is not None and (overdue_at := entry.suspect_since + self._suspect_timeout_s) > now:
            # The network has grown meanwhile, and with it the time to wait.
            heapq.heappush(self._expiries, (overdue_at, eui64))

    @property
    def _suspect_timeout_s(self) -> float:
        """Long enough for two rounds of answers from a network of this size."""
        return max(self._profile.suspect_timeout_s, 2 * self._profile.dao_spread_s(len(self._table) + 1))

    def _is_overdue(self, entry: RouteEntry, now: float) -> bool:
        since = entry.suspect_since
        overdue = since is not None and since + self._suspect_timeout_s <= now
        return overdue and self._table.route(entry.eui64) is None

    def _forget(self, eui64: bytes, why: str, now: float) -> None:
        entry = self._table.get(eui64)
        if entry is None:
            return
        self._table.remove(eui64)
        self._unreported.discard(eui64)
        if entry.is_reported or entry.suspect_since is not None:
            self._port.node_lost(eui64, why)
        self._find_suspects(now)

    # routes

    def route(self, eui64: bytes) -> tuple[bytes, ...] | None:
        """EUI-64s of the hops to a node, itself last."""
        return self._table.route(eui64)

    def hop_failed(self, parent: bytes, child: bytes, now: float) -> None:
        """A hop did not acknowledge: find who hangs on it, and ask for fresh routes if they have no other."""
        if not self._table.fail(parent, child):
            return
        self._counters["hop_failed"] += 1
        self._find_suspects(now)

    def _find_suspects(self, now: float) -> None:
        """Report those who were reachable and have no route now."""
        suspects = [e for e in self._table.entries() if e.is_reported and self._table.route(e.eui64) is None]
        for entry in suspects:
            entry.is_reported = False
            entry.suspect_since = now
            self._unreported.add(entry.eui64)
            heapq.heappush(self._expiries, (now + self._suspect_timeout_s, entry.eui64))
            self._port.route_suspect(entry.eui64)
        if suspects:
            self.request_refresh(now)


def _has_restarted(entry: RouteEntry, dao: Dao) -> bool:
    """Whether the node that sent `dao` has begun to count anew since the DAO of `entry`.

    Within one life DAO and path sequence go on together, be a DAO repeated, lost, or overtaken by a later one. The path
    sequence begins at the same value in every life, the DAO sequence does not (`DaoSender`): so a life in which the
    root has missed the first DAOs is told from the one before, too.
    """
    known, sequence = entry.path_sequence, dao.transits[0].path_sequence
    went_on = (dao.sequence - entry.dao_sequence) % _CIRCLE == (sequence - known) % _CIRCLE
    return lollipop.is_restarted(sequence) and not went_on
