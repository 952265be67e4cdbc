"""A meter that runs by itself on an air that runs by itself: RCP over UDP, as `twin air --listen` takes it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from meters.firmware.mesh_node import MeshSettings
from protocols.errors import BadInputError
from protocols.mesh.config import KEY_BYTES, LinkKey
from protocols.mesh.timers import profile_named
from twin.errors import RigError
from twin.rigs.meters import NETWORK_NAME
from twin.rigs.radio import radio_settings, timers_profile
from twin.scenarios.schema import Scenario

_LOG = logging.getLogger(__name__)
_FIRST_INDEX = 1


@dataclass(frozen=True, slots=True)
class AirAddress:
    """Where the air listens, as `--listen air:udp://HOST:PORT` gives it."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> AirAddress | None:
        """None for an address of another kind. Raises BadInputError for one that begins with `air:` and is wrong."""
        if not text.startswith("air:"):
            return None
        try:
            parts = urlsplit(text.removeprefix("air:"))
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadInputError(f"{text!r}: {error}", key="--listen") from None
        if parts.scheme != "udp" or not host or not port or parts.path:
            raise BadInputError(f"{text!r} is not air:udp://HOST:PORT, with the port of `twin air`", key="--listen")
        return cls(host, port)

    def __str__(self) -> str:
        return f"air:udp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """The mesh's group keys by index, from a file such as a run's keys.json."""

    keys: tuple[LinkKey, ...] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> LinkKeys:
        """Raises BadInputError if the file has no `group_key` of 32 hex digits; never shows a value."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(f"cannot be read: {error.strerror}", file=str(path)) from None
        except ValueError:
            raise BadInputError("is not JSON", file=str(path)) from None
        text = document.get("group_key") if isinstance(document, dict) else None
        try:
            key = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise BadInputError(f"must be the mesh's key, {2 * KEY_BYTES} hex digits", file=str(path), key="group_key")
        return cls((LinkKey(_FIRST_INDEX, key),))


def mesh_settings(scenario: Scenario, keys: LinkKeys) -> MeshSettings:
    """How a meter joins the mesh of that scenario: its radio plan and timers, and the keys given."""
    return MeshSettings(
        network_name=NETWORK_NAME,
        keys=keys.keys,
        profile=profile_named(timers_profile(scenario)),
        radio=radio_settings(scenario),
    )


class UdpLink(asyncio.DatagramProtocol):
    """The `ByteLink` to a radio whose MAC runs beside the air: a datagram carries bytes of the serial line.

    While the air is not there, what is written is lost, as on a line without a radio; the mesh stack asks again.
    """

    def __init__(self, address: AirAddress) -> None:
        self._address = address
        self._transport: asyncio.DatagramTransport | None = None
        self._receiver: Callable[[bytes], None] | None = None
        self._is_missed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(data)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._is_missed = False
        if self._receiver is not None:
            self._receiver(data)

    def error_received(self, exc: Exception) -> None:
        if not self._is_missed:
            _LOG.warning("no air answers at %s (%s); start `twin air`. Trying on", self._address, exc)
        self._is_missed = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


async def open_air(address: AirAddress) -> UdpLink:
    """A line to the air. Raises RigError if the host is unknown."""
    loop = asyncio.get_running_loop()
    try:
        _, link = await loop.create_datagram_endpoint(
            lambda: UdpLink(address), remote_addr=(address.host, address.port)
        )
    except OSError as error:
        raise RigError(f"cannot reach {address}: {error.strerror}") from None
    return link
