"""Use case I with certificates, as a user runs it: who registers, who is refused and why, and the same again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from twin_runs import Run, twin_run

from protocols.dlms.security.agreement import encode_public_key
from protocols.dlms.security.certificates import Certificate, CertificateType

CERTIFIED, COUNTERFEIT, EXPIRED, SYMMETRIC = (f"IHM500000{number}" for number in range(1, 5))
EUI64 = {serial: f"0249484d0000000{number}" for number, serial in enumerate((CERTIFIED, COUNTERFEIT, EXPIRED), 1)}
REPEATABLE = ("air.pcap", "events.jsonl", "report.json", "report.xml", "report.html", "keys.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("certificates"), "certificates", "--seed", "3")


@pytest.fixture
def database(run: Run) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(run.folder / "mdms.sqlite")) as found:
        yield found


def refusals(run: Run, serial: str) -> list[dict[str, str]]:
    """Details of the refusals that the head-end has been told of."""
    with closing(sqlite3.connect(run.folder / "mdms.sqlite")) as database:
        rows = database.execute(
            "select details_json from events where kind = 'meter-refused' and eui64 = ?", (EUI64[serial],)
        ).fetchall()
    return [json.loads(row[0]) for row in rows]


@pytest.mark.requirement("UC-I.1")
def test_scenario_passes(run: Run) -> None:
    assert run.status == 0, run.stderr
    assert run.report["verdict"] == "PASS"


@pytest.mark.requirement("UC-I.1")
@pytest.mark.requirement("SEC-1")
def test_meters_authenticate_by_the_mechanism_of_their_suite(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "select serial, security_suite, authentication_mechanism, state from meters order by serial"
    ).fetchall()
    assert rows == [(CERTIFIED, 1, 7, "registered"), (SYMMETRIC, 0, 5, "registered")]


@pytest.mark.requirement("UC-I.2")
def test_head_end_keeps_the_certificate_that_the_meter_proved_itself_by(database: sqlite3.Connection) -> None:
    query = "select signing_certificate_pem, public_keys_json, system_title from meters where serial = ?"
    pem, keys, title = database.execute(query, (CERTIFIED,)).fetchone()
    (certificate,) = Certificate.decode_pem(pem)
    assert certificate.kind is CertificateType.DIGITAL_SIGNATURE
    assert certificate.system_title == bytes.fromhex(title)
    assert dict(json.loads(keys))["signing"] == encode_public_key(certificate.public_key).hex()
    assert database.execute(query, (SYMMETRIC,)).fetchone()[0] is None


@pytest.mark.requirement("UC-I.3")
@pytest.mark.parametrize(
    ("serial", "why"),
    [(COUNTERFEIT, "no authority that is trusted issued it"), (EXPIRED, "it is outside its validity")],
)
def test_refusal_is_logged_with_its_reason(run: Run, serial: str, why: str) -> None:
    found = refusals(run, serial)
    assert found
    assert all(details["reason"] == "certificate" and why in details["detail"] for details in found)
    states = [event for event in run.events("dcu-meter-state") if event["eui64"] == EUI64[serial]]
    assert ("associating", "refused") in [(event["previous"], event["state"]) for event in states]


@pytest.mark.requirement("UC-I.3")
def test_no_private_key_is_left_in_the_run_folder(run: Run) -> None:
    for path in (path for path in run.folder.rglob("*") if path.is_file()):
        assert b"PRIVATE KEY" not in path.read_bytes(), path.name


def test_same_seed_gives_the_same_files(run: Run, tmp_path: Path) -> None:
    again = twin_run(tmp_path, "certificates", "--seed", "3")
    for name in REPEATABLE:
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes(), name


def test_model_without_the_suite_is_a_usage_error(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "twin/scenarios/library/certificates.yaml").read_text()
    scenario = tmp_path / "certificates.yaml"
    scenario.write_text(text.replace("position: [150, 0], suite: 1", "position: [150, 0], suite: 1, model: legacy-1p"))
    failed = twin_run(tmp_path / "out", str(scenario))
    assert failed.status == 2
    assert "suite 1" in failed.stderr
