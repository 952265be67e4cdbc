"""The verb `twin trip`: shots at the leakage protection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from protocols.errors import BadInputError
from twin.commands.output import ExitStatus, people, write_result
from twin.errors import RigError

if TYPE_CHECKING:
    from twin.protection.shots import Shot, ShotResult

_PACKAGES = "numpy", "scipy", "matplotlib", "comtrade"


def register(app: typer.Typer) -> None:
    """Add `trip` to the command."""
    app.command("trip")(trip)


def trip(
    waveform: Annotated[str | None, typer.Option(help="Waveform of the fault; --list names them.")] = None,
    ma: Annotated[float | None, typer.Option(help="Current in mA, in the waveform's rating; may be negative.")] = None,
    hz: Annotated[float, typer.Option(help="Line frequency.")] = 50.0,
    drift_hz_per_s: Annotated[float, typer.Option(help="Drift of the line frequency, held within 45 to 52 Hz.")] = 0.0,
    phases: Annotated[int, typer.Option(help="Onset phases, evenly spaced over a cycle.")] = 64,
    phase_deg: Annotated[float, typer.Option(help="The first onset phase.")] = 0.0,
    relay: Annotated[str, typer.Option(help="mosfet, thyristor or contactor.")] = "mosfet",
    opening_ms: Annotated[float | None, typer.Option(help="Turn-off delay or parting time of the relay.")] = None,
    weld: Annotated[list[str] | None, typer.Option(help="A pole that is welded: L or N.")] = None,
    sensor: Annotated[str, typer.Option(help="type-b, type-a or type-ac.")] = "type-b",
    noise_ma: Annotated[float | None, typer.Option(help="The sensor's noise, RMS.")] = None,
    offset_ma: Annotated[float | None, typer.Option(help="The sensor's offset.")] = None,
    load_a: Annotated[float, typer.Option(help="Load current, RMS.")] = 10.0,
    load_phase_deg: Annotated[float, typer.Option(help="By how much the load lags the voltage.")] = 0.0,
    dc_ma: Annotated[float, typer.Option(help="Smooth direct current that comes with the fault.")] = 0.0,
    standing_ma: Annotated[float, typer.Option(help="Standing leakage before and during the fault, RMS.")] = 0.0,
    standing_dc_ma: Annotated[float, typer.Option(help="Standing direct leakage.")] = 0.0,
    ramp_ma_per_s: Annotated[float | None, typer.Option(help="Let the fault grow from zero at this rate.")] = None,
    duration_s: Annotated[float, typer.Option(help="For how long a fault at its full current is watched.")] = 1.0,
    samples: Annotated[Path | None, typer.Option(help="CSV of residual current, mA, one a line; or COMTRADE.")] = None,
    comtrade: Annotated[Path | None, typer.Option(help="COMTRADE record (.cfg or .cff) of residual current.")] = None,
    channel: Annotated[str | None, typer.Option(help="Channel of the COMTRADE record.")] = None,
    rate: Annotated[float, typer.Option(help="Samples a second in the CSV file.")] = 8000.0,
    onset_ms: Annotated[float | None, typer.Option(help="Where in the samples the fault begins.")] = None,
    expect: Annotated[str | None, typer.Option(help="What the shot must do: trip or hold.")] = None,
    plan: Annotated[Path | None, typer.Option(help="YAML file of shots, ramps, sequences and sweeps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, plots, COMTRADE and JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sensor's noise.")] = 1,
    names: Annotated[bool, typer.Option("--list", help="Name the waveforms and the table's currents.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Fire shots at the leakage protection and judge what trips, and when.

    Exit status: 0 if every shot did what it must, 1 if not, 2 for bad input.
    """
    _need_packages()
    if names:
        _list(as_json)
        return
    recorded = samples or comtrade
    if sum(source is not None for source in (waveform, recorded, plan)) != 1 or (samples and comtrade):
        raise BadInputError("give exactly one of --waveform, --samples, --comtrade and --plan (or --list)")
    if plan is not None:
        from twin.protection.plans import run_plan

        _finish(run_plan(plan, captures=1 if out else 0), out, as_json)
    base = _base_shot(relay, sensor, opening_ms, noise_ma, offset_ma, weld or [], hz, drift_hz_per_s, seed)
    base = _with_load(base, load_a, load_phase_deg)
    wanted = _expectation(expect)
    if recorded is not None:
        from twin.protection.bench import run_recording
        from twin.protection.sample_files import read_recording
        from twin.protection.shots import ShotKind

        recording = read_recording(recorded, rate, channel)
        shot = replace(base, name=recorded.name, kind=ShotKind.SAMPLES, first_phase_deg=phase_deg)
        _finish([run_recording(recording, shot, onset_ms, wanted)], out, as_json)
    if ma is None:
        raise BadInputError("is missing: give the current in mA, in the waveform's rating", key="--ma")
    shot = _fault(base, str(waveform), ma)
    shot = replace(
        shot, phases=phases, first_phase_deg=phase_deg, direct_ma=dc_ma, standing_ac_ma=standing_ma,
        standing_dc_ma=standing_dc_ma, ramp_ma_per_s=ramp_ma_per_s, duration_s=duration_s, expected=wanted,
    )  # fmt: skip
    from twin.protection.bench import run_shot

    _finish(run_shot(shot, captures=1 if out else 0), out, as_json)


