"""The operator's console: one page that talks to the REST interface."""

from __future__ import annotations

import functools
from importlib import resources

import jinja2

from protocols.headend.quantities import ON_DEMAND, QUANTITIES
from protocols.headend.tables import TABLES


@functools.cache
def firmware_page() -> str:
    """The page for firmware, as complete."""
    source = resources.files("twin.hes").joinpath("firmware.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source).render()


@functools.cache
def console_page() -> str:
    """The page, complete: no other file is loaded."""
    source = resources.files("twin.hes").joinpath("console.html.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    return template.render(quantities=[item for item in QUANTITIES if item.name in ON_DEMAND], tables=TABLES)
