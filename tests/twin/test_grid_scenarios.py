"""The scenarios of the grid, as a user runs them, and what must fail when the thing is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twin_runs import Run, twin_run

from protocols.errors import BadInputError
from twin.errors import RigError
from twin.rigs.sync import SyncRig

pytest.importorskip("power_grid_model")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def solar(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("solar"), "solar-noon", "--seed", "2")


@pytest.fixture(scope="module")
def kenya(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("kenya"), "kenya-frequency", "--seed", "2")


@pytest.fixture(scope="module")
def shed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("shed"), "shedding", "--seed", "2")


def _verdicts(run: Run) -> dict[str, str]:
    return {case["title"]: case["verdict"] for case in run.report["cases"]}


def _measured(run: Run, title: str, name: str) -> object:
    case = next(case for case in run.report["cases"] if case["title"] == title)
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


@pytest.mark.requirement("GRID-2")
@pytest.mark.requirement("UNECE-3")
def test_the_sun_raises_the_voltage_and_the_functions_bring_it_back(solar: Run) -> None:
    assert solar.status == 0, solar.stdout + solar.stderr
    title = "volt-var and volt-watt bring the voltage back"
    before, after = (_measured(solar, title, f"voltage at H {when}") for when in ("before", "after"))
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert before > 1.10 > after
    assert _measured(solar, "power that is taken beside a meter is found", "a discrepancy is flagged") is True


def test_the_report_shows_the_plot_of_the_grid(solar: Run) -> None:
    assert (solar.folder / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert '<img src="grid.png"' in (solar.folder / "report.html").read_text()


@pytest.mark.requirement("GRID-3")
def test_everything_stays_in_service_from_45_to_52_hz(kenya: Run) -> None:
    assert kenya.status == 0, kenya.stdout + kenya.stderr
    title = "in service from 45.0 to 52.0 Hz"
    for hz in ("45", "52"):
        assert _measured(kenya, title, f"{hz} Hz: meters that answer") == 5
        assert _measured(kenya, title, f"{hz} Hz: inverters that feed in") == 3


@pytest.mark.requirement("GRID-4")
def test_groups_are_shed_restored_and_follow_the_frequency(shed: Run) -> None:
    assert shed.status == 0, shed.stdout + shed.stderr
    assert _measured(shed, "under-frequency load shedding by stages", "stages shed, in order") == "west east"


def test_the_same_seed_gives_the_same_run(kenya: Run, tmp_path: Path) -> None:
    again = twin_run(tmp_path / "again", "kenya-frequency", "--seed", "2")
    for name in ("events.jsonl", "report.json", "grid.png", "air.pcap"):
        assert (again.folder / name).read_bytes() == (kenya.folder / name).read_bytes(), name


@pytest.mark.requirement("GRID-3")
def test_inverters_of_another_grid_code_fail_in_kenya(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "run", "kenya-frequency", "--seed", "2", "--set", "grid.pv=[{meter: B, peak_w: 3000, "
                   "profile: ieee1547-50, category: II}]")  # fmt: skip
    assert run.status == 1, run.stdout + run.stderr
    verdicts = _verdicts(run)
    assert verdicts["in service from 45.0 to 52.0 Hz"] == "FAIL"
    away = _measured(run, "the grid code's monitor judges the run",
                     "equipment out of service within the code's frequencies")  # fmt: skip
    assert away == "inverter B"


@pytest.mark.requirement("GRID-3")
def test_a_meter_whose_supply_does_not_reach_45_hz_fails_in_kenya(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "meters" / "models"
    text = (folder / "ihm5000-1p.yaml").read_text()
    model = tmp_path / "narrow.yaml"
    model.write_text(text.replace("phases: 1\n", "phases: 1\nsupply_frequency_hz: [47, 53]\n", 1))
    scenario = Path(__file__).parents[2] / "twin" / "scenarios" / "library" / "kenya-frequency.yaml"
    changed = tmp_path / "narrow-scenario.yaml"
    changed.write_text(scenario.read_text().replace("installed_at_s: 2}", f"installed_at_s: 2, model: {model}}}", 1))
    run = twin_run(tmp_path / "run", str(changed), "--seed", "2")
    assert run.status == 1, run.stdout + run.stderr
    title = "in service from 45.0 to 52.0 Hz"
    assert _verdicts(run)[title] == "FAIL"
    assert _measured(run, title, "45 Hz: meters that answer") == 4


def test_a_grid_that_cannot_be_is_bad_input_for_the_command(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "run", "kenya-frequency", "--set", "grid.pv=[{meter: Z, peak_w: 3000}]")
    assert run.status == 2, run.stdout + run.stderr
    assert "no meter 'Z'" in run.stderr
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grid.transformer=9kva", "grid.transformer"),
        ("grid.source_pu=.nan", "grid.source_pu"),
        ("grid.pv=[{meter: B, peak_w: -1}]", "peak_w"),
        ("grid.pv=[{meter: B, peak_w: 3000, over_voltage_trip_pu: 1.25}]", "ov1"),
        ("grid.pv=[{meter: B, peak_w: 3000, profile: mars}]", "profile"),
        ("grid.pv=[{meter: B, peak_w: 3000}, {meter: B, peak_w: 2000}]", "one plant"),
        ("grid.spans=[{start: busbar, end: A, conductor: al-50, length_m: 10}]", "no way to the busbar"),
        ("grid.phases={Q: 1}", "no meter 'Q'"),
        ("grid.code=atlantis", "grid.code"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_by_name(setting: str, message: str, twin_rig: Callable[..., SyncRig]) -> None:
    with pytest.raises(BadInputError, match=message):
        twin_rig("kenya-frequency", overrides=[setting])


def test_a_rig_without_a_grid_says_so(twin_rig: Callable[..., SyncRig]) -> None:
    rig = twin_rig("refusals").rig
    with pytest.raises(RigError, match="no grid"):
        rig.grid.cut()


@pytest.fixture
def sunny(twin_rig: Callable[..., SyncRig]) -> SyncRig:
    return twin_rig("kenya-frequency", seed=4)


def test_a_cut_feeder_takes_the_meters_and_gives_them_back(sunny: SyncRig) -> None:
    grid, meters = sunny.rig.grid, sunny.rig.meters
    sunny.wait(10.0)
    meters["D"].power_off()
    sunny.wait(5.0)
    grid.cut()
    sunny.wait(5.0)
    assert [meter.meter.running for meter in meters.values()] == [False] * 5
    assert grid.voltage_pu("A") == 0.0
    grid.restore()
    sunny.wait(5.0)
    assert [name for name, meter in meters.items() if not meter.meter.running] == ["D"]
    assert 0.9 < grid.voltage_pu("A") < 1.1


def test_verbs_refuse_what_is_not_there_and_what_cannot_be(sunny: SyncRig) -> None:
    grid = sunny.rig.grid
    for name in ("voltage_pu", "inverter"):
        with pytest.raises(RigError, match="no meter 'Z'"):
            getattr(grid, name)("Z")
    with pytest.raises(RigError, match="no solar plant behind 'A'"):
        grid.inverter("A")
    with pytest.raises(BadInputError, match="hz"):
        grid.set_frequency(float("nan"))
    with pytest.raises(BadInputError, match="over_s"):
        grid.set_voltage(1.0, over_s=-1.0)
    with pytest.raises(KeyError):
        grid.write_register("B", 705, "Nonsense", 1)
    assert not grid.write_register("B", 703, "ESVHi", 20000)
    assert grid.write_register("B", 704, "WMaxLimPct", 500)
    assert grid.inverter("B").settings.power.limit_pct == 50.0
