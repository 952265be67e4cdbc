"""The operator's console: pages that talk to the REST interface."""

from __future__ import annotations

import functools
from importlib import resources

import jinja2

from protocols.headend.quantities import ON_DEMAND, QUANTITIES
from protocols.headend.tables import TABLES
from protocols.leakage_protection import MAX_LINES

_LOADER = jinja2.FunctionLoader(lambda name: resources.files("twin.hes").joinpath(name).read_text(encoding="utf-8"))


@functools.cache
def firmware_page() -> str:
    """The page for firmware, as complete."""
    return _template("firmware.html.jinja").render()


@functools.cache
def shedding_page() -> str:
    """The page for load shedding, as complete."""
    return _template("shedding.html.jinja").render()


@functools.cache
def supply_page() -> str:
    """The page for lines and leakage trips, as complete."""
    return _template("supply.html.jinja").render(lines=MAX_LINES)


@functools.cache
def console_page() -> str:
    """The page, complete: no other file is loaded."""
    quantities = [item for item in QUANTITIES if item.name in ON_DEMAND]
    return _template("console.html.jinja").render(quantities=quantities, tables=TABLES)


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(loader=_LOADER, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)
