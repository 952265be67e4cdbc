"""Cases of our own beside the official plan: what the requirement catalogue asks of security."""

from __future__ import annotations

from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import ServiceRefused
from twin.conformance.cases import Need, Plan, case
from twin.conformance.plans.answers import aare_in_words
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, at_most, equals

_MOST_FAILURES = 10
_LONGEST_LOCK_S = 3600.0
_STEP_S = 10.0
_EVENT_LOGS = ObisCode.parse("0-0:99.98.0*255")[:4]
_PROFILE, _ENTRIES_IN_USE = 7, 7


@case(
    "Lockout_1",
    Plan.SECURITY,
    "Wrong secrets, one after another, lock the association; the right one opens it again later; the log tells.",
    shows="SEC-4",
    needs=(Need.READER_SECRET, Need.BENCH),
    timeout_s=2 * _LONGEST_LOCK_S,
)
async def _lockout_1(tester: Tester, record: Record) -> None:
    if tester.bench is None:
        return
    logged_before = await _logged(tester)
    failures = 0
    while failures < _MOST_FAILURES and not await _is_locked(tester, attempts=failures):
        await _wrong(tester)
        failures += 1
    record.measure("wrong secrets until the association is locked", failures, limit=at_most(_MOST_FAILURES - 1))
    outcome = await (await tester.dialogue(Role.READER)).try_to_associate()
    record.measure("locked: the right secret", outcome.partition(":")[0], limit=equals("refused"))
    waited_s = 0.0
    while outcome != "accepted" and waited_s < _LONGEST_LOCK_S:
        await tester.bench.pass_time(_STEP_S)
        waited_s += _STEP_S
        outcome = await (await tester.dialogue(Role.READER)).try_to_associate()
    record.measure("the right secret afterwards", outcome, limit=equals("accepted"))
    record.measure("lasted at least", waited_s, unit="s", limit=at_least(_STEP_S))
    if logged_before is not None:
        logged = (await _logged(tester) or 0) - logged_before
        record.measure("entries in the event logs about it", logged, limit=at_least(1))


async def _wrong(tester: Tester) -> None:
    dialogue = await tester.dialogue(Role.READER, secret=b"not the secret")
    await dialogue.aare(dialogue.client.associate())


async def _is_locked(tester: Tester, *, attempts: int) -> bool:
    """Whether a wrong secret is refused for now and not for good: a right one would end the row of failures."""
    if not attempts:
        return False
    dialogue = await tester.dialogue(Role.READER, secret=b"not the secret")
    return "transient" in aare_in_words(await dialogue.aare(dialogue.client.associate()))


async def _logged(tester: Tester) -> int | None:
    """Entries in all event logs that the management client sees; None if it sees none, or is not let in."""
    dialogue = await tester.dialogue(Role.MANAGEMENT)
    if await dialogue.try_to_associate() != "accepted":
        return None
    logs = [
        element.obis
        for element in await tester.object_list(dialogue)
        if element.class_id == _PROFILE and element.obis[:4] == _EVENT_LOGS
    ]
    return sum([await _entries(dialogue, obis) for obis in logs]) if logs else None


async def _entries(dialogue: Dialogue, obis: ObisCode) -> int:
    try:
        return int((await dialogue.value(_PROFILE, obis, _ENTRIES_IN_USE)).value)
    except ServiceRefused:
        return 0
