"""Flash that survives: the emulator is killed at random moments under load, and nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
from power_cuts import cut_power

_ROWS = ("HW-2", "UC-IV.2")


@pytest.mark.requirement(*_ROWS)
def test_three_power_cuts_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    cut_power(tmp_path, 3, seed=5)


@pytest.mark.soak
@pytest.mark.requirement(*_ROWS)
def test_twenty_power_cuts_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    cut_power(tmp_path, 20, seed=11)
