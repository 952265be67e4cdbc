import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from protocols.errors import BadInputError
from twin.conformance.catalogue import catalogue, requirement
from twin.conformance.pictures.shown import Bars
from twin.conformance.report import Figure, RunReport, to_html, to_json, to_junit
from twin.conformance.verdicts import (
    Attempt,
    CaseResult,
    Record,
    Verdict,
    at_least,
    at_most,
    differs_from,
    equals,
    within,
    worst,
)

ROOT = Path(__file__).parents[2]


def test_the_packaged_catalogue_is_the_documents_table() -> None:
    table = re.findall(r"^\| ([A-Z]+-[A-Z0-9.]+) \| (.*) \|$", (ROOT / "docs/requirements.md").read_text(), re.M)
    assert [(row.identifier, row.text) for row in catalogue().values()] == table


def test_a_requirement_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"UC-X\.1: no such row"):
        requirement("UC-X.1")


def test_nothing_measured_is_never_a_pass() -> None:
    record = Record()
    assert record.verdict() == (Verdict.FAIL, "nothing was measured against a limit")
    record.measure("colour", "green")
    assert record.verdict()[0] is Verdict.FAIL


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [(within(1, 2), 2, 2.1), (at_most(3), 3, 4), (at_least(3), 3, 2), (equals(12), 12, 11), (equals("A"), "A", "B"),
     (equals(True), True, 1), (differs_from("B"), "C", "B"), (at_most(3), 0, None), (at_most(3), 1, float("nan"))],
)  # fmt: skip
def test_a_limit_holds_inside_and_fails_outside(limit: object, good: object, bad: object) -> None:
    for value, verdict in ((good, Verdict.PASS), (bad, Verdict.FAIL)):
        record = Record()
        record.measure("x", value, unit="s", limit=limit)  # type: ignore[arg-type]
        assert record.verdict()[0] is verdict


def test_an_error_outweighs_a_failure_and_a_skip_only_counts_alone() -> None:
    assert worst([Verdict.PASS, Verdict.SKIP]) is Verdict.PASS
    assert worst([Verdict.FAIL, Verdict.ERROR, Verdict.PASS]) is Verdict.ERROR
    assert worst([Verdict.SKIP]) is Verdict.SKIP
    assert worst([]) is Verdict.NOT_COVERED


def _report() -> RunReport:
    record = Record()
    record.measure("time to join", 21.5, unit="s", limit=at_most(60))
    passed = Attempt(Verdict.PASS, "", 0, 21.5, tuple(record.measurements))
    failed = Attempt(Verdict.FAIL, "a <bad> & nasty reason", 21.5, 30, ())
    cases = (
        CaseResult("join", "all join", ("UC-I.1",), (failed, passed)),
        CaseResult("read", "A is read", ("UC-II.1", "UC-I.1"), (failed,)),
        CaseResult("late", "too late", ("UC-II.2",), (Attempt(Verdict.TIMEOUT, "not done", 30, 40, ()),)),
        CaseResult("not", "not run", (), (Attempt(Verdict.SKIP, "needs 'x'", 40, 40, ()),)),
    )
    figure = Figure("Map", "caption", "map", Bars([("1 hop", 2.0)], "meters", "Hops"))
    return RunReport(
        title="T", about="about", conditions={"scenario": "t", "seed": "7"}, command="twin run t --seed 7",
        simulated_s=40, cases=cases, figures=(figure,), files=("air.pcap",),
    )  # fmt: skip


def test_json_keeps_every_attempt_and_lists_every_requirement() -> None:
    document = json.loads(to_json(_report()))
    assert document["verdict"] == "TIMEOUT"
    assert [attempt["verdict"] for attempt in document["cases"][0]["attempts"]] == ["FAIL", "PASS"]
    rows = {row["id"]: row["verdict"] for row in document["requirements"]}
    assert len(rows) == len(catalogue())
    assert rows["UC-I.1"] == "FAIL"
    assert rows["UC-II.2"] == "TIMEOUT"
    assert rows["SAF-1"] == "NOT COVERED"


def test_junit_is_what_ci_servers_count() -> None:
    suite = ElementTree.fromstring(to_junit(_report())).find("testsuite")  # noqa: S314 (our own text)
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert [element.get("name") for element in suite.findall("testcase")] == [
        "all join",
        "A is read",
        "too late",
        "not run",
    ]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "a <bad> & nasty reason"


def test_html_escapes_what_came_from_outside_and_shows_every_row() -> None:
    page = to_html(_report())
    assert "a &lt;bad&gt; &amp; nasty reason" in page
    assert "<title>1 hop: 2 meters</title>" in page
    assert "pictures/map.json" in page
    assert all(identifier in page for identifier in catalogue())
    assert "http://" not in page
    assert "https://" not in page
