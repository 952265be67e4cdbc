"""Conformance runs for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin.conformance.campaign import ConformOptions, ConformRun, run_conformance
from twin.conformance.targets import TargetSpec
from twin.conformance.verdicts import Verdict
from twin.rigs.folder import RunFolder


def conform(folder: Path, expression: str = "", target: str = "twin", **options: Any) -> ConformRun:
    spec = TargetSpec.parse(target)
    return run_conformance(
        ConformOptions(target=spec, expression=expression, **options), RunFolder(folder), lambda case, result: None
    )


def verdicts(run: ConformRun) -> dict[str, Verdict]:
    return {case.name: case.verdict for case in run.report.cases}


def reasons(run: ConformRun) -> dict[str, str]:
    return {case.name: case.last.reason for case in run.report.cases}
