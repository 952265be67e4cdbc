"""Neighbours that advertised the DODAG: which of them may be a parent now, and what a DAO says of those that are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.rpl.messages import PATH_CONTROL_BY_PREFERENCE, Transit
from protocols.mesh.rpl.objective import Candidate


def usable_candidates(
    candidates: Iterable[Candidate], neighbours: NeighbourTable, parent: bytes, rank: int, now: float
) -> list[Candidate]:
    """Those that acknowledge and, but for the present parent, have a lower rank than this node (RFC 6550, 8.2.2.4).

    Where none is left, those will do that do not acknowledge but are heard: who is busy now is better than a branch
    that poisons itself, asks for parents, and finds the same ones, all on the air that was too busy before.
    """
    usable: list[Candidate] = []
    busy: list[Candidate] = []
    for candidate in candidates:
        neighbour = neighbours.get(candidate.eui64)
        if neighbour is None or not (candidate.rank < rank or candidate.eui64 == parent):
            continue
        if not neighbour.is_blocked(now):
            usable.append(candidate)
        elif not neighbour.is_gone(now):
            busy.append(candidate)
    return usable or busy


def next_unblocking(candidates: Iterable[bytes], neighbours: NeighbourTable, now: float) -> float:
    """When the first of the candidates (EUI-64s) that are out of the question now comes into it again."""
    found = (neighbours.get(eui64) for eui64 in candidates)
    return min((n.blocked_until for n in found if n is not None and n.is_blocked(now)), default=math.inf)


def keep_backup(parents: list[bytes], backup_before: Sequence[bytes]) -> None:
    """The backup that the root knows stays first of the backups as long as it serves."""
    if backup_before and backup_before[0] in parents[2:]:
        parents.remove(backup_before[0])
        parents.insert(1, backup_before[0])


def transits(own: bytes, parents: Sequence[bytes], path_sequence: int, path_lifetime: int) -> tuple[Transit, ...]:
    """What a DAO of the node with the address `own` says of its two first parents, EUI-64s.

    Interface identifiers come from EUI-64s everywhere in the DODAG, under the one prefix.
    """
    return tuple(
        Transit(
            parent=own[:8] + bytes((eui64[0] ^ 2,)) + eui64[1:],
            path_sequence=path_sequence,
            path_lifetime=path_lifetime,
            path_control=control,
        )
        for eui64, control in zip(parents[:2], PATH_CONTROL_BY_PREFERENCE, strict=False)
    )
