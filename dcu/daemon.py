"""The concentrator: puts radio, border router, registry, sessions, jobs and uplink together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from dcu.config import DcuConfig
from dcu.storage import Storage
from dcu.uplink import Uplink
from protocols.ports import ByteLink, KeySource, Trace


class Dcu:
    """One concentrator on one event loop, between a radio and an uplink.

    Everything that it knows of the outside comes in here: `radio` carries RCP frames, `storage` survives it, `utc_s`
    is its own wall clock in seconds since 1970. An instance runs once; a restart is a new instance over the same
    storage.
    """

    def __init__(
        self,
        config: DcuConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        radio: ByteLink,
        uplink: Uplink,
        storage: Storage,
        key_source: KeySource,
        rng: random.Random,
        utc_s: Callable[[], float],
        trace: Trace,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Reset the radio, start the mesh and the uplink. Returns at once."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Orderly end: running requests are answered `error`, the status goes to offline, the session is closed."""
        raise NotImplementedError

    def halt(self) -> None:
        """End at once, as when the power fails: nothing is sent or written any more."""
        raise NotImplementedError

    async def run(self) -> None:
        """`start`, then wait until `stop` or `halt` was called."""
        raise NotImplementedError
