"""Shots of the same kind taken together: how many tripped, and the worst of each figure."""

from __future__ import annotations

from dataclasses import dataclass

from twin.conformance.verdicts import Verdict
from twin.protection.shots import ShotResult


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """All phases of one shot at one current and frequency. Times in ms, the worst of all phases."""

    name: str
    waveform: str
    ma: float
    hz: float
    relay: str
    sensor: str
    expected: str
    count: int
    tripped: int
    isolated: int
    worst_detect_ms: float | None
    worst_isolate_ms: float | None
    verdict: Verdict
    reason: str


def summarize(results: list[ShotResult]) -> list[SummaryRow]:
    """One row a shot, in the order in which they were fired. FAIL if any phase failed."""
    groups: dict[tuple[object, ...], list[ShotResult]] = {}
    for result in results:
        shot = result.shot
        key = (shot.name, shot.waveform, shot.ma, shot.frequency.hz, shot.relay.name, shot.sensor.name)
        groups.setdefault(key, []).append(result)
    return [_row(group) for group in groups.values()]


def _row(group: list[ShotResult]) -> SummaryRow:
    shot = group[0].shot
    failed = [result for result in group if result.verdict is not Verdict.PASS]
    detect = [result.detect_ms for result in group if result.detect_ms is not None]
    isolate = [result.isolate_ms for result in group if result.isolate_ms is not None]
    reason = ""
    if failed:
        worst = max(failed, key=lambda result: result.isolate_ms if result.isolate_ms is not None else float("inf"))
        where = f" (at {worst.phase_deg:.1f}°)" if len(group) > 1 else ""
        reason = f"{len(failed)} of {len(group)}: {worst.reason}{where}"
    return SummaryRow(
        shot.name, shot.waveform, shot.ma, shot.frequency.hz, shot.relay.name, shot.sensor.name,
        group[0].expected.value, len(group), sum(result.tripped for result in group), len(isolate),
        max(detect, default=None), max(isolate, default=None), failed[0].verdict if failed else Verdict.PASS, reason,
    )  # fmt: skip
