"""Layouts of what the flash holds, and the way from an older one to the present.

A layout is a number in the counters partition; a flash without it has layout 1. Each step rewrites what has changed and
the number in one record: after a power cut the flash has the one layout or the other.

| Layout | What changed |
|---|---|
| 1 | the first |
| 2 | an energy has 12 bytes instead of 16: a checkpoint writes a quarter less |
"""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.partitions import LAYOUT_VERSION, StorageError
from meters.firmware.storage import Entries, RecordStore
from protocols.errors import LocalProtocolError

_LAYOUT = "layout"
_ENERGY = "energy/"
_OLD_ENERGY_BYTES, ENERGY_BYTES = 16, 12


def migrate(counters: RecordStore) -> int:
    """Bring a flash to the present layout. Returns the one that it had.

    Raises StorageError for a layout of a later firmware, and leaves the flash as it is.
    """
    found = counters.load(_LAYOUT)
    if found is None:
        found = 1 if counters.names() else LAYOUT_VERSION
    if found > LAYOUT_VERSION:
        raise StorageError(f"the flash has layout {found}, this firmware knows layouts up to {LAYOUT_VERSION}")
    for version in range(found, LAYOUT_VERSION):
        entries: dict[str, bytes | None] = dict(_STEPS[version](counters))
        counters.put_many(entries | {_LAYOUT: (version + 1).to_bytes(8, "big")})
    if counters.load(_LAYOUT) is None:
        counters.save(_LAYOUT, LAYOUT_VERSION)
    return found


def _shorten_energies(counters: RecordStore) -> Entries:
    return {name: _shortened(counters.get(name) or b"") for name in counters.names(_ENERGY)}


def _shortened(energies: bytes) -> bytes:
    size = _OLD_ENERGY_BYTES
    if len(energies) % size:
        raise StorageError(f"energies of {len(energies)} bytes in layout 1")
    values = [int.from_bytes(energies[at : at + size], "big") for at in range(0, len(energies), size)]
    return b"".join(value.to_bytes(ENERGY_BYTES, "big") for value in values)


_STEPS: dict[int, Callable[[RecordStore], Entries]] = {1: _shorten_energies}
"""From each layout to the next."""

if set(_STEPS) != set(range(1, LAYOUT_VERSION)):
    raise LocalProtocolError("every layout but the present one needs a step")
