"""How a run is made: what is real, what is emulated, and from which seed."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.errors import BadInputError
from twin.clock.clocks import ClockKind


class BrokerKind(enum.StrEnum):
    MEMORY = "memory"
    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


class AirKind(enum.StrEnum):
    BYTES = "bytes"
    SCAPY = "scapy"


class DcuKind(enum.StrEnum):
    NATIVE = "native"
    QEMU = "qemu"


DEFAULT_DATABASE = "sqlite"
"""A file `mdms.sqlite` in the run folder."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The choices of one run. `database` is an SQLAlchemy URL, or "sqlite" for a file in the run folder."""

    seed: int = 1
    clock: ClockKind = ClockKind.VIRTUAL
    broker: BrokerKind = BrokerKind.MEMORY
    air: AirKind = AirKind.BYTES
    database: str = DEFAULT_DATABASE
    dcu: DcuKind = DcuKind.NATIVE


def choose(
    *,
    seed: int,
    clock: ClockKind | None,
    broker: BrokerKind,
    air: AirKind,
    database: str,
    dcu: DcuKind = DcuKind.NATIVE,
) -> RunOptions:
    """The options that belong together. An outside broker runs in real time, and implies that clock.

    The emulated concentrator runs on both: in lock-step on the virtual clock, where its broker is in memory.

    Raises BadInputError for the virtual clock with an outside broker or database.
    """
    outside = broker is not BrokerKind.MEMORY
    if dcu is DcuKind.QEMU and not outside and clock is ClockKind.REAL:
        raise BadInputError(
            "on the real clock the emulated concentrator needs a broker with sockets; use --broker mosquitto or "
            "--broker embedded, or --clock virtual",
            key="--dcu qemu",
        )
    if clock is None:
        clock = ClockKind.REAL if outside else ClockKind.VIRTUAL
    if clock is ClockKind.VIRTUAL and outside:
        raise BadInputError(
            f"--broker {broker} lives in real time; use --clock real, or --broker memory", key="--clock virtual"
        )
    if seed < 0:
        raise BadInputError("must not be negative", key="--seed")
    return RunOptions(seed, clock, broker, air, database, dcu)
