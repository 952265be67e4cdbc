"""The inverter as a Modbus device: checks every request against the models, without any socket."""

from __future__ import annotations

import enum
import logging

from grid.der.inverter import Inverter
from grid.der.sunspec.bank import BASE_ADDRESS, RegisterBank
from grid.der.sunspec.binding import COMPLETED, FAILED, adopt, initialize, put_measurements, put_settings, read_settings
from protocols.errors import BadInputError

_LOG = logging.getLogger(__name__)

_ADOPTION = {705, 706, 707, 708, 709, 710, 711, 712}


class Answer(enum.Enum):
    """What a write is answered with: done, or a Modbus exception."""

    DONE = enum.auto()
    ILLEGAL_ADDRESS = enum.auto()
    ILLEGAL_VALUE = enum.auto()


class SunSpecDevice:
    """Registers of one inverter. `refused` counts writes that were refused."""

    def __init__(self, inverter: Inverter, serial: str = "DER-1", unit: int = 1) -> None:
        self.inverter = inverter
        self.refused = 0
        self._unit = unit
        self._bank = RegisterBank()
        initialize(self._bank, inverter, serial, unit)
        put_measurements(self._bank, inverter)

    @property
    def size(self) -> int:
        """Registers from BASE_ADDRESS on."""
        return len(self._bank.registers)

    def registers(self) -> list[int]:
        """All registers as they stand now."""
        self._refresh()
        return list(self._bank.registers)

    def write(self, address: int, values: list[int]) -> Answer:
        """Take a client's write as a whole, or refuse it as a whole and leave everything as it was."""
        offset = address - BASE_ADDRESS
        self._refresh()
        before = list(self._bank.registers)
        try:
            touched = self._bank.written(offset, len(values))
        except PermissionError as error:
            return self._refuse(Answer.ILLEGAL_ADDRESS, error)
        self._bank.registers[offset : offset + len(values)] = [value & 0xFFFF for value in values]
        try:
            for placed in touched:
                if self._bank.get(placed.model, placed.point.path) is None and ".Pt[" not in placed.point.path:
                    raise ValueError(f"{placed.model}.{placed.point.path}: that value means none")
                self._check_unit(placed.point.path)
                _check_switch(self._bank, placed.model, placed.point.path)
            self._apply([(placed.model, placed.point.path) for placed in touched])
        except (BadInputError, ValueError) as error:
            self._bank.registers[:] = before
            return self._refuse(Answer.ILLEGAL_VALUE, error)
        return Answer.DONE

    def _refresh(self) -> None:
        """The inverter changes settings by itself, too: a limit reverts when its time is over."""
        put_settings(self._bank, self.inverter.settings)
        put_measurements(self._bank, self.inverter)

    def _refuse(self, answer: Answer, error: Exception) -> Answer:
        self.refused += 1
        _LOG.warning("write refused, %s: %s", answer.name.lower().replace("_", " "), error)
        return answer

    def _check_unit(self, path: str) -> None:
        if path == "DA" and self._bank.get_int(1, path) != self._unit:
            raise ValueError(f"the unit identifier is {self._unit} for as long as the device runs")

    def _apply(self, paths: list[tuple[int, str]]) -> None:
        settings = read_settings(self._bank, self.inverter.settings)
        requests = [
            (model, path) for model, path in paths if model in _ADOPTION and path in {"AdptCrvReq", "AdptCtlReq"}
        ]
        self.inverter.apply(settings)
        for model, path in requests:
            self._adopt(model, path)
        put_settings(self._bank, self.inverter.settings)

    def _adopt(self, model: int, path: str) -> None:
        """A curve that cannot be adopted is no refused write: the request's own result register says so."""
        number = self._bank.get_int(model, path)
        if number == 0:
            return
        result = path.replace("Req", "Rslt")
        try:
            self.inverter.apply(adopt(self._bank, model, number, self.inverter.settings))
            self._bank.put(model, result, COMPLETED)
        except (BadInputError, ValueError) as error:
            self.refused += 1
            _LOG.warning("curve %d of model %d refused: %s", number, model, error)
            self._bank.put(model, result, FAILED)


def _check_switch(bank: RegisterBank, model: int, path: str) -> None:
    """Switches are off or on, and the two ways to set a power that are not there are refused."""
    name = path.rsplit(".", 1)[-1]
    raw = bank.get(model, path)
    if (name in {"Ena", "ES", "Ext", "VarSetPri"} or name.endswith(("Ena", "EnaRvrt"))) and raw not in {0, 1}:
        raise ValueError(f"{model}.{path} is 0 or 1, not {raw}")
    if path == "WSetMod" and raw != 0:
        raise ValueError("active power is set in percent of its maximum (WSetMod 0)")
