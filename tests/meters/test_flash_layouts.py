"""Flash images of former layouts: they boot, are brought to the present layout, and nothing is lost."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from meter_bench import Bench, constant

from meters.firmware.layout import migrate
from meters.firmware.partitions import COUNTERS, LAYOUT_VERSION, PartitionView, StorageError
from meters.firmware.storage import RecordStore
from meters.hardware.flash import Flash
from protocols.dlms.data import octet_string

DATA = Path(__file__).parent / "data"
IMAGES = sorted(DATA.glob("flash-layout-*.img.xz"))
TABLES = {
    "load": "1-0:99.1.0*255",
    "daily": "1-0:99.2.0*255",
    "billing": "0-0:98.1.0*255",
    "standard": "0-0:99.98.0*255",
    "fraud": "0-0:99.98.1*255",
}
ENERGY = "1-0:1.8.0*255"


def image_of(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes())


def expected(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_name(path.name.replace(".img.xz", ".json")).read_text())
    return found


def boot(image: bytes) -> Bench:
    """A meter on that flash, some days after the bench's beginning."""
    return Bench(load=constant(1234.0, q_var=321.0), flash=Flash.from_image(image))


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_there_is_an_image_of_every_former_layout() -> None:
    assert [path.name for path in IMAGES] == [f"flash-layout-{number}.img.xz" for number in range(1, LAYOUT_VERSION)]


@pytest.mark.requirement("HW-6")
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_nothing_is_lost_on_the_way_to_the_present_layout(path: Path) -> None:
    bench, before = boot(image_of(path)), expected(path)
    assert [fields["now"] for kind, fields in bench.traced if kind == "meter.migrated"] == [LAYOUT_VERSION]
    client = bench.client("reader")
    for name, obis in TABLES.items():
        rows = plain(client.get(7, obis))
        assert rows[: len(before["rows"][name])] == before["rows"][name], name
    assert {obis: client.get(3, obis) for obis in before["energies"]} == before["energies"]
    assert [plain(client.get(4, "1-0:1.6.0*255", attribute)) for attribute in (2, 5)] == before["demand"]
    assert plain(client.get(1, "0-0:96.1.2*255")) == before["designation"]
    assert bench.client("public").get(1, "0-0:43.1.0*255") >= before["least_counter"]


@pytest.mark.requirement("HW-6")
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_the_way_is_taken_once_and_survives_a_power_cut_at_every_write(path: Path) -> None:
    image, before = image_of(path), expected(path)
    whole = Bench(flash=Flash.from_image(image))
    count = whole.meter.flash.operations
    assert count >= 3
    for operation in range(count):
        for progress in (0.0, 0.5):
            flash = Flash.from_image(image)
            flash.fail_power_at(operation, progress)
            bench = Bench(load=constant(1234.0, q_var=321.0), flash=flash)
            assert not bench.meter.running
            bench.meter.power_on()
            assert bench.meter.running
            assert bench.client("reader").get(3, ENERGY) == before["energies"][ENERGY]
    whole.meter.power_off()
    whole.meter.power_on()
    assert [kind for kind, _ in whole.traced].count("meter.migrated") == LAYOUT_VERSION - 1


def test_a_layout_of_a_later_firmware_is_refused_and_left_alone() -> None:
    flash = Flash()
    counters = RecordStore(PartitionView(flash, COUNTERS))
    counters.save("layout", LAYOUT_VERSION + 1)
    held = flash.image()
    with pytest.raises(StorageError, match=f"layout {LAYOUT_VERSION + 1}, this firmware knows layouts up to"):
        migrate(counters)
    assert flash.image() == held
    bench = Bench(flash=flash)
    assert not bench.meter.running
    assert any(kind == "meter.fault" and "layout" in str(fields["reason"]) for kind, fields in bench.traced)


def test_a_new_flash_has_the_present_layout() -> None:
    flash = Flash()
    assert migrate(RecordStore(PartitionView(flash, COUNTERS))) == LAYOUT_VERSION
    assert RecordStore(PartitionView(flash, COUNTERS)).load("layout") == LAYOUT_VERSION
    bench = Bench()
    bench.client("management").set(1, "0-0:96.1.2*255", 2, octet_string(b"P"))
    assert not [kind for kind, _ in bench.traced if kind == "meter.migrated"]
