"""The trial of a new program: it confirms itself when it has run for a while and can be reached, or it is given up."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.image_update import ImageUpdate
from protocols.ports import Cancellable, Timers

CONFIRM_AFTER_S = 60.0
"""A program that crashes soon after its start must not be confirmed."""
CONFIRM_WITHIN_S = 3600.0
"""A program that cannot be reached can never be replaced: it has an hour to find the mesh."""
_LOOK_EVERY_S = 10.0


class ImageTrial:
    """Watches the program that runs while it is on trial. `is_reachable`: the mesh, where there is one, has a way."""

    def __init__(
        self,
        update: ImageUpdate,
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
        is_reachable: Callable[[], bool],
        restart: Callable[[], None],
    ) -> None:
        self._update = update
        self._timers = timers
        self._guard = guard
        self._is_reachable = is_reachable
        self._restart = restart
        self._started_s = timers.time()
        self._timer: Cancellable | None = None

    def start(self) -> None:
        if self._update.on_trial:
            self._arm(CONFIRM_AFTER_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, wait_s: float) -> None:
        self._timer = self._timers.call_at(self._timers.time() + wait_s, lambda: self._guard(self._look))

    def _look(self) -> None:
        self._timer = None
        if self._is_reachable():
            self._update.confirm()
        elif self._timers.time() - self._started_s >= CONFIRM_WITHIN_S:
            self._restart()
        else:
            self._arm(_LOOK_EVERY_S)
