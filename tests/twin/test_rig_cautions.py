"""What the report of a run warns of: places that no mesh can reach, nodes that are on the air too much."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import Run, twin_run

SCENARIO = """
scenario: outskirts
title: Two meters near, one far away
radio: {region: EU-1, data_rate_kbps: 150, duty_cycle_limit: 0.000001}
dcu: {id: IHM4000-0001, position: [0, 0]}
meters:
  - {name: near, serial: IHM5000001, position: [100, 0]}
  - {name: next, serial: IHM5000002, position: [380, 0]}
  - {name: lonely, serial: IHM5000003, position: [2000, 0]}
  - {name: boxed, serial: IHM5000004, position: [0, -100], installed_at_s: 100000}
script:
  - {step: stays-out, title: the lonely one stays out, with: {meter: lonely, for_s: 60}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("outskirts")
    file = folder / "outskirts.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return twin_run(folder / "run", str(file))


@pytest.mark.requirement("NET-1")
def test_a_meter_that_no_link_reaches_is_named_with_the_reason(run: Run) -> None:
    assert run.status == 0, run.stderr
    (warning,) = [text for text in run.report["warnings"] if "never joined" in text]
    assert warning.startswith("meter lonely ")
    assert "1620 m away" in warning
    assert "400 m" in warning
    assert "meter lonely never joined" in (run.folder / "report.html").read_text()


def test_who_is_above_the_duty_cycle_limit_is_named(run: Run) -> None:
    named = {text.split()[0] for text in run.report["warnings"] if "of its busiest hour" in text}
    assert {"DCU", "near", "lonely"} <= named
    assert "boxed" not in named


def test_an_unknown_region_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    refused = twin_run(tmp_path / "run", "mesh-space", "--set", "radio.region=MARS-1")
    assert refused.status == 2
    for word in ("radio.region", "MARS-1", "NA-1", "EU-1", "IN-1"):
        assert word in refused.stderr
