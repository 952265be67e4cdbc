"""Plays a script on a rig, and turns whatever happens into verdicts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from protocols.errors import BadInputError, TwinError
from twin.conformance.verdicts import Attempt, CaseResult, Record, Verdict
from twin.scenarios.schema import LoadedScenario, ScriptRow
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
    for index, row in enumerate(loaded.scenario.script):
        place = f"script[{index}]"
        found = STEPS.get(row.step)
        if found is None:
            raise BadInputError(
                f"no such step {row.step!r}; there are: {', '.join(sorted(STEPS))}", file=loaded.source, key=place
            )
        unknown = [name for name in row.arguments if name not in found.arguments]
        missing = [name for name in found.required if name not in row.arguments]
        if unknown or missing:
            raise BadInputError(
                f"step {row.step!r} takes {', '.join(found.arguments) or 'no arguments'}"
                + (f"; it has no {', '.join(unknown)}" if unknown else "")
                + (f"; {', '.join(missing)} must be given" if missing else ""),
                file=loaded.source,
                key=f"{place}.with",
            )
        for need in row.needs:
            if need not in earlier:
                raise BadInputError(f"needs {need!r}, which is no earlier step", file=loaded.source, key=place)
        earlier.add(row.title or row.step)
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
        result = CaseResult(row.step, title, found.requirements, tuple(attempts))
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
