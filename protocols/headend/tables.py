"""Which profiles and event logs there are by name, and the profile generic objects that may hold them.

IEC 62056-6-1, tables of OBIS codes; the monthly profile is 0-0:98.1.0 in DSMR and IDIS, 1-0:98.1.0 in India.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableName:
    """`candidates` are OBIS codes in the order in which they are looked for."""

    name: str
    label: str
    candidates: tuple[str, ...]
    is_log: bool = False


PROFILES: tuple[TableName, ...] = (
    TableName("load", "Load profile", ("1-0:99.1.0*255",)),
    TableName("daily", "Daily values", ("1-0:99.2.0*255",)),
    TableName("billing", "Monthly billing", ("0-0:98.1.0*255", "1-0:98.1.0*255")),
)
LOGS: tuple[TableName, ...] = (
    *(TableName(f"log-{number}", f"Event log {number}", (f"0-0:99.98.{number}*255",), True) for number in range(7)),
    TableName("log-power", "Power failures", ("1-0:99.97.0*255",), True),
)
TABLES: tuple[TableName, ...] = PROFILES + LOGS
BY_NAME = {table.name: table for table in TABLES}
BY_OBIS = {obis: table for table in TABLES for obis in table.candidates}
