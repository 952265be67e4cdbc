"""The requirement catalogue: every row that a report lists, with its verdict or NOT COVERED."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from protocols.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the catalogue; `identifier` as in "UC-V.3"."""

    identifier: str
    text: str


@cache
def catalogue() -> dict[str, Requirement]:
    """All rows by identifier, in the catalogue's order."""
    source = resources.files("twin.conformance").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return {identifier: Requirement(identifier, text) for identifier, text in yaml.safe_load(source).items()}


def requirement(identifier: str) -> Requirement:
    """The row of that identifier. Raises BadInputError where the catalogue has none."""
    try:
        return catalogue()[identifier]
    except KeyError:
        raise BadInputError(
            "no such row in the requirement catalogue; see docs/requirements.md", key=identifier
        ) from None
