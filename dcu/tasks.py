"""The concentrator's background tasks: none is forgotten, and none dies unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from protocols.ports import Trace

_LOG = logging.getLogger(__name__)


class TaskGroup:
    """Tasks that end by themselves or with the concentrator. A task's bug is logged and traced, and ends it alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trace: Trace) -> None:
        self._loop = loop
        self._trace = trace
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_closed = False
        self.failures = 0

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        if self._is_closed:
            task.cancel()
        return task

    def cancel(self) -> None:
        """End all of them, and every one that is spawned later."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Until every task has ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.failures += 1
            _LOG.error("task %s failed", task.get_name(), exc_info=error)
            self._trace("dcu-task-failed", task=task.get_name(), error=f"{type(error).__name__}: {error}")
