"""An event loop whose time jumps to the next timer.

Nothing here looks at the host's clock: time is the `when` of the timer that runs. Timers of the same instant run
in the order in which they were set. Sockets, threads and subprocesses live in the host's time, so the loop refuses
them by name.

There is one door to something outside: a node with a time of its own may be attached, and is brought along before time
jumps. The concentrator's emulated machine runs in lock-step that way (`twin.rigs.lockstep`).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar
from weakref import WeakSet

from protocols.errors import TwinError

T = TypeVar("T")

_COMPACT_ABOVE = 256


class VirtualTimeError(TwinError):
    """Something was asked of the virtual loop that exists only in real time."""


class StalledError(TwinError):
    """Every task waits, and no timer is left that could wake one."""


class Stepped(Protocol):
    """Something outside the loop whose time the loop grants."""

    def run_until(self, when: float) -> None:
        """Come to `when` on the loop's clock, or only to the first moment before it at which this node does something.

        What it does, it sets timers for, none of them in the loop's past. `when` is infinite where the loop has no
        timer. It may block, but what it does must not depend on how long that takes.
        """
        ...


class _Timer:
    """What `call_at` gives: an `asyncio.TimerHandle` without a context of its own, which few callbacks here need.

    A timer that does run in another context (a task's) sets a future, and the loop of asyncio does the rest.
    """

    __slots__ = ("_loop", "_when", "args", "callback")

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: VirtualLoop) -> None:
        self._when = when
        self.callback: Callable[..., object] | None = callback
        self.args: tuple[Any, ...] | None = args
        """None once it ran."""
        self._loop = loop

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback, self.args = None, ()
            self._loop.note_cancelled()

    def cancelled(self) -> bool:
        return self.callback is None and self.args is not None


class VirtualLoop(asyncio.AbstractEventLoop):
    """Deterministic asyncio loop on virtual time, in seconds from `start_s`.

    Raises StalledError from `run_until_complete` when nothing can happen any more, and VirtualTimeError from every
    method that would need a socket, a thread or a process.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._sequence = 0
        self._cancelled_count = 0
        self._running = False
        self._stopping = False
        self._closed = False
        self._debug = False
        self._asyncgens: WeakSet[AsyncGenerator[Any, Any]] = WeakSet()
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self.unhandled: list[dict[str, Any]] = []
        """Contexts of exceptions that no task or callback caught; a run with any of them is an ERROR."""
        self.events_run = 0
        self._stepped: Stepped | None = None

    def attach(self, node: Stepped) -> None:
        """Let `node` keep step with this loop. One at a time: between two, neither would know how far it may go."""
        if self._stepped is not None:
            raise VirtualTimeError("another node keeps step with this loop already")
        self._stepped = node

    def detach(self, node: Stepped) -> None:
        if self._stepped is node:
            self._stepped = None

    # time and callbacks

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Timer:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Timer:
        if context is not None:
            callback, args = context.run, (callback, *args)
        timer = _Timer(when, callback, args, self)
        self._sequence = sequence = self._sequence + 1
        heapq.heappush(self._timers, (when, sequence, timer))
        return timer

    def note_cancelled(self) -> None:
        """A timer that is set was cancelled: when most of them are, they are swept out."""
        self._cancelled_count += 1
        if self._cancelled_count > _COMPACT_ABOVE and self._cancelled_count * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_count = 0

    # running

    def run_forever(self) -> None:
        if self._closed:
            raise RuntimeError("the loop is closed")
        if self._running or events._get_running_loop() is not None:  # noqa: SLF001
            raise RuntimeError("a loop is already running")
        self._running, self._stopping = True, False
        events._set_running_loop(self)  # noqa: SLF001
        try:
            while not self._stopping:
                self._run_next()
        finally:
            events._set_running_loop(None)  # noqa: SLF001
            self._running = False

    def _run_next(self) -> None:
        """Run what is ready; with nothing ready, jump to the next timer."""
        ready = self._ready
        if not ready:
            timers = self._timers
            if self._stepped is not None:
                self._stepped.run_until(self._next_when())
                if ready:  # of what that has woken
                    return
                timers = self._timers
            while timers:
                when, _, timer = heapq.heappop(timers)
                callback = timer.callback
                if callback is None:
                    self._cancelled_count -= 1
                    continue
                if when > self._now:
                    self._now = when
                self.events_run += 1
                self._run_timer(timer, callback)
                return
            raise StalledError(
                f"virtual time stands still at {self._now:.6f} s: every task waits, and no timer is set to wake one"
            )
        while ready:
            handle = ready.popleft()
            if not handle.cancelled():
                self.events_run += 1
                handle._run()  # noqa: SLF001

    def _next_when(self) -> float:
        """When the next timer runs, cancelled ones left out; infinite if there is none."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._cancelled_count -= 1
        return timers[0][0] if timers else math.inf

    def _run_timer(self, timer: _Timer, callback: Callable[..., object]) -> None:
        """Run a timer's callback; it cannot be cancelled any more, and what it raises is unhandled."""
        args, timer.callback, timer.args = timer.args or (), None, None
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})

    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(lambda _: self.stop())
        try:
            self.run_forever()
        except BaseException:
            if task.done() and not task.cancelled():
                task.exception()
            else:
                task.cancel()
            raise
        return task.result()

    def stop(self) -> None:
        self._stopping = True

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Cancel what still waits, let it clean up, and forget the rest."""
        if self._closed:
            return
        for _ in range(8):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not tasks:
                break
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task.cancel()
            events._set_running_loop(self)  # noqa: SLF001
            try:
                while self._ready:
                    handle = self._ready.popleft()
                    if not handle.cancelled():
                        handle._run()  # noqa: SLF001
            finally:
                events._set_running_loop(None)  # noqa: SLF001
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        for generator in list(self._asyncgens):
            await generator.aclose()

    async def shutdown_default_executor(self) -> None:
        """There is none."""

    # futures, tasks, errors

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **kwargs)

    def get_debug(self) -> bool:
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        self._debug = enabled

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        return self._exception_handler

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._exception_handler is None:
            self.default_exception_handler(context)
        else:
            self._exception_handler(self, context)

    # what exists only in real time

    def _refuse(self, what: str) -> NoReturn:
        raise VirtualTimeError(
            f"{what} is not possible on the virtual clock: it would wait in the host's time and make the run "
            "impossible to repeat; use --clock real"
        )

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("a call from another thread")

    def run_in_executor(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("a thread")

    def add_reader(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("waiting for a file descriptor")

    def add_writer(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("waiting for a file descriptor")

    def add_signal_handler(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("a signal handler")

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a name look-up")

    async def getnameinfo(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a name look-up")

    async def create_connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def create_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def create_unix_connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_connect(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_recv(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_recv_into(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_recvfrom(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_recvfrom_into(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_sendall(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_sendto(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sock_accept(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def start_tls(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def connect_accepted_socket(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a socket")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a subprocess")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a subprocess")

    async def connect_read_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a pipe")

    async def connect_write_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a pipe")

    def remove_reader(self, *args: Any) -> NoReturn:
        self._refuse("waiting for a file descriptor")

    def remove_writer(self, *args: Any) -> NoReturn:
        self._refuse("waiting for a file descriptor")

    def remove_signal_handler(self, *args: Any) -> NoReturn:
        self._refuse("a signal handler")

    def set_default_executor(self, *args: Any) -> NoReturn:
        self._refuse("a thread")

    def set_task_factory(self, factory: Any) -> NoReturn:
        self._refuse("a task factory")

    def get_task_factory(self) -> None:
        """Tasks are always plain asyncio tasks."""


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run `main` to its end on `loop`, then close the loop."""
    try:
        result: T = loop.run_until_complete(main)
        return result
    finally:
        loop.close()
