"""The day, the blackout and the month, as a user runs them. Every row of use cases III, IV and VI by its name."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from twin_runs import Run, twin_run


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("day"), "village-day", "--seed", "3")


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("blackout"), "blackout", "--seed", "3", "--set", "meters=8")


def _measured(run: Run, step: str, name: str) -> object:
    case = next(case for case in run.report["cases"] if case["name"] == step)
    assert case["verdict"] == "PASS", case
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


def test_the_day_passes(day: Run) -> None:
    assert day.status == 0, day.stdout + day.stderr
    assert day.report["simulated_s"] > 2 * 86_400


@pytest.mark.requirement("UC-III.1")
def test_load_daily_and_monthly_profiles_are_read_by_range_and_are_as_on_flash(day: Run) -> None:
    assert _measured(day, "profiles-by-range", "requests answered") == 18
    assert _measured(day, "profiles-by-range", "rows that are not as on flash") == 0
    assert _measured(day, "profiles-by-range", "new rows when a range is read again") == 0


@pytest.mark.requirement("UC-III.2")
def test_a_power_failure_and_a_clock_change_are_marked(day: Run) -> None:
    assert _measured(day, "gap-is-marked", "gaps that a power failure explains") == 1
    marked = _measured(day, "gap-is-marked", "rows marked for a change of the clock")
    assert isinstance(marked, int)
    assert marked >= 1


@pytest.mark.requirement("UC-III.2")
def test_a_blackout_is_a_gap_in_every_profile_and_no_second_row(dark: Run) -> None:
    assert dark.status == 0, dark.stdout + dark.stderr
    assert _measured(dark, "blackout", "rows of meters at the head-end") == 8
    assert _measured(dark, "gaps-of-all", "profiles with a gap that a power failure explains") == 8


@pytest.mark.requirement("UC-IV.1")
def test_one_bundle_a_day_brings_what_meters_have_pushed_at_moments_of_their_own(day: Run) -> None:
    assert _measured(day, "daily-bundle", "bundles stored, one a day") == 1
    spread_s = _measured(day, "daily-bundle", "spread of the pushes")
    assert isinstance(spread_s, float)
    assert spread_s > 60


@pytest.mark.requirement("UC-IV.2")
def test_a_day_without_uplink_and_a_power_cut_lose_and_double_no_row(day: Run) -> None:
    for name in ("rows that the database lacks", "rows that no meter has", "rows that are there twice"):
        assert _measured(day, "uplink-outage", name) == 0
    database = sqlite3.connect(day.folder / "mdms.sqlite")
    rows, distinct = database.execute(
        "select count(*), count(distinct serial || obis || captured_utc_ms || values_json || ifnull(status, '')) "
        "from profile_rows"
    ).fetchone()
    bundles = database.execute("select status from bundles").fetchall()
    database.close()
    assert rows == distinct > 500
    assert {status for (status,) in bundles} == {"stored"}


@pytest.mark.requirement("UC-IV.3")
def test_tamper_events_come_with_the_bundle(day: Run) -> None:
    found = _measured(day, "logs-in-the-bundle", "tamper events of the meter at the head-end")
    assert isinstance(found, int)
    assert found >= 2


@pytest.mark.requirement("UC-VI.2")
def test_every_clock_is_within_two_seconds_after_a_broadcast_that_drift_has_triggered(day: Run) -> None:
    before = _measured(day, "clocks-are-set", "clocks off by more than 2 s before")
    after_s = _measured(day, "clocks-are-set", "largest offset after")
    assert isinstance(before, int)
    assert isinstance(after_s, float)
    assert before >= 3
    assert after_s <= 2.0
    assert _measured(day, "clocks-are-set", "multicasts sent, one a security suite") == 1


@pytest.mark.requirement("UC-VI.2")
def test_the_distribution_of_clocks_is_plotted_before_and_after(day: Run) -> None:
    counts = {}
    for name in ("clocks-before", "clocks-after"):
        picture = json.loads((day.folder / "pictures" / f"{name}.json").read_text())
        counts[name] = {label: count for label, count in picture["values"] if count}
        assert (day.folder / "pictures" / f"{name}.png").stat().st_size > 5_000
        assert f"Clocks {name.partition('-')[2]} the synchronization" in (day.folder / "report.html").read_text()
    near = {"to 0.1 s", "to 0.5 s", "to 1 s", "to 2 s"}
    assert sum(counts["clocks-before"].values()) == sum(counts["clocks-after"].values()) == 6
    assert sum(count for label, count in counts["clocks-before"].items() if label not in near) >= 3
    assert set(counts["clocks-after"]) <= near


@pytest.mark.requirement("HW-6")
def test_a_last_gasp_comes_once_over_two_hops(day: Run) -> None:
    assert _measured(day, "last-gasp", "last gasps at the head-end") == 1
    assert _measured(day, "last-gasp", "last gasps when it is back") == 1


@pytest.mark.requirement("UC-IV.3")
def test_tampering_raises_alarms_at_once_and_fills_the_log_of_the_bundle(day: Run) -> None:
    assert _measured(day, "tampering", "alarms when all is over") == 5
    titles = {case["title"]: case["verdict"] for case in day.report["cases"]}
    assert titles["tamper logs are in the bundle"] == "PASS"


@pytest.mark.requirement("UC-VI.4")
def test_a_forged_and_a_replayed_time_move_no_clock(day: Run) -> None:
    moved_s = _measured(day, "forged-time-is-refused", "the clock has moved by")
    assert isinstance(moved_s, float)
    assert abs(moved_s) < 0.1


@pytest.mark.requirement("UC-VI.5")
def test_a_concentrator_with_a_wrong_clock_is_flagged_until_it_is_right(day: Run) -> None:
    assert _measured(day, "wrong-dcu-is-flagged", "flagged when it is wrong") is True
    assert _measured(day, "wrong-dcu-is-flagged", "flagged when it is right again") is False


def test_one_seed_gives_the_same_day(day: Run, tmp_path: Path) -> None:
    again = twin_run(tmp_path, "village-day", "--seed", "3", PYTHONHASHSEED="99", TZ="Asia/Kathmandu")
    for name in ("events.jsonl", "report.json", "report.xml"):
        assert (again.folder / name).read_bytes() == (day.folder / name).read_bytes(), name


@pytest.mark.soak
def test_days_of_a_fleet_are_complete(tmp_path: Path) -> None:
    fleet = twin_run(tmp_path, "village-month", "--seed", "1", "--set", "meters=30", "--set", "days=4")
    assert fleet.status == 0, fleet.stdout + fleet.stderr
    assert _measured(fleet, "daily-bundle", "bundles stored, one a day") == 4
    assert _measured(fleet, "daily-bundle", "rows that the database lacks") == 0
