"""A finished run as its folder tells it: verdicts, what the head-end's database holds, and when it came."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.errors import BadInputError

_REPORT, _DATABASE = "report.json", "mdms.sqlite"


@dataclass(frozen=True, slots=True)
class StepOutcome:
    title: str
    verdict: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One stored row of a profile; `captured_ms` is the meter's own time, in ms since 1970."""

    serial: str
    profile: str
    captured_ms: int | None
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One value that was read on demand. `request` counts the requests of the run, from 1."""

    serial: str
    request: int
    name: str
    value: str
    number: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Milestone:
    """Something of a use case that the head-end saw. `waited_s` is how long it took, where it was asked for."""

    subject: str
    what: str
    at_ms: int
    waited_s: float | None = None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """Everything of a run that can be compared with another."""

    folder: Path
    scenario: str
    seed: str
    how: str
    simulated_s: float
    steps: tuple[StepOutcome, ...]
    rows: tuple[ProfileRow, ...]
    readings: tuple[Reading, ...]
    milestones: tuple[Milestone, ...]


def load_run(folder: Path) -> FinishedRun:
    """Raises BadInputError where the folder holds no finished run with a database of its own."""
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
        conditions = report["conditions"]
        steps = tuple(_step(case) for case in report["cases"])
        how = "ARM image" if "ARMv7" in conditions["real"] else "native daemon"
        scenario, seed, simulated_s = conditions["scenario"], conditions["seed"], float(report["simulated_s"])
    except OSError as error:
        raise BadInputError(f"is not there: {error.strerror}", file=str(folder / _REPORT)) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInputError("is not the report of a run", file=str(folder / _REPORT)) from error
    database = folder / _DATABASE
    if not database.exists():
        raise BadInputError("is not there; only runs with their own database can be compared", file=str(database))
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows, readings, milestones = _rows(connection), _readings(connection), _milestones(connection)
    except sqlite3.DatabaseError as error:
        raise BadInputError(f"is not the database of a run: {error}", file=str(database)) from error
    finally:
        connection.close()
    return FinishedRun(folder, scenario, seed, how, simulated_s, steps, rows, readings, milestones)


def _step(case: dict[str, Any]) -> StepOutcome:
    attempts = case["attempts"]
    duration_s = float(attempts[-1]["ended_s"]) - float(attempts[0]["started_s"])
    return StepOutcome(str(case["title"]), str(case["verdict"]), duration_s)


def _rows(connection: sqlite3.Connection) -> tuple[ProfileRow, ...]:
    found = connection.execute(
        "SELECT serial, name, captured_utc_ms, values_json FROM profile_rows"
        " ORDER BY serial, name, captured_utc_ms, row_id"
    )
    return tuple(
        ProfileRow(serial, name, at, tuple(map(str, json.loads(values)))) for serial, name, at, values in found
    )


def _readings(connection: sqlite3.Connection) -> tuple[Reading, ...]:
    found = connection.execute(
        "SELECT r.serial, q.sequence, r.name, r.value, r.number, r.unit FROM readings r"
        " JOIN requests q USING (request_id) ORDER BY q.sequence, r.obis"
    )
    return tuple(Reading(*row) for row in found)


def _milestones(connection: sqlite3.Connection) -> tuple[Milestone, ...]:
    """In the order in which the head-end had them."""
    found = [
        Milestone(serial, f"registration: {status}", at)
        for serial, status, at in connection.execute("SELECT serial, status, received_utc_ms FROM registrations")
    ]
    for table, what in (("requests", "reading"), ("profile_requests", "profile")):
        asked = connection.execute(
            f"SELECT serial, status, created_utc_ms, completed_utc_ms FROM {table} WHERE completed_utc_ms IS NOT NULL"  # noqa: S608
        )
        found += [
            Milestone(serial, f"{what}: {status}", done, (done - made) / 1000) for serial, status, made, done in asked
        ]
    found += [
        Milestone(dcu, f"bundle: {status}", at)
        for dcu, status, at in connection.execute("SELECT dcu_id, status, received_utc_ms FROM bundles")
    ]
    found += [
        Milestone(serial or source, f"event: {kind}", at)
        for source, kind, serial, at in connection.execute("SELECT source, kind, serial, received_utc_ms FROM events")
    ]
    return tuple(sorted(found, key=lambda item: (item.at_ms, item.subject, item.what)))
