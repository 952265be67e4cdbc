"""--baseline: only what got worse fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance_runs import conform

from protocols.errors import BadInputError
from twin.conformance.baseline import Baseline
from twin.conformance.verdicts import Attempt, CaseResult, Verdict


def result(name: str, verdict: Verdict) -> CaseResult:
    return CaseResult(name, name, (), (Attempt(verdict, "", 0, 0, ()),))


def baseline(**verdicts: Verdict) -> Baseline:
    return Baseline("file", "m", verdicts)


@pytest.mark.requirement("VEND-3")
@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (Verdict.PASS, Verdict.PASS, ""),
        (Verdict.PASS, Verdict.FAIL, "worse"),
        (Verdict.PASS, Verdict.SKIP, "worse"),
        (Verdict.PASS, Verdict.TIMEOUT, "worse"),
        (Verdict.PASS, Verdict.ERROR, "worse"),
        (Verdict.SKIP, Verdict.FAIL, "worse"),
        (None, Verdict.FAIL, "worse"),
        (None, Verdict.PASS, ""),
        (None, Verdict.SKIP, ""),
        (Verdict.FAIL, Verdict.FAIL, "known"),
        (Verdict.FAIL, Verdict.ERROR, "known"),
        (Verdict.FAIL, Verdict.SKIP, ""),
        (Verdict.FAIL, Verdict.PASS, "better"),
        (Verdict.SKIP, Verdict.PASS, "better"),
        (Verdict.TIMEOUT, Verdict.PASS, "better"),
    ],
)
def test_what_is_worse_and_what_is_better(before: Verdict | None, after: Verdict, kind: str) -> None:
    earlier = baseline() if before is None else baseline(a=before)
    comparison = earlier.compare([result("a", after)])
    found = (len(comparison.regressions), len(comparison.improvements), comparison.known_failures)
    assert found == {"": (0, 0, 0), "worse": (1, 0, 0), "better": (0, 1, 0), "known": (0, 0, 1)}[kind]


def test_cases_that_did_not_run_now_are_not_looked_at() -> None:
    comparison = baseline(a=Verdict.PASS, b=Verdict.PASS).compare([result("a", Verdict.PASS)])
    assert not comparison.regressions


def changed(folder: Path, **verdicts: str) -> Path:
    """The report of a run with other verdicts."""
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for case in document["cases"]:
        case["verdict"] = verdicts.get(case["name"], case["verdict"])
    path = folder.parent / "baseline.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.requirement("VEND-3")
def test_a_run_is_held_against_an_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expression = "REL_P1 or OPEN_1 and not OPEN_11 and not OPEN_12 and not OPEN_13 and not OPEN_14 or DATA_SN_N1"
    conform(tmp_path / "before", expression)
    same = conform(tmp_path / "same", expression, baseline_file=tmp_path / "before" / "report.json")
    assert same.verdict is Verdict.PASS
    better = changed(tmp_path / "before", APPL_REL_P1="FAIL", APPL_DATA_SN_N1="PASS")
    run = conform(tmp_path / "now", expression, baseline_file=better)
    assert run.comparison is not None
    assert [str(change) for change in run.comparison.regressions] == ["APPL_DATA_SN_N1: PASS → SKIP"]
    assert [str(change) for change in run.comparison.improvements] == ["APPL_REL_P1: FAIL → PASS"]
    assert run.verdict is Verdict.FAIL
    document = json.loads((tmp_path / "now" / "report.json").read_text(encoding="utf-8"))
    assert document["statistics"]["baseline"]["regressions"] == ["APPL_DATA_SN_N1: PASS → SKIP"]
    assert "Against the baseline" in (tmp_path / "now" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not a report.json"),
        ("[]", "is not a report.json"),
        ('{"conditions": {"run": "conform"}, "cases": [{}]}', "is not a report.json"),
        ('{"conditions": {}, "cases": []}', "is not a report.json"),
        ('{"conditions": {"run": "conform", "meter": "x"}, "cases": [{"name": "a", "verdict": "GOOD"}]}', "is not a"),
        ('{"conditions": {"run": "conform", "meter": "other"}, "cases": []}', "is about 'other', this run about"),
        ('{"conditions": {"run": "conform", "meter": "ihm5000-1p"}, "cases": []}', "no case in common"),
        ('{"conditions": {"run": "run", "meter": "m"}, "cases": []}', "another command"),
    ],
)
def test_a_baseline_that_does_not_fit_says_so(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=problem) as caught:
        conform(tmp_path / "run", "REL_P1", baseline_file=path)
    assert caught.value.file == str(path)


def test_a_baseline_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        conform(tmp_path / "run", "REL_P1", baseline_file=tmp_path / "none.json")
