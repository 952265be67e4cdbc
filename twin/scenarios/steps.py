"""How a step is written: an async function with a typed rig, that measures."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protocols.errors import TwinError
from twin.conformance.catalogue import requirement as catalogue_row
from twin.conformance.verdicts import Layers, SgamLayer, UneceDimension

StepFunction = Callable[..., Awaitable[None]]


class SkipStep(TwinError):  # noqa: N818 (a verdict, not a fault)
    """Raised by a step that cannot say anything on this rig; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step as a script names it. `arguments` are the keywords that a script may give it under `with`."""

    name: str
    title: str
    requirements: tuple[str, ...]
    timeout_s: float
    run: StepFunction
    arguments: tuple[str, ...]
    required: tuple[str, ...]
    layers: Layers


_HARDWARE = Layers(1, SgamLayer.COMPONENT, UneceDimension.TECHNICAL)
_MESH = Layers(3, SgamLayer.COMMUNICATION, UneceDimension.TECHNICAL)
_SESSION = Layers(5, SgamLayer.FUNCTION, UneceDimension.TECHNICAL)
_READING = Layers(7, SgamLayer.FUNCTION, UneceDimension.INFORMATIONAL)
_DATA = Layers(7, SgamLayer.INFORMATION, UneceDimension.INFORMATIONAL)
_BUSINESS = Layers(7, SgamLayer.BUSINESS, UneceDimension.ORGANIZATIONAL)

LAYERS_OF_FAMILIES = {
    "HW": _HARDWARE,
    "NET": _MESH,
    "OSI": _MESH,
    "UC-I": _SESSION,
    "UC-II": _READING,
    "UC-III": _DATA,
    "UC-IV": _DATA,
    "UC-V": _BUSINESS,
    "UC-VI": Layers(7, SgamLayer.FUNCTION, UneceDimension.TECHNICAL),
    "UC-VII": Layers(7, SgamLayer.FUNCTION, UneceDimension.TECHNICAL),
    "UNECE": _DATA,
    "SEC": _SESSION,
    "SAF": _HARDWARE,
    "GRID": Layers(1, SgamLayer.FUNCTION, UneceDimension.ORGANIZATIONAL),
    "MKT": _BUSINESS,
    "SGAM": _BUSINESS,
    "VEND": _BUSINESS,
}
"""Where a step belongs, by the family of the first requirement that it shows."""


def _layers_of(identifiers: tuple[str, ...]) -> Layers:
    """A step that shows no requirement prepares the mesh."""
    if not identifiers:
        return _MESH
    first = identifiers[0].partition(".")[0]
    return LAYERS_OF_FAMILIES.get(first) or LAYERS_OF_FAMILIES[first.rpartition("-")[0]]


STEPS: dict[str, Step] = {}


def step(
    title: str, *, timeout_s: float, requirement: str | tuple[str, ...] = ()
) -> Callable[[StepFunction], StepFunction]:
    """Register an async function `(rig, record, **arguments)` as a step named like the function.

    `timeout_s` is simulated time on the virtual clock. Raises BadInputError at import for a requirement that the
    catalogue does not have.
    """
    identifiers = (requirement,) if isinstance(requirement, str) else requirement
    for identifier in identifiers:
        catalogue_row(identifier)

    def register(function: StepFunction) -> StepFunction:
        name = function.__name__.replace("_", "-")
        keywords = list(inspect.signature(function).parameters.values())[2:]
        required = tuple(keyword.name for keyword in keywords if keyword.default is inspect.Parameter.empty)
        names = tuple(keyword.name for keyword in keywords)
        STEPS[name] = Step(name, title, identifiers, timeout_s, function, names, required, _layers_of(identifiers))
        return function

    return register
