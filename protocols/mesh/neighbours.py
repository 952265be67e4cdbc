"""What a node knows of those whom it hears: signal, expected transmissions, failures. Bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from protocols.mesh.timers import TimersProfile

ETX_ONE = 128
"""ETX is counted in 1/128 (RFC 6551, 4.3.2)."""
ETX_MAX = 8 * ETX_ONE

_RSS_WEIGHT = 0.25
_GOOD_MARGIN_DB = 6.0
_ETX_AT_SENSITIVITY = 160
_FAILURES_IF_SILENT = 3
_FAILURES_IF_HEARD = 6
_BLOCK_DOUBLINGS_MAX = 6
_GUESS_WEIGHT = 8
"""Deliveries that the guess before the first measurement counts for."""
_BLOCKED_ETX_MAX = 4 * ETX_ONE
"""Failures alone do not make a link worse than MRHOF still accepts: there may be no other."""


def etx_from_rss(rss_dbm: float, sensitivity_dbm: float) -> int:
    """The guess before anything was sent, in 1/128.

    At its sensitivity a receiver loses one frame in ten (IEEE 802.15.4-2015, 10.1.7), and the acknowledgement may be
    lost too: 1.25. Some dB above almost nothing is lost, and a few below nearly all.
    """
    margin_db = rss_dbm - sensitivity_dbm
    if margin_db >= 0.0:
        share = max(1.0 - margin_db / _GOOD_MARGIN_DB, 0.0)
        return ETX_ONE + round((_ETX_AT_SENSITIVITY - ETX_ONE) * share)
    return min(round(_ETX_AT_SENSITIVITY - margin_db * ETX_ONE), ETX_MAX)


class Neighbour:
    """One link. ETX is an EWMA of 1/8 over windows of at least 4 transmissions and a minute (Wi-SUN FAN)."""

    __slots__ = (
        "_acknowledged",
        "_attempts",
        "_block_count",
        "_failed_at",
        "_failing_since",
        "_measured",
        "_window_began_at",
        "blocked_until",
        "etx_128",
        "eui64",
        "failures",
        "heard_at",
        "rss_dbm",
    )

    def __init__(self, eui64: bytes, rss_dbm: float, etx_128: int, now: float) -> None:
        self.eui64 = eui64
        self.rss_dbm = rss_dbm
        self.etx_128 = etx_128
        self.heard_at = now
        self.failures = 0
        """Transmissions in a row that used up all retries."""
        self.blocked_until = 0.0
        self._failed_at = 0.0
        self._failing_since = 0.0
        self._block_count = 0
        self._attempts = 0
        self._acknowledged = 0
        self._measured = False
        self._window_began_at = now

    def hear(self, rss_dbm: float, now: float) -> None:
        self.rss_dbm += _RSS_WEIGHT * (rss_dbm - self.rss_dbm)
        self.heard_at = now

    def is_blocked(self, now: float) -> bool:
        """Whether it failed as a next hop and should not be chosen as a parent yet."""
        return now < self.blocked_until

    def give_another_chance(self, now: float) -> None:
        """It is chosen all the same: until it fails again it counts as good."""
        self.blocked_until = min(self.blocked_until, now)

    def is_gone(self, now: float) -> bool:
        """Whether it failed, and has not been heard since: what is sent to it now would be in vain."""
        return now < self.blocked_until and self.heard_at <= self._failed_at

    def record_transmission(self, attempts: int, acknowledged: bool, now: float, profile: TimersProfile) -> bool:
        """Count one transmission's attempts; returns whether the ETX has changed."""
        self._attempts += attempts
        self._acknowledged += acknowledged
        if acknowledged:
            self.heard_at = now
            self.failures = 0
            self._block_count = 0
        else:
            if not self.failures:
                self._failing_since = now
            self.failures += 1
        elapsed_s = now - self._window_began_at
        if self._attempts < profile.etx_min_transmissions or elapsed_s < profile.etx_min_interval_s:
            return False
        return self._close_window(now)

    def _close_window(self, now: float) -> bool:
        """The first window may be one frame that met others in a burst: alone it must not move parents.

        Where it did, a burst made links look bad, children moved and told the root, and their messages were the next
        burst.
        """
        before = self.etx_128
        if self._measured:
            sample = min(self._attempts * ETX_ONE // max(self._acknowledged, 1), ETX_MAX)
            self.etx_128 = before + (sample - before) // 8
        else:
            spent = self._attempts * ETX_ONE + _GUESS_WEIGHT * before
            self.etx_128 = min(spent // (self._acknowledged + _GUESS_WEIGHT), ETX_MAX)
        self._measured = True
        self._attempts = self._acknowledged = 0
        self._window_began_at = now
        return self.etx_128 != before

    @property
    def has_failed(self) -> bool:
        """Whether so many transmissions failed in a row that the neighbour counts as gone.

        One that was heard meanwhile is busy rather than dead: it cannot listen while it sends.
        """
        return self.failures >= (_FAILURES_IF_HEARD if self.is_alive else _FAILURES_IF_SILENT)

    @property
    def is_alive(self) -> bool:
        """Whether it was heard since transmissions to it began to fail, or none did."""
        return not self.failures or self.heard_at > self._failing_since

    def block(self, now: float, shortest_s: float) -> None:
        """Do not use it for a while, longer each time until it acknowledges again; its ETX gets worse."""
        self.blocked_until = now + shortest_s * (1 << min(self._block_count, _BLOCK_DOUBLINGS_MAX))
        self._block_count += 1
        self._failed_at = now
        self.failures = 0
        if self.etx_128 < _BLOCKED_ETX_MAX:
            self.etx_128 = min(self.etx_128 + ETX_ONE, _BLOCKED_ETX_MAX)


class NeighbourTable:
    """Bounded: the one heard longest ago gives way, but for those that `is_needed` keeps."""

    def __init__(self, sensitivity_dbm: float, *, entries_max: int = 96) -> None:
        self._sensitivity_dbm = sensitivity_dbm
        self._entries_max = entries_max
        self._by_eui64: dict[bytes, Neighbour] = {}
        self.is_needed: Callable[[bytes], bool] = lambda _eui64: False
        self.on_evicted: Callable[[bytes], None] = lambda _eui64: None

    def hear(self, eui64: bytes, rss_dbm: float, now: float) -> Neighbour:
        """A frame from `eui64` arrived."""
        neighbour = self._by_eui64.get(eui64)
        if neighbour is not None:
            neighbour.hear(rss_dbm, now)
            return neighbour
        if len(self._by_eui64) >= self._entries_max:
            self._evict()
        neighbour = Neighbour(eui64, rss_dbm, etx_from_rss(rss_dbm, self._sensitivity_dbm), now)
        self._by_eui64[eui64] = neighbour
        return neighbour

    def get(self, eui64: bytes) -> Neighbour | None:
        return self._by_eui64.get(eui64)

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self._by_eui64.values())

    def __len__(self) -> int:
        return len(self._by_eui64)

    def clear(self) -> None:
        self._by_eui64.clear()

    def _evict(self) -> None:
        candidates = [n for n in self._by_eui64.values() if not self.is_needed(n.eui64)]
        victim = min(candidates or self._by_eui64.values(), key=lambda n: n.heard_at)
        del self._by_eui64[victim.eui64]
        self.on_evicted(victim.eui64)
