"""Maintenance of the mesh: what a technician may ask of a concentrator about its members, and its keys.

{"id": 7, "command": "ping", "eui64": "<16 hex>", "payload_bytes": 56, "wait_s": 10}
    {"id": 7, "ok": true, "round_trip_s": 0.12}               null without an answer, or a way to the node
{"id": 8, "command": "rotate-group-key", "index": 2, "key": "<32 hex>"}
{"id": 9, "command": "revoke", "eui64": "<16 hex>"}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from protocols.errors import BadInputError
from protocols.mesh.config import LinkKey

EUI64_BYTES, KEY_BYTES = 8, 16
MOST_PAYLOAD_BYTES = 1232
"""What an echo has in a packet of IPv6's minimum MTU (RFC 8200, 5; RFC 4443, 4.1)."""
LONGEST_WAIT_S = 120.0


class MeshKeeper(Protocol):
    """What the commands need of a concentrator: `dcu.daemon.Dcu` keeps it."""

    async def ping(self, eui64: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None: ...

    def rotate_group_key(self, key: LinkKey) -> None: ...

    def revoke_access(self, eui64: bytes) -> None: ...


class MeshCommands:
    """The commands over the concentrator that runs now. Each raises BadInputError for a field that cannot be used."""

    def __init__(self, running: Callable[[], MeshKeeper]) -> None:
        self._running = running

    async def ping(self, request: dict[str, Any]) -> dict[str, Any]:
        """ICMPv6 echo to a member: its round trip in seconds."""
        eui64 = _octets(request, "eui64", EUI64_BYTES)
        payload_bytes = _number(request, "payload_bytes", 56, most=MOST_PAYLOAD_BYTES)
        timeout_s = _number(request, "wait_s", 10.0, most=LONGEST_WAIT_S)
        round_trip_s = await self._running().ping(eui64, payload=bytes(int(payload_bytes)), timeout_s=timeout_s)
        return {"round_trip_s": round_trip_s}

    def rotate_group_key(self, request: dict[str, Any]) -> dict[str, Any]:
        """A new group key comes into use. LocalProtocolError where keys are given by an installer, or for its index."""
        index = request.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= 4:
            raise BadInputError("give the number of a group key, 1 to 4", key="index")
        self._running().rotate_group_key(LinkKey(index, _octets(request, "key", KEY_BYTES)))
        return {}

    def revoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """A device is refused from now on, and shut out by the next group key. StorageError if it cannot be kept."""
        self._running().revoke_access(_octets(request, "eui64", EUI64_BYTES))
        return {}


def _octets(request: dict[str, Any], key: str, size_bytes: int) -> bytes:
    """From hex. The value is not repeated in the error: it may be a key."""
    value = request.get(key)
    try:
        octets = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        octets = b""
    if len(octets) != size_bytes:
        raise BadInputError(f"give {size_bytes} octets in hex", key=key)
    return octets


def _number(request: dict[str, Any], key: str, default: float, *, most: float) -> float:
    value = request.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadInputError(f"give a number from 0 to {most:g}", key=key)
    return float(value)
