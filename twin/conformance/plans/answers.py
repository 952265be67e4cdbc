"""Answers in words, so that a report says what came, and the limits that cases hold them against."""

from __future__ import annotations

from collections.abc import Awaitable

from protocols.dlms import action, get
from protocols.dlms import set as set_apdu
from protocols.dlms.acse import Aare, Rlre
from protocols.dlms.data import Data
from protocols.dlms.enums import ActionResult, AssociationResult, DataAccessResult
from protocols.dlms.exception import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.initiate import InitiateResponse
from protocols.dlms.reading import ServiceRefused
from protocols.errors import RemoteProtocolError
from twin.conformance.verdicts import Limit, Value

SILENCE = "no answer"
DATA = "data"
SUCCESS = "success"
CIPHERED = "a protected answer"
_REFUSALS = ("no answer", "exception", "service error", "refused", "rejected")


def in_words(apdu: bytes | None) -> str:
    """What an answer says. "data" and "success" are the words for a request that was served."""
    if apdu is None:
        return SILENCE
    try:
        return _in_words(apdu)
    except RemoteProtocolError as error:
        return f"malformed: {error}"


def _in_words(apdu: bytes) -> str:
    tag = apdu[0] if apdu else -1
    if tag == 0xD8:
        exception = ExceptionResponse.decode(apdu)
        return f"exception: {exception.state_error.name.lower()}, {exception.service_error.name.lower()}"
    if tag == 0x0E:
        error = ConfirmedServiceError.decode(apdu)
        return f"service error: {error.service.name.lower()}, {error.kind.name.lower()} {error.value}"
    if tag == 0xC4:
        return _get_in_words(get.decode_response(apdu))
    if tag == 0xC5:
        return _set_in_words(set_apdu.decode_response(apdu))
    if tag == 0xC7:
        return _action_in_words(action.decode_response(apdu))
    if tag == 0x61:
        return aare_in_words(Aare.decode(apdu))
    if tag == 0x63:
        reason = Rlre.decode(apdu).reason
        return f"released: {'no reason' if reason is None else reason.name.lower()}"
    if 0xC8 <= tag <= 0xCF or 0xD0 <= tag <= 0xD7 or tag in (0xDB, 0xDC, 0xDD, 0xDF):
        return CIPHERED
    return f"an APDU of tag {tag:02X}"


def _get_in_words(response: get.GetResponse) -> str:
    if isinstance(response, get.GetResponseWithList):
        return "; ".join(result_in_words(result) for result in response.results)
    content = response.content if isinstance(response, get.GetResponseWithBlock) else response.result
    return DATA if not isinstance(content, DataAccessResult) else result_in_words(content)


def _set_in_words(response: set_apdu.SetResponse) -> str:
    if isinstance(response, set_apdu.SetResponseWithList | set_apdu.SetResponseLastDataBlockWithList):
        return "; ".join(result_in_words(result) for result in response.results)
    if isinstance(response, set_apdu.SetResponseDataBlock):
        return "next block"
    return result_in_words(response.result)


def _action_in_words(response: action.ActionResponse) -> str:
    if isinstance(response, action.ActionResponseNormal):
        return result_in_words(response.outcome.result)
    if isinstance(response, action.ActionResponseWithList):
        return "; ".join(result_in_words(outcome.result) for outcome in response.outcomes)
    return "next block"


def result_in_words(result: Data | DataAccessResult | ActionResult) -> str:
    """ "data", "success", or "refused: " and the standard's reason."""
    if isinstance(result, Data):
        return DATA
    if result == 0:
        return SUCCESS
    return f"refused: {result.name.lower()}"


async def outcome_of(request: Awaitable[Data | DataAccessResult | ActionResult]) -> str:
    """The result of a service in words; "refused: " too where the meter refuses the request as a whole."""
    try:
        return result_in_words(await request)
    except ServiceRefused as refused:
        return f"refused: {refused}"


def aare_in_words(aare: Aare | None) -> str:
    """ "accepted", or "rejected: " with result, diagnostic and the xDLMS error, if any."""
    if aare is None:
        return "no AARE"
    if aare.result is AssociationResult.ACCEPTED:
        return "accepted"
    error = ""
    if aare.user_information is not None and aare.user_information[:1] == b"\x0e":
        found = ConfirmedServiceError.decode(aare.user_information)
        error = f", {found.kind.name.lower()} error {found.value}"
    source = "provider" if aare.from_provider else "user"
    return f"rejected: {aare.result.name.lower()}, {source}: {aare.diagnostic.name.lower()}{error}"


def initiate_response(aare: Aare) -> InitiateResponse:
    """Raises RemoteProtocolError if there is none in the clear."""
    if aare.user_information is None:
        raise RemoteProtocolError("an AARE without InitiateResponse")
    return InitiateResponse.decode(aare.user_information)


def _starts(value: Value, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value.startswith(words)


NOT_SERVED = Limit("not served", lambda value: _starts(value, _REFUSALS))
"""Silence, an exception, a service error or an access error; never data, success or an accepted association."""

REFUSED_BY_RESULT = Limit("refused with a result", lambda value: _starts(value, ("refused",)))
NOT_ACCEPTED = Limit("not accepted", lambda value: _starts(value, ("no AARE", "rejected")))


def rejected_with(*words: str) -> Limit:
    """An AARE that rejects, and says one of these diagnostics or errors."""
    text = "rejected with " + " or ".join(words)
    return Limit(text, lambda value: _starts(value, ("rejected",)) and any(word in str(value) for word in words))


def refused_as(*names: str) -> Limit:
    """An access result among these."""
    return Limit("refused: " + " or ".join(names), lambda value: value in {f"refused: {name}" for name in names})
