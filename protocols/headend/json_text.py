"""Canonical JSON: one value, one text. Numbers are integers or exact decimals, never binary floats.

RFC 8259, UTF-8, members in the order of their names, no white space. Decoding refuses what two readers could take
differently: duplicate names, NaN and infinities, unpaired surrogates, numbers beyond `MAX_DIGITS`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import NoReturn, TypeAlias

from protocols.errors import LocalProtocolError, RemoteProtocolError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | Decimal | bool | None"

SPEC = "RFC 8259"
MAX_PAYLOAD_BYTES = 262_144
MAX_DIGITS = 34
MAX_EXPONENT = 34


def encode_json(value: Json) -> bytes:
    """The canonical text of `value`, in UTF-8. Raises LocalProtocolError for what JSON cannot hold exactly."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode()


def decode_json(payload: bytes, max_bytes: int = MAX_PAYLOAD_BYTES) -> Json:
    """The value that `payload` holds; numbers with a fraction or an exponent as Decimal.

    Raises RemoteProtocolError for anything else than one well-formed value of at most `max_bytes`.
    """
    if len(payload) > max_bytes:
        raise RemoteProtocolError(f"payload of {len(payload)} bytes, at most {max_bytes} allowed", spec=SPEC)
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("payload is not UTF-8", offset=error.start, spec=SPEC) from None
    try:
        value: Json = json.loads(
            text,
            parse_int=_parse_int,
            parse_float=_parse_decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise RemoteProtocolError(f"payload is not JSON: {error.msg}", offset=error.pos, spec=SPEC) from None
    except RecursionError:
        raise RemoteProtocolError("payload is nested too deeply", spec=SPEC) from None
    return value


def _write(value: Json, parts: list[str]) -> None:
    if value is None or isinstance(value, bool):
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        parts.append(json.dumps(value))
    elif isinstance(value, int):
        parts.append(str(value))
    elif isinstance(value, Decimal):
        parts.append(decimal_text(value))
    elif isinstance(value, list):
        parts.append("[")
        for position, item in enumerate(value):
            parts.append("," if position else "")
            _write(item, parts)
        parts.append("]")
    elif isinstance(value, dict):
        parts.append("{")
        for position, name in enumerate(sorted(value)):
            parts.append(("," if position else "") + json.dumps(name) + ":")
            _write(value[name], parts)
        parts.append("}")
    else:
        raise LocalProtocolError(f"JSON cannot hold a {type(value).__name__}")


def decimal_text(value: Decimal) -> str:
    """`value` written out without an exponent, trailing zeros kept: the resolution of a register is information."""
    if not value.is_finite():
        raise LocalProtocolError("JSON cannot hold a number that is not finite")
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT or abs(value.adjusted()) > 2 * MAX_DIGITS:
        raise LocalProtocolError("number out of the range of a register")
    text = format(value, "f")
    return text.removeprefix("-") if value.is_zero() else text


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise RemoteProtocolError(f"number of {len(text)} digits, at most {MAX_DIGITS} allowed", spec=SPEC)
    return int(text)


def _parse_decimal(text: str) -> Decimal:
    if len(text) > 2 * MAX_DIGITS:
        raise RemoteProtocolError("number too long", spec=SPEC)
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise RemoteProtocolError("number out of range", spec=SPEC) from None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT or abs(value.adjusted()) > MAX_DIGITS:
        raise RemoteProtocolError("number out of range", spec=SPEC)
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise RemoteProtocolError(f"{text} is not a JSON number", spec=SPEC)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RemoteProtocolError("an object names a member twice", spec=SPEC)
    return members
