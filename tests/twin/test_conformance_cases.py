"""The library of cases, and what it says about our own meter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance_runs import conform, verdicts

from meters.keys import MeterKeys
from twin.clock.seeds import Seeds
from twin.conformance.campaign import ConformRun
from twin.conformance.cases import OUR_READING, Case, Plan
from twin.conformance.library import all_cases
from twin.conformance.report import to_html, to_junit
from twin.conformance.transcript import redact, secrets_of
from twin.conformance.verdicts import Verdict

PUBLIC_NAMES = {
    Plan.APPLICATION: [
        "IDLE_N1",
        *[f"OPEN_{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14)],
        *[f"DATA_LN_N{number}" for number in (1, 3, 4)],
        *[f"DATA_SN_N{number}" for number in (1, 2, 3)],
        "REL_P1",
    ],
    Plan.SECURITY_SUITE_0: [
        "BasicCap_1",
        "FraCount_1",
        "FraCount_3",
        *[f"Key_Tx_{number}" for number in ("P1", "P2", "P3", "N1", "N2")],
        "DedKey_N1",
        "SecDataX_P1",
        "SecDataX_N1",
        "REL_N1",
        *[f"SecPol_{number}" for number in (1, 2, 3)],
    ],
    Plan.COSEM: [
        *[f"SWEEP_{what}" for what in ("READ", "TYPE", "RIGHTS")],
        *[f"PROFILE_RANGE_{number}" for number in range(1, 5)],
        *[f"PROFILE_ENTRY_{number}" for number in range(1, 4)],
        *[f"PUSH_{number}" for number in (1, 2)],
        *[f"MULTIPLE_{number}" for number in (1, 2, 3)],
        *[f"MANDATORY_{number}" for number in (1, 2, 3)],
    ],
}
COUNTS = {Plan.APPLICATION: 20, Plan.SECURITY_SUITE_0: 15}


@pytest.fixture(scope="module")
def own_meter(tmp_path_factory: pytest.TempPathFactory) -> tuple[ConformRun, Path]:
    folder = tmp_path_factory.mktemp("conform")
    return conform(folder), folder


@pytest.mark.parametrize("plan", PUBLIC_NAMES)
def test_every_public_name_is_a_case(plan: Plan) -> None:
    names = [case.name.removeprefix(f"{plan}_") for case in all_cases() if case.plan is plan]
    assert sorted(names) == sorted(PUBLIC_NAMES[plan])
    assert len(names) == COUNTS.get(plan, len(names))


@pytest.mark.requirement("SGAM-1")
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_a_case_says_what_it_is_about_and_where_it_belongs(case: Case) -> None:
    assert case.purpose.endswith(".")
    assert 1 <= case.layers.osi <= 7
    assert case.requirements


@pytest.mark.requirement("VEND-1")
def test_our_meter_passes_all_but_what_it_does_not_have(own_meter: tuple[ConformRun, Path]) -> None:
    run, _ = own_meter
    why = {case.name: case.last.reason for case in run.report.cases if case.verdict is not Verdict.PASS}
    assert why == {f"APPL_DATA_SN_N{number}": "the meter offers logical names only" for number in (1, 2, 3)}
    assert {case.verdict for case in run.report.cases} == {Verdict.PASS, Verdict.SKIP}
    assert run.verdict is Verdict.PASS


def test_a_pass_has_measured_something_against_a_limit(own_meter: tuple[ConformRun, Path]) -> None:
    run, _ = own_meter
    for case in run.report.cases:
        if case.verdict is Verdict.PASS:
            assert any(measurement.verdict is Verdict.PASS for measurement in case.last.measurements), case.name


@pytest.mark.requirement("VEND-2")
@pytest.mark.requirement("SGAM-1")
def test_the_report_says_whose_reading_it_is_and_shows_the_matrix(own_meter: tuple[ConformRun, Path]) -> None:
    run, folder = own_meter
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page == to_html(run.report)
    assert "not the official test" in page
    assert "Cases by OSI layer and SGAM layer" in page
    assert "Cases by SGAM layer and UNECE dimension" in page
    assert "NOT COVERED" in page
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document["notes"] == [OUR_READING]
    assert document["cases"][0]["layers"]["osi"] == all_cases()[0].layers.osi
    assert all(case["purpose"] for case in document["cases"])
    assert to_junit(run.report) == (folder / "report.xml").read_text(encoding="utf-8")


@pytest.mark.requirement("VEND-3")
def test_the_same_seed_leaves_the_same_bytes(tmp_path: Path) -> None:
    files = ("report.json", "report.xml", "report.html", "events.jsonl")
    left = []
    for name in ("one", "two"):
        conform(tmp_path / name, "SYMSEC or PROFILE or PUSH or SUITE_1_Auth", seed=5)
        left.append([(tmp_path / name / file).read_bytes() for file in files])
    assert left[0] == left[1]
    conform(tmp_path / "three", "SYMSEC or PROFILE", seed=6)
    assert (tmp_path / "three" / "events.jsonl").read_bytes() != left[0][3]


@pytest.mark.requirement("VEND-3")
def test_a_case_comes_to_the_same_alone_and_among_others(own_meter: tuple[ConformRun, Path], tmp_path: Path) -> None:
    run, _ = own_meter
    together = {case.name: case.last.measurements for case in run.report.cases}
    for case in conform(tmp_path, "Key_Tx or OPEN_7").report.cases:
        alone = [(m.name, m.value, m.verdict) for m in case.last.measurements]
        assert alone == [(m.name, m.value, m.verdict) for m in together[case.name]]


def test_the_transcript_has_every_apdu(own_meter: tuple[ConformRun, Path]) -> None:
    _, folder = own_meter
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = [event["kind"] for event in events if event.get("case") == "APPL_REL_P1"]
    assert kinds == ["conform.sent", "conform.received"] * 6
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)


def test_secrets_are_struck_out_of_the_transcript() -> None:
    keys = MeterKeys.generate(Seeds(1).keys("keys"), system_title=b"INH00001")
    apdu = b"\x60" + keys.reader_secret + b"between" + keys.master_key + keys.encryption_key
    shown = redact(apdu, secrets_of(keys))
    assert len(shown) == len(apdu)
    assert shown.startswith(b"\x60**")
    assert b"between" in shown
    for secret in (keys.reader_secret, keys.master_key, keys.encryption_key):
        assert secret not in shown


def test_verdicts_of_every_plan_are_there(own_meter: tuple[ConformRun, Path]) -> None:
    run, _ = own_meter
    assert verdicts(run).keys() == {case.name for case in all_cases()}
