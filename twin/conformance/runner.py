"""Running conformance cases against a target, and the report that comes of it."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from meters.keys import MeterKeys
from meters.models.library import load_model
from meters.models.schema import MeterModel
from protocols.dlms.reading import ServiceRefused
from protocols.errors import RemoteProtocolError, TwinError
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from protocols.ports import KeySource, Trace
from twin.clock.clocks import ClockKind, RealClock, RunClock, VirtualClock
from twin.clock.seeds import Seeds, SystemKeys
from twin.conformance.bench import MeterBench
from twin.conformance.cases import Case
from twin.conformance.links import Link, open_tcp, open_udp
from twin.conformance.needs import Need, SkipCase
from twin.conformance.serial import BorrowedLine, DeviceLine, HdlcLink, HdlcPort, MemoryLine, SerialLine
from twin.conformance.targets import Saps, TargetKind, TargetSpec
from twin.conformance.tester import NoAnswerError, Role, TargetFacts, Tester
from twin.conformance.transcript import TranscribedLine, TranscribedLink
from twin.conformance.verdicts import Attempt, CaseResult, Record, Verdict
from twin.errors import RigError

log = logging.getLogger(__name__)

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""When the simulated world of every case begins."""

_PHYSICAL = 17
"""An emulated meter's lower HDLC address."""

_MOST_REAL_S = 600.0
"""Of one case on a real clock: where a case lets virtual days pass, it does not wait for real ones."""

Progress = Callable[[Case, CaseResult | None], None]


class Target(Protocol):
    """Something that cases run against, one after another."""

    name: str
    clock_kind: ClockKind
    warnings: tuple[str, ...]
    conditions: dict[str, str]

    def prepare(self) -> None:
        """Raises RigError if the target cannot be reached."""
        ...

    def run(self, case: Case, started_s: float) -> CaseResult: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class CaseClock:
    """The run's time while a case has a clock of its own: that clock, begun when the case began."""

    started_s: float = 0.0
    clock: RunClock | None = None

    def now(self) -> float:
        return self.started_s + (0.0 if self.clock is None else self.clock.now())


class EmulatedTarget:
    """A meter model of ours. Every case gets a new meter on a new virtual clock, so that none depends on another."""

    clock_kind = ClockKind.VIRTUAL

    def __init__(self, spec: TargetSpec, *, seed: int, time: CaseClock, trace: Trace) -> None:
        """Raises BadInputError for a model that is not there or not right."""
        self.model = load_model(spec.model)
        self.name = self.model.model
        self._seed = seed
        self._time = time
        self._trace = trace
        self.conditions = {
            "meter": self.model.model,
            "meter model": f"{self.model.title}, emulated in this process",
            "bytes": "wrapper PDUs, in memory",
        }
        self.warnings: tuple[str, ...] = (
            (f"{self.model.model} is a LEGACY model: its security is not up to present needs.",)
            if self.model.legacy
            else ()
        )

    def prepare(self) -> None:
        """A model needs no preparation."""

    def close(self) -> None:
        """Nothing is left between two cases."""

    def run(self, case: Case, started_s: float) -> CaseResult:
        clock = VirtualClock(START)
        self._time.started_s, self._time.clock = started_s, clock
        try:
            result = clock.run(self._run(case, clock))
        except Exception as error:  # the meter cannot even be made, or the world stands still
            log.exception("case %s broke", case.name)
            reason = f"{type(error).__name__}: {error} (traceback in run.log)"
            result = _result(case, Attempt(Verdict.ERROR, reason, 0.0, clock.now(), ()))
        return shifted(result, started_s)

    async def _run(self, case: Case, clock: VirtualClock) -> CaseResult:
        suite = 1 if Need.SUITE_1 in case.needs else 0
        if suite and 1 not in self.model.security_suites:
            return skipped(case, clock.now(), "the model does not offer security suite 1")
        seeds = Seeds(self._seed << 32 | zlib.crc32(case.name.encode()))
        in_mesh = Need.MESH in case.needs
        bench = MeterBench(self.model, clock, seeds, suite, self._trace, in_mesh=in_mesh)

        def transcribe(link: Link) -> Link:
            return TranscribedLink(link, self._trace, case.name, bench.keys)

        async def open_link() -> Link:
            return transcribe(bench.open_link())

        facts = TargetFacts(self.name, _saps_of(self.model), is_protected=_is_protected(self.model))
        tester = Tester(
            facts,
            bench.keys,
            open_link,
            seeds.keys("client"),
            open_line=lambda: TranscribedLine(MemoryLine(bench.meter, facts.saps), self._trace, case.name, bench.keys),
            transcribe=transcribe,
            bench=bench,
        )
        try:
            result = await attempt(case, tester, clock)
        finally:
            bench.close()
        if clock.loop.unhandled:
            problem = clock.loop.unhandled[0]
            reason = f"an error in the meter: {problem.get('exception') or problem.get('message')}"
            return with_verdict(result, Verdict.ERROR, reason)
        return result


