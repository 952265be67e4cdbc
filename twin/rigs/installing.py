"""The installers: each meter gets its power in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from twin.rigs.folder import EventTrace
from twin.rigs.meters import RigMeter


class Installers:
    """Switch every meter on once, so long after the start of the run, or after another is in the mesh, as it says."""

    def __init__(self, meters: Iterable[RigMeter], loop: asyncio.AbstractEventLoop, trace: EventTrace) -> None:
        self._loop = loop
        self._waiting: dict[str, list[RigMeter]] = {}
        for meter in meters:
            after = meter.settings.installed_after
            if after is None:
                self._install(meter)
            else:
                self._waiting.setdefault(after, []).append(meter)
        if self._waiting:
            trace.listeners.append(self._event)

    def _install(self, meter: RigMeter) -> None:
        self._loop.call_later(meter.settings.installed_at_s, meter.power_on)

    def _event(self, kind: str, fields: dict[str, object]) -> None:
        if kind == "mesh.join" and fields.get("state") == "OPERATIONAL":
            for meter in self._waiting.pop(str(fields.get("node")), ()):
                self._install(meter)
