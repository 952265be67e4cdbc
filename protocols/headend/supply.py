"""Disconnecting and reconnecting a line of a meter, asked for by the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from protocols.headend.kinds import DETAIL, ID, SERIAL, UTC
from protocols.headend.shapes import Choice, Flag, Integer, Optional, wrong
from protocols.leakage_protection import MAX_LINES, Refusal

_LINE = Integer(1, MAX_LINES, "Tenant line of the meter, from 1")


class SupplyAction(StrEnum):
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"


class SupplyStatus(StrEnum):
    """How a request ended. OK: the contacts are where they were to be, as the meter reports them."""

    OK = "ok"
    READY = "ready"
    """Allowed, and waiting for the customer's button, as the meter's control mode asks."""
    REFUSED = "refused"
    """By the meter (`reason`, `detail`), or because it may not be asked."""
    FAILED = "failed"
    """The meter obeyed and its contacts did not."""
    TIMEOUT = "timeout"
    UNKNOWN_METER = "unknown-meter"
    UNDEFINED = "undefined"
    """The meter has no such line, or cannot switch it."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SupplyRequest:
    """Head-end to DCU: open or close this line. After the deadline it must not be tried any more."""

    TYPE: ClassVar[str] = "supply-request"
    id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    line: Annotated[int, _LINE]
    action: Annotated[SupplyAction, Choice(SupplyAction)]
    deadline_utc_ms: Annotated[int, UTC]


@dataclass(frozen=True, slots=True)
class SupplyResponse:
    """DCU to head-end: answers `SupplyRequest`, once for each request id.

    `connected` is what the meter's contacts were last read as; absent where they could not be read. `reason` is there
    where the meter's leakage protection refused.
    """

    TYPE: ClassVar[str] = "supply-response"
    request_id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    line: Annotated[int, _LINE]
    status: Annotated[SupplyStatus, Choice(SupplyStatus)]
    completed_utc_ms: Annotated[int, UTC]
    connected: Annotated[bool | None, Optional(Flag())] = None
    reason: Annotated[Refusal | None, Optional(Choice(Refusal))] = None
    detail: Annotated[str, DETAIL] = ""

    def check(self) -> None:
        if self.reason is not None and (self.status is not SupplyStatus.REFUSED or self.reason is Refusal.NONE):
            raise wrong("reason", "must be absent unless status is refused")
