"""A conformance run from its options to its folder: cases chosen, run, compared with a baseline, reported."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meters.keys import MeterKeys
from twin.conformance.baseline import Baseline, Comparison
from twin.conformance.cases import OUR_READING, Case
from twin.conformance.library import all_cases
from twin.conformance.report import RunReport, write_report
from twin.conformance.runner import CaseClock, EmulatedTarget, Progress, StrangerTarget, Target, run_cases
from twin.conformance.selection import Shard, select
from twin.conformance.tables import Table
from twin.conformance.targets import TargetSpec
from twin.conformance.verdicts import CaseResult, Verdict
from twin.rigs.folder import EventTrace, RunFolder


@dataclass(frozen=True, slots=True)
class ConformOptions:
    """What a person asks for. Raises nothing: files are read by those who load them."""

    target: TargetSpec
    keys_file: Path | None = None
    keys: MeterKeys | None = None
    expression: str = ""
    shard: Shard = field(default_factory=Shard)
    baseline_file: Path | None = None
    seed: int = 1
    may_change: bool = False

    def command(self) -> str:
        """What repeats the run, wherever its folder is."""
        words = ["twin", "conform", "--target", self.target.text, "--seed", str(self.seed)]
        if self.keys_file is not None:
            words += ["--keys", str(self.keys_file)]
        if self.expression:
            words += ["--select", self.expression]
        if self.shard != Shard():
            words += ["--shard", str(self.shard)]
        if self.baseline_file is not None:
            words += ["--baseline", str(self.baseline_file)]
        if self.may_change:
            words.append("--allow-changes")
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class ConformRun:
    """What a run has shown. `comparison` is None without a baseline."""

    report: RunReport
    comparison: Comparison | None

    @property
    def verdict(self) -> Verdict:
        """The verdict that the exit status follows: with a baseline only what got worse counts."""
        if self.comparison is None:
            return self.report.verdict
        return Verdict.FAIL if self.comparison.regressions else Verdict.PASS


def chosen_cases(options: ConformOptions) -> tuple[Case, ...]:
    """Raises BadInputError if the selection matches nothing."""
    return select(all_cases(), options.expression, options.shard)


def run_conformance(options: ConformOptions, folder: RunFolder, progress: Progress) -> ConformRun:
    """Run it, and leave report.html, report.xml, report.json, events.jsonl and run.log in `folder`.

    Raises BadInputError (options, files), RigError (the target cannot be reached).
    """
    cases = chosen_cases(options)
    baseline = None if options.baseline_file is None else Baseline.load(options.baseline_file)
    time = CaseClock()
    handler = folder.log_handler()
    logging.getLogger().addHandler(handler)
    try:
        with folder.file("events.jsonl").open("w", encoding="utf-8") as file:
            trace = EventTrace(file, time)  # type: ignore[arg-type]  # it asks for `now` alone
            target = _target(options, time, trace)
            if baseline is not None and options.target.is_emulated:
                baseline.check_fits(target.name, [case.name for case in cases])
            results = run_cases(cases, target, progress)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    comparison = None
    if baseline is not None:
        baseline.check_fits(target.name, [case.name for case in cases])
        comparison = baseline.compare(results)
    report = _report(options, target, results, comparison, folder)
    write_report(report, folder.path)
    return ConformRun(report, comparison)


def _target(options: ConformOptions, time: CaseClock, trace: EventTrace) -> Target:
    if options.target.is_emulated:
        return EmulatedTarget(options.target, seed=options.seed, time=time, trace=trace)
    return StrangerTarget(options.target, options.keys, may_change=options.may_change, time=time, trace=trace)


def _report(
    options: ConformOptions,
    target: Target,
    results: tuple[CaseResult, ...],
    comparison: Comparison | None,
    folder: RunFolder,
) -> RunReport:
    conditions = {
        "run": "conform",
        "target": options.target.text,
        **target.conditions,
        "seed": str(options.seed) if options.target.is_emulated else "none: the target is real",
        "clock": target.clock_kind.value,
        "selected": options.expression or "everything",
        "shard": str(options.shard),
    }
    written = {*folder.written(), "report.html", "report.xml", "report.json"}
    return RunReport(
        title=f"Conformance of {target.name}",
        about="DLMS/COSEM, security suites, object model and transport, as a client sees them.",
        conditions=conditions,
        command=options.command(),
        simulated_s=results[-1].last.ended_s if results else 0.0,
        cases=results,
        statistics=_statistics(comparison),
        tables=_tables(comparison),
        warnings=target.warnings,
        files=tuple(sorted(written)),
        notes=(OUR_READING,),
        cases_title="Cases",
    )


def _statistics(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    return {
        "baseline": {
            "regressions": [str(change) for change in comparison.regressions],
            "improvements": [str(change) for change in comparison.improvements],
            "known_failures": comparison.known_failures,
        }
    }


def _tables(comparison: Comparison | None) -> tuple[Table, ...]:
    if comparison is None:
        return ()
    rows = [
        (kind, change.name, str(change.before or "not there"), str(change.after))
        for kind, changes in (("worse", comparison.regressions), ("better", comparison.improvements))
        for change in changes
    ]
    title = f"Against the baseline ({comparison.known_failures} known failures left out)"
    return (Table(title, ("", "Case", "Before", "Now"), tuple(rows)),)
