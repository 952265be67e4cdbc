"""Meter models as data: what is packaged works, every measuring object answers, and mistakes are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from meter_bench import Bench

from meters.firmware.compiled import compile_model
from meters.firmware.objects.protection import THRESHOLDS
from meters.models.companion import load_companion, packaged_companions
from meters.models.library import load_model, packaged_models
from protocols.dlms.units import Unit
from protocols.errors import BadInputError
from protocols.loads import ConstantLoad, PhaseLoad

MODELS = Path(__file__).parents[2] / "meters" / "models"
INPUTS = (
    ConstantLoad((PhaseLoad(1000, 300, 231), PhaseLoad(1100, 350, 232), PhaseLoad(1200, 320, 233)), 50.0),
    ConstantLoad((PhaseLoad(-1500, 410, 221), PhaseLoad(-1400, 450, 222), PhaseLoad(-1300, 420, 223)), 49.5),
    ConstantLoad((PhaseLoad(-2500, -900, 211), PhaseLoad(-2400, -950, 212), PhaseLoad(-2300, -920, 213)), 50.5),
    ConstantLoad((PhaseLoad(3500, -1900, 201), PhaseLoad(3400, -1950, 202), PhaseLoad(3300, -1920, 203)), 51.5),
)
"""One operating point in each quadrant."""


@pytest.mark.requirement("HW-7")
@pytest.mark.parametrize("name", packaged_models())
def test_packaged_model_starts_and_every_object_of_it_answers(name: str) -> None:
    bench = Bench(name)
    association = "management" if not bench.model.legacy else "reader"
    client = bench.client(association)
    for class_id, _, code, _ in client.get(15, "0-0:40.0.0*255"):
        obis = ".".join(map(str, code))
        assert client.get(class_id, obis, 1) == code


@pytest.mark.parametrize("name", ["ihm5000-1p", "ihm5000-3p"])
def test_every_measuring_object_answers_to_its_input(name: str) -> None:
    model = load_model(name)
    measuring = [row for row in model.objects if row.measures is not None and row.measures not in THRESHOLDS]
    assert len(measuring) >= 70
    bench = Bench(model)
    first = bench.client("reader")
    seen = {(row.class_id, row.obis): {first.get(row.class_id, row.obis)} for row in measuring}
    for step in range(16):
        bench.meter.metrology.set_source(INPUTS[step % 4])
        firmware = bench.meter.firmware
        assert firmware is not None
        firmware.services.measurements.select_rate(step // 4 + 1)
        bench.run(1200)
        reader = bench.client("reader")
        for class_id, obis in seen:
            seen[class_id, obis].add(reader.get(class_id, obis))
    dull = [key for key, values in seen.items() if len(values) < 2]
    assert dull == []


def test_companions_fit_every_model_that_can_carry_them() -> None:
    for companion in packaged_companions():
        assert "no statement of conformity" in load_companion(companion).about
        for name in ("ihm5000-1p", "ihm5000-3p"):
            model = load_model(name).model_copy(update={"companion": companion})
            assert len(compile_model(model).rows) >= 100


@pytest.mark.requirement("HW-7")
def test_legacy_model_is_flagged_and_has_a_password_at_most() -> None:
    model = load_model("legacy-1p")
    assert model.legacy
    assert {association.mechanism for association in model.associations.values()} == {"none", "low"}
    bench = Bench(model)
    assert bench.client("reader").get(3, "1-0:32.7.0*255") == 2300
    assert not bench.client("management").is_associated
    assert not load_model("ihm5000-1p").legacy


def test_units_stand_as_the_standard_numbers_them() -> None:
    reader = Bench("ihm5000-3p").client("reader")
    for obis, unit in (("1-0:1.8.0*255", Unit.WATT_HOUR), ("1-0:3.7.0*255", Unit.VAR), ("1-0:81.7.4*255", Unit.DEGREE)):
        assert reader.get(3, obis, 3)[1] == unit


# mistakes

Change = Callable[[dict[str, Any]], object]


def edited(tmp_path: Path, change: Change) -> Path:
    """The reference model with a mistake in it, one key a line."""
    document = yaml.safe_load((MODELS / "ihm5000-1p.yaml").read_text(encoding="utf-8"))
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def row_of(document: dict[str, Any], obis: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in document["objects"] if row["obis"] == obis)
    return found


@pytest.mark.requirement("VEND-1")
@pytest.mark.parametrize(
    ("change", "line_with", "words"),
    [
        (lambda d: row_of(d, "1-0:1.8.0*255").update(obis="1-0:1.8"), "1-0:1.8\n", "is not an OBIS code"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update({"class": 33}), "class: 33\n", "no objects of class 33"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(rights="all"), "rights: all\n", "no such rights"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(measures="love"), "measures: love\n", "must be one of"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(unit="V"), "unit: V\n", "is in Wh, not V"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(unit="furlong"), "unit: furlong\n", "no such unit"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(type="string"), "type: string\n", "no such type"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(shows="eui64"), "shows: eui64\n", "no such key"),
        (lambda d: row_of(d, "1-0:1.8.0*255").update(scaler="x"), "scaler: x\n", "must be a number"),
        (lambda d: row_of(d, "1-0:32.7.0*255").update(measures="voltage_l2"), "voltage_l2\n", "not in a meter with 1"),
        (lambda d: row_of(d, "0-0:42.0.0*255").update(shows="nothing"), "shows: nothing\n", "must be one of"),
        (lambda d: d["rights"]["maximum"]["management"].update(invoke=[4]), None, "method 4, which class 4 has not"),
        (lambda d: d["rights"]["clock"]["management"].update(write=[44]), None, "attribute 44, which class 8 has not"),
        (lambda d: d["objects"].append(dict(d["objects"][0])), None, "stands here already"),
        (lambda d: d["associations"]["reader"].update(client_sap=16), "client_sap", "same client_sap"),
        (lambda d: d.update(companion="mars-like"), None, "no companion profile"),
        (lambda d: d.update(colour="blue"), "colour: blue\n", "unknown key"),
        (lambda d: row_of(d, "0-0:13.0.0*255")["with"].update(week=[1, 1, 1, 1, 1, 1, 9]), None, "not among days"),
        (lambda d: row_of(d, "0-0:15.0.0*255")["with"].update(time="25:00"), None, "no time of day"),
    ],
)
def test_mistake_is_named_by_file_line_and_object(
    tmp_path: Path, change: Change, line_with: str | None, words: str
) -> None:
    path = edited(tmp_path, change)
    with pytest.raises(BadInputError) as caught:
        load_model(str(path))
    assert words in str(caught.value)
    if line_with is not None and line_with != "client_sap":
        assert caught.value.file == str(path)
        assert caught.value.line is not None
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        assert lines[caught.value.line - 1].endswith(line_with)


def test_unknown_model_and_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="ihm5000-1p"):
        load_model("ihm9000")
    with pytest.raises(BadInputError, match="no such file"):
        load_model(str(tmp_path / "none.yaml"))


def test_companion_beside_a_vendors_model_is_found_there(tmp_path: Path) -> None:
    source = (MODELS / "companions" / "idis-like.yaml").read_text(encoding="utf-8")
    (tmp_path / "ours.yaml").write_text(source.replace("entries: 2880", "entries: 96"), encoding="utf-8")
    path = edited(tmp_path, lambda document: document.update(companion="ours.yaml"))
    model = load_model(str(path))
    assert Bench(model).client("reader").get(7, "1-0:99.1.0*255", 8) == 96
    (tmp_path / "ours.yaml").write_text(source.replace("1-0:2.8.0*255", "1-0:99.9.9*255"), encoding="utf-8")
    load_companion.cache_clear()
    with pytest.raises(BadInputError, match="which model ihm5000-1p has not"):
        load_model(str(path))
