"""Pytest fixture `twin_rig`: rigs for test functions, started and stopped by pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from twin.rigs.sync import SyncRig


@pytest.fixture
def twin_rig(tmp_path: Path) -> Iterator[Callable[..., SyncRig]]:
    """A function `(scenario, *, seed=1, overrides=None)` that gives a running `SyncRig` on the virtual clock."""
    from twin.rigs.options import RunOptions
    from twin.rigs.sync import open_sync_rig

    with ExitStack() as stack:

        def make(scenario: str, *, seed: int = 1, overrides: list[str] | None = None) -> SyncRig:
            folder = tmp_path / f"rig-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(open_sync_rig(scenario, folder, RunOptions(seed=seed), overrides))

        yield make
