"""The scenario `hardware`: what the concentrator's guest says of itself, in a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import Run, twin_run

from images.dcu.workshop import missing_programs

_PAGE = ("hardware-processor", "hardware-flash", "hardware-network", "hardware-start-up")


def _verdicts(run: Run) -> dict[str, str]:
    return {case["name"]: case["verdict"] for case in run.report["cases"]}


@pytest.mark.requirement("HW-1", "HW-2", "HW-5")
def test_the_guest_s_own_words_are_in_the_report(tmp_path: Path) -> None:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")
    run = twin_run(tmp_path, "hardware", "--seed", "7", "--dcu", "qemu", "--clock", "virtual")
    assert run.status == 0, run.stdout + run.stderr
    verdicts = _verdicts(run)
    assert [verdicts[step] for step in _PAGE] == ["PASS", "PASS", "SKIP", "PASS"]
    network = next(case for case in run.report["cases"] if case["name"] == "hardware-network")
    assert "no Ethernet" in network["attempts"][-1]["reason"]


def test_without_a_machine_the_page_is_skipped(tmp_path: Path) -> None:
    run = twin_run(tmp_path, "hardware", "--seed", "7")
    assert run.status == 0, run.stdout + run.stderr
    assert {_verdicts(run)[step] for step in _PAGE} == {"SKIP"}