def _is_protected(model: MeterModel) -> bool:
    management = model.associations.get("management")
    return management is not None and management.mechanism == "high"


def _saps_of(model: MeterModel) -> Saps:
    found = {name: item.client_sap for name, item in model.associations.items()}
    usual = Saps()
    return Saps(
        public=found.get("public", usual.public),
        reader=found.get("reader", usual.reader),
        management=found.get("management", usual.management),
        broadcast=found.get("broadcast"),
        physical=_PHYSICAL,
    )


class StrangerTarget:
    """A meter somewhere else, in real time. It keeps its state from case to case."""

    clock_kind = ClockKind.REAL

    def __init__(
        self, spec: TargetSpec, keys: MeterKeys | None, *, may_change: bool, time: CaseClock, trace: Trace
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._may_change = may_change
        self._trace = trace
        self._clock = RealClock()
        self._key_source: KeySource = SystemKeys()
        self._runner = asyncio.Runner(loop_factory=lambda: self._clock.loop)
        self._counters = _Counters()
        self._port: HdlcPort | None = None
        time.clock = self._clock
        self.name = "stranger"
        self.warnings: tuple[str, ...] = ()
        self.conditions = {"meter": self.name, "meter model": "a stranger's meter, real", "bytes": spec.kind.value}

    def prepare(self) -> None:
        """Who is there? Raises RigError if nobody is."""
        name = self._runner.run(self._identify())
        if name:
            self.name = f"stranger {name[:3]}"
            self.conditions |= {"meter": self.name, "logical device name": name}

    async def _identify(self) -> str:
        tester = self._tester("")
        try:
            dialogue = await tester.associate(Role.PUBLIC)
            value = (await dialogue.value(1, LOGICAL_DEVICE_NAME)).value
        except NoAnswerError:
            raise RigError(f"nobody answers at {self._spec.text}") from None
        except RemoteProtocolError:
            return ""
        finally:
            await tester.close()
        return value.decode("ascii", "replace") if isinstance(value, bytes) else ""

    def close(self) -> None:
        if self._port is not None:
            self._port.line.close()
        self._runner.close()

    def run(self, case: Case, started_s: float) -> CaseResult:
        return self._runner.run(attempt(case, self._tester(case.name), self._clock))

    def _tester(self, case_name: str) -> Tester:
        async def open_link() -> Link:
            return TranscribedLink(await self._connect(), self._trace, case_name, self._keys)

        def open_line() -> SerialLine:
            return TranscribedLine(BorrowedLine(self._hdlc().line), self._trace, case_name, self._keys)

        return Tester(
            TargetFacts(self.name, self._spec.saps),
            self._keys,
            open_link,
            self._key_source,
            open_line=open_line if self._spec.kind is TargetKind.HDLC else None,
            counters=self._counters,
            may_change=self._may_change,
        )

    async def _connect(self) -> Link:
        if self._spec.kind is TargetKind.TCP:
            return await open_tcp(self._spec.host, self._spec.port)
        if self._spec.kind is TargetKind.UDP:
            return await open_udp(self._spec.host, self._spec.port)
        return HdlcLink(self._hdlc())

    def _hdlc(self) -> HdlcPort:
        """The serial line, opened once and shared by all links. Raises RigError if it cannot be used."""
        if self._port is None:
            self._port = HdlcPort(DeviceLine(self._spec.device), self._spec.saps)
        return self._port


class _Counters(dict[str, int]):
    """Invocation counters of the run."""

    def load(self, name: str) -> int | None:
        return self.get(name)

    def save(self, name: str, value: int) -> None:
        self[name] = value


# one case


def unmet(case: Case, tester: Tester) -> str:
    """Why the case cannot run on this target; empty if it can."""
    keys = tester.keys
    lacking = {
        Need.KEYS: keys is None,
        Need.READER_SECRET: keys is None or not keys.reader_secret,
        Need.MASTER_KEY: keys is None or not keys.master_key,
        Need.BENCH: tester.bench is None,
        Need.HDLC: not tester.has_line,
        Need.MESH: tester.bench is None or tester.bench.mesh is None,
        Need.SUITE_0: keys is None or keys.suite != 0,
        Need.SUITE_1: keys is None or keys.suite != 1 or tester.asymmetric is None,
        Need.CHANGES: not tester.may_change,
    }
    reasons = [need.value for need in Need if need in case.needs and lacking[need]]
    return f"needs {'; '.join(reasons)}" if reasons else ""


def skipped(case: Case, now: float, reason: str) -> CaseResult:
    return _result(case, Attempt(Verdict.SKIP, reason, now, now, ()))


async def attempt(case: Case, tester: Tester, clock: RunClock) -> CaseResult:
    """Run one case to its verdict. What the target does wrong is a FAIL, silence a TIMEOUT, what we cannot an ERROR."""
    started_s = clock.now()
    reason = unmet(case, tester)
    if reason:
        await tester.close()
        return skipped(case, started_s, reason)
    record = Record()
    timeout_s = case.timeout_s if clock.kind is ClockKind.VIRTUAL else min(case.timeout_s, _MOST_REAL_S)
    limit: asyncio.Timeout | None = None
    try:
        async with asyncio.timeout(timeout_s) as limit:
            await case.run(tester, record)
        verdict, reason = record.verdict()
    except SkipCase as skip:
        verdict, reason = Verdict.SKIP, str(skip)
    except TimeoutError as error:
        verdict = Verdict.TIMEOUT
        reason = f"not done within {timeout_s:g} s" if limit and limit.expired() else str(error) or "timed out"
    except NoAnswerError as error:
        verdict, reason = Verdict.TIMEOUT, _with_failures(record, str(error))
    except ServiceRefused as error:
        verdict, reason = Verdict.FAIL, _with_failures(record, f"the meter refuses: {error}")
    except RemoteProtocolError as error:
        verdict, reason = Verdict.FAIL, _with_failures(record, f"the meter breaks the protocol: {error}")
    except TwinError as error:
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
    except Exception as error:
        log.exception("case %s broke", case.name)
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error} (traceback in run.log)"
    finally:
        await tester.close()
    done = Attempt(verdict, reason, started_s, clock.now(), tuple(record.measurements), tuple(record.attachments))
    return _result(case, done)


