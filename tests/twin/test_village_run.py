"""The village, as a user runs it: verdicts, files, determinism."""

import sqlite3
from pathlib import Path

import pytest
from twin_runs import Run, twin_run

from twin.brokers.mosquitto import find_mosquitto

REPEATABLE = ("air.pcap", "events.jsonl", "report.json", "report.xml", "report.html", "keys.json")


def _measured(run: Run, title: str, name: str) -> object:
    case = next(case for case in run.report["cases"] if case["title"] == title)
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


def test_the_village_passes_and_leaves_its_files(village: Run) -> None:
    assert village.status == 0, village.stderr
    assert village.report["verdict"] == "PASS"
    for name in (*REPEATABLE, "mdms.sqlite", "run.log"):
        assert (village.folder / name).stat().st_size > 0 or name == "run.log", name
    assert "twin run village --seed 7" in village.report["command"]


def test_the_script_is_at_most_four_simulated_minutes(village: Run) -> None:
    assert village.report["simulated_s"] <= 240


@pytest.mark.requirement("UC-I.1")
@pytest.mark.requirement("UC-I.2")
def test_every_meter_is_registered_once_with_its_identity(village: Run) -> None:
    database = sqlite3.connect(village.folder / "mdms.sqlite")
    rows = database.execute(
        "select serial, eui64, hardware_revision, public_keys_json, authentication_mechanism from meters"
    ).fetchall()
    database.close()
    assert len(rows) == 12
    assert len({row[1] for row in rows}) == 12
    assert all(row[2] and len(row[3]) > 128 and row[4] == 5 for row in rows)


@pytest.mark.requirement("UC-II.1")
def test_every_meter_is_read_and_agrees_with_its_own_count(village: Run) -> None:
    title = "use case II: the operator reads every meter"
    assert _measured(village, title, "readings answered") == 12
    assert _measured(village, title, "readings with every quantity") == 12
    assert _measured(village, title, "readings that agree with the meter's own count") == 12


@pytest.mark.requirement("UC-II.2")
def test_the_dead_meter_times_out_and_is_not_tried_again(village: Run) -> None:
    title = "reading the dead relay ends in a clear time-out"
    assert _measured(village, title, "status") == "timeout"
    assert _measured(village, title, "attempts after the deadline") == 0


@pytest.mark.requirement("UC-I.4")
def test_power_recovery_keeps_one_row(village: Run) -> None:
    title = "F loses its power and registers again, without a duplicate"
    assert _measured(village, title, "rows of the meter at the head-end") == 1
    assert _measured(village, title, "registered again") is True


@pytest.mark.requirement("NET-1")
def test_a_meter_at_600_m_is_relayed_and_no_link_is_longer_than_400_m(village: Run) -> None:
    title = "A is out of reach and relayed"
    assert _measured(village, title, "hops from A to the DCU") == 2
    longest = _measured(village, title, "longest link that carried a frame")
    assert isinstance(longest, float)
    assert longest <= 400


@pytest.mark.requirement("NET-2")
def test_the_mesh_heals_and_no_reading_is_lost(village: Run) -> None:
    title = "the relay of A dies, and A heals through another"
    assert _measured(village, title, "relay of A before") == "B"
    assert _measured(village, title, "relay of A after") not in ("B", "none")
    assert _measured(village, title, "the reading that was under way") == "ok"
    assert _measured(village, title, "readings of the other meters lost") == 0


def test_one_seed_gives_the_same_bytes_whatever_surrounds_it(village: Run, tmp_path: Path) -> None:
    again = twin_run(
        tmp_path / "elsewhere" / "deep",
        "village",
        "--seed",
        "7",
        PYTHONHASHSEED="4242",
        TZ="Asia/Kathmandu",
        LC_ALL="C",
    )
    for name in REPEATABLE:
        assert (again.folder / name).read_bytes() == (village.folder / name).read_bytes(), name


def test_another_seed_moves_the_frames_in_time(village: Run, tmp_path: Path) -> None:
    other = twin_run(tmp_path, "village", "--seed", "8")
    assert other.status == 0, other.stderr
    assert (other.folder / "air.pcap").read_bytes() != (village.folder / "air.pcap").read_bytes()
    assert other.group_key != village.group_key


def test_keys_are_nowhere_but_in_the_keys_file(village: Run) -> None:
    key = village.group_key
    for name in ("report.json", "report.html", "report.xml", "events.jsonl", "run.log"):
        assert key not in (village.folder / name).read_text().lower(), name
    assert key not in (village.stdout + village.stderr).lower()


def test_a_day_of_quiet_running_loses_no_reading(tmp_path: Path) -> None:
    day = twin_run(tmp_path, "village", "--seed", "7", "--set", "hours=24")
    assert day.status == 0, day.stderr
    title = "quiet running with scheduled reads"
    assert _measured(day, title, "scheduled readings") == 24 * 11
    assert _measured(day, title, "scheduled readings answered") == 24 * 11
    assert day.report["simulated_s"] > 86_400


def test_scapy_on_the_air_leaves_the_same_capture(village: Run, tmp_path: Path) -> None:
    pytest.importorskip("scapy")
    scapy = twin_run(tmp_path, "village", "--seed", "7", "--air", "scapy")
    assert scapy.status == 0, scapy.stderr
    assert (scapy.folder / "air.pcap").read_bytes() == (village.folder / "air.pcap").read_bytes()


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("refusals"), "refusals", "--seed", "3")


@pytest.mark.requirement("UC-I.3")
def test_a_wrong_key_and_an_unknown_meter_are_refused_and_logged(refusals: Run) -> None:
    assert refusals.status == 0, refusals.stderr
    database = sqlite3.connect(refusals.folder / "mdms.sqlite")
    serials = [row[0] for row in database.execute("select serial from meters where state = 'registered'")]
    kinds = {row[0] for row in database.execute("select kind from events where kind like 'meter-%'")}
    database.close()
    assert serials == ["IHM5000001"]
    assert {"meter-refused", "meter-unknown"} <= kinds
    assert "Traceback" not in (refusals.folder / "run.log").read_text()


def test_the_village_passes_in_real_time_with_a_real_broker(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: make system")
    real = twin_run(tmp_path, "village", "--seed", "7", "--clock", "real", "--broker", "mosquitto")
    assert real.status == 0, real.stderr
    assert real.report["conditions"]["clock"] == "real"
    assert "mosquitto" in real.report["conditions"]["real"]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 21))
def test_the_village_passes_with_twenty_seeds(seed: int, tmp_path: Path) -> None:
    run = twin_run(tmp_path, "village", "--seed", str(seed))
    assert run.status == 0, run.stderr
