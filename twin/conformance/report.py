"""The report of a run: one set of facts, written as JSON, JUnit XML and HTML.

Nothing in it depends on the host's clock, folder or locale: the same run leaves the same bytes.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from twin.conformance.catalogue import catalogue
from twin.conformance.matrix import interoperability_matrix
from twin.conformance.pictures.png import can_draw, to_png
from twin.conformance.pictures.shown import Picture, as_data
from twin.conformance.pictures.svg import to_svg
from twin.conformance.tables import Table as Table  # part of this module's face
from twin.conformance.verdicts import Attempt, CaseResult, Measurement, Verdict, is_picture, worst

_COUNTED = (Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.TIMEOUT, Verdict.SKIP)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the report. `name` is that of its files in the folder `pictures`: NAME.png and NAME.json."""

    title: str
    caption: str
    name: str
    picture: Picture

    @property
    def svg(self) -> str:
        return to_svg(self.picture)

    @property
    def files(self) -> tuple[str, ...]:
        """What is written beside the report: the facts, and the picture where matplotlib can draw it."""
        return tuple(f"pictures/{self.name}.{kind}" for kind in (("json", "png") if can_draw() else ("json",)))


@dataclass(frozen=True)
class RunReport:
    """Everything that a run has to say."""

    title: str
    about: str
    conditions: dict[str, str]
    """What ran: scenario, seed, clock, timer profile, and for each part whether it was real."""
    command: str
    """The exact command that repeats the run."""
    simulated_s: float
    cases: tuple[CaseResult, ...]
    statistics: dict[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know to take the verdicts for what they are."""
    cases_title: str = "Steps"

    @property
    def matrix(self) -> tuple[Table, ...]:
        """The cases by OSI layer, SGAM layer and UNECE dimension; empty where none carries them."""
        return interoperability_matrix(self.cases)

    @property
    def verdict(self) -> Verdict:
        return worst(case.verdict for case in self.cases)

    def counts(self) -> dict[Verdict, int]:
        return {verdict: sum(case.verdict is verdict for case in self.cases) for verdict in _COUNTED}

    def requirements(self) -> list[tuple[str, str, Verdict, tuple[str, ...]]]:
        """Identifier, text, verdict and the cases that show it, for every row of the catalogue."""
        rows = []
        for row in catalogue().values():
            shown_by = [case for case in self.cases if row.identifier in case.requirements]
            verdict = worst(case.verdict for case in shown_by)
            rows.append((row.identifier, row.text, verdict, tuple(case.title for case in shown_by)))
        return rows


def write_report(report: RunReport, folder: Path) -> None:
    """Write report.json, report.xml, report.html and the files of the figures into `folder`."""
    (folder / "report.json").write_text(to_json(report), encoding="utf-8")
    (folder / "report.xml").write_text(to_junit(report), encoding="utf-8")
    (folder / "report.html").write_text(to_html(report), encoding="utf-8")
    for figure in report.figures:
        _write_figure(figure, folder)


def _write_figure(figure: Figure, folder: Path) -> None:
    for name in figure.files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".png":
            path.write_bytes(to_png(figure.picture))
        else:
            path.write_text(json.dumps(as_data(figure.picture), ensure_ascii=False) + "\n", encoding="utf-8")


def to_json(report: RunReport) -> str:
    document = {
        "title": report.title,
        "verdict": report.verdict,
        "conditions": report.conditions,
        "command": report.command,
        "simulated_s": round(report.simulated_s, 6),
        "counts": {str(verdict): count for verdict, count in report.counts().items()},
        "cases": [_case(case) for case in report.cases],
        "requirements": [
            {"id": identifier, "verdict": verdict, "shown_by": list(shown_by)}
            for identifier, _, verdict, shown_by in report.requirements()
        ],
        "statistics": report.statistics,
        **({"notes": list(report.notes)} if report.notes else {}),
        "warnings": list(report.warnings),
        "files": list(report.files),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _case(case: CaseResult) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": case.name,
        "title": case.title,
        "verdict": case.verdict,
        "reason": case.last.reason,
        "requirements": list(case.requirements),
        "attempts": [_attempt(attempt) for attempt in case.attempts],
    }
    if case.purpose:
        document["purpose"] = case.purpose
    if case.layers is not None:
        layers = case.layers
        document["layers"] = {"osi": layers.osi, "sgam": layers.sgam, "unece": layers.unece}
    return document


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "verdict": attempt.verdict,
        "reason": attempt.reason,
        "started_s": round(attempt.started_s, 6),
        "ended_s": round(attempt.ended_s, 6),
        "measurements": [_measurement(measurement) for measurement in attempt.measurements],
        "attachments": list(attempt.attachments),
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    return {
        "name": measurement.name,
        "value": measurement.value,
        "unit": measurement.unit,
        "limit": measurement.limit.text if measurement.limit else None,
        "verdict": measurement.verdict,
    }


def to_junit(report: RunReport) -> str:
    """JUnit XML as CI servers read it. Times are simulated seconds on the virtual clock."""
    counts = report.counts()
    suite = ElementTree.Element(
        "testsuite",
        name=report.conditions.get("scenario", report.title),
        tests=str(len(report.cases)),
        failures=str(counts[Verdict.FAIL]),
        errors=str(counts[Verdict.ERROR] + counts[Verdict.TIMEOUT]),
        skipped=str(counts[Verdict.SKIP]),
        time=f"{report.simulated_s:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in [*report.conditions.items(), ("command", report.command)]:
        ElementTree.SubElement(properties, "property", name=name, value=value)
    for case in report.cases:
        duration_s = case.last.ended_s - case.attempts[0].started_s
        element = ElementTree.SubElement(
            suite, "testcase", name=case.title, classname=f"{suite.get('name')}.{case.name}", time=f"{duration_s:.3f}"
        )
        tag = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.TIMEOUT: "error", Verdict.SKIP: "skipped"}
        if case.verdict in tag:
            ElementTree.SubElement(element, tag[case.verdict], type=case.verdict, message=case.last.reason)
        lines = [
            f"{m.name} = {m.value} {m.unit}".rstrip() + (f" ({m.limit.text}: {m.verdict})" if m.limit else "")
            for m in case.last.measurements
        ]
        if case.purpose:
            lines.insert(0, case.purpose)
        if case.requirements:
            lines.insert(0, f"requirements: {', '.join(case.requirements)}")
        ElementTree.SubElement(element, "system-out").text = "\n".join(lines)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def to_html(report: RunReport) -> str:
    source = resources.files("twin.conformance").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["svg"] = Markup
    return environment.from_string(source).render(
        report=report,
        counts=report.counts(),
        requirements=report.requirements(),
        NOT_COVERED=Verdict.NOT_COVERED,
        is_picture=is_picture,
    )
