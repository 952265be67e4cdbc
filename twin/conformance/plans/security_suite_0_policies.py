"""Security suite 0 (names SYMSEC_0 of the public list): security policies."""

from __future__ import annotations

from dataclasses import replace

from protocols.dlms.acse import Aarq
from protocols.dlms.data import enumerated
from protocols.dlms.get import AttributeReference
from protocols.dlms.initiate import InitiateRequest
from protocols.dlms.security.keys import Policy
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need, SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, in_words, outcome_of
from twin.conformance.plans.protected import (
    AUTHENTICATED_ONLY,
    BOTH,
    ENCRYPTED_ONLY,
    GET_NAME,
    SECURITY_SETUP,
    SECURITY_SETUP_CLASS,
    answer_to,
    glo,
    invoke_setup,
    open_protected,
    policy_of,
    sealed,
    unsealed,
)
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, differs_from, equals

_PLAN = Plan.SECURITY_SUITE_0
_KEYS = (Need.KEYS, Need.SUITE_0)
_REQUEST_BITS = int(Policy.AUTHENTICATED_REQUEST | Policy.ENCRYPTED_REQUEST)
_ACTIVATE = 1
"""Method of the security setup."""


async def _under_policy(tester: Tester, record: Record, bits: int) -> Dialogue | None:
    """A dialogue under a policy that asks for `bits`. Raises SkipCase if the policy does not."""
    dialogue = await open_protected(tester, record)
    if dialogue is None:
        return None
    policy = await policy_of(dialogue)
    record.measure("security policy", f"{policy:02X}")
    if policy & bits != bits:
        raise SkipCase(f"the meter's policy {policy:02X} does not ask for {bits:02X}")
    return dialogue


@case(
    "SecPol_1",
    _PLAN,
    "A policy that asks for protected requests: unprotected ones are refused, in the association and at its opening.",
    shows=("SEC-1", "SEC-3"),
    needs=_KEYS,
)
async def _sec_pol_1(tester: Tester, record: Record) -> None:
    dialogue = await _under_policy(tester, record, int(Policy.AUTHENTICATED_REQUEST))
    if dialogue is None:
        return
    record.measure("GET in the clear", in_words(await dialogue.raw(GET_NAME)), limit=NOT_SERVED)
    outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME, control=0)))
    record.measure("GET in a security header without protection", outcome, limit=NOT_SERVED)
    initiate = InitiateRequest(dialogue.client.config.conformance, 1024).encode()
    fresh = await tester.dialogue(Role.MANAGEMENT)
    plain = replace(Aarq.decode(fresh.client.associate()), user_information=initiate).encode()
    record.measure(
        "AARQ with a plain InitiateRequest", in_words(await fresh.raw(plain)), limit=differs_from("accepted")
    )
    outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME)))
    record.measure("GET as the policy asks for it", outcome, limit=equals(DATA))


@case(
    "SecPol_2",
    _PLAN,
    "A policy that asks for authentication and encryption: either alone is refused.",
    shows="SEC-1",
    needs=_KEYS,
)
async def _sec_pol_2(tester: Tester, record: Record) -> None:
    dialogue = await _under_policy(tester, record, _REQUEST_BITS)
    if dialogue is None:
        return
    for name, control in (("authenticated only", AUTHENTICATED_ONLY), ("encrypted only", ENCRYPTED_ONLY)):
        outcome = await answer_to(dialogue, glo(sealed(dialogue, GET_NAME, control=control)))
        record.measure(f"GET, {name}", outcome, limit=NOT_SERVED)
    answer = await dialogue.must_answer(glo(sealed(dialogue, GET_NAME)))
    control, _, plain = unsealed(dialogue.security.ciphering, answer)
    record.measure("GET, authenticated and encrypted", in_words(plain), limit=equals(DATA))
    record.measure("protection of its answer", control & BOTH, limit=at_least(BOTH))


@case(
    "SecPol_3",
    _PLAN,
    "A policy is not made weaker: neither by its method, nor by writing it, nor by a power cut.",
    shows=("SEC-1", "SEC-3"),
    needs=(*_KEYS, Need.CHANGES),
)
async def _sec_pol_3(tester: Tester, record: Record) -> None:
    dialogue = await _under_policy(tester, record, _REQUEST_BITS)
    if dialogue is None:
        return
    before = await policy_of(dialogue)
    for name, weaker in (("nothing", 0), ("authentication alone", before & ~0x48)):
        record.measure(
            f"activating {name}", await invoke_setup(dialogue, _ACTIVATE, enumerated(weaker)), limit=NOT_SERVED
        )
        reference = AttributeReference(SECURITY_SETUP_CLASS, SECURITY_SETUP, 2)
        outcome = await outcome_of(dialogue.set(reference, enumerated(weaker)))
        record.measure(f"writing {name}", outcome, limit=NOT_SERVED)
    record.measure("the policy afterwards", f"{await policy_of(dialogue):02X}", limit=equals(f"{before:02X}"))
    if tester.bench is not None:
        tester.bench.power_cycle()
        again = await open_protected(tester, record, "an association after a power cut")
        if again is not None:
            record.measure("the policy then", f"{await policy_of(again):02X}", limit=equals(f"{before:02X}"))
