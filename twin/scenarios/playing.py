"""Plays a script on a rig, and turns whatever happens into verdicts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from protocols.errors import TwinError
from twin.conformance.verdicts import Attempt, CaseResult, Record, Verdict
from twin.scenarios import (  # noqa: F401 (registers their steps)
    access_steps,
    clock_steps,
    day_steps,
    firmware_steps,
    gps_steps,
    grid_steps,
    hardware_steps,
    healing_steps,
    mesh_steps,
    protection_steps,
    radio_steps,
    shedding_steps,
    spine_steps,
    tamper_steps,
    uplink_steps,
)
from twin.scenarios.loading import LoadedScenario
from twin.scenarios.schema import ScriptRow
from twin.scenarios.steps import STEPS, SkipStep, Step

if TYPE_CHECKING:
    from twin.rigs.rig import Rig

log = logging.getLogger(__name__)

Progress = Callable[[str, CaseResult | None], None]
"""Called with a step's title when it begins (None) and when it has ended (its result)."""


def resolve_script(loaded: LoadedScenario) -> list[tuple[ScriptRow, Step]]:
    """The steps of a script in order. Raises BadInputError for a step, argument or need that does not exist."""
    resolved: list[tuple[ScriptRow, Step]] = []
    earlier: set[str] = set()
    error = loaded.file.error
    for index, row in enumerate(loaded.scenario.script):
        found = STEPS.get(row.step)
        if found is None:
            raise error(f"no such step; there are: {', '.join(sorted(STEPS))}", "script", index, "step")
        for name in row.arguments:
            if name not in found.arguments:
                raise error(f"{row.step} takes no such argument", "script", index, "with", name)
        for name in found.required:
            if name not in row.arguments:
                raise error(f"{row.step} needs the argument {name!r}; add it", "script", index, "with")
        if row.when is not None and row.when not in loaded.values:
            raise error(f"{row.when!r} is no parameter of this scenario", "script", index, "when")
        for number, need in enumerate(row.needs):
            if need not in earlier:
                raise error(f"{need!r} is no earlier step", "script", index, "needs", number)
        earlier.add(row.title or row.step)
        if row.when is None or loaded.values[row.when]:
            resolved.append((row, found))
    return resolved


async def play(script: list[tuple[ScriptRow, Step]], rig: Rig, progress: Progress) -> list[CaseResult]:
    """Run every step in order. A step whose needs did not pass is SKIP; nothing stops the others."""
    results: dict[str, CaseResult] = {}
    for row, found in script:
        title = row.title or row.step
        progress(title, None)
        unmet = [need for need in row.needs if results[need].verdict is not Verdict.PASS]
        if unmet:
            now = rig.clock.now()
            reason = "; ".join(f"needs {need!r}, which is {results[need].verdict}" for need in unmet)
            attempts = [Attempt(Verdict.SKIP, reason, now, now, ())]
        else:
            attempts = await _attempts(row, found, rig)
        result = CaseResult(row.step, title, found.requirements, tuple(attempts), layers=found.layers)
        results[title] = result
        rig.trace("step", title=title, verdict=str(result.verdict), reason=result.last.reason)
        progress(title, result)
    return list(results.values())


async def _attempts(row: ScriptRow, found: Step, rig: Rig) -> list[Attempt]:
    attempts: list[Attempt] = []
    for _ in range(row.attempts):
        attempts.append(await _attempt(row.timeout_s or found.timeout_s, found, row.arguments, rig))
        if attempts[-1].verdict in (Verdict.PASS, Verdict.SKIP):
            break
    return attempts


async def _attempt(timeout_s: float, found: Step, arguments: dict[str, Any], rig: Rig) -> Attempt:
    record = Record()
    started_s = rig.clock.now()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            await found.run(rig, record, **arguments)
        verdict, reason = record.verdict()
    except SkipStep as skip:
        verdict, reason = Verdict.SKIP, str(skip)
    except TimeoutError as error:
        verdict = Verdict.TIMEOUT
        reason = f"not done within {timeout_s:g} s" if limit.expired() else str(error) or "a wait timed out"
    except TwinError as error:
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
    except Exception as error:
        log.exception("step %s broke", found.name)
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error} (traceback in run.log)"
    return Attempt(verdict, reason, started_s, rig.clock.now(), tuple(record.measurements), tuple(record.attachments))
