"""Meters that get their power one after another."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import twin_run

from protocols.errors import BadInputError
from twin.scenarios.loading import load_scenario

SCENARIO = """
scenario: track
title: Three meters along a track
dcu: {id: IHM4000-0001, position: [0, 0]}
meters:
  - {name: A, serial: IHM5000001, position: [100, 0]}
  - {name: B, serial: IHM5000002, position: [200, 0], installed_after: A, installed_at_s: 5}
  - {name: C, serial: IHM5000003, position: [300, 0], installed_after: B}
script:
  - {step: join, title: all join}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "track.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_meter_is_switched_on_when_the_one_before_it_is_in(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "run", write(tmp_path, SCENARIO))
    assert run.status == 0, run.stderr
    started_s = {event["node"]: event["t"] for event in run.events("meter.started")}
    joined_s = {e["node"]: e["t"] for e in run.events("mesh.join") if e["state"] == "OPERATIONAL"}
    assert started_s["A"] == 0.0
    assert started_s["B"] == pytest.approx(joined_s["A"] + 5.0)
    assert started_s["C"] == pytest.approx(joined_s["B"])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("installed_after: A", "installed_after: X", "'X' is no meter of this scenario"),
        ("installed_after: A", "installed_after: B", "'B' waits for itself"),
        ("installed_after: A", "installed_after: C", "waits for itself"),
    ],
)
def test_who_waits_for_nobody_or_for_itself_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        load_scenario(write(tmp_path, SCENARIO.replace(old, new)))
