"""The server side of COSEM associations: APDUs in, APDUs out.

server = CosemServer(objects, associations, security=security, keys=key_source)
answer = server.handle(client_sap, apdu, now, channel=peer_address)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from protocols.dlms.enums import DEFAULT_CONFORMANCE, Conformance, Mechanism
from protocols.dlms.objects import AccessTable, CosemObject
from protocols.dlms.security.counters import CounterStore
from protocols.dlms.security.keys import Policy, Suite, SymmetricKeys
from protocols.ports import KeySource, Trace


@dataclass(frozen=True, slots=True)
class AssociationConfig:
    """One association that a server offers, by client SAP. Shared by all meters of a model.

    `ciphered` asks for the application context with ciphering. `instance` is F of its object 0.0.40.0.F.255.
    """

    client_sap: int
    mechanism: Mechanism
    access: AccessTable
    instance: int
    ciphered: bool = False
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_receive_pdu_bytes: int = 1024
    pre_established: bool = False


class ServerSecurity:
    """What a server's security setup holds: changed by objects of class 64, used by every ciphered association."""

    def __init__(
        self,
        system_title: bytes,
        keys: SymmetricKeys,
        store: CounterStore,
        *,
        suite: Suite = Suite.SUITE_0,
        policy: Policy = Policy.NONE,
        client_system_title: bytes | None = None,
    ) -> None:
        self.system_title = system_title
        self.keys = keys
        self.suite = suite
        self.policy = policy
        self.client_system_title = client_system_title

    @property
    def least_client_counter(self) -> int:
        """The least invocation counter that the unicast key still accepts: the value of object 0.0.43.1.0.255."""
        raise NotImplementedError


@dataclass(slots=True)
class Association:
    """An association offered, with what can change at run time. `secret` is that of mechanisms 1 and 6."""

    config: AssociationConfig
    secret: bytes = field(default=b"", repr=False)


class CosemServer:
    def __init__(
        self,
        objects: Iterable[CosemObject],
        associations: Iterable[Association],
        *,
        security: ServerSecurity | None,
        keys: KeySource,
        trace: Trace | None = None,
    ) -> None:
        """`keys` gives the challenges. A secret or key is never traced."""
        raise NotImplementedError

    def handle(self, client_sap: int, apdu: bytes, now: float, *, channel: Hashable = None) -> bytes | None:
        """The answer to one APDU, None if there is none. Never raises on anything that a peer may send.

        `channel` is where the peer sits (its address, its connection): an association belongs to the channel that
        opened it. `now` is in seconds.
        """
        raise NotImplementedError

    def close(self, channel: Hashable) -> None:
        """The channel is gone, and its associations with it."""
        raise NotImplementedError
