"""The mesh's scenarios: small samples in every test run, whole towns and many seeds in the soak."""

from __future__ import annotations

from pathlib import Path

import pytest
from twin_runs import twin_run

from protocols.errors import BadInputError
from twin.scenarios.fleet import fleet_rows
from twin.scenarios.healing_steps import quantile
from twin.scenarios.loading import load_scenario
from twin.scenarios.schema import Fleet


def play(folder: Path, scenario: str, *settings: str, seed: int = 1) -> None:
    """The run must pass."""
    words = [word for setting in settings for word in ("--set", setting)]
    run = twin_run(folder, scenario, "--seed", str(seed), *words)
    assert run.status == 0, run.stderr


@pytest.mark.requirement("NET-1")
@pytest.mark.requirement("NET-3")
def test_range_wood_hostile_frames_and_flood_are_as_they_must_be(tmp_path: Path) -> None:
    play(tmp_path, "mesh-space")


@pytest.mark.requirement("NET-2")
def test_a_small_town_heals(tmp_path: Path) -> None:
    play(tmp_path, "mesh-healing", "nodes=16", "relays=1", "readings=30")


@pytest.mark.requirement("OSI-2")
@pytest.mark.requirement("NET-3")
def test_the_village_works_while_its_radios_hop(tmp_path: Path) -> None:
    play(tmp_path, "village", "radio.hopping=true", "radio.data_rate_kbps=150")


@pytest.mark.soak
@pytest.mark.requirement("NET-2")
@pytest.mark.parametrize("seed", range(1, 21))
def test_a_hundred_meters_heal_whatever_the_seed(tmp_path: Path, seed: int) -> None:
    play(tmp_path, "mesh-healing", "relays=5", "readings=100", seed=seed)


@pytest.mark.soak
@pytest.mark.requirement("NET-2")
def test_none_of_a_thousand_readings_over_lossy_links_is_lost_silently(tmp_path: Path) -> None:
    play(tmp_path, "mesh-healing", "relays=1", "readings=1000")


@pytest.mark.requirement("NET-1")
@pytest.mark.parametrize(
    ("seed", "setting"),
    [
        pytest.param(seed, setting, marks=() if seed == 3 else pytest.mark.soak)
        for setting in ("radio.hopping=true", "radio.security=certificates")
        for seed in range(1, 21)
    ],
)
def test_the_village_passes_hopping_and_with_certificates(tmp_path: Path, seed: int, setting: str) -> None:
    play(tmp_path, "village", setting, seed=seed)


@pytest.mark.soak
@pytest.mark.parametrize("nodes", [100, 300])
def test_a_town_registers_and_is_read_for_a_day(tmp_path: Path, nodes: int) -> None:
    play(tmp_path, "mesh-scale", f"nodes={nodes}")


@pytest.mark.soak
def test_a_town_of_300_is_not_congested_while_it_grows(tmp_path: Path) -> None:
    """A new meter every six seconds: bursts of messages must not move parents, whose messages are the next burst."""
    run = twin_run(tmp_path, "mesh-scale", "--set", "nodes=300", "--set", "hours=1")
    assert run.status == 0, run.stderr
    assert run.events("mesh.suspect") == []
    assert not {event["reason"] for event in run.events("mesh.dropped")} & {"loop", "queue_full", "no_ack"}
    assert len(run.events("mesh.parent")) < 3 * 300


@pytest.mark.soak
@pytest.mark.requirement("VEND-3")
def test_a_town_of_500_leaves_the_same_bytes_whatever_surrounds_it(tmp_path: Path) -> None:
    """The same folder, so that the command in the report is the same too."""
    settings = ("nodes=500", "hours=1", "fleet.installed_every_s=2", "capture=true")
    kept: list[dict[str, bytes]] = []
    for surroundings in ({"PYTHONHASHSEED": "1", "TZ": "UTC"}, {"PYTHONHASHSEED": "4242", "TZ": "Asia/Kathmandu"}):
        words = [word for setting in settings for word in ("--set", setting)]
        run = twin_run(tmp_path / "town", "mesh-scale", *words, **surroundings)
        assert run.status == 0, run.stderr
        kept.append({name: (run.folder / name).read_bytes() for name in ("air.pcap", "events.jsonl", "report.json")})
    for name, content in kept[0].items():
        assert content == kept[1][name], name


def test_a_fleet_has_as_many_meters_as_were_asked_for_around_the_concentrator() -> None:
    scenario = load_scenario("mesh-scale", ["nodes=37"]).scenario
    assert len(scenario.meters) == 37
    assert len({meter.serial for meter in scenario.meters}) == 37
    east_m = [meter.position[0] for meter in scenario.meters]
    assert abs(sum(east_m) / len(east_m)) < 200.0


def test_a_fleet_stays_where_it_was_when_it_is_asked_for_again() -> None:
    fleet = Fleet(count="nodes", spacing_m=200, jitter_m=30)
    assert fleet_rows(fleet, 20, (0.0, 0.0)) == fleet_rows(fleet, 20, (0.0, 0.0))


def test_a_fleet_without_its_parameter_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "town.yaml"
    file.write_text(
        "scenario: town\ntitle: A town\ndcu: {id: IHM4000-0001, position: [0, 0]}\n"
        "fleet: {count: houses, spacing_m: 100}\nscript:\n  - {step: join}\n"
    )
    with pytest.raises(BadInputError, match="houses"):
        load_scenario(str(file))


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert quantile([1.0], 0.01) == 1.0
