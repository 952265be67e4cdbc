"""One DLMS session per meter whose credentials are known, and who gets which datagram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dcu.border_router import Reachability
from dcu.config import DcuConfig
from dcu.counters import ClientCounters
from dcu.dlms_session import MeterSession
from dcu.errors import NoAnswerError
from dcu.identity import ClientKeys
from dcu.storage import Storage
from protocols.headend.messages import MeterCredentials
from protocols.ports import KeySource, Trace


class Sessions:
    """Makes, finds and ends sessions. `where` and `send` are the border router's."""

    def __init__(
        self,
        config: DcuConfig,
        *,
        where: Callable[[bytes], Reachability | None],
        send: Callable[[bytes, bytes], None],
        storage: Storage,
        key_source: KeySource,
        trace: Trace,
        on_notification: Callable[[bytes, bytes], None],
        client_keys: ClientKeys | None = None,
    ) -> None:
        """`on_notification` is told EUI-64 and APDU of what a meter sends unasked; `client_keys` is for suite 1."""
        self._client_keys = client_keys
        self._config = config
        self._on_notification = on_notification
        self._where = where
        self._send = send
        self._storage = storage
        self._key_source = key_source
        self._trace = trace
        self._sessions: dict[bytes, MeterSession] = {}
        self._by_address: dict[bytes, bytes] = {}
        self.counters: Counter[str] = Counter()

    def open(self, eui64: bytes, credentials: MeterCredentials) -> MeterSession:
        """A new session in place of the present one. Raises MeterRefusedError for an unsupported suite."""
        self.close(eui64)
        session = MeterSession(
            eui64,
            credentials,
            timeouts=self._config.dlms,
            system_title=self._config.system_title,
            counters=ClientCounters(self._storage, eui64.hex()),
            key_source=self._key_source,
            send=lambda datagram: self._send_to(eui64, datagram),
            has_route=lambda: self._has_route(eui64),
            trace=self._trace,
            on_notification=lambda apdu: self._on_notification(eui64, apdu),
            client_keys=self._client_keys,
        )
        self._sessions[eui64] = session
        return session

    def find(self, eui64: bytes) -> MeterSession:
        """Raises NoAnswerError when there is none."""
        session = self._sessions.get(eui64)
        if session is None:
            raise NoAnswerError("no session with the meter")
        return session

    def has(self, eui64: bytes) -> bool:
        return eui64 in self._sessions

    def close(self, eui64: bytes) -> None:
        session = self._sessions.pop(eui64, None)
        if session is not None:
            session.close()
            self.counters.update(session.counters)

    def moved(self, eui64: bytes, address: bytes) -> None:
        """The meter's datagrams come from this IPv6 address now."""
        self._by_address[address] = eui64

    def datagram(self, address: bytes, payload: bytes) -> None:
        """A datagram from the mesh. One of a meter without a session is counted and dropped."""
        session = self._sessions.get(self._by_address.get(address, b""))
        if session is None:
            self.counters["stray_datagrams"] += 1
            return
        session.receive(payload)

    def total(self) -> Counter[str]:
        """Counters of all sessions, past and present."""
        total = Counter(self.counters)
        for session in self._sessions.values():
            total.update(session.counters)
        return total

    def send_to(self, eui64: bytes, datagram: bytes) -> None:
        """A datagram outside of the meter's session."""
        self._send_to(eui64, datagram)

    def _has_route(self, eui64: bytes) -> bool:
        place = self._where(eui64)
        return place is not None and not place.is_broken

    def _send_to(self, eui64: bytes, datagram: bytes) -> None:
        place = self._where(eui64)
        if place is None:
            self.counters["no_route"] += 1
            return
        self._send(place.address, datagram)
