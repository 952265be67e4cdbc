"""The uplink and the clock as a user runs them. Their rows of the catalogue by name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from twin_runs import Run, twin_run


@pytest.fixture(scope="module")
def uplink(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("uplink"), "uplink", "--seed", "5")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("gps-clock"), "gps-clock", "--seed", "5")


def _measured(run: Run, step: str, name: str) -> Any:
    case = next(case for case in run.report["cases"] if case["name"] == step)
    assert case["verdict"] == "PASS", case
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


def test_the_uplink_passes_and_leaves_its_pictures(uplink: Run) -> None:
    assert uplink.status == 0, uplink.stdout + uplink.stderr
    assert (uplink.folder / "pictures" / "uplink.json").exists()
    assert (uplink.folder / "pictures" / "uplink-queue.json").exists()


@pytest.mark.requirement("NET-5")
def test_a_bundle_begun_over_the_satellite_is_finished_over_cellular(uplink: Run) -> None:
    step = "satellite-dies-in-mid-bundle"
    assert _measured(uplink, step, "packets on the link when it was cut") >= 1
    assert _measured(uplink, step, "sessions taken up again") >= 1
    assert _measured(uplink, step, "bundles stored") == 1
    assert _measured(uplink, step, "rows that the database lacks") == 0
    assert _measured(uplink, step, "rows that are there twice") == 0


@pytest.mark.requirement("HW-4")
def test_technologies_drop_and_recover_and_the_other_sim_takes_over(uplink: Run) -> None:
    assert _measured(uplink, "technology-drops", "technologies as the signal fades") == "3g, 2g"
    assert _measured(uplink, "technology-carries-nothing", "technology that is used instead") == "3g"
    assert _measured(uplink, "sim-dies", "SIM in use") == 2


@pytest.mark.requirement("NET-5")
def test_the_satellite_is_taken_again_only_when_it_is_steady(uplink: Run) -> None:
    assert _measured(uplink, "satellite-returns", "changes meanwhile") == 0
    assert _measured(uplink, "satellite-returns", "connected by, after its return") == "satellite"


@pytest.mark.requirement("UC-IV.2")
def test_a_day_without_any_way_loses_and_doubles_nothing(uplink: Run) -> None:
    step = "no-way-for-a-day"
    assert _measured(uplink, step, "bundles that came through") == 0
    assert _measured(uplink, step, "rows on the meters' flash") > 200
    for name in ("rows that the database lacks", "rows that no meter has", "rows that are there twice"):
        assert _measured(uplink, step, name) == 0
    assert _measured(uplink, step, "rows that came before an older one of their meter and table") == 0
    assert _measured(uplink, step, "messages that still wait") == 0


@pytest.mark.requirement("UC-IV.2")
def test_a_full_flash_is_said_and_the_day_s_bundle_waits_for_room(uplink: Run) -> None:
    assert _measured(uplink, "opt-is-full", "reported to the head-end") == 1
    assert _measured(uplink, "opt-is-full", "messages that still wait, with /opt still full") == 0
    assert _measured(uplink, "opt-is-full", "bundles stored") == 1
    tries = [event["t"] for event in uplink.events("dcu-collection") if event["state"] == "begins"]
    assert len(tries) >= 5, "one a night, and more in the night without room"
    assert min(later - earlier for earlier, later in itertools.pairwise(tries)) >= 600, "with pauses"


def test_the_clock_passes_and_leaves_its_picture(clock: Run) -> None:
    assert clock.status == 0, clock.stdout + clock.stderr
    assert (clock.folder / "pictures" / "clock-offset.json").exists()


@pytest.mark.requirement("UC-VI.1")
def test_pulses_discipline_the_clock_and_holdover_is_honest(clock: Run) -> None:
    assert _measured(clock, "clock-is-disciplined", "largest true offset in 5 min") < 0.1
    assert _measured(clock, "holdover", "true offset") < _measured(clock, "holdover", "offset without discipline") / 5
    assert _measured(clock, "ptp-takes-over", "source without GPS") == "ptp"


@pytest.mark.requirement("UC-VI.5")
def test_a_spoofed_receiver_leads_neither_dcu_nor_head_end_astray(clock: Run) -> None:
    assert _measured(clock, "spoofed-gps", "flags of the head-end, as the clock stayed right") == 0


@pytest.mark.requirement("UC-VI.3")
def test_a_leap_second_is_counted_when_it_comes(clock: Run) -> None:
    assert _measured(clock, "leap-second", "looked at in 23:59:60") is True
    assert _measured(clock, "leap-second", "true offset in the leap second") < 0.1


def test_an_outage_of_a_link_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "run", "village", "--set", "outages=[{link: cellular, from_s: 1, to_s: 2}]")
    assert run.status == 2
    assert "needs dcu.modem: true" in run.stderr
