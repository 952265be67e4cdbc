"""What the RPL parts ask of the node that they live in."""

from __future__ import annotations

from typing import Protocol

from protocols.mesh.rpl.messages import Dao, Dio


class RouterPort(Protocol):
    """Called by `RplRouter`. Neighbours are EUI-64s."""

    def send_dio(self, dio: Dio, destination: bytes | None) -> None:
        """To a neighbour, or to all (None)."""
        ...

    def send_dis(self, destination: bytes | None) -> None:
        """To a neighbour, or to all (None)."""
        ...

    def send_dao(self, dao: Dao) -> None: ...

    def own_address(self) -> bytes:
        """The node's global address; asked for after `prefix_learnt` only."""
        ...

    def prefix_learnt(self, prefix: bytes) -> None:
        """The DODAG's 8-byte prefix."""
        ...

    def parent_changed(self, previous: bytes | None, parent: bytes | None) -> None: ...

    def route_confirmed(self) -> None:
        """The root has acknowledged a DAO."""
        ...

    def route_lost(self, why: str) -> None:
        """There is no parent, or the root does not answer. The router goes on trying."""
        ...


class RootPort(Protocol):
    """Called by `RplRoot`. Nodes are EUI-64s."""

    def send_dio(self, dio: Dio, destination: bytes | None) -> None: ...

    def send_dis(self, destination: bytes | None) -> None: ...

    def node_reachable(self, eui64: bytes, hops: int, restarted: bool) -> None: ...

    def route_suspect(self, eui64: bytes) -> None: ...

    def node_lost(self, eui64: bytes, why: str) -> None: ...
