"""The router's side of RPL: choosing parents, advertising its rank, telling the root (RFC 6550, non-storing)."""

from __future__ import annotations

import math
import random
from collections import Counter

from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.rpl import lollipop
from protocols.mesh.rpl.candidates import keep_backup, next_unblocking, transits, usable_candidates
from protocols.mesh.rpl.dao_sender import DaoOutcome, DaoSender, DaoState
from protocols.mesh.rpl.messages import (
    INFINITE_RANK,
    MODE_NON_STORING,
    OBJECTIVE_MRHOF,
    Dao,
    DaoAck,
    Dio,
    DodagConfiguration,
    PrefixInformation,
)
from protocols.mesh.rpl.objective import Candidate, rank_of, select_parents
from protocols.mesh.rpl.port import RouterPort
from protocols.mesh.rpl.solicitation import Solicitation
from protocols.mesh.timers import TimersProfile, TrickleProfile, earliest
from protocols.mesh.trickle import Trickle

_UNHURRIED_DAO_DELAY = 8
"""The root is told of a new backup, or of a better parent while the old one still serves, up to this many DAO delays
late, and later in a large mesh: it is no hurry, others may come, and neighbours that change at the same DIO do not all
tell it at once."""


class RplRouter:
    """One router in one DODAG. Attached while it has a preferred parent, confirmed once the root acknowledged."""

    def __init__(
        self,
        port: RouterPort,
        neighbours: NeighbourTable,
        profile: TimersProfile,
        rng: random.Random,
        counters: Counter[str],
        *,
        start_count: int = 0,
    ) -> None:
        self._port = port
        self._neighbours = neighbours
        self._profile = profile
        self._rng = rng
        self._counters = counters
        self._dao = DaoSender(profile, rng, start_count=start_count)
        self._reset_dodag()
        self._solicitation = Solicitation(profile, rng)
        self._poison_again = False
        self._probe_at: float | None = None
        self._dtsn_heard_at = 0.0
        self.network_size = 1
        """Nodes in the PAN, as far as known: what all do at once is spread over a time that grows with it."""

    def _reset_dodag(self) -> None:
        self.dodag_id: bytes | None = None
        self.instance_id = 0
        self.version = 0
        self.dtsn = 0
        self.rank = INFINITE_RANK
        self._lowest_rank = INFINITE_RANK
        self._configuration: DodagConfiguration | None = None
        self._prefix: PrefixInformation | None = None
        self._candidates: dict[bytes, Candidate] = {}
        self._parents: list[bytes] = []
        self._settled_until = -math.inf
        """Until then choosing parents again would change nothing, unless a candidate changes."""
        self._trickle: Trickle | None = None
        self._is_confirmed = False
        self._everybody_sends = False

    # what others ask

    @property
    def parent(self) -> bytes | None:
        return self._parents[0] if self._parents else None

    @property
    def path_cost(self) -> int:
        """ETX of the path to the root, in 1/128; 0xffff without one."""
        return self._candidates[self._parents[0]].path_cost if self._parents else INFINITE_RANK

    def is_needed(self, eui64: bytes) -> bool:
        """Whether the neighbour is in the parent set."""
        return eui64 in self._parents

    # life

    def start(self, now: float) -> None:
        """Look for a parent: solicit until one is found."""
        self._reset_dodag()
        self._dao.stop()
        self._solicitation.end()
        self._solicitation.begin(now)

    def stop(self) -> None:
        previous = self.parent
        self._reset_dodag()
        self._dao.stop()
        self._solicitation.end()
        self._probe_at = None
        if previous is not None:
            self._port.parent_changed(previous, None)

    def next_deadline(self) -> float | None:
        trickle_at = self._trickle.deadline if self._trickle else None
        return earliest(self._solicitation.next_deadline(), self._probe_at, self._dao.deadline, trickle_at)

    def handle_timer(self, now: float) -> None:
        if self._solicitation.is_time_to_select(now):
            self._evaluate(now)
        if self._solicitation.is_time_to_ask(now):
            self._ask_for_dios()
        if self._trickle is not None and self._trickle.handle(now):
            self._send_dio(None)
        if self._probe_at is not None and now >= self._probe_at:
            self._probe_at = None
            self._probe_parent()
        outcome = self._dao.handle(now, self.network_size)
        if outcome is DaoOutcome.SEND or outcome is DaoOutcome.REFRESH:
            self._send_dao(ack_requested=outcome is DaoOutcome.SEND)
        elif outcome is DaoOutcome.FAILED:
            self._dao_failed()

    def _probe_parent(self) -> None:
        parent = self._neighbours.get(self._parents[0]) if self._parents else None
        if parent is not None and parent.heard_at <= self._dtsn_heard_at:
            self._port.send_dis(parent.eui64)

    def _ask_for_dios(self) -> None:
        if self._poison_again:
            self._poison_again = False
            self._send_dio(None)
        self._port.send_dis(None)

    # DIO and DIS

    def handle_dis(self, source: bytes, *, is_multicast: bool, now: float) -> None:
        if not self._is_confirmed:
            return
        if not is_multicast:
            self._send_dio(source)
        elif self._trickle is not None:
            self._trickle.reset(now)

    def handle_dio(self, source: bytes, dio: Dio, now: float) -> None:
        if dio.mode_of_operation != MODE_NON_STORING or not self._follow(dio, now):
            return
        known = self._candidates.get(source)
        if self._update_candidate(source, dio) != known:
            self._settled_until = -math.inf
        self._follow_dtsn(source, dio.dtsn, now)
        if self._trickle is not None and known is not None and known.rank == dio.rank:
            self._trickle.hear_consistent()
        if self._parents:
            if now >= self._settled_until:
                self._evaluate(now)
        elif self._candidates:
            self._solicitation.wait_for_others(now)

    def _follow(self, dio: Dio, now: float) -> bool:
        """Whether the DIO is of the DODAG version that this node is in, or now comes into."""
        if self.dodag_id is None:
            return self._adopt(dio)
        if (dio.instance_id, dio.dodag_id) != (self.instance_id, self.dodag_id):
            self._counters["dio_other_dodag"] += 1
            return False
        if dio.version == self.version:
            return True
        if dio.rank == INFINITE_RANK:
            return False
        if lollipop.is_newer(dio.version, self.version):
            self._enter_version(dio, now)
            return True
        # The sender has missed the new version: tell it soon.
        if self._trickle is not None:
            self._trickle.reset(now)
        return False

    def _adopt(self, dio: Dio) -> bool:
        configuration, prefix = dio.configuration, dio.prefix
        if dio.rank == INFINITE_RANK or configuration is None or prefix is None or not prefix.autonomous:
            return False
        if prefix.prefix_bits != 64 or configuration.objective_code_point != OBJECTIVE_MRHOF:
            self._counters["dio_unsupported"] += 1
            return False
        self.dodag_id, self.instance_id = dio.dodag_id, dio.instance_id
        self.version, self.dtsn = dio.version, dio.dtsn
        self._configuration, self._prefix = configuration, prefix
        trickle = TrickleProfile(
            (1 << configuration.dio_interval_min) / 1000, configuration.dio_doublings, configuration.dio_redundancy
        )
        self._trickle = Trickle(trickle, self._rng)
        self._port.prefix_learnt(prefix.prefix[:8])
        return True

    def _enter_version(self, dio: Dio, now: float) -> None:
        """Global repair: all ranks of the old version are void."""
        self.version, self.dtsn = dio.version, dio.dtsn
        self._candidates = {}
        previous, self._parents = self.parent, []
        self.rank = self._lowest_rank = INFINITE_RANK
        if dio.configuration is not None:
            self._configuration = dio.configuration
        if previous is not None:
            self._port.parent_changed(previous, None)
        self._solicitation.wait_for_others(now)
        self._everybody_sends = True
        if self._trickle is not None:
            self._trickle.stop()

    def _update_candidate(self, source: bytes, dio: Dio) -> Candidate | None:
        """What the sender is as a parent now; None if it is none."""
        neighbour = self._neighbours.get(source)
        if dio.rank == INFINITE_RANK or neighbour is None:
            self._candidates.pop(source, None)
            return None
        etx = dio.etx_128 if dio.etx_128 is not None else max(dio.rank - self.min_hop_rank_increase, 0)
        candidate = self._candidates[source] = Candidate(source, dio.rank, etx, neighbour.etx_128)
        return candidate

    @property
    def min_hop_rank_increase(self) -> int:
        return self._configuration.min_hop_rank_increase if self._configuration else 128

    def _follow_dtsn(self, source: bytes, dtsn: int, now: float) -> None:
        """The root's wish for fresh DAOs travels from DIO to DIO, whoever sends it.

        It says that somewhere a route has broken. A parent that is alive will pass it on soon; one that does not is
        tried. The DAO itself can wait.
        """
        if not lollipop.is_newer(dtsn, self.dtsn):
            return
        self.dtsn = dtsn
        if self._parents:
            if source != self._parents[0]:
                self._dtsn_heard_at = now
                self._probe_at = now + self._profile.dio.imin_s + self._rng.uniform(0.0, self._profile.dao_delay_s)
            self._dao.schedule(now, self._spread_s(), is_refresh=True)
            if self._trickle is not None:
                self._trickle.reset(now)

    def _spread_s(self) -> float:
        return self._profile.dao_spread_s(self.network_size)

    def _send_dio(self, destination: bytes | None) -> None:
        if self.dodag_id is None or self._configuration is None or self._prefix is None:
            return
        prefix = PrefixInformation(self._port.own_address())
        dio = Dio(
            instance_id=self.instance_id,
            version=self.version,
            rank=self.rank,
            dtsn=self.dtsn,
            dodag_id=self.dodag_id,
            etx_128=self.path_cost if self._parents else None,
            configuration=self._configuration,
            prefix=prefix,
        )
        self._port.send_dio(dio, destination)

    # parents

    def forget(self, eui64: bytes, now: float) -> None:
        """The neighbour has left the table."""
        self._settled_until = -math.inf
        if self._candidates.pop(eui64, None) is not None and eui64 in self._parents:
            self._evaluate(now)

    def link_changed(self, eui64: bytes, now: float) -> None:
        """The ETX of the link to this neighbour has moved."""
        candidate, neighbour = self._candidates.get(eui64), self._neighbours.get(eui64)
        if candidate is not None and neighbour is not None and candidate.link_etx_128 != neighbour.etx_128:
            candidate.link_etx_128 = neighbour.etx_128
            self._settled_until = -math.inf
            if self._parents:
                self._evaluate(now)

    def link_failed(self, eui64: bytes, now: float) -> None:
        """The neighbour does not acknowledge any more and has been blocked."""
        self._settled_until = -math.inf
        self.link_changed(eui64, now)
        if eui64 in self._parents:
            self._evaluate(now)

    def parent_is_below(self, now: float) -> None:
        """The preferred parent uses this node as its way to the root: a loop."""
        if self._parents:
            del self._candidates[self._parents[0]]
            self._evaluate(now)

    def poison(self, eui64: bytes) -> None:
        """Tell one neighbour that this node has no way to the root."""
        if not self._parents:
            self._send_dio(eui64)

    def _evaluate(self, now: float) -> None:
        """Choose the parent set anew, and act on what changed."""
        chosen = select_parents(self._usable(now), self.parent, self.min_hop_rank_increase)
        limit = self._configuration.max_rank_increase if self._configuration else 0
        rank = rank_of(chosen, self.min_hop_rank_increase, limit) if chosen else INFINITE_RANK
        if rank == INFINITE_RANK or (limit and rank > self._lowest_rank + limit):
            self._detach(now)
            return
        previous, backup_before, before = self.parent, self._parents[1:2], self._parents
        self._parents = [candidate.eui64 for candidate in chosen]
        if previous is None:
            self._trust_parents(now)
        keep_backup(self._parents, backup_before)
        rank_before, self.rank = self.rank, rank
        self._settled_until = (
            next_unblocking(self._candidates, self._neighbours, now)
            if (self._parents, rank) == (before, rank_before)
            else -math.inf
        )
        self._lowest_rank = min(self._lowest_rank, rank)
        self._solicitation.end()
        if previous != self.parent:
            self._port.parent_changed(previous, self.parent)
            self._dao.schedule(now, self._dao_delay_s(previous, now))
            self._everybody_sends = False
        elif self._parents[1:2] != backup_before and self._dao.state is DaoState.CONFIRMED:
            self._dao.schedule(now, self._unhurried_s())
        self._advertise_rank(rank_before, now)

    def _dao_delay_s(self, previous: bytes | None, now: float) -> float:
        """Longest delay of the DAO that tells of a new preferred parent."""
        if self._everybody_sends:
            return self._spread_s()
        old = None if previous is None else self._neighbours.get(previous)
        if old is None or old.is_blocked(now) or previous not in self._candidates or not self._is_confirmed:
            return self._profile.dao_delay_s
        return self._unhurried_s()

    def _unhurried_s(self) -> float:
        return max(self._profile.dao_delay_s * _UNHURRIED_DAO_DELAY, self._spread_s() / 2)

    def _trust_parents(self, now: float) -> None:
        for eui64 in self._parents:
            neighbour = self._neighbours.get(eui64)
            if neighbour is not None:
                neighbour.give_another_chance(now)

    def _advertise_rank(self, rank_before: int, now: float) -> None:
        if self._trickle is None or not self._is_confirmed:
            return
        if not self._trickle.is_running:
            self._trickle.start(now)
        elif abs(self.rank - rank_before) >= self.min_hop_rank_increase:
            self._trickle.reset(now)

    def _usable(self, now: float) -> list[Candidate]:
        """A detached node takes whoever it has heard since: its candidates are all fresh."""
        parent = self.parent
        if parent is None:
            return list(self._candidates.values())
        return usable_candidates(self._candidates.values(), self._neighbours, parent, self.rank, now)

    def _detach(self, now: float) -> None:
        """Local repair (RFC 6550, 8.2.2.5): poison the sub-DODAG, then look for a parent among all who answer."""
        previous, was_confirmed = self.parent, self._is_confirmed
        was_advertised = self._trickle is not None and self._trickle.is_running
        self._candidates = {}
        self._parents = []
        self.rank = self._lowest_rank = INFINITE_RANK
        self._is_confirmed = False
        self._dao.stop()
        if self._trickle is not None:
            self._trickle.stop()
        if was_advertised:
            self._send_dio(None)
            self._poison_again = True
        self._solicitation.begin(now)
        if previous is not None:
            self._port.parent_changed(previous, None)
        if previous is not None or was_confirmed:
            self._port.route_lost("no parent is left")

    # DAO

    def _send_dao(self, *, ack_requested: bool) -> None:
        if self.dodag_id is None or self._configuration is None or not self._parents:
            return
        own = self._port.own_address()
        lifetime = self._configuration.path_lifetime
        told = transits(own, self._parents, self._dao.path_sequence, lifetime)
        self._port.send_dao(Dao(self.instance_id, self._dao.sequence, own, told, ack_requested))

    def _dao_failed(self) -> None:
        """The root does not answer: later again.

        The parent is not to blame, which acknowledges what it is given or fails by itself. Where it was blamed, a root
        with more DAOs than it could acknowledge moved whole branches, and each move was another DAO.
        """
        self._counters["dao_failed"] += 1

    def handle_dao_ack(self, ack: DaoAck, now: float) -> None:
        configuration = self._configuration
        if configuration is None or not ack.accepted:
            self._counters["dao_rejected"] += not ack.accepted
            return
        refresh_s = configuration.path_lifetime * configuration.lifetime_unit_s / 2
        if not self._dao.acknowledge(ack.sequence, now, refresh_s):
            return
        self._is_confirmed = True
        if self._trickle is not None and not self._trickle.is_running:
            self._trickle.start(now)
        self._port.route_confirmed()

    def rank_is_inconsistent(self, now: float) -> None:
        """A packet went down where it should go up: the ranks around here are stale."""
        if self._trickle is not None:
            self._trickle.reset(now)
