"""Speed, measured. Nothing here passes or fails; `python -m benchmarks` runs all of it.

Every module `bench_*.py` has a function `run() -> list[Row]`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One number. `unit` says of what, `note` under which conditions."""

    name: str
    value: float
    unit: str
    note: str = ""
