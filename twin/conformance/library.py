"""The whole case library: importing the plans declares their cases."""

from __future__ import annotations

from twin.conformance import plans
from twin.conformance.cases import Case, declared_cases

PLANS = plans.__all__
"""Modules of the library."""


def all_cases() -> tuple[Case, ...]:
    """Every case, plan by plan and in each plan as its module declares them."""
    return declared_cases()
