"""Who may connect to a broker, and which topics each client may write and read. One set of rules for every broker."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from protocols.headend.topics import PREFIX, TO_DCU, TO_HEADEND, dcu_subscriptions, headend_subscriptions
from twin.brokers.filters import topic_matches

HEADEND = "hes"


@dataclass(frozen=True, slots=True)
class Client:
    """One user of a broker. `writes` and `reads` are topic filters; `password` is shown nowhere."""

    username: str
    password: str = field(repr=False)
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    def may_write(self, topic: str) -> bool:
        return any(topic_matches(allowed, topic) for allowed in self.writes)

    def may_read(self, topic: str) -> bool:
        return any(topic_matches(allowed, topic) for allowed in self.reads)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether some topic under the filter can be one that it may read: judged by delivery, not by the filter."""
        return any(_overlap(allowed.split("/"), topic_filter.split("/")) for allowed in self.reads)


def dcu_client(dcu_id: str, password: str) -> Client:
    """A concentrator: its own topics, and nobody else's."""
    writes = tuple(f"{PREFIX}/{dcu_id}/{channel}" for channel in TO_HEADEND)
    return Client(dcu_id, password, writes=writes, reads=dcu_subscriptions(dcu_id))


def headend_client(password: str, username: str = HEADEND) -> Client:
    """The head-end: what every concentrator sends, and what goes to any of them."""
    writes = tuple(f"{PREFIX}/+/{channel}" for channel in TO_DCU)
    return Client(username, password, writes=writes, reads=headend_subscriptions())


class AccessRules:
    """The clients that a broker knows. Nobody else gets in."""

    def __init__(self, clients: tuple[Client, ...]) -> None:
        self._clients = {client.username: client for client in clients}

    @property
    def clients(self) -> tuple[Client, ...]:
        return tuple(self._clients.values())

    def authenticate(self, username: str | None, password: bytes | None) -> Client | None:
        """The client, or None if name or password is wrong."""
        client = self._clients.get(username or "")
        expected = b"" if client is None else client.password.encode()
        same = hmac.compare_digest(expected, password or b"")
        return client if same and client is not None else None


def _overlap(allowed: list[str], asked: list[str]) -> bool:
    if not allowed and not asked:
        return True
    if (allowed and allowed[0] == "#") or (asked and asked[0] == "#"):
        return True
    if not allowed or not asked:
        return False
    if "+" in (allowed[0], asked[0]) or allowed[0] == asked[0]:
        return _overlap(allowed[1:], asked[1:])
    return False
