"""The guest as a node of the virtual loop: conservative, so that nothing ever reaches it, or leaves it, in the past.

The loop never goes beyond the guest unless the guest has promised to be quiet until then; the guest is never granted
more than the loop's next timer. What the guest sends ends its grant at once. So a rendezvous is needed for each thing
that the guest sends, receives or does by its own timers, and none for what the rest of the run does meanwhile.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protocols.errors import RemoteProtocolError
from twin.clock.virtual import VirtualLoop
from twin.errors import RigError
from twin.rigs.lockstep.console import ConsoleLog
from twin.rigs.lockstep.emulator import Emulator, EmulatorOptions
from twin.rigs.lockstep.pipes import GuestGoneError, GuestSilentError
from twin.rigs.lockstep.protocol import (
    GRANT_ROOM_BYTES,
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

_LOG = logging.getLogger(__name__)
NS_PER_S = 1_000_000_000
WALL_LIMIT_S = 300.0
"""Of the host's time: a guest that has not answered by then hangs."""
LONGEST_GRANT_S = 60.0
"""So that a guest that hangs is found after this much of its own time, and the wall limit has a meaning. A guest that
was quiet for as long before is granted that, too."""
LATE_NS = 1_000_000
"""A delivery later than this after its time is counted as late."""
_STARVED_LIMITS = 10
"""How many wall limits are waited for an emulator that the host's other work leaves little time to run."""
_PIECE_BYTES = 16 * 1024


class Phase(enum.Enum):
    """BOOTING until the agent greets; MEETING while it is granted time; PAUSED while it is not."""

    OFF = "off"
    BOOTING = "booting"
    MEETING = "meeting"
    PAUSED = "paused"


@dataclass(slots=True)
class Tally:
    """What the lock-step did, counted on both sides: `delivered` and `collected` are the guest's own counts."""

    rendezvous: int = 0
    deliveries: int = 0
    outputs: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    delivered_bytes: int = 0
    collected_bytes: int = 0
    dropped_bytes: int = 0
    late_deliveries: int = 0
    latest_ns: int = 0
    broken_quiets: int = 0
    disagreements: int = 0
    """Moments of quiet at which one side had sent bytes that the other did not know of."""
    guest_s: float = 0.0


class Machine(Protocol):
    """What the node needs of an emulator: `twin.rigs.lockstep.emulator.Emulator` keeps it."""

    ended: int
    cpu_s: float

    @property
    def pipes(self) -> Line: ...

    def console_bytes(self) -> bytes: ...

    def status(self) -> int | None: ...

    def processor_s(self) -> float: ...

    def queued_s(self) -> float: ...

    def kill(self) -> None: ...

    def last_words(self) -> str: ...


class Line(Protocol):
    """How messages reach a guest and come back; see `Pipes`."""

    waited_s: float

    def send(self, message: Message) -> None: ...

    def receive(self, ended: int, limit_s: float) -> Message: ...


class Crystal(Protocol):
    """What the machine counts time with, when that is not right: `twin.backhaul.oscillator.Oscillator` keeps it."""

    def count_s(self, at_s: float) -> float: ...

    def when_s(self, count_s: float) -> float: ...


class TrueSeconds:
    """A crystal without an error."""

    def count_s(self, at_s: float) -> float:
        return at_s

    def when_s(self, count_s: float) -> float:
        return count_s


