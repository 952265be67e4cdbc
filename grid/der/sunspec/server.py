"""The device behind Modbus TCP, by pymodbus."""

from __future__ import annotations

from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from grid.der.sunspec.bank import BASE_ADDRESS
from grid.der.sunspec.device import Answer, SunSpecDevice

_EXCEPTIONS = {
    Answer.DONE: None,
    Answer.ILLEGAL_ADDRESS: ExcCodes.ILLEGAL_ADDRESS,
    Answer.ILLEGAL_VALUE: ExcCodes.ILLEGAL_VALUE,
}


class SunSpecServer:
    """Serves a device until `stop`. Reads and writes see the inverter as it is at that moment."""

    def __init__(self, device: SunSpecDevice, host: str, port: int, unit: int) -> None:
        self._device, self._host, self._port, self._unit = device, host, port, unit
        self._server: ModbusTcpServer | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns host and port (a free one, if it was 0). Raises OSError if that is not possible."""
        block = SimData(BASE_ADDRESS, values=self._device.registers(), datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(self._unit, [block], action=self._action), address=(self._host, self._port))
        if not await server.listen():
            raise OSError(f"cannot listen on {self._host}:{self._port}")
        self._server = server
        transport: Any = server.transport
        host, port = transport.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def stop(self) -> None:
        if self._server is not None:
            server: Any = self._server
            await server.shutdown()
            self._server = None

    async def _action(
        self, _function: int, _start: int, address: int, _count: int, registers: list[int], values: list[Any] | None
    ) -> ExcCodes | None:
        if values is not None:
            answer = self._device.write(address, [int(value) for value in values])
            if answer is not Answer.DONE:
                return _EXCEPTIONS[answer]
            # The server now puts the written values in place; what they changed elsewhere is there already.
        registers[:] = self._device.registers()
        return None
