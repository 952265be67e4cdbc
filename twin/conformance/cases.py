"""What a conformance case is: a name, its purpose as we read it, what it shows and where it belongs.

Only the names of the DLMS conformance test plan are public. A case under such a name is our reading of it, not the
official test; every report says so.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.errors import LocalProtocolError
from twin.conformance.catalogue import requirement as catalogue_row
from twin.conformance.needs import Need
from twin.conformance.verdicts import Layers, Record, SgamLayer, UneceDimension

if TYPE_CHECKING:
    from twin.conformance.tester import Tester

CaseFunction = Callable[["Tester", Record], Awaitable[None]]

OUR_READING = (
    "Only the names of the DLMS conformance test plan are public. What a case does under such a name is our reading "
    "of it, not the official test, and no verdict here is a certificate."
)


class Plan(enum.StrEnum):
    """A group of cases, in the order in which they run."""

    HDLC = "HDLC"
    APPLICATION = "APPL"
    COSEM = "COSEM"
    SECURITY_SUITE_0 = "SYMSEC_0"
    SECURITY_SUITE_1 = "SUITE_1"
    """Our own: there is no public plan for suite 1."""
    TRANSPORT = "TRANSPORT"
    """Our own: the same meter over each of its ways."""
    SECURITY = "SEC"
    """Our own, beside the official plan: what the requirement catalogue asks for."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the library. `timeout_s` is the run's time; `needs` are checked before it starts."""

    name: str
    plan: Plan
    purpose: str
    requirements: tuple[str, ...]
    layers: Layers
    needs: frozenset[Need]
    timeout_s: float
    run: CaseFunction

    @property
    def keywords(self) -> tuple[str, ...]:
        """What `--select` looks into."""
        return (self.name, *self.requirements)


_CASES: dict[str, Case] = {}

_PLAN_LAYERS = {
    Plan.HDLC: Layers(2, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL),
    Plan.APPLICATION: Layers(5, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL),
    Plan.COSEM: Layers(7, SgamLayer.INFORMATION, UneceDimension.INFORMATIONAL),
    Plan.SECURITY_SUITE_0: Layers(7, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL),
    Plan.SECURITY_SUITE_1: Layers(7, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL),
    Plan.TRANSPORT: Layers(4, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL),
    Plan.SECURITY: Layers(7, SgamLayer.FUNCTION, UneceDimension.ORGANIZATIONAL),
}


def case(
    name: str,
    plan: Plan,
    purpose: str,
    *,
    shows: str | tuple[str, ...] = (),
    needs: tuple[Need, ...] = (),
    layers: Layers | None = None,
    timeout_s: float = 60.0,
) -> Callable[[CaseFunction], CaseFunction]:
    """Register an async function `(tester, record)` under `PLAN_name`.

    `shows` are rows of the requirement catalogue. Raises BadInputError at import for a row that it does not have,
    LocalProtocolError for a name that is taken.
    """
    identifiers = (shows,) if isinstance(shows, str) else shows
    for identifier in identifiers:
        catalogue_row(identifier)
    whole_name = f"{plan}_{name}"

    def register(function: CaseFunction) -> CaseFunction:
        if whole_name in _CASES:
            raise LocalProtocolError(f"there are two cases {whole_name}")
        _CASES[whole_name] = Case(
            whole_name,
            plan,
            purpose,
            identifiers,
            layers or _PLAN_LAYERS[plan],
            frozenset(needs),
            timeout_s,
            function,
        )
        return function

    return register


def declared_cases() -> tuple[Case, ...]:
    """The cases of the modules imported so far, plan by plan and in each plan as its module declares them."""
    order = list(Plan)
    return tuple(sorted(_CASES.values(), key=lambda item: order.index(item.plan)))
