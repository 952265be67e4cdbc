"""Where the cases belong: OSI layer by SGAM layer, and SGAM layer by UNECE dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twin.conformance.tables import Table
from twin.conformance.verdicts import CaseResult, Layers, SgamLayer, UneceDimension, Verdict

_OSI = {
    7: "7 application",
    6: "6 presentation",
    5: "5 session",
    4: "4 transport",
    3: "3 network",
    2: "2 data link",
    1: "1 physical",
}
_COUNTED = (Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.TIMEOUT, Verdict.SKIP)


def interoperability_matrix(cases: Sequence[CaseResult]) -> tuple[Table, ...]:
    """Two tables of verdict counts; none if no case says where it belongs."""
    placed = [(item.layers, item.verdict) for item in cases if item.layers is not None]
    if not placed:
        return ()

    def cell(holds: Callable[[Layers], bool]) -> str:
        found = [verdict for layers, verdict in placed if holds(layers)]
        counts = [(verdict, found.count(verdict)) for verdict in _COUNTED]
        return ", ".join(f"{count} {verdict}" for verdict, count in counts if count) or "-"

    by_osi = tuple(
        (name, *(cell(lambda x, n=number, s=sgam: x.osi == n and x.sgam is s) for sgam in SgamLayer))  # type: ignore[misc]
        for number, name in _OSI.items()
    )
    by_dimension = tuple(
        (sgam.value, *(cell(lambda x, s=sgam, u=unece: x.sgam is s and x.unece is u) for unece in UneceDimension))  # type: ignore[misc]
        for sgam in SgamLayer
    )
    return (
        Table("Cases by OSI layer and SGAM layer", ("OSI layer", *(f"SGAM {item}" for item in SgamLayer)), by_osi),
        Table(
            "Cases by SGAM layer and UNECE dimension",
            ("SGAM layer", *(f"UNECE {item}" for item in UneceDimension)),
            by_dimension,
        ),
    )
