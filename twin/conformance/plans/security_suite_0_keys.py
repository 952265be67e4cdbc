"""Security suite 0 (names SYMSEC_0 of the public list): key transfer."""

from __future__ import annotations

from protocols.dlms.data import array, enumerated, integer, octet_string, structure
from protocols.dlms.security.key_management import KeyId, key_transfer
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import NOT_SERVED, SUCCESS
from twin.conformance.plans.protected import (
    invoke_setup,
    open_protected,
)
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, differs_from, equals

_PLAN = Plan.SECURITY_SUITE_0
_KEYS = (Need.KEYS, Need.SUITE_0)
_KEY_TRANSFER = 2
"""Method of the security setup."""


async def _transfer(tester: Tester, dialogue: Dialogue, key_id: KeyId, key: bytes, master: bytes | None = None) -> str:
    if tester.keys is None:
        raise SkipCase("needs the meter's keys (--keys)")
    argument = key_transfer(master or tester.keys.master_key, {key_id: key})
    return await invoke_setup(dialogue, _KEY_TRANSFER, argument)


async def _opens(tester: Tester, **keys: bytes) -> str:
    """What an association under these keys comes to: "accepted", or why not."""
    await tester.catch_up()
    dialogue = await tester.dialogue(Role.MANAGEMENT, security=tester.security(keys))
    outcome = await dialogue.try_to_associate()
    if outcome == "accepted":
        await dialogue.value(1, LOGICAL_DEVICE_NAME)
    return outcome


async def _change_key(tester: Tester, record: Record, key_id: KeyId) -> None:
    """Transfer a new key, show that it holds and the old one does not, and put the old one back."""
    dialogue = await open_protected(tester, record)
    if dialogue is None or tester.symmetric is None:
        return
    name = key_id.field_name
    old, new = getattr(tester.symmetric, name), tester.key_source.random_bytes(16)
    outcome = await _transfer(tester, dialogue, key_id, new)
    record.measure("key_transfer", outcome, limit=equals(SUCCESS))
    if outcome != SUCCESS:
        return
    if key_id is KeyId.BROADCAST:
        record.measure("the unicast keys still hold", await _opens(tester), limit=equals("accepted"))
    else:
        record.measure("an association under the old key", await _opens(tester), limit=differs_from("accepted"))
        record.measure(
            "an association under the new key", await _opens(tester, **{name: new}), limit=equals("accepted")
        )
        if tester.bench is not None:
            tester.bench.power_cycle()
            outcome = await _opens(tester, **{name: new})
            record.measure("the new key after a power cut", outcome, limit=equals("accepted"))
    changed = {} if key_id is KeyId.BROADCAST else {name: new}
    await tester.catch_up()
    again = await tester.dialogue(Role.MANAGEMENT, security=tester.security(changed))
    await again.associate()
    record.measure("the old key is put back", await _transfer(tester, again, key_id, old), limit=equals(SUCCESS))
    record.measure("an association under it", await _opens(tester), limit=equals("accepted"))


_TRANSFER = (*_KEYS, Need.MASTER_KEY, Need.CHANGES)


@case(
    "Key_Tx_P1",
    _PLAN,
    "A new global unicast encryption key is taken, holds from then on, and survives a power cut.",
    shows=("SEC-2", "SEC-1"),
    needs=_TRANSFER,
)
async def _key_tx_p1(tester: Tester, record: Record) -> None:
    await _change_key(tester, record, KeyId.ENCRYPTION)


@case(
    "Key_Tx_P2",
    _PLAN,
    "A new global broadcast key is taken, and the unicast keys stay as they are.",
    shows="SEC-2",
    needs=_TRANSFER,
)
async def _key_tx_p2(tester: Tester, record: Record) -> None:
    await _change_key(tester, record, KeyId.BROADCAST)


@case(
    "Key_Tx_P3",
    _PLAN,
    "A new authentication key is taken, holds from then on, and survives a power cut.",
    shows=("SEC-2", "SEC-1"),
    needs=_TRANSFER,
)
async def _key_tx_p3(tester: Tester, record: Record) -> None:
    await _change_key(tester, record, KeyId.AUTHENTICATION)


@case(
    "Key_Tx_N1",
    _PLAN,
    "A key that is not wrapped with the master key is refused, and the old one holds.",
    shows="SEC-2",
    needs=(*_KEYS, Need.MASTER_KEY),
)
async def _key_tx_n1(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return
    new, wrong_master = tester.key_source.random_bytes(16), tester.key_source.random_bytes(16)
    for key_id in (KeyId.ENCRYPTION, KeyId.AUTHENTICATION, KeyId.BROADCAST, KeyId.MASTER):
        outcome = await _transfer(tester, dialogue, key_id, new, wrong_master)
        record.measure(f"{key_id.field_name} key under another master key", outcome, limit=NOT_SERVED)
    record.measure("an association under the old keys", await _opens(tester), limit=equals("accepted"))


@case(
    "Key_Tx_N2",
    _PLAN,
    "Malformed key data is refused whole, and the old keys hold.",
    shows="SEC-2",
    needs=(*_KEYS, Need.MASTER_KEY),
)
async def _key_tx_n2(tester: Tester, record: Record) -> None:
    dialogue = await open_protected(tester, record)
    if dialogue is None or tester.keys is None:
        return
    (right,) = key_transfer(tester.keys.master_key, {KeyId.ENCRYPTION: tester.key_source.random_bytes(16)}).value
    wrapped = right.value[1].value
    tampered = bytes((wrapped[0] ^ 1,)) + wrapped[1:]
    wrong = {
        "an empty array": array(()),
        "not an array": right,
        "an unknown key id": array((structure(enumerated(9), octet_string(wrapped)),)),
        "a truncated wrapping": array((structure(enumerated(0), octet_string(wrapped[:-1])),)),
        "a tampered wrapping": array((structure(enumerated(0), octet_string(tampered)),)),
        "a right key and a tampered one": array((right, structure(enumerated(2), octet_string(tampered)))),
        "an element too many": array((structure(enumerated(0), octet_string(wrapped), integer(0)),)),
    }
    for name, argument in wrong.items():
        record.measure(name, await invoke_setup(dialogue, _KEY_TRANSFER, argument), limit=NOT_SERVED)
    record.measure("an association under the old keys", await _opens(tester), limit=equals("accepted"))