def _need_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise RigError(f"needs {', '.join(missing)}: install openami-twin[grid]")


def _pick(key: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise BadInputError(f"no {name!r}; there are {', '.join(known)}", key=key)
    return known[name]


def _expectation(expect: str | None) -> Any:
    from grid.faults import Expectation

    if expect is None:
        return None
    return _pick("--expect", expect, {"trip": Expectation.TRIP, "hold": Expectation.HOLD})


def _base_shot(
    relay: str, sensor: str, opening_ms: float | None, noise_ma: float | None, offset_ma: float | None,
    weld: list[str], hz: float, drift_hz_per_s: float, seed: int,
) -> Shot:  # fmt: skip
    from grid.waveforms import LineFrequency
    from meters.firmware.protection.settings import ProtectionSettings
    from meters.hardware.leakage_sensor import SENSOR_MODELS
    from meters.hardware.relay import RELAY_MODELS
    from twin.protection.shots import Shot

    relay_model, sensor_model = _pick("--relay", relay, RELAY_MODELS), _pick("--sensor", sensor, SENSOR_MODELS)
    if opening_ms is not None:
        if not 0.0 <= opening_ms <= 1000.0:
            raise BadInputError(f"must be from 0 to 1000 ms, is {opening_ms:g}", key="--opening-ms")
        relay_model = replace(relay_model, opening_ms=opening_ms)
    if noise_ma is not None:
        if not 0.0 <= noise_ma <= 100.0:
            raise BadInputError(f"must be from 0 to 100 mA, is {noise_ma:g}", key="--noise-ma")
        sensor_model = replace(sensor_model, noise_ma=noise_ma)
    if offset_ma is not None:
        if not -100.0 <= offset_ma <= 100.0:
            raise BadInputError(f"must be from -100 to 100 mA, is {offset_ma:g}", key="--offset-ma")
        sensor_model = replace(sensor_model, offset_ma=offset_ma)
    poles = frozenset(_pick("--weld", pole, {"L": "L", "N": "N"}) for pole in weld)
    return Shot(
        "shot", "ac", 0.0, frequency=LineFrequency(hz, drift_hz_per_s), relay=relay_model, sensor=sensor_model,
        settings=ProtectionSettings(line_hz=60.0 if hz >= 55.0 else 50.0), welded=poles, seed=seed,
    )  # fmt: skip


def _with_load(shot: Shot, load_a: float, load_phase_deg: float) -> Shot:
    from grid.loads import Load

    if not 0.0 <= load_a <= 200.0:
        raise BadInputError(f"must be from 0 to 200 A, is {load_a:g}", key="--load-a")
    return replace(shot, load=Load(load_a, load_phase_deg))


def _fault(base: Shot, waveform: str, ma: float) -> Shot:
    from grid.waveforms import WAVEFORMS

    _pick("--waveform", waveform, WAVEFORMS)
    return replace(base, name=waveform, waveform=waveform, ma=ma)


def _list(as_json: bool) -> None:
    from grid.faults import fault_row
    from grid.waveforms import WAVEFORMS

    rows = [
        {
            "name": known.name,
            "title": known.title,
            "rating": known.rating.value,
            "must_not_trip_ma": fault_row(known.name).hold_ma,
            "must_trip_ma": fault_row(known.name).trip_ma,
            "origin": fault_row(known.name).origin,
        }
        for known in WAVEFORMS.values()
    ]
    if as_json:
        write_result(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    for row in rows:
        hold, must = (f"{row[key]:g}" if row[key] is not None else "-" for key in ("must_not_trip_ma", "must_trip_ma"))
        write_result(f"{row['name']:24} {row['rating']:5} must not {hold:>8} mA, must {must:>4} mA  {row['title']}\n")


def _finish(results: list[ShotResult], out: Path | None, as_json: bool) -> None:
    """Write what was asked for, and end with the exit status."""
    from twin.conformance.verdicts import Verdict

    if out is not None:
        from twin.protection.report import write_folder

        write_folder(results, out)
    if as_json:
        write_result(json.dumps([result.to_json() for result in results], indent=1, ensure_ascii=False) + "\n")
    else:
        _summarize(results)
    if out is not None:
        people().print(f"report: {out / 'report.html'}")
    failed = any(result.verdict is not Verdict.PASS for result in results)
    raise typer.Exit(int(ExitStatus.FAILED if failed else ExitStatus.PASSED))


def _summarize(results: list[ShotResult]) -> None:
    from twin.protection.summary import summarize

    console = people()
    for row in summarize(results):
        style = "bold green" if row.verdict.value == "PASS" else "bold red"
        facts = f"{row.relay}, {row.sensor}, {row.expected}: {row.tripped} of {row.count} tripped"
        facts += _at_most(", detected", row.worst_detect_ms) + _at_most(", isolated", row.worst_isolate_ms)
        title = f"{row.name}, {row.ma:g} mA, {row.hz:g} Hz"
        console.print(f"[{style}]{row.verdict.value:>8}[/]  {escape(title)}  [dim]{escape(facts)}[/]")
        if row.reason:
            console.print(f"          [{style}]{escape(row.reason)}[/]")


def _at_most(what: str, value_ms: float | None) -> str:
    if value_ms is None:
        return ""
    if value_ms < 0.0:
        return f"{what} {-value_ms:.1f} ms before the limit was reached, or earlier"
    return f"{what} within {value_ms:.1f} ms"
