"""The ARM image in virtual time: one seed gives one result, byte for byte, and the result is the native daemon's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from twin_runs import Run, twin_run

from images.dcu.workshop import missing_programs
from twin.rigs.comparison.differences import compare
from twin.rigs.comparison.finished import load_run

REPEATED = ("air.pcap", "events.jsonl", "report.json", "dcu-console.log")
LOCKSTEP = ("--dcu", "qemu", "--clock", "virtual")


def _health(run: Run) -> dict[str, object]:
    case = next(case for case in run.report["cases"] if case["name"] == "rig-health")
    return {item["name"]: item["value"] for item in case["attempts"][-1]["measurements"]}


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Run:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")
    return twin_run(tmp_path_factory.mktemp("arm") / "run", "village", "--seed", "7", *LOCKSTEP)


def test_the_village_passes_with_the_arm_image_in_virtual_time(village: Run) -> None:
    assert village.status == 0, village.stderr
    assert village.report["verdict"] == "PASS"
    assert village.report["conditions"]["clock"] == "virtual"
    assert "lock-step" in village.report["conditions"]["real"]
    assert "rendezvous" in village.stderr


def test_nothing_that_crossed_was_lost_or_late(village: Run) -> None:
    health = _health(village)
    assert int(str(health["rendezvous with the guest"])) > 100
    assert health["times guest and simulator disagreed on what crossed"] == 0
    assert health["bytes that no device of the guest would take"] == 0
    assert health["outputs of the guest that were found too late"] == 0
    assert health["deliveries more than 1 ms late"] == 0


def test_the_console_s_log_has_the_run_s_times(village: Run) -> None:
    lines = (village.folder / "dcu-console.log").read_text().splitlines()
    times = [float(line[1:15]) for line in lines]
    assert times == sorted(times)
    assert times[0] == -15.0
    assert "goes on from the snapshot" in lines[0]
    assert times[-1] == pytest.approx(village.report["simulated_s"], abs=1e-3)


@pytest.mark.requirement("VEND-3")
def test_same_seed_leaves_the_same_bytes(village: Run, tmp_path: Path) -> None:
    again = twin_run(tmp_path / "again", "village", "--seed", "7", *LOCKSTEP)
    for name in REPEATED:
        assert (again.folder / name).read_bytes() == (village.folder / name).read_bytes(), name


@pytest.mark.requirement("VEND-3")
def test_another_seed_leaves_other_bytes(village: Run, tmp_path: Path) -> None:
    other = twin_run(tmp_path / "other", "village", "--seed", "8", *LOCKSTEP)
    assert other.status == 0, other.stderr
    for name in ("air.pcap", "events.jsonl"):
        assert (other.folder / name).read_bytes() != (village.folder / name).read_bytes(), name


def test_the_native_daemon_reads_the_same(village: Run, tmp_path: Path) -> None:
    native = twin_run(tmp_path / "native", "village", "--seed", "7")
    comparison = compare(load_run(native.folder), load_run(village.folder))
    assert [item.what for item in comparison.agreements if not item.holds] == []
    assert comparison.holds
    durations = comparison.tables[0]
    assert any(row[1] != row[2] for row in durations.rows), "an ARM processor takes its own time"


@pytest.mark.soak
def test_ten_thousand_seconds_under_load_without_a_missed_or_late_delivery(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "long", "village", "--seed", "7", "--set", "hours=3", *LOCKSTEP, limit_s=3600)
    assert run.status == 0, run.stderr
    assert run.report["simulated_s"] >= 10_000
    test_nothing_that_crossed_was_lost_or_late(run)


@pytest.mark.soak
def test_a_day_with_the_arm_image_is_the_native_daemon_s_day(tmp_path: Path) -> None:
    arm = twin_run(tmp_path / "arm", "village-day", "--seed", "7", *LOCKSTEP, limit_s=3600)
    native = twin_run(tmp_path / "native", "village-day", "--seed", "7")
    assert (arm.status, native.status) == (0, 0), arm.stderr
    comparison = compare(load_run(native.folder), load_run(arm.folder))
    assert [(item.what, item.detail) for item in comparison.agreements if not item.holds] == []
    assert json.loads((arm.folder / "lockstep-costs.json").read_text())["guest_s"] > 86_400
