"""Protected APDUs of a tester's own making: right ones, and ones that are wrong in exactly one way."""

from __future__ import annotations

from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, Tag
from protocols.dlms.enums import ActionResult
from protocols.dlms.get import GetRequestNormal
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import (
    GENERAL_GLO,
    GLO_TAGS,
    PLAIN_OF_DED,
    PLAIN_OF_GLO,
    Ciphering,
    unwrap,
    unwrap_general,
    wrap,
    wrap_general,
)
from protocols.dlms.security.gcm import Gcm
from protocols.errors import RemoteProtocolError
from twin.conformance.plans.answers import in_words, outcome_of
from twin.conformance.plans.application import NAME_REFERENCE
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, equals

SECURITY_SETUP = ObisCode.parse("0-0:43.0.0*255")
SECURITY_SETUP_CLASS = 64
BOTH = 0x30
"""Security control: authenticated and encrypted."""
AUTHENTICATED_ONLY, ENCRYPTED_ONLY = 0x10, 0x20
GET_NAME = GetRequestNormal(0xC1, NAME_REFERENCE).encode()


async def open_protected(tester: Tester, record: Record, name: str = "the protected association") -> Dialogue | None:
    """The management association, or a failed measurement and None."""
    dialogue = await tester.dialogue(Role.MANAGEMENT)
    outcome = await dialogue.try_to_associate()
    record.measure(name, outcome, limit=equals("accepted"))
    return dialogue if outcome == "accepted" else None


def sealed(
    dialogue: Dialogue,
    plain: bytes,
    *,
    control: int = BOTH,
    counter: int | None = None,
    title: bytes | None = None,
    gcm: Gcm | None = None,
    suite: int | None = None,
) -> bytes:
    """Security header and content. What is not given is right, and the counter is a fresh one."""
    ciphering = dialogue.security.ciphering
    control |= int(ciphering.suite) if suite is None else suite
    number = (ciphering.send.next() if counter is None else counter).to_bytes(4, "big")
    nonce = (ciphering.own_title if title is None else title) + number
    return bytes((control,)) + number + (gcm or ciphering.gcm).seal(control, nonce, plain)


def glo(content: bytes, plain_tag: int = 0xC0) -> bytes:
    """The global form of a service."""
    return wrap(GLO_TAGS[plain_tag], content)


def general_glo(dialogue: Dialogue, content: bytes, title: bytes | None = None) -> bytes:
    return wrap_general(GENERAL_GLO, dialogue.security.system_title if title is None else title, content)


def unsealed(ciphering: Ciphering, answer: bytes) -> tuple[int, int, bytes]:
    """Security control, counter and plain APDU of a ciphered answer. Raises RemoteProtocolError."""
    tag = answer[0]
    if tag in PLAIN_OF_GLO or tag in PLAIN_OF_DED:
        content = unwrap(answer)
    else:
        title, content = unwrap_general(answer)
        if title != ciphering.peer_title:
            raise RemoteProtocolError("an answer under another system title")
    return ciphering.open(content)


async def answer_to(dialogue: Dialogue, apdu: bytes, ciphering: Ciphering | None = None) -> str:
    """What an APDU is answered with, in words, its protection taken off; "unprotected data" for what leaks."""
    answer = await dialogue.raw(apdu)
    if answer is None or answer[0] in (0xD8, 0x0E):
        return in_words(answer)
    if answer[0] in PLAIN_OF_GLO or answer[0] in PLAIN_OF_DED or answer[0] in (GENERAL_GLO, 0xDC):
        _, _, plain = unsealed(ciphering or dialogue.security.ciphering, answer)
        return in_words(plain)
    return f"unprotected {in_words(answer)}"


async def policy_of(dialogue: Dialogue) -> int:
    """The security policy as the security setup shows it; 0 if it shows none."""
    value = await dialogue.value(SECURITY_SETUP_CLASS, SECURITY_SETUP, 2)
    return int(value.value) if value.tag == Tag.ENUM else 0


async def invoke_setup(dialogue: Dialogue, method_id: int, argument: Data) -> str:
    """What a method of the security setup comes to, in words."""
    return await outcome_of(_result(dialogue, method_id, argument))


async def _result(dialogue: Dialogue, method_id: int, argument: Data) -> ActionResult:
    reference = MethodReference(SECURITY_SETUP_CLASS, SECURITY_SETUP, method_id)
    return (await dialogue.action(reference, argument)).result
