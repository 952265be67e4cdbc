"""The scenario of the leakage protection, run as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy")
comtrade = pytest.importorskip("comtrade")

from twin_runs import Run, twin_run  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("leakage") / "run", "leakage-matrix", "--seed", "3", "--set", "phases=2")


@pytest.mark.requirement("SAF-5")
@pytest.mark.requirement("SAF-6")
@pytest.mark.requirement("SAF-7")
@pytest.mark.requirement("SAF-8")
def test_the_leakage_matrix_passes_and_shows_every_row_of_life_safety(run: Run) -> None:
    assert run.status == 0, run.stdout + run.stderr
    shown = {row["id"]: row["verdict"] for row in run.report["requirements"]}
    assert [shown[f"SAF-{number}"] for number in range(1, 10)] == ["PASS"] * 9


def test_a_trip_leaves_comtrade_and_png_in_the_run_folder(run: Run) -> None:
    (config,) = (run.folder / "trips").glob("*.cfg")
    record = comtrade.load(str(config), str(config.with_suffix(".dat")))
    assert (record.analog_count, record.status_count, record.total_samples) == (1, 1, 800)
    assert max(abs(value) for value in record.analog[0]) > 40.0
    assert record.trigger_time == pytest.approx(0.06)
    for picture in [*config.parent.glob("*.png"), *run.folder.glob("*.png")]:
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.soak
@pytest.mark.requirement("SAF-3")
def test_the_leakage_matrix_holds_at_all_64_phases(tmp_path: Path) -> None:
    whole = twin_run(tmp_path / "run", "leakage-matrix", "--seed", "5", "--set", "phases=64")
    assert whole.status == 0, whole.stdout + whole.stderr
