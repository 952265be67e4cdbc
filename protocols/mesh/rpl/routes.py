"""The root's table of who is reached over whom, and source routes over it. No time and no messages here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

HOPS_MAX = 64


@dataclass(slots=True)
class RouteEntry:
    """What a node's latest DAO said. Parents are EUI-64s, the most preferred first."""

    eui64: bytes
    parents: tuple[bytes, ...]
    path_sequence: int
    dao_sequence: int
    expires_at: float
    failed_parents: set[bytes] = field(default_factory=set)
    """Parents that did not get through to the node since that DAO."""
    is_reported: bool = False
    """Whether the node counts as reachable."""
    has_restarted: bool = False
    """Whether it has begun to count anew since it was last reported."""
    suspect_since: float | None = None


class RouteTable:
    """Child to parent edges of the DODAG, and the routes that they make."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._entries: dict[bytes, RouteEntry] = {}
        self._routes: dict[bytes, tuple[bytes, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[RouteEntry]:
        return list(self._entries.values())

    def get(self, eui64: bytes) -> RouteEntry | None:
        return self._entries.get(eui64)

    def put(self, entry: RouteEntry) -> None:
        """Replace what is known of a node; known routes stay valid if its parents are the same and none had failed."""
        old = self._entries.get(entry.eui64)
        self._entries[entry.eui64] = entry
        if old is None or old.parents != entry.parents or old.failed_parents:
            self._routes.clear()

    def remove(self, eui64: bytes) -> None:
        if self._entries.pop(eui64, None) is not None:
            self._routes.clear()

    def fail(self, parent: bytes, child: bytes) -> bool:
        """The hop from parent to child does not work; whether that was news."""
        entry = self._entries.get(child)
        if entry is None or parent not in entry.parents or parent in entry.failed_parents:
            return False
        entry.failed_parents.add(parent)
        self._routes.clear()
        return True

    def clear(self) -> None:
        self._entries.clear()
        self._routes.clear()

    def route(self, eui64: bytes) -> tuple[bytes, ...] | None:
        """The hops after the root, the node itself last; None if no chain of parents leads to the root."""
        if eui64 not in self._routes:
            self._routes[eui64] = self._search(eui64)
        return self._routes[eui64]

    def _search(self, eui64: bytes) -> tuple[bytes, ...] | None:
        """Depth first from the node upwards, preferred parents first; each node is looked at once, so loops end."""
        seen = {eui64}
        path = [eui64]
        pending = [self._parents(eui64)]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                pending.pop()
                path.pop()
            elif following == self._root:
                return tuple(reversed(path))
            elif following not in seen and len(path) < HOPS_MAX:
                seen.add(following)
                path.append(following)
                pending.append(self._parents(following))
        return None

    def _parents(self, eui64: bytes) -> Iterator[bytes]:
        entry = self._entries.get(eui64)
        if entry is None:
            return iter(())
        return iter([parent for parent in entry.parents if parent not in entry.failed_parents])
