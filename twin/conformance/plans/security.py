"""Cases of our own beside the official plan: what the requirement catalogue asks of security."""

from __future__ import annotations

from protocols.dlms.data import octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import ServiceRefused
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.set import SetRequestNormal
from twin.conformance.bench import MeterBench
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import SILENCE, aare_in_words, in_words
from twin.conformance.plans.application import CLOCK
from twin.conformance.plans.cosem import roles_at_hand
from twin.conformance.plans.protected import glo
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, at_most, equals, within

_MOST_FAILURES = 10
_LONGEST_LOCK_S = 3600.0
_STEP_S = 10.0
_EVENT_LOGS = ObisCode.parse("0-0:99.98.0*255")[:4]
_PROFILE, _ENTRIES_IN_USE = 7, 7
_UNCONFIRMED = 0x81
_CONTROL = AUTHENTICATED | ENCRYPTED | BROADCAST
_DRIFT_S = 30.0
_MOVED = within(_DRIFT_S - 0.5, _DRIFT_S + 0.5)


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
    logs_before = await _logged(tester)
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
    logs_after = await _logged(tester)
    record.measure("event logs", len(logs_after), limit=at_least(1))
    logged = sum(logs_after) - sum(logs_before)
    record.measure("entries in them about it", logged, limit=at_least(1))


async def _wrong(tester: Tester) -> None:
    dialogue = await tester.dialogue(Role.READER, secret=b"not the secret")
    await dialogue.aare(dialogue.client.associate())


async def _is_locked(tester: Tester, *, attempts: int) -> bool:
    """Whether a wrong secret is refused for now and not for good: a right one would end the row of failures."""
    if not attempts:
        return False
    dialogue = await tester.dialogue(Role.READER, secret=b"not the secret")
    return "transient" in aare_in_words(await dialogue.aare(dialogue.client.associate()))


async def _logged(tester: Tester) -> list[int]:
    """Entries in each event log that the meter shows."""
    dialogue = await tester.associate((await roles_at_hand(tester))[-1])
    return [
        await _entries(dialogue, element.obis)
        for element in await tester.object_list(dialogue)
        if element.class_id == _PROFILE and element.obis[:4] == _EVENT_LOGS
    ]


async def _entries(dialogue: Dialogue, obis: ObisCode) -> int:
    try:
        return int((await dialogue.value(_PROFILE, obis, _ENTRIES_IN_USE)).value)
    except ServiceRefused:
        return 0


# broadcast


def _clock_set(tester: Tester, utc_s: float, counter: int, *, key: bytes | None = None) -> bytes:
    """An unconfirmed SET of the clock under the broadcast key, or under `key`."""
    if tester.symmetric is None or tester.symmetric.broadcast is None:
        raise SkipCase("needs the broadcast key (--keys)")
    value = octet_string(DateTime.from_utc_s(utc_s).encode())
    plain = SetRequestNormal(_UNCONFIRMED, AttributeReference(8, CLOCK, 2), value).encode()
    nonce = tester.security().system_title + counter.to_bytes(4, "big")
    gcm = Gcm(key or tester.symmetric.broadcast, tester.symmetric.authentication)
    return glo(bytes((_CONTROL,)) + nonce[8:] + gcm.seal(_CONTROL, nonce, plain), plain[0])


async def _send_to_all(tester: Tester, apdu: bytes) -> str:
    """Send it from the broadcast client; what comes back, in words."""
    saps = tester.facts.saps
    if saps.broadcast is None:
        raise SkipCase("the meter has no broadcast association")
    link = await tester.open_link()
    return in_words(await link.exchange(saps.broadcast, saps.server, apdu))


@case(
    "Broadcast_1",
    Plan.SECURITY,
    "A broadcast under its own key sets the clock, and is not answered.",
    shows=("UC-VI.2", "SEC-1"),
    needs=(Need.KEYS, Need.BENCH),
)
async def _broadcast_1(tester: Tester, record: Record) -> None:
    bench = _bench(tester)
    bench.hardware.rtc.advance(_DRIFT_S)
    record.measure("clock before", bench.hardware.rtc.offset_s, unit="s", limit=at_least(_DRIFT_S - 0.5))
    apdu = _clock_set(tester, bench.clock.utc_s(), 5)
    record.measure("answer", await _send_to_all(tester, apdu), limit=equals(SILENCE))
    record.measure("clock after", bench.hardware.rtc.offset_s, unit="s", limit=within(-2, 2))


@case(
    "Broadcast_2",
    Plan.SECURITY,
    "A forged or replayed broadcast changes nothing, after a power cut neither.",
    shows=("UC-VI.4", "SEC-1"),
    needs=(Need.KEYS, Need.BENCH),
)
async def _broadcast_2(tester: Tester, record: Record) -> None:
    bench, now_s = _bench(tester), _bench(tester).clock.utc_s()
    right = _clock_set(tester, now_s, 5)
    bench.hardware.rtc.advance(_DRIFT_S)
    await _send_to_all(tester, right)
    record.measure("clock after a right one", bench.hardware.rtc.offset_s, unit="s", limit=within(-2, 2))
    bench.hardware.rtc.advance(_DRIFT_S)
    other = tester.key_source.random_bytes(16)
    wrong = {
        "under another key": _clock_set(tester, now_s, 6, key=other),
        "with a lower counter": _clock_set(tester, now_s, 4),
        "tampered": right[:-1] + bytes((right[-1] ^ 1,)),
        "replayed": right,
    }
    for name, apdu in wrong.items():
        await _send_to_all(tester, apdu)
        record.measure(f"clock after one {name}", bench.hardware.rtc.offset_s, unit="s", limit=_MOVED)
    bench.power_cycle()
    await _send_to_all(tester, right)
    record.measure("clock after a replay behind a power cut", bench.hardware.rtc.offset_s, unit="s", limit=_MOVED)


def _bench(tester: Tester) -> MeterBench:
    if tester.bench is None:
        raise SkipCase(f"needs {Need.BENCH}")
    return tester.bench
