"""A guest that keeps the lock-step protocol without an emulator: what it does, and when, is a script."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from twin.rigs.lockstep.pipes import GuestGoneError, GuestSilentError
from twin.rigs.lockstep.protocol import (
    NEVER_NS,
    VERSION,
    Channel,
    Event,
    Grant,
    Hello,
    Message,
    Record,
    Report,
    Welcome,
)

WAKES_LATE_NS = 80_000


@dataclass
class ScriptedGuest:
    """Answers `reacts_ns` after each delivery with the same bytes, and sends by itself at the times of `speaks`.

    It wakes a little after the granted instant, as the real one does. `ends_at_ns` is when it goes away by itself.
    """

    boots_at_ns: int = 0
    reacts_ns: int = 3_000_000
    speaks: dict[int, bytes] = field(default_factory=dict)
    version: int = VERSION
    ends_at_ns: int = NEVER_NS
    hangs_at_ns: int = NEVER_NS
    hangs_idly: bool = False
    loses_bytes: int = 0
    """Of what is delivered to it: its device never gets them."""
    starved: int = 0
    """How many limits pass before it is given time to run."""
    ended: int = -1
    cpu_s: float = 0.0
    waited_s: float = 0.0
    grants: list[Grant] = field(default_factory=list)
    heard: list[tuple[int, int, bytes]] = field(default_factory=list)
    """When each byte string was due, when it came (guest's ns), and what it was."""

    def __post_init__(self) -> None:
        self._now_ns = self.boots_at_ns
        self._answer: Message | None = Hello(self.boots_at_ns, self.version)
        self._plans = dict(self.speaks)
        self._in = self._out = 0
        self._queued_s = 0.0

    @property
    def pipes(self) -> ScriptedGuest:
        return self

    # the emulator's side

    def console_bytes(self) -> bytes:
        return b""

    def status(self) -> int | None:
        return 0

    def processor_s(self) -> float:
        """A guest that hangs is busy doing so, unless it hangs idly; one that starves has had no time at all."""
        self.cpu_s += 1000.0 if self._now_ns >= self.hangs_at_ns and not self.hangs_idly else 0.0
        return self.cpu_s

    def queued_s(self) -> float:
        return self._queued_s

    def kill(self) -> None:
        self._answer = None

    def last_words(self) -> str:
        return ""

    # the pipe's side

    def send(self, message: Message) -> None:
        match message:
            case Welcome():
                self._answer = self._report(())
            case Grant():
                self.grants.append(message)
                self._answer = self._carry_out(message)
            case _:
                raise AssertionError(f"no {type(message).__name__} was due")

    def receive(self, ended: int, limit_s: float) -> Message:
        if self._now_ns >= self.ends_at_ns:
            raise GuestGoneError
        if self._now_ns >= self.hangs_at_ns:
            raise GuestSilentError
        if self.starved:
            self.starved -= 1
            self._queued_s += limit_s
            raise GuestSilentError
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    def _carry_out(self, grant: Grant) -> Report:
        late_ns = 0
        if grant.records:
            self._now_ns = max(self._now_ns, grant.deliver_ns) + (
                WAKES_LATE_NS if grant.deliver_ns > self._now_ns else 0
            )
            late_ns = self._now_ns - grant.deliver_ns
            for record in grant.records:
                self.heard.append((grant.deliver_ns, self._now_ns, record.data))
                self._in += len(record.data)
                at_ns = self._now_ns + self.reacts_ns
                self._plans[at_ns] = self._plans.get(at_ns, b"") + record.data
        first = min((at for at in self._plans if at <= grant.until_ns), default=None)
        if first is None:
            if grant.until_ns > self._now_ns:
                self._now_ns = grant.until_ns + WAKES_LATE_NS
            return replace(self._report(()), late_ns=late_ns)
        self._now_ns = max(self._now_ns, first)
        data = self._plans.pop(first)
        self._out += len(data)
        return replace(self._report((Record(Channel.RADIO, Event.DATA, 0, data),)), late_ns=late_ns)

    def _report(self, records: tuple[Record, ...]) -> Report:
        quiet_ns = 0 if records else min(self._plans, default=NEVER_NS)
        return Report(self._now_ns, quiet_ns, max(self._in - self.loses_bytes, 0), self._out, records=records)
