"""The bench's report: a folder with report.html, report.json, the trip-time plot and the trips as COMTRADE."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import jinja2

from grid.faults import CONFLICTS
from protocols.errors import BadInputError
from twin.conformance.verdicts import Verdict
from twin.protection.comtrade_export import write_comtrade
from twin.protection.plots import plot_capture, plot_trip_times
from twin.protection.shots import ShotResult
from twin.protection.summary import summarize

_MOST_CAPTURES = 40

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Leakage protection: {{ verdict }}</title><style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1f2328 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d1d9e0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } .PASS { color: #1a7f37 } .FAIL { color: #cf222e }
b.PASS, b.FAIL { font-weight: 600 } img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption { color: #59636e }
</style></head><body>
<h1>Leakage protection: <span class="{{ verdict }}">{{ verdict }}</span></h1>
<p>{{ shots }} shots, {{ failed }} failed. All times run from the first sample of the fault to the current zero of the
relay's last pole, in simulated time; the clock was virtual and every part was emulated.</p>
<h2>Shots</h2>
<table><tr><th>Verdict<th>Shot<th>mA<th>Hz<th>Relay<th>Sensor<th>Expected<th>Tripped<th>Isolated<th>Worst detection, ms
<th>Worst isolation, ms<th>Why not</tr>
{% for row in rows %}<tr><td><b class="{{ row.verdict.value }}">{{ row.verdict.value }}</b><td>{{ row.name }}
<td class="n">{{ "%g"|format(row.ma) }}<td class="n">{{ "%g"|format(row.hz) }}<td>{{ row.relay }}<td>{{ row.sensor }}
<td>{{ row.expected }}<td class="n">{{ row.tripped }}/{{ row.count }}<td class="n">{{ row.isolated }}
<td class="n">{{ ms(row.worst_detect_ms) }}<td class="n">{{ ms(row.worst_isolate_ms) }}<td>{{ row.reason }}</tr>
{% endfor %}</table>
<h2>Trip time against current</h2>
<figure><img alt="Isolation times against current with limits" src="data:image/png;base64,{{ plot }}">
<figcaption>Solid: the limit of time. Dotted: must not trip up to here. Dashed: must trip from here on.
A triangle at the top did not trip; a cross tripped, and was not isolated.</figcaption></figure>
{% if captures %}<h2>Trips</h2>{% endif %}
{% for capture in captures %}<figure><img alt="{{ capture.title }}" src="data:image/png;base64,{{ capture.image }}">
<figcaption><a href="{{ capture.file }}">{{ capture.file }}</a></figcaption></figure>
{% endfor %}
<h2>Where the reference design and the standards pull apart</h2>
<table><tr><th>Conflict<th>What pulls<th>Decision</tr>
{% for conflict in conflicts %}<tr><td>{{ conflict.title }}<td>{{ conflict.conflict }}<td>{{ conflict.decision }}</tr>
{% endfor %}</table>
</body></html>
"""


def write_folder(results: list[ShotResult], folder: Path) -> None:
    """Write everything into `folder`, which is made. Raises BadInputError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plot = plot_trip_times(results)
        (folder / "trip_times.png").write_bytes(plot)
        captures = _write_captures(results, folder)
        document = {
            "shots": [result.to_json() for result in results],
            "conflicts": [
                {"title": item.title, "conflict": item.conflict, "decision": item.decision} for item in CONFLICTS
            ],
        }
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.html").write_text(_page(results, plot, captures), encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"cannot be written: {error}", file=str(folder), key="--out") from error


def _write_captures(results: list[ShotResult], folder: Path) -> list[dict[str, str]]:
    written: list[dict[str, str]] = []
    for result in [result for result in results if result.capture is not None][:_MOST_CAPTURES]:
        assert result.capture is not None
        plain = re.sub(r"[^A-Za-z0-9]+", "-", result.shot.name).strip("-") or "shot"
        stem = f"{len(written) + 1:02d}-{plain}-{abs(result.shot.ma):g}mA-{result.shot.frequency.hz:g}Hz"
        write_comtrade(result.capture, folder, stem, result.shot.frequency.hz)
        isolated = "not isolated" if result.isolate_ms is None else f"isolated after {result.isolate_ms:.1f} ms"
        outcome = isolated if result.tripped else "not tripped"
        title = f"{result.shot.name}, {result.shot.ma:g} mA, {result.phase_deg:.0f}°: {outcome}"
        image = plot_capture(result.capture, title)
        (folder / f"{stem}.png").write_bytes(image)
        written.append({"title": title, "file": f"{stem}.cfg", "image": base64.b64encode(image).decode()})
    return written


def _page(results: list[ShotResult], plot: bytes, captures: list[dict[str, str]]) -> str:
    failed = sum(result.verdict is not Verdict.PASS for result in results)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_PAGE).render(
        verdict="FAIL" if failed else "PASS",
        shots=len(results),
        failed=failed,
        rows=summarize(results),
        plot=base64.b64encode(plot).decode(),
        captures=captures,
        conflicts=CONFLICTS,
        ms=lambda value: "-" if value is None else f"{value:.1f}",
    )
