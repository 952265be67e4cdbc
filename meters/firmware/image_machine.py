"""Runs the routines of a program (protocols.firmware.code). Whatever the code does, it can only harm its own meter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meters.firmware.measurements import Measurements
from meters.firmware.quantities import QUANTITIES
from protocols.errors import RemoteProtocolError, TwinError
from protocols.firmware.code import OPERATIONS, VARIABLES, Instruction, Op, Routine, decode_instruction
from protocols.ports import Cancellable, Timers

STEP_LIMIT = 10_000
"""Instructions of one run: beyond, the watchdog bites."""
_STACK_LIMIT = 64
_MASK, _SIGN = (1 << 64) - 1, 1 << 63
_MILLI = -3


class ProgramFault(TwinError):  # noqa: N818 (what a processor calls it)
    """The program did what no processor can go on from: the meter resets."""


class Machine:
    """Sixteen variables, and code that works on them. `uptime_s` is the time since the firmware's start."""

    def __init__(self, measurements: Measurements, uptime_s: Callable[[], float]) -> None:
        self._measurements = measurements
        self._uptime_s = uptime_s
        self.variables = [0] * VARIABLES

    def run(self, code: bytes) -> None:
        """From the first instruction to HALT or the end. Raises ProgramFault."""
        stack: list[int] = []
        offset = 0
        for _ in range(STEP_LIMIT):
            if offset >= len(code):
                return
            try:
                instruction, offset = decode_instruction(code, offset)
            except RemoteProtocolError:
                raise ProgramFault(f"truncated instruction at {offset}") from None
            op = OPERATIONS.get(instruction.op)
            if op is Op.HALT:
                return
            if op is None:
                raise ProgramFault(f"illegal instruction 0x{instruction.op:02x} at {instruction.offset}")
            target = self._step(op, instruction, stack)
            offset = offset if target is None else target
        raise ProgramFault(f"watchdog: no end within {STEP_LIMIT} instructions")

    def _step(self, op: Op, instruction: Instruction, stack: list[int]) -> int | None:
        """One instruction. Gives where to go on, None for the next."""
        operand = instruction.operand
        if op is Op.JUMP or (op is Op.JUMP_IF_ZERO and _pop(stack, instruction) == 0):
            return int(operand or 0)
        if op in _ARITHMETIC:
            right, left = _pop(stack, instruction), _pop(stack, instruction)
            if op is Op.DIV and right == 0:
                raise ProgramFault(f"division by zero at {instruction.offset}")
            stack.append(_wrapped(_ARITHMETIC[op](left, right)))
        elif op is Op.STORE:
            self.variables[self._variable(instruction)] = _pop(stack, instruction)
        elif op is not Op.JUMP_IF_ZERO:
            stack.append(_wrapped(self._value(op, instruction)))
        if len(stack) > _STACK_LIMIT:
            raise ProgramFault(f"stack overflow at {instruction.offset}")
        return None

    def _value(self, op: Op, instruction: Instruction) -> int:
        if op is Op.LOAD:
            return self.variables[self._variable(instruction)]
        if op is Op.MEASURE:
            quantity = QUANTITIES.get(str(instruction.operand))
            if quantity is None:
                raise ProgramFault(f"no quantity {instruction.operand!r} at {instruction.offset}")
            return quantity.read(self._measurements, _MILLI)
        if op is Op.UPTIME:
            return int(self._uptime_s())
        return int(instruction.operand or 0)

    @staticmethod
    def _variable(instruction: Instruction) -> int:
        number = int(instruction.operand or 0)
        if number >= VARIABLES:
            raise ProgramFault(f"no variable {number} at {instruction.offset}")
        return number


_ARITHMETIC: dict[Op, Callable[[int, int], int]] = {
    Op.ADD: lambda left, right: left + right,
    Op.SUB: lambda left, right: left - right,
    Op.MUL: lambda left, right: left * right,
    Op.DIV: lambda left, right: left // right,
    Op.LESS: lambda left, right: int(left < right),
    Op.EQUAL: lambda left, right: int(left == right),
}


def _pop(stack: list[int], instruction: Instruction) -> int:
    if not stack:
        raise ProgramFault(f"stack underflow at {instruction.offset}")
    return stack.pop()


def _wrapped(value: int) -> int:
    """Two's complement of 64 bits."""
    return ((value & _MASK) ^ _SIGN) - _SIGN


class ProgramRunner:
    """Runs a program's routines at their times. `guard` is where a fault of the program ends."""

    def __init__(
        self,
        machine: Machine,
        routines: Sequence[Routine],
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._machine = machine
        self._routines = routines
        self._timers = timers
        self._guard = guard
        self._waiting: dict[int, Cancellable] = {}

    def start(self) -> None:
        """Run what runs at the start. Raises ProgramFault."""
        for number, routine in enumerate(self._routines):
            if routine.on_start:
                self._machine.run(routine.code)
            else:
                self._arm(number)

    def stop(self) -> None:
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()

    def _arm(self, number: int) -> None:
        when = self._timers.time() + self._routines[number].period_s
        self._waiting[number] = self._timers.call_at(when, lambda: self._guard(lambda: self._fire(number)))

    def _fire(self, number: int) -> None:
        self._arm(number)
        self._machine.run(self._routines[number].code)
