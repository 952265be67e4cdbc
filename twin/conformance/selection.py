"""Which cases run: `--select` in the grammar of pytest's -k, and `--shard`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocols.errors import BadInputError
from twin.conformance.cases import Case

Predicate = Callable[[Sequence[str]], bool]

_TOKEN = re.compile(r"\s*(?:(?P<bracket>[()])|(?P<word>[\w:+\-.\[\]\\/]+))")
_MOST_TOKENS = 500
_KEY = "--select"


def compile_expression(text: str) -> Predicate:
    """The expression as a test over a case's keywords.

    Words are joined by `and`, `or`, `not` and parentheses; a word holds where it is part of a keyword, whatever the
    case of the letters. An empty expression holds everywhere. Raises BadInputError with the place of the fault.
    """
    if not text.strip():
        return lambda keywords: True
    return _Parser(text).parse()


class _Parser:
    """Recursive descent: `or` binds weakest, then `and`, then `not`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize()
        self._next = 0

    def _tokenize(self) -> list[tuple[str, int]]:
        tokens, offset = [], 0
        while self._text[offset:].strip():
            found = _TOKEN.match(self._text, offset)
            if found is None:
                column = offset + len(self._text[offset:]) - len(self._text[offset:].lstrip()) + 1
                raise self._error(f"unexpected character {self._text[column - 1]!r}", column)
            tokens.append((found.group("bracket") or found.group("word"), found.end() - len(found.group().lstrip())))
            offset = found.end()
        if len(tokens) > _MOST_TOKENS:
            raise self._error(f"more than {_MOST_TOKENS} words", 1)
        return tokens

    def _error(self, message: str, column: int) -> BadInputError:
        return BadInputError(f"{message} at column {column} of {self._text!r}", key=_KEY)

    def parse(self) -> Predicate:
        predicate = self._either()
        if self._next < len(self._tokens):
            token, offset = self._tokens[self._next]
            raise self._error(f"{token!r} where `and`, `or` or the end is due", offset + 1)
        return predicate

    def _accept(self, *tokens: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next][0] in tokens:
            self._next += 1
            return True
        return False

    def _either(self) -> Predicate:
        choices = [self._all()]
        while self._accept("or"):
            choices.append(self._all())
        return lambda keywords: any(choice(keywords) for choice in choices)

    def _all(self) -> Predicate:
        parts = [self._not()]
        while self._accept("and"):
            parts.append(self._not())
        return lambda keywords: all(part(keywords) for part in parts)

    def _not(self) -> Predicate:
        is_negated = False
        while self._accept("not"):
            is_negated = not is_negated
        operand = self._operand()
        if is_negated:
            return lambda keywords: not operand(keywords)
        return operand

    def _operand(self) -> Predicate:
        if self._next >= len(self._tokens):
            raise self._error("a word is missing", len(self._text) + 1)
        token, offset = self._tokens[self._next]
        if token in ("and", "or", ")"):
            raise self._error(f"{token!r} where a word is due", offset + 1)
        self._next += 1
        if token == "(":  # noqa: S105 (a bracket, not a password)
            inner = self._either()
            if not self._accept(")"):
                raise self._error("a bracket is not closed", offset + 1)
            return inner
        wanted = token.lower()
        return lambda keywords: any(wanted in keyword.lower() for keyword in keywords)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a run, from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "I/N". Raises BadInputError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if found is None:
            raise BadInputError(f"{text!r} is not I/N, such as 1/4", key="--shard")
        index, count = int(found.group(1)), int(found.group(2))
        if not 1 <= index <= count:
            raise BadInputError(f"{text!r}: parts are counted from 1 to {count}", key="--shard")
        return cls(index, count)

    def of(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Every count-th case, beginning with the index-th: all shards together are all cases, each once."""
        return tuple(cases[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def select(cases: Sequence[Case], expression: str, shard: Shard) -> tuple[Case, ...]:
    """The cases of one run. Raises BadInputError if the expression matches none of them."""
    predicate = compile_expression(expression)
    chosen = [item for item in cases if predicate(item.keywords)]
    if not chosen:
        raise BadInputError(f"{expression!r} selects none of {len(cases)} cases; see twin conform --list", key=_KEY)
    part = shard.of(chosen)
    if not part:
        raise BadInputError(f"part {shard} is empty: {len(chosen)} cases are selected", key="--shard")
    return part