def _with_failures(record: Record, reason: str) -> str:
    """The reason with what had failed before it."""
    before = record.verdict()[1] if any(m.verdict is Verdict.FAIL for m in record.measurements) else ""
    return f"{reason}; before that: {before}" if before else reason


def _result(case: Case, done: Attempt) -> CaseResult:
    return CaseResult(case.name, case.name, case.requirements, (done,), case.purpose, case.layers)


def with_verdict(result: CaseResult, verdict: Verdict, reason: str) -> CaseResult:
    last = result.last
    changed = Attempt(verdict, reason, last.started_s, last.ended_s, last.measurements, last.attachments)
    return CaseResult(result.name, result.title, result.requirements, (changed,), result.purpose, result.layers)


def shifted(result: CaseResult, by_s: float) -> CaseResult:
    """The same result with the run's times instead of the case's own."""
    last = result.last
    moved = Attempt(
        last.verdict,
        last.reason,
        last.started_s + by_s,
        last.ended_s + by_s,
        last.measurements,
        last.attachments,
    )
    return CaseResult(result.name, result.title, result.requirements, (moved,), result.purpose, result.layers)


def run_cases(cases: Sequence[Case], target: Target, progress: Progress) -> tuple[CaseResult, ...]:
    """Run the cases in order. Raises RigError if the target cannot be reached at all."""
    results: list[CaseResult] = []
    try:
        target.prepare()
        for case in cases:
            progress(case, None)
            result = target.run(case, results[-1].last.ended_s if results else 0.0)
            results.append(result)
            progress(case, result)
    finally:
        target.close()
    return tuple(results)
