"""Waiting for something to become true, without polling and without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twin.rigs.folder import EventTrace


class Watch:
    """Looks at conditions whenever an event of the run was traced."""

    def __init__(self, trace: EventTrace) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        trace.listeners.append(self._look)

    def _look(self, kind: str, fields: dict[str, object]) -> None:
        for condition, done in self._waiting:
            if not done.done() and condition():
                done.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as `condition()` is true. The caller bounds it with a time-out."""
        if condition():
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, done)
        self._waiting.append(entry)
        try:
            await done
        finally:
            self._waiting.remove(entry)
