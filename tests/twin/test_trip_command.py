"""The verb `twin trip`: flags, files, reports, exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
comtrade = pytest.importorskip("comtrade")

import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from protocols.errors import BadInputError  # noqa: E402
from twin.commands.trip import register  # noqa: E402

_APP = typer.Typer()
register(_APP)


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(_APP, [str(argument) for argument in arguments])
    if isinstance(result.exception, BadInputError):
        return 2, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def _csv(path: Path, samples: object, heading: str = "") -> Path:
    path.write_text(heading + "\n".join(f"{value:.6f}" for value in samples) + "\n")  # type: ignore[attr-defined]
    return path


def _sine(rms_ma: float, hz: float, onset: int = 800, length: int = 3200) -> object:
    time_s = np.arange(length) / 8000.0
    return np.concatenate((np.zeros(onset), rms_ma * np.sqrt(2) * np.sin(2 * np.pi * hz * time_s + 0.7)))


def test_json_is_a_list_of_shots_with_phases_and_times() -> None:
    status, text = _run("--waveform", "ac", "--ma", 30, "--hz", 45, "--phases", 4, "--json")
    shots = json.loads(text)
    assert status == 0
    assert [shot["phase_deg"] for shot in shots] == [0.0, 90.0, 180.0, 270.0]
    assert all(shot["tripped"] and 0 < shot["detect_ms"] < shot["isolate_ms"] <= 40 for shot in shots)


def test_a_shot_that_does_not_trip_has_no_times() -> None:
    status, text = _run("--waveform", "ac", "--ma", 15, "--phases", 2, "--json")
    assert status == 0
    assert all(
        (shot["tripped"], shot["detect_ms"], shot["isolate_ms"]) == (False, None, None) for shot in json.loads(text)
    )


def test_a_miss_fails() -> None:
    status, _ = _run("--waveform", "dc", "--ma", -6, "--phases", 2, "--sensor", "type-a")
    assert status == 1


def test_the_list_names_every_waveform() -> None:
    status, text = _run("--list", "--json")
    names = {row["name"] for row in json.loads(text)}
    assert status == 0
    assert {"ac", "dc", "half-wave-0", "half-wave-90", "half-wave-135", "two-pulse", "composite", "surge"} <= names


@pytest.mark.parametrize("hz", [45.0, 50.0, 52.0])
def test_samples_from_a_file_are_judged_from_the_onset(tmp_path: Path, hz: float) -> None:
    path = _csv(tmp_path / "fault.csv", _sine(30.0, hz))
    status, text = _run("--samples", path, "--rate", 8000, "--onset-ms", 100, "--json")
    (shot,) = json.loads(text)
    assert status == 0
    assert shot["tripped"]
    assert 5.0 < shot["detect_ms"] < shot["isolate_ms"] <= 40.0


def test_a_file_below_the_table_holds_and_expect_trip_fails_it(tmp_path: Path) -> None:
    path = _csv(tmp_path / "quiet.csv", _sine(15.0, 47.0), heading="residual_ma\n")
    assert _run("--samples", path, "--expect", "hold")[0] == 0
    assert _run("--samples", path, "--expect", "trip")[0] == 1


def test_a_late_trip_from_a_known_onset_fails(tmp_path: Path) -> None:
    samples = np.concatenate((np.zeros(2400), np.full(1600, 8.0)))
    path = _csv(tmp_path / "late.csv", samples)
    assert _run("--samples", path, "--onset-ms", 100)[0] == 1
    assert _run("--samples", path, "--onset-ms", 300)[0] == 0
    assert _run("--samples", path, "--onset-ms", 400)[0] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [("nan", "'nan' is not a current"), ("inf", "is not a current"), ("1,2", "is not a number"), ("x", "not a number")],
)
def test_a_bad_sample_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(["0.1"] * 199 + [line] + ["0.2"] * 100))
    status, message = _run("--samples", path)
    assert status == 2
    assert "bad.csv:200" in message
    assert said in message


def test_other_bad_input_says_what_to_do(tmp_path: Path) -> None:
    path = _csv(tmp_path / "fault.csv", _sine(30.0, 50.0))
    assert "resample" in _run("--samples", path, "--rate", 4000)[1]
    assert "no such file" in _run("--samples", tmp_path / "none.csv")[1]
    assert "lies outside" in _run("--samples", path, "--onset-ms", 9999)[1]
    assert "there are ac" in _run("--waveform", "saw", "--ma", 1)[1]
    assert "--ma" in _run("--waveform", "ac")[1]
    assert "exactly one" in _run()[1]
    short = _csv(tmp_path / "short.csv", np.zeros(50))
    assert "at least 160" in _run("--samples", short)[1]


def test_the_report_folder_holds_plots_and_comtrade_that_others_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _ = _run("--waveform", "half-wave-90", "--ma", 42, "--phases", 2, "--out", out)
    assert status == 0
    assert (out / "trip_times.png").read_bytes().startswith(b"\x89PNG")
    assert "a half-wave that must not trip" in (out / "report.html").read_text()
    assert len(json.loads((out / "report.json").read_text())["shots"]) == 2
    (config,) = out.glob("*.cfg")
    record = comtrade.load(str(config))
    assert record.cfg.sample_rates == [[8000.0, record.total_samples]]
    residual = record.analog[record.analog_channel_ids.index("residual")]
    assert max(residual) == pytest.approx(42.0 / np.sqrt(0.125), rel=0.02)
    assert record.trigger_time == pytest.approx(0.06, abs=1e-6)
    status, text = _run("--comtrade", config, "--channel", "residual", "--json")
    (shot,) = json.loads(text)
    assert status == 0
    assert shot["tripped"]
    assert shot["isolate_ms"] <= 40.0


def test_a_comtrade_record_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.cfg"
    path.write_text("nonsense\n")
    status, message = _run("--comtrade", path)
    assert status == 2
    assert "x.cfg" in message


def test_a_plan_fires_every_kind_of_shot(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        """
shots:
  - {kind: shot, waveform: ac, ma: 30}
  - {kind: phase-sweep, waveform: half-wave-0, ma: 42, phases: 3}
  - {kind: frequency-sweep, waveform: ac, ma: 30, from_hz: 45, to_hz: 52, step_hz: 3.5}
  - {kind: ramp, waveform: dc, ma: 7, ma_per_s: 20}
  - {kind: pulse-ramp, waveform: ac, from_ma: 10, to_ma: 30, step_ma: 10, duration_s: 0.2}
  - kind: sequence
    name: healthy, then faulty
    states:
      - {ma: 10, duration_s: 0.2}
      - {waveform: half-wave-90, ma: 42, duration_s: 0.1}
      - {ma: 0, duration_s: 0.1}
"""
    )
    status, text = _run("--plan", plan, "--json")
    shots = json.loads(text)
    assert status == 0
    assert [shot["kind"] for shot in shots].count("frequency-sweep") == 3
    assert len(shots) == 1 + 3 + 3 + 1 + 3 + 1
    (ramp,) = [shot for shot in shots if shot["kind"] == "ramp"]
    assert 3.0 < ramp["level_ma"] <= 7.0
    assert ramp["isolate_ms"] <= 40.0
    (sequence,) = [shot for shot in shots if shot["kind"] == "sequence"]
    assert 0.0 < sequence["isolate_ms"] <= 40.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shots:\n  - {kind: shot, ma: 30, wavefrom: ac}\n", "plan.yaml:2"),
        ("shots:\n  - kind: shot\n    ma: 30\n    waveform: saw\n", "plan.yaml:4"),
        ("shots: []\n", "shots"),
        ("shots:\n  - {kind: pulse-ramp, from_ma: 1, to_ma: 0, step_ma: 1}\n", "to_ma"),
    ],
)
def test_a_bad_plan_is_named_by_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    status, message = _run("--plan", plan)
    assert status == 2
    assert said in message
