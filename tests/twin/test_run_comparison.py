"""`twin compare`: what it calls the same, what it does not, and what it cannot read."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from twin_runs import Run, twin_run
from typer.testing import CliRunner

from protocols.errors import BadInputError
from twin.commands.main import app
from twin.rigs.comparison.differences import Comparison, compare
from twin.rigs.comparison.finished import load_run

_FIRST_ROW_OF = "DELETE FROM profile_rows WHERE row_id = (SELECT min(row_id) FROM profile_rows WHERE name = '{}')"

_LOST_EVENT = (
    "INSERT INTO events (source, event_id, kind, serial, details_json, time_utc_ms, received_utc_ms)"
    " VALUES ('dcu-1', 'lost-1', 'meter-lost', '{}', '{{}}', 1772470800000, 1772470800250)"
)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = twin_run(tmp_path_factory.mktemp("day") / "run", "village-day", "--seed", "7")
    assert run.status == 0, run.stderr
    return run


def _other(day: Run, tmp_path: Path, *statements: str) -> Path:
    """A copy of the run whose database was changed."""
    folder = tmp_path / "other"
    shutil.copytree(day.folder, folder)
    with sqlite3.connect(folder / "mdms.sqlite") as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    return folder


def _differing(comparison: Comparison) -> list[str]:
    return [item.what.split(" ")[0] for item in comparison.agreements if not item.holds]


def test_a_run_is_the_same_as_itself(day: Run) -> None:
    run = load_run(day.folder)
    comparison = compare(run, run)
    assert comparison.holds
    assert sum(item.first for item in comparison.agreements) > 500
    assert all(row[3] == "+0.000" for row in comparison.tables[0].rows)


@pytest.mark.parametrize(
    ("statement", "differs"),
    [
        (_FIRST_ROW_OF.format("load"), ["rows"]),
        (_FIRST_ROW_OF.format("log-0"), ["entries"]),
        ("DELETE FROM readings WHERE reading_id = 1", ["values"]),
        ("UPDATE requests SET status = 'timeout' WHERE sequence = 1", ["use-case", "kinds"]),
    ],
    ids=["a row is missing", "a log entry is missing", "a value is missing", "a reading failed"],
)  # fmt: skip
def test_what_differs_is_told(day: Run, tmp_path: Path, statement: str, differs: list[str]) -> None:
    comparison = compare(load_run(day.folder), load_run(_other(day, tmp_path, statement)))
    assert not comparison.holds
    assert _differing(comparison) == differs


def test_time_alone_makes_no_difference_but_is_shown(day: Run, tmp_path: Path) -> None:
    later = _other(day, tmp_path, "UPDATE requests SET completed_utc_ms = completed_utc_ms + 7")
    comparison = compare(load_run(day.folder), load_run(later))
    assert comparison.holds
    readings = next(row for row in comparison.tables[1].rows if row[0] == "reading: ok")
    assert readings[2] != readings[4]


def test_a_route_that_expires_in_one_run_only_is_shown_and_decides_nothing(day: Run, tmp_path: Path) -> None:
    lost = "IHM5000099"
    other = _other(day, tmp_path, _LOST_EVENT.format(lost))
    comparison = compare(load_run(day.folder), load_run(other))
    assert comparison.holds
    table = next(table for table in comparison.tables if "given up" in table.title)
    assert (lost, "not in the run", "2026-03-02 17:00:00.250") in table.rows


def test_other_values_are_counted(day: Run, tmp_path: Path) -> None:
    other = _other(day, tmp_path, "UPDATE readings SET value = value + 3 WHERE name = 'voltage_l1'")
    rows = compare(load_run(day.folder), load_run(other)).tables[-1].rows
    name, count, same, apart = next(row for row in rows if str(row[0]).startswith("voltage_l1"))
    assert (int(count) > 0, same, apart) == (True, 0, "3"), name


def test_the_command_says_it_in_json_and_by_its_status(day: Run, tmp_path: Path) -> None:
    other = _other(day, tmp_path, "DELETE FROM readings WHERE reading_id = 1")
    same = CliRunner().invoke(app, ["compare", str(day.folder), str(day.folder), "--json"])
    differs = CliRunner().invoke(app, ["compare", str(day.folder), str(other), "--json"])
    assert (same.exit_code, json.loads(same.stdout)["same"]) == (0, True)
    assert (differs.exit_code, json.loads(differs.stdout)["same"]) == (1, False)


def test_runs_of_different_seeds_are_not_compared(day: Run, tmp_path: Path) -> None:
    other = _other(day, tmp_path)
    report = json.loads((other / "report.json").read_text())
    report["conditions"]["seed"] = "8"
    (other / "report.json").write_text(json.dumps(report))
    result = CliRunner().invoke(app, ["compare", str(day.folder), str(other)])
    assert isinstance(result.exception, BadInputError)
    assert "has seed 8" in str(result.exception)


@pytest.mark.parametrize("break_it", ["no folder", "no report", "no database", "no SQLite"])
def test_a_folder_that_is_no_run_is_refused(day: Run, tmp_path: Path, break_it: str) -> None:
    folder = _other(day, tmp_path)
    match break_it:
        case "no folder":
            shutil.rmtree(folder)
        case "no report":
            (folder / "report.json").write_text("[]")
        case "no database":
            (folder / "mdms.sqlite").unlink()
        case "no SQLite":
            (folder / "mdms.sqlite").write_bytes(b"junk" * 100)
    with pytest.raises(BadInputError, match=r"report\.json|mdms\.sqlite"):
        load_run(folder)
