"""An operator's hand on an inverter's SunSpec registers, without a socket: the same checks as over Modbus TCP."""

from __future__ import annotations

from grid.der.sunspec.bank import BASE_ADDRESS, RegisterBank
from grid.der.sunspec.device import Answer, SunSpecDevice
from grid.der.sunspec.points import to_registers

_ADDRESSES = {
    (placed.model, placed.point.path): placed
    for placed in map(RegisterBank().at, range(len(RegisterBank().registers)))
    if placed is not None
}


def write_point(device: SunSpecDevice, model: int, path: str, raw: int) -> Answer:
    """Write one point by name. Raises KeyError for a point that no model has."""
    placed = _ADDRESSES[model, path]
    return device.write(BASE_ADDRESS + placed.offset, to_registers(placed.point.spec, raw))
