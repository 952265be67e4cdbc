from importlib import resources
from pathlib import Path

import pytest

from protocols.errors import BadInputError
from twin.scenarios.loading import load_scenario, packaged_scenarios
from twin.scenarios.playing import resolve_script

VILLAGE = resources.files("twin.scenarios").joinpath("library", "village.yaml").read_text()


def _write(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = VILLAGE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def _line_of(path: str, text: str) -> int:
    return max(n for n, line in enumerate(Path(path).read_text().splitlines(), 1) if text in line)


def test_the_village_has_a_dcu_and_twelve_meters() -> None:
    loaded = load_scenario("village")
    assert len(loaded.scenario.meters) == 12
    positions = {meter.name: meter.position for meter in loaded.scenario.meters}
    assert positions["B"] == (300, 0)
    assert positions["A"] == (600, 0)
    assert loaded.values == {"hours": 0}


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("timers: bench", "timer: bench", "timer", "unknown key"),
        ("position: [600, 0]", "position: [far, 0]", "meters[0].position[0]", "must be a number, not 'far'"),
        ("position: [600, 0]", "position: [.nan, 0]", "meters[0].position[0]", "must be a number, not nan"),
        ("serial: IHM5000012", "serial: IHM5000011", "meters[11].serial", "the serial of another meter already"),
        ("name: L,", "name: K,", "meters[11].name", "the name of another meter already"),
        ("region: EU-1", "region: MARS", "radio.region", "'MARS'"),
        ("- {step: join,", "- {step: joyn,", "script[0].step", "no such step"),
        ("when: hours", "when: ours", "script[8].when", "'ours' is no parameter"),
        ("needs: [A is read again]", "needs: [nothing]", "script[8].needs[0]", "'nothing' is no earlier step"),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_key(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    path = _write(tmp_path, (old, new))
    with pytest.raises(BadInputError) as caught:
        resolve_script(load_scenario(path))
    assert caught.value.key == key
    assert caught.value.line == _line_of(path, new)
    assert str(caught.value).startswith(f"{path}:{caught.value.line}: {key}: ")
    assert says in str(caught.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, ("timers: bench", "timers: bench\ntimers: bench"))
    with pytest.raises(BadInputError, match=r"mine.yaml:\d+: timers: stands here twice"):
        load_scenario(path)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("scenario: x\nmeters: [\n")
    with pytest.raises(BadInputError, match=r"broken.yaml:\d+: is not valid YAML"):
        load_scenario(str(path))


def test_an_unknown_scenario_lists_those_that_exist() -> None:
    with pytest.raises(BadInputError, match=r"no scenario of that name.*village"):
        load_scenario("villlage")
    assert "village" in packaged_scenarios()


def test_set_changes_parameters_and_places_in_the_file() -> None:
    loaded = load_scenario("village", ["hours=24", "radio.max_psdu_bytes=127"])
    assert loaded.values["hours"] == 24
    assert loaded.scenario.radio.max_psdu_bytes == 127


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hours", "must be KEY=VALUE"),
        ("hours=soon", "must be a int like 0, not 'soon'"),
        ("hours=-1", "must lie between 0 and 8760"),
        ("ours=24", "no such parameter; it has: hours"),
        ("radio.max_psdu_bytes=99", "127 or 2047"),
    ],
)
def test_a_bad_override_is_refused(override: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        load_scenario("village", [override])
