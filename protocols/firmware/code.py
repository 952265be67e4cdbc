"""Routines of a program: code for a small stack machine, as bytes and as text.

Vendors' firmware must be able to do what it likes to the meter and nothing to the host: so it is code for this machine,
and not for the host's processor or its Python. Numbers are signed 64-bit integers; sixteen variables live as long as
the firmware runs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import BadInputError, LocalProtocolError, RemoteProtocolError
from protocols.firmware.faults import FirmwareError, FirmwareFault

VARIABLES = 16
MAX_CODE_BYTES = 4096
_ON_START = 0


class Op(enum.IntEnum):
    """Operations; the comment says what they take from the stack and leave on it."""

    HALT = 0x00  # ( )
    PUSH = 0x01  # ( -- number)
    LOAD = 0x02  # ( -- value of a variable)
    STORE = 0x03  # (value -- )
    MEASURE = 0x04  # ( -- quantity in thousandths of its unit)
    UPTIME = 0x05  # ( -- seconds since the start)
    ADD = 0x10  # (a b -- a+b)
    SUB = 0x11  # (a b -- a-b)
    MUL = 0x12  # (a b -- a*b)
    DIV = 0x13  # (a b -- a/b, rounded down)
    LESS = 0x14  # (a b -- 1 if a<b, else 0)
    EQUAL = 0x15  # (a b -- 1 if a=b, else 0)
    JUMP = 0x20  # ( )
    JUMP_IF_ZERO = 0x21  # (value -- )


class Operand(enum.Enum):
    NONE = 0
    NUMBER = 8
    VARIABLE = 1
    NAME = -1
    """A quantity: a byte with its length, then ASCII."""
    TARGET = 2
    """A place in the routine, from its beginning."""


OPERANDS = {
    Op.PUSH: Operand.NUMBER,
    Op.LOAD: Operand.VARIABLE,
    Op.STORE: Operand.VARIABLE,
    Op.MEASURE: Operand.NAME,
    Op.JUMP: Operand.TARGET,
    Op.JUMP_IF_ZERO: Operand.TARGET,
}
OPERATIONS = {op.value: op for op in Op}
_MNEMONICS = {op.name.lower().replace("_", "-"): op for op in Op}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation. `offset` is where it begins in its routine; `operand` a number, a name, or None."""

    offset: int
    op: int
    operand: int | str | None = None


@dataclass(frozen=True, slots=True)
class Routine:
    """Code that runs at the start of the firmware (`period_s` 0), or every `period_s` seconds after it."""

    period_s: int
    code: bytes

    def encode(self) -> bytes:
        if not 0 <= self.period_s <= 0xFFFF or len(self.code) > MAX_CODE_BYTES:
            raise LocalProtocolError(f"a routine every {self.period_s} s with {len(self.code)} bytes of code")
        return self.period_s.to_bytes(2, "big") + len(self.code).to_bytes(2, "big") + self.code

    @classmethod
    def decode(cls, reader: Reader) -> Routine:
        """Raises RemoteProtocolError if truncated."""
        return cls(reader.u16(), reader.take(reader.u16()))

    @property
    def on_start(self) -> bool:
        return self.period_s == _ON_START


def decode_instruction(code: bytes, offset: int) -> tuple[Instruction, int]:
    """The instruction at `offset` and where the next begins. An operation that does not exist is one without operand:
    what executing it does is the machine's to say. Raises RemoteProtocolError if truncated."""
    reader = Reader(code, offset=offset)
    number = reader.u8()
    op = OPERATIONS.get(number)
    kind = Operand.NONE if op is None else OPERANDS.get(op, Operand.NONE)
    operand: int | str | None = None
    match kind:
        case Operand.NUMBER:
            operand = int.from_bytes(reader.take(8), "big", signed=True)
        case Operand.VARIABLE:
            operand = reader.u8()
        case Operand.TARGET:
            operand = reader.u16()
        case Operand.NAME:
            operand = reader.take(reader.u8()).decode("ascii", "replace")
        case Operand.NONE:
            pass
    return Instruction(offset, number, operand), reader.offset


def disassemble(code: bytes) -> list[Instruction]:
    """All instructions in order. Raises FirmwareError if the last one is truncated."""
    found, offset = [], 0
    while offset < len(code):
        try:
            instruction, offset = decode_instruction(code, offset)
        except RemoteProtocolError as error:
            raise FirmwareError(FirmwareFault.PROGRAM, f"code is truncated: {error}") from None
        found.append(instruction)
    return found


def listing(code: bytes) -> list[str]:
    """The routine as lines for people."""
    lines = []
    for item in disassemble(code):
        op = OPERATIONS.get(item.op)
        name = f"byte 0x{item.op:02x}" if op is None else op.name.lower().replace("_", "-")
        lines.append(f"{item.offset:4d}  {name}{'' if item.operand is None else f' {item.operand}'}")
    return lines


def assemble(text: str) -> bytes:
    """Code from text, one operation a line: `push 5`, `store 0`, `again:`, `jump again`; `#` begins a comment.

    `byte 0xNN` puts a byte as it is. Raises BadInputError with the line.
    """
    code, labels = bytearray(), dict[str, int]()
    targets: list[tuple[int, str, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) == 1 and words[0].endswith(":"):
            labels[words[0][:-1]] = len(code)
        else:
            _assemble_line(words, number, code, targets)
    for place, label, number in targets:
        if label not in labels:
            raise BadInputError(f"no label {label!r}; write a line `{label}:`", line=number)
        code[place : place + 2] = labels[label].to_bytes(2, "big")
    if len(code) > MAX_CODE_BYTES:
        raise BadInputError(f"{len(code)} bytes of code, a routine has {MAX_CODE_BYTES} at most")
    return bytes(code)


def _assemble_line(words: list[str], line: int, code: bytearray, targets: list[tuple[int, str, int]]) -> None:
    name, operands = words[0], words[1:]
    if name == "byte" and len(operands) == 1:
        code.append(_number(operands[0], 0, 255, line))
        return
    op = _MNEMONICS.get(name)
    if op is None:
        raise BadInputError(f"no operation {name!r}; there are: {', '.join(_MNEMONICS)}", line=line)
    kind = OPERANDS.get(op, Operand.NONE)
    if len(operands) != (kind is not Operand.NONE):
        raise BadInputError(f"{name} takes {'no operand' if kind is Operand.NONE else 'one operand'}", line=line)
    code.append(op)
    match kind:
        case Operand.NUMBER:
            code += _number(operands[0], -(2**63), 2**63 - 1, line).to_bytes(8, "big", signed=True)
        case Operand.VARIABLE:
            code.append(_number(operands[0], 0, VARIABLES - 1, line))
        case Operand.NAME:
            raw = operands[0].encode("ascii", "replace")[:255]
            code += bytes((len(raw),)) + raw
        case Operand.TARGET:
            targets.append((len(code), operands[0], line))
            code += b"\0\0"
        case Operand.NONE:
            pass


def _number(text: str, least: int, most: int, line: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise BadInputError(f"{text!r} is no whole number", line=line) from None
    if not least <= value <= most:
        raise BadInputError(f"{value} is not within {least} to {most}", line=line)
    return value
