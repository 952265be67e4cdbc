"""Use case VII as a user runs it: firmware over the air, and all that can go wrong; every row by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import Run, twin_run


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("firmware"), "firmware", "--seed", "3")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The hundred meters' scenario with twelve of them and a small file."""
    sizes = ("--set", "meters=12", "--set", "size_kib=16")
    return twin_run(tmp_path_factory.mktemp("ota"), "ota-100", "--seed", "3", *sizes)


def measured(run: Run, step: str, name: str, *, number: int = 0) -> object:
    cases = [case for case in run.report["cases"] if case["name"] == step]
    case = cases[number]
    assert case["verdict"] == "PASS", case
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


def test_all_steps_pass(faults: Run, town: Run) -> None:
    assert faults.status == 0, faults.stdout + faults.stderr
    assert town.status == 0, town.stdout + town.stderr


@pytest.mark.requirement("UC-VII.1")
def test_new_firmware_reaches_every_meter_and_its_version_is_seen_at_the_headend(town: Run) -> None:
    assert measured(town, "upgrade", "meters confirmed to the head-end") == 12
    assert measured(town, "upgrade", "versions seen at the head-end") == 12
    assert measured(town, "upgrade", "meters whose new object shows what its code computed") == 12
    blocks, multicasts = measured(town, "upgrade", "blocks of the image"), measured(town, "upgrade", "multicasts")
    assert isinstance(blocks, int)
    assert isinstance(multicasts, int)
    assert blocks <= multicasts < 3 * blocks  # to all at once, not to each


@pytest.mark.requirement("UC-VII.2")
def test_with_a_tenth_of_all_frames_lost_little_is_left_to_repair(town: Run) -> None:
    assert measured(town, "links-lose-frames", "probability") == 0.1
    assert town.report["cases"][2]["attempts"][-1]["measurements"]
    repair = measured(town, "upgrade", "repair rate")
    assert isinstance(repair, float)
    assert repair < 10.0


@pytest.mark.requirement("UC-VII.2")
def test_a_meter_that_was_away_gets_every_block_alone(faults: Run) -> None:
    assert measured(faults, "late-joiner", "meters confirmed") == 6
    assert measured(faults, "late-joiner", "it runs") == "5.2.0"


@pytest.mark.requirement("UC-VII.2")
def test_the_multicasts_go_on_after_a_power_cut_of_the_concentrator(faults: Run) -> None:
    assert measured(faults, "upgrade", "restarts of the concentrator") == 2
    unicasts, blocks = (
        measured(faults, "upgrade", name) for name in ("blocks sent to single meters", "blocks of the image")
    )
    assert isinstance(unicasts, int)
    assert isinstance(blocks, int)
    assert unicasts < 2 * blocks


@pytest.mark.requirement("UC-VII.1")
def test_meters_change_over_at_the_campaigns_time(faults: Run) -> None:
    elapsed_s = measured(faults, "upgrade", "time", number=1)
    assert isinstance(elapsed_s, float)
    assert 1800 < elapsed_s < 2100


@pytest.mark.requirement("UC-VII.3")
@pytest.mark.parametrize("fault", ["magic", "size", "hash", "signature"])
@pytest.mark.parametrize("who", ["the head-end", "the DCU"])
def test_a_bad_file_is_refused_with_its_reason(faults: Run, who: str, fault: str) -> None:
    assert measured(faults, "bad-firmware-is-refused", f"{who} on a wrong {fault} names the fault") is True
    assert measured(faults, "bad-firmware-is-refused", "meters that run what they ran") == 6


@pytest.mark.requirement("UC-VII.4")
def test_power_cuts_inside_flash_operations_leave_old_or_new(faults: Run) -> None:
    assert measured(faults, "power-cuts-while-installing", "power cuts inside a flash operation") == 6
    assert measured(faults, "power-cuts-while-installing", "versions that ran after a cut") == "5.2.0, 5.3.0"
    assert measured(faults, "power-cuts-while-installing", "meters upgraded in the end") == 6


@pytest.mark.requirement("UC-VII.5")
def test_firmware_that_crashes_is_rolled_back_and_the_headend_knows(faults: Run) -> None:
    assert measured(faults, "crashing-firmware-rolls-back", "meters rolled back") == 2
    said = measured(faults, "crashing-firmware-rolls-back", "what the head-end shows")
    assert said == "rolled back: not confirmed in 3 starts"


@pytest.mark.soak
@pytest.mark.requirement("UC-VII.2")
def test_a_hundred_meters_get_256_kib_with_a_tenth_of_all_frames_lost(tmp_path: Path) -> None:
    run = twin_run(tmp_path, "ota-100", "--seed", "3")
    assert run.status == 0, run.stdout + run.stderr
    assert measured(run, "upgrade", "meters confirmed to the head-end") == 100
    for name in ("airtime of all nodes", "repair rate", "time"):
        assert measured(run, "upgrade", name) is not None
