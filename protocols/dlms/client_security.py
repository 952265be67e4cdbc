"""A client's keys and counters for one meter."""

from __future__ import annotations

from protocols.dlms.security.ciphering import Ciphering
from protocols.dlms.security.counters import CounterStore, MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import Gcm
from protocols.dlms.security.general_protection import GeneralPeer, UsedKeys
from protocols.dlms.security.keys import Suite, SymmetricKeys
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource


class ClientSecurity:
    """The client's end of one meter's security context. Counters in `store` are never used twice.

    Names in `store` are `send.<server title>` and `receive.<server title>`, or without title while it is not known.
    """

    def __init__(
        self,
        system_title: bytes,
        keys: SymmetricKeys,
        store: CounterStore,
        *,
        suite: Suite = Suite.SUITE_0,
        server_system_title: bytes | None = None,
        reserve: int = 256,
        asymmetric: AsymmetricKeys | None = None,
    ) -> None:
        """`server_system_title` None takes the one that the first AARE brings."""
        if len(system_title) != 8:
            raise LocalProtocolError(f"a system title has 8 bytes, not {len(system_title)}")
        self.system_title = system_title
        self.suite = suite
        self.asymmetric = asymmetric
        self._used_keys = UsedKeys(store, "used_keys")
        self._keys = keys
        self._store = store
        self._gcm = Gcm(keys.encryption, keys.authentication)
        suffix = "" if server_system_title is None else f".{server_system_title.hex()}"
        self.send = SendCounter(store, f"send{suffix}", reserve=reserve)
        self._configured_title = server_system_title
        self._server_title = server_system_title
        self._ciphering: Ciphering | None = None

    @property
    def keys(self) -> SymmetricKeys:
        return self._keys

    @property
    def server_system_title(self) -> bytes | None:
        return self._server_title

    def learn_server_title(self, title: bytes | None) -> None:
        """The title that an AARE brings. Raises RemoteProtocolError if it is not the expected one."""
        if title is None:
            if self._server_title is None:
                raise RemoteProtocolError("an AARE without the server's system title")
            return
        if len(title) != 8:
            raise RemoteProtocolError(f"a system title of {len(title)} bytes")
        if self._server_title is None:
            self._server_title = title
        elif self._server_title != title:
            raise RemoteProtocolError("an AARE of another server: its system title is not the expected one")

    def forget_server_title(self) -> None:
        """What an AARE brought was not proved: back to the title that was configured, if any."""
        self._server_title = self._configured_title

    @property
    def ciphering(self) -> Ciphering:
        """Ciphering under the global unicast key. Requests can be sealed before the server's title is known."""
        title = self._server_title
        if self._ciphering is None or self._ciphering.peer_title != (title or b""):
            receive = ReceiveCounter(self._store if title else MemoryCounterStore(), f"receive.{(title or b'').hex()}")
            self._ciphering = Ciphering(self._gcm, self.suite, self.system_title, title or b"", self.send, receive)
        return self._ciphering

    def dedicated(self, key: bytes) -> Ciphering:
        """Ciphering under a key of one association."""
        memory = MemoryCounterStore()
        return Ciphering(
            Gcm(key, self._keys.authentication),
            self.suite,
            self.system_title,
            self._server_title or b"",
            SendCounter(memory, "send"),
            ReceiveCounter(memory, "receive"),
        )

    def peer(self, keys: KeySource) -> GeneralPeer:
        """General protection towards the server, for one association. Raises LocalProtocolError before its title is
        known."""
        title = self._server_title
        if title is None:
            raise LocalProtocolError("general protection needs the server's system title")
        return GeneralPeer(
            own_title=self.system_title,
            peer_title=title,
            suite=self.suite,
            keys=keys,
            used=self._used_keys,
            authentication_key=lambda: self._keys.authentication,
            master_key=lambda: self._keys.master,
            unicast=lambda: self.ciphering,
            asymmetric=self.asymmetric,
        )

    def change_keys(self, keys: SymmetricKeys) -> None:
        """Go on under new keys, after the server has taken them."""
        changed = keys.encryption != self._keys.encryption
        self._keys = keys
        self._gcm = Gcm(keys.encryption, keys.authentication)
        if changed and self._ciphering is not None:
            self._ciphering.receive.restart()
        if self._ciphering is not None:
            self._ciphering.gcm = self._gcm
