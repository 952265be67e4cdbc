"""MRHOF on ETX (RFC 6719): path cost, rank and the choice of parents. Costs are in 1/128 of a transmission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.mesh.rpl.messages import INFINITE_RANK

MAX_LINK_METRIC = 512
MAX_PATH_COST = 32768
PARENT_SWITCH_THRESHOLD = 192
PARENT_SET_SIZE = 3


@dataclass(slots=True)
class Candidate:
    """A neighbour that advertised the DODAG: its rank, its path's ETX, and the link's to it."""

    eui64: bytes
    rank: int
    path_etx_128: int
    link_etx_128: int

    @property
    def path_cost(self) -> int:
        return self.path_etx_128 + self.link_etx_128

    @property
    def is_possible(self) -> bool:
        return self.rank < INFINITE_RANK and self.path_cost <= MAX_PATH_COST

    @property
    def is_acceptable(self) -> bool:
        """Within the bounds of RFC 6719, 5."""
        return self.is_possible and self.link_etx_128 <= MAX_LINK_METRIC


def rank_through(candidate: Candidate, min_hop_rank_increase: int) -> int:
    """Rank of a path through the candidate: its cost, but at least one step above the candidate's rank."""
    above = candidate.rank + min_hop_rank_increase
    return min(max(candidate.path_cost + min_hop_rank_increase, above), INFINITE_RANK)


def select_parents(
    candidates: Sequence[Candidate], preferred: bytes | None, min_hop_rank_increase: int
) -> list[Candidate]:
    """The parent set, the preferred parent first. Empty if no candidate leads to the root.

    A link beyond MAX_LINK_METRIC is taken only by a node that hears nobody else: RFC 6719 would leave it outside, and
    a meter at the edge is better read slowly than never.

    The present preferred parent stays unless another path is cheaper by PARENT_SWITCH_THRESHOLD (RFC 6719, 3.2.2).
    The others of the set are lower in rank than the node will be, so that they lead to the root without it.
    """
    acceptable = [c for c in candidates if c.is_acceptable] or [c for c in candidates if c.is_possible]
    acceptable.sort(key=lambda c: (c.path_cost, c.eui64))
    if not acceptable:
        return []
    best = acceptable[0]
    for candidate in acceptable:
        if candidate.eui64 == preferred and candidate.path_cost < best.path_cost + PARENT_SWITCH_THRESHOLD:
            best = candidate
    rank = rank_through(best, min_hop_rank_increase)
    others = [c for c in acceptable if c is not best and c.rank < rank]
    return [best, *others[: PARENT_SET_SIZE - 1]]


def rank_of(parents: Sequence[Candidate], min_hop_rank_increase: int, max_rank_increase: int) -> int:
    """The node's rank over its parent set (RFC 6719, 3.3)."""
    through = [rank_through(parent, min_hop_rank_increase) for parent in parents]
    highest = max(parent.rank for parent in parents)
    next_step = min_hop_rank_increase * (1 + highest // min_hop_rank_increase)
    floor = max(through) - max_rank_increase if max_rank_increase else 0
    return min(max(through[0], next_step, floor), INFINITE_RANK)
