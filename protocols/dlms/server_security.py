"""A server's security setup: keys, titles, policy, and the counters of every client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from protocols.dlms.security.ciphering import Ciphering
from protocols.dlms.security.counters import CounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import Gcm
from protocols.dlms.security.general_protection import GeneralPeer, UsedKeys
from protocols.dlms.security.keys import Policy, Suite, SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.errors import LocalProtocolError
from protocols.ports import KeySource

_MAX_CLIENTS = 8


class ServerSecurity:
    """What a server's security setup holds: changed by objects of class 64, used by every ciphered association.

    New keys are staged while the request that brings them is answered under the old ones; the server applies them
    behind the answer. `on_keys` is called with the new set first, to store it where it survives.
    """

    def __init__(
        self,
        system_title: bytes,
        keys: SymmetricKeys,
        store: CounterStore,
        *,
        suite: Suite = Suite.SUITE_0,
        policy: Policy = Policy.NONE,
        client_system_title: bytes | None = None,
        on_keys: Callable[[SymmetricKeys], None] | None = None,
        asymmetric: AsymmetricKeys | None = None,
    ) -> None:
        """`client_system_title` None lets every client in that knows the keys."""
        if len(system_title) != 8:
            raise LocalProtocolError(f"a system title has 8 bytes, not {len(system_title)}")
        self.system_title = system_title
        self.suite = suite
        self.policy = policy
        self.asymmetric = asymmetric
        self.used_keys = UsedKeys(store, "used_keys")
        self.client_system_title = client_system_title
        self._store = store
        self._keys = keys
        self._staged: SymmetricKeys | None = None
        self._on_keys = on_keys
        self._send = SendCounter(store, "send.unicast")
        self._unicast: dict[bytes, Ciphering] = {}
        self._broadcast: dict[bytes, Ciphering] = {}
        self._gcm = Gcm(keys.encryption, keys.authentication)

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        # as plain integers, for every request
        self.required_request = int(policy) & (Policy.AUTHENTICATED_REQUEST.value | Policy.ENCRYPTED_REQUEST.value)
        """What AES-GCM must do for every request."""
        self.required_response = int(policy) & (Policy.AUTHENTICATED_RESPONSE.value | Policy.ENCRYPTED_RESPONSE.value)
        """What it must do for every answer."""

    @property
    def keys(self) -> SymmetricKeys:
        return self._keys

    @property
    def least_client_counter(self) -> int:
        """The least invocation counter that the unicast key still accepts from the client: object 0.0.43.1.0.255."""
        title = self.client_system_title
        if title is None:
            return max((known.receive.least for known in self._unicast.values()), default=0)
        return self.unicast(title).receive.least

    @property
    def least_broadcast_counter(self) -> int:
        """The least invocation counter that the broadcast key still accepts: object 0.0.43.1.1.255."""
        title = self.client_system_title
        if title is not None and self._keys.broadcast is not None:
            return self.broadcast(title).receive.least
        return max((known.receive.least for known in self._broadcast.values()), default=0)

    def is_known(self, title: bytes) -> bool:
        return len(title) == 8 and self.client_system_title in (None, title)

    def unicast(self, title: bytes) -> Ciphering:
        """Ciphering with one client under the global unicast key. Ask for it with every use, and do not keep it: there
        must be one counter a client, and clients that have shown no key make room for others."""
        found = self._unicast.get(title)
        return self._add(self._unicast, self._gcm, "unicast", title) if found is None else found

    def broadcast(self, title: bytes) -> Ciphering:
        """Ciphering under the broadcast key, likewise. Raises LocalProtocolError if there is none."""
        found = self._broadcast.get(title)
        if found is not None:
            return found
        return self._add(self._broadcast, Gcm(*_broadcast_keys(self._keys)), "broadcast", title)

    def _add(self, table: dict[bytes, Ciphering], gcm: Gcm, kind: str, title: bytes) -> Ciphering:
        if len(table) >= _MAX_CLIENTS:
            strangers = (known for known, item in table.items() if not item.receive.has_accepted)
            del table[next(strangers, next(iter(table)))]
        receive = ReceiveCounter(self._store, f"receive.{kind}.{title.hex()}")
        table[title] = Ciphering(gcm, self.suite, self.system_title, title, self._send, receive)
        return table[title]

    def dedicated(self, key: bytes, title: bytes) -> Ciphering:
        """Ciphering under a key that lives as long as its association, and so do its counters."""
        store = _Forgetful()
        send, receive = SendCounter(store, "send"), ReceiveCounter(store, "receive")
        return Ciphering(Gcm(key, self._keys.authentication), self.suite, self.system_title, title, send, receive)

    def peer(self, title: bytes, keys: KeySource) -> GeneralPeer:
        """General protection towards one client, for one association."""
        return GeneralPeer(
            own_title=self.system_title,
            peer_title=title,
            suite=self.suite,
            keys=keys,
            used=self.used_keys,
            authentication_key=lambda: self._keys.authentication,
            master_key=lambda: self._keys.master,
            unicast=lambda: self.unicast(title),
            asymmetric=self.asymmetric,
        )

    def stage(self, **changes: bytes) -> None:
        """Keys by their name in SymmetricKeys, to hold once the request at hand is answered."""
        self._staged = replace(self._staged or self._keys, **changes)

    def apply_staged(self) -> bool:
        """Change to the staged keys, if there are any; counters of changed keys begin anew. True if keys changed."""
        if self._staged is None:
            return False
        old, self._keys, self._staged = self._keys, self._staged, None
        if self._on_keys is not None:
            self._on_keys(self._keys)
        if old.encryption != self._keys.encryption:
            for known in self._unicast.values():
                known.receive.restart()
        if old.broadcast != self._keys.broadcast or old.broadcast_authentication != self._keys.broadcast_authentication:
            for known in self._broadcast.values():
                known.receive.restart()
        self._gcm = Gcm(self._keys.encryption, self._keys.authentication)
        for known in self._unicast.values():
            known.gcm = self._gcm
        if self._keys.broadcast is not None:
            broadcast = Gcm(*_broadcast_keys(self._keys))
            for known in self._broadcast.values():
                known.gcm = broadcast
        return True


def _broadcast_keys(keys: SymmetricKeys) -> tuple[bytes, bytes]:
    """Encryption and authentication key of the broadcast association."""
    if keys.broadcast is None:
        raise LocalProtocolError("there is no broadcast key")
    return keys.broadcast, keys.broadcast_authentication or keys.authentication


class _Forgetful:
    """Counters of a key that dies with its association."""

    def load(self, name: str) -> int | None:
        return None

    def save(self, name: str, value: int) -> None:
        """Nothing outlives the key."""
