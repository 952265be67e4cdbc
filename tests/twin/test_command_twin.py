"""The command line, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from twin_runs import twin_run


def _twin(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twin", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere"), "no scenario of that name"),
        (("run", "village", "--set", "ours=2"), "no such parameter"),
        (("run", "village", "--clock", "virtual", "--broker", "mosquitto"), "use --clock real"),
        (("run", "village", "--seed", "-1"), "must not be negative"),
        (("run", "village", "--clock", "sundial"), "sundial"),
        (("fly",), "No such command"),
    ],
)
def test_wrong_usage_says_what_and_exits_2(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = _twin(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bad_scenario_file_exits_2_with_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("scenario: bad\ntitle: t\ndcu: {id: dcu-1, position: [0, zero]}\nmeters: []\nscript: []\n")
    done = _twin("run", str(path), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{path}:3: dcu.position[1]: must be a number, not 'zero'" in done.stderr


def test_a_folder_with_foreign_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    run = twin_run(tmp_path, "village")
    assert run.status == 2
    assert "is not empty, and no run made it" in run.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious.txt"]


def test_doctor_lists_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    done = _twin("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["mosquitto"]["install"] == "apt-get install mosquitto"
    assert findings["numpy"]["found"] is True


def test_help_names_every_verb(tmp_path: Path) -> None:
    text = _twin("--help", cwd=tmp_path).stdout
    for verb in ("run", "meter", "doctor"):
        assert verb in text
