"""The built wheel, away from the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    return next(folder.glob("openami_twin-*.whl"))


def test_the_wheel_carries_scenarios_models_and_recipes(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for wanted in (
        "twin/scenarios/library/village.yaml", "meters/models/ihm5000-1p.yaml", "twin/conformance/catalogue.yaml",
        "twin/conformance/report.html.jinja", "twin/hes/console.html.jinja", "protocols/py.typed",
    ):  # fmt: skip
        assert wanted in names


def test_the_wheel_runs_the_village_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    unpacked, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(unpacked)
    done = subprocess.run(
        [sys.executable, "-c", "import twin.commands.main as m; print(m.__file__); m.main()", "run", "village"],
        cwd=empty, env={"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(unpacked) in done.stdout
    assert (empty / "runs" / "village-1" / "report.html").exists()


def test_the_core_imports_light() -> None:
    """protocols, meters and dcu need none of the heavy packages."""
    heavy = ("numpy", "scipy", "scapy", "sqlalchemy", "fastapi", "matplotlib", "pymodbus", "nicegui", "amqtt")
    code = (
        "import sys; import dcu.daemon, dcu.mqtt_uplink, meters.meter, protocols.dlms.server;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