class GuestNode:
    """One machine in lock-step with `loop`. `on_record` gets what the guest sends, at the instant at which it does.

    `on_failure` is told once if the guest ends or hangs by itself: it is off then. Its time runs at the rate of
    `crystal`, which counts seconds of the loop.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        console: ConsoleLog,
        *,
        on_record: Callable[[Record], None],
        on_failure: Callable[[RigError], None],
        start: Callable[[EmulatorOptions], Machine] = Emulator,
        wall_limit_s: float = WALL_LIMIT_S,
        crystal: Crystal | None = None,
    ) -> None:
        self._loop = loop
        self._crystal = TrueSeconds() if crystal is None else crystal
        self._console = console
        self._on_record = on_record
        self._on_failure = on_failure
        self._start = start
        self.wall_limit_s = wall_limit_s
        self._emulator: Machine | None = None
        self._entropy = b""
        self._zero_ns = 0
        """The guest's time where the crystal's count is zero; may be negative."""
        self._began_ns = 0
        """What the guest's clock showed when this machine was switched on."""
        self._guest_ns = 0
        """How far the guest has come, on its own clock."""
        self._met_ns = 0
        """When its agent greeted, on the guest's clock: before that nothing could reach it."""
        self._quiet_until_ns = 0
        self._life = 0
        """How often it was switched on."""
        self._pending: list[Record] = []
        self._due_ns = 0
        self._base = Tally()
        self._paused_at_s = 0.0
        self.phase = Phase.OFF
        self.tally = Tally()
        self.waited_s = 0.0
        self.processor_s = 0.0

    # switches

    def power_on(self, options: EmulatorOptions, entropy: bytes, resumes_at_ns: int | None) -> None:
        """Start the machine now. From a snapshot its clock shows `resumes_at_ns`; from cold, it starts at zero."""
        if self.phase is not Phase.OFF:
            raise RigError("the machine is on already")
        self._entropy = entropy
        self._zero_ns = (resumes_at_ns or 0) - self._loop_ns()
        self._began_ns = resumes_at_ns or 0
        self._guest_ns = self._quiet_until_ns = 0
        self._pending.clear()
        self._life += 1
        self._emulator = self._start(options)
        self.phase = Phase.BOOTING
        self._loop.attach(self)

    def cut_power(self) -> None:
        """The power fails now: the guest is brought to this instant, and ends."""
        self._bring_here()
        self._end()

    def pause(self) -> None:
        """Stop the processor: its time stands still while that of the run goes on."""
        if self.phase is not Phase.MEETING:
            raise RigError(f"the machine is {self.phase.value}, and cannot be paused")
        self._bring_here()
        if self.phase is Phase.MEETING:
            self.phase, self._paused_at_s = Phase.PAUSED, self._loop.time()

    def resume(self) -> None:
        if self.phase is not Phase.PAUSED:
            raise RigError(f"the machine is {self.phase.value}, not paused")
        self._zero_ns -= self._loop_ns() - round(self._crystal.count_s(self._paused_at_s) * NS_PER_S)
        self.phase = Phase.MEETING

    def send(self, record: Record) -> None:
        """Something reaches the guest now. Lost while it is off, boots, or stands still."""
        now_ns = self._now_ns()
        if self.phase is not Phase.MEETING or now_ns < self._met_ns:
            return
        if not self._pending:
            self._due_ns = now_ns
        for start in range(0, max(len(record.data), 1), _PIECE_BYTES):
            piece = record.data[start : start + _PIECE_BYTES]
            self._pending.append(Record(record.channel, record.event, record.connection, piece))

    # the loop's side

    def run_until(self, when: float) -> None:
        """Bring the guest to `when` on the loop's clock, or to its first output before that."""
        if self.phase is Phase.BOOTING:
            self._meet()
        if self.phase is not Phase.MEETING:
            return
        limit_s = self._loop.time() + LONGEST_GRANT_S
        self._run_to(min(when, limit_s))
        if when > limit_s:
            self._loop.call_at(limit_s, _nothing)  # look again from there

    # inside

    def _loop_ns(self) -> int:
        return round(self._crystal.count_s(self._loop.time()) * NS_PER_S)

    def _now_ns(self) -> int:
        return self._loop_ns() + self._zero_ns

    def _guest_of(self, when: float) -> int:
        return math.ceil(self._crystal.count_s(when) * NS_PER_S) + self._zero_ns

    def _bring_here(self) -> None:
        """To the loop's instant also while it is quiet: what its kernel does meanwhile, as writing to flash, counts."""
        while self.phase is Phase.MEETING and self._guest_ns < self._guest_of(self._loop.time()):
            self._quiet_until_ns = 0
            self._run_to(self._loop.time())

    def _run_to(self, when: float) -> None:
        goal_ns = self._guest_of(when)
        while self._guest_ns < goal_ns:
            if not self._pending and goal_ns < self._quiet_until_ns:
                return
            report = self._exchange(self._next_grant(goal_ns))
            if report is None or self._take(report):
                return

    def _next_grant(self, goal_ns: int) -> Grant:
        records, room = [], GRANT_ROOM_BYTES
        while self._pending and self._pending[0].size_bytes <= room:
            record = self._pending.pop(0)
            room -= record.size_bytes
            records.append(record)
            if record.event is Event.DATA:
                self.tally.sent_bytes += len(record.data)
        if not records:
            return Grant(self._guest_ns, goal_ns)
        self.tally.deliveries += 1
        # What does not fit follows at once.
        return Grant(self._due_ns, self._due_ns if self._pending else goal_ns, tuple(records))

    def _take(self, report: Report) -> bool:
        """Note what the guest says; whether it sent anything, which then happens at its time."""
        tally, now = self.tally, self._loop.time()
        tally.rendezvous += 1
        self._guest_ns, self._quiet_until_ns = report.time_ns, report.quiet_until_ns
        if self._quiet_until_ns == NEVER_NS:
            self._quiet_until_ns = report.time_ns + round(LONGEST_GRANT_S * NS_PER_S)
        self._count(report)
        at_s = self._crystal.when_s((report.time_ns - self._zero_ns) / NS_PER_S)
        if self._emulator is not None:
            self._console.add(self._emulator.console_bytes(), at_s)
        if at_s < now:
            at_s = now
        for record in report.records:
            if record.event is Event.NOTE:
                _LOG.error("the guest's agent: %s", record.data.decode("utf-8", errors="replace"))
                continue
            if record.event is Event.DATA:
                tally.received_bytes += len(record.data)
            tally.outputs += 1
            self._loop.call_at(at_s, self._output, self._life, record)
        return bool(report.records)

    def _output(self, life: int, record: Record) -> None:
        if self.phase is not Phase.OFF and life == self._life:
            self._on_record(record)

    def _count(self, report: Report) -> None:
        tally, base = self.tally, self._base
        tally.delivered_bytes = base.delivered_bytes + report.delivered_bytes
        tally.collected_bytes = base.collected_bytes + report.collected_bytes
        tally.dropped_bytes = base.dropped_bytes + report.dropped_bytes
        tally.broken_quiets = base.broken_quiets + report.broken_quiets
        tally.latest_ns = max(tally.latest_ns, report.late_ns)
        tally.late_deliveries += report.late_ns > LATE_NS
        if report.quiet_until_ns and not report.records:
            agreed = tally.sent_bytes == tally.delivered_bytes and tally.received_bytes == tally.collected_bytes
            tally.disagreements += not agreed

    def _meet(self) -> None:
        """Wait for the agent's greeting. Nothing reaches the guest before it, so it may be ahead of the loop then."""
        greeting = self._receive()
        if greeting is None:
            return
        if not isinstance(greeting, Hello) or greeting.version != VERSION:
            version = getattr(greeting, "version", "unknown")
            self._fail(
                f"speaks lock-step version {version}, not {VERSION}: build the image again with `twin dcu build`"
            )
            return
        self.phase, self._met_ns = Phase.MEETING, greeting.time_ns
        report = self._exchange(Welcome(self._entropy))
        if report is not None:
            self._take(report)

    def _exchange(self, message: Message) -> Report | None:
        assert self._emulator is not None
        self._emulator.pipes.send(message)
        answer = self._receive()
        if answer is None or isinstance(answer, Report):
            return answer
        self._fail(f"said {type(answer).__name__} where a report was due")
        return None

    def _receive(self) -> Message | None:
        emulator = self._emulator
        assert emulator is not None
        half_s = self.wall_limit_s / 2
        try:
            for _ in range(_STARVED_LIMITS):
                ran_s, queued_s = emulator.processor_s(), emulator.queued_s()
                try:
                    return emulator.pipes.receive(emulator.ended, self.wall_limit_s)
                except GuestSilentError:
                    # One that hangs spends the time, or lets it pass; one that starves stands in the host's queue.
                    if emulator.processor_s() - ran_s > half_s or emulator.queued_s() - queued_s < half_s:
                        raise
            raise GuestSilentError
        except GuestGoneError:
            self._fail(f"ended by itself (status {emulator.status()}): it powered off, or its kernel panicked")
        except GuestSilentError:
            self._fail(f"did not answer within {self.wall_limit_s:g} s of the host's time: it hangs")
        except RemoteProtocolError as error:
            self._fail(f"said what is not understood: {error}")
        return None

    def _fail(self, what: str) -> None:
        emulator = self._emulator
        assert emulator is not None
        self._console.add(emulator.console_bytes(), self._loop.time())
        words = emulator.last_words()
        self._end()
        console = self._console.tail()
        self._on_failure(
            RigError(
                f"the emulated concentrator {what}, at {self._loop.time():.3f} s"
                + (f"; QEMU says: {words}" if words else "")
                + f"; the console's end:\n{console}"
            )
        )

    def _end(self) -> None:
        emulator, self._emulator = self._emulator, None
        self.phase = Phase.OFF
        self._pending.clear()
        if emulator is None:
            return
        self._loop.detach(self)
        self._console.add(emulator.console_bytes(), self._loop.time())
        emulator.kill()
        self.waited_s += emulator.pipes.waited_s
        self.processor_s += emulator.cpu_s
        tally = self.tally
        tally.guest_s += max(self._guest_ns - self._began_ns, 0) / NS_PER_S
        # What was on its way when the power failed is lost with it.
        tally.sent_bytes, tally.received_bytes = tally.delivered_bytes, tally.collected_bytes
        self._base = Tally(
            delivered_bytes=tally.delivered_bytes, collected_bytes=tally.collected_bytes,
            dropped_bytes=tally.dropped_bytes, broken_quiets=tally.broken_quiets,
        )  # fmt: skip


def _nothing() -> None:
    """A timer at which the loop looks again."""


__all__ = ["Channel", "GuestNode", "Phase", "Tally"]
