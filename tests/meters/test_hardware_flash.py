"""Flash: bits are cleared, blocks are erased, wear out and go bad, and power fails anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meters.hardware.flash import Flash, FlashError, FlashGeometry, PowerLostError
from protocols.errors import BadInputError, LocalProtocolError

SMALL = FlashGeometry(page_bytes=16, pages_per_block=4, block_count=8)


@pytest.mark.requirement("HW-6")
def test_programming_only_clears_bits() -> None:
    flash = Flash(SMALL)
    flash.program(0, b"\xf0")
    flash.program(0, b"\x3c")
    assert flash.read(0, 2) == b"\x30\xff"


def test_erase_sets_one_block_and_counts_its_wear() -> None:
    flash = Flash(SMALL)
    flash.program(0, b"\x00")
    flash.program(64, b"\x00")
    flash.erase(0)
    assert flash.read(0, 1) == b"\xff"
    assert flash.read(64, 1) == b"\x00"
    assert [flash.erase_count(block) for block in range(2)] == [1, 0]


def test_program_across_a_page_is_a_bug() -> None:
    with pytest.raises(LocalProtocolError, match="cross a page"):
        Flash(SMALL).program(15, b"ab")


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (512, 1), (500, 20)])
def test_access_outside_the_device_is_a_bug(offset: int, size: int) -> None:
    with pytest.raises(LocalProtocolError, match="outside"):
        Flash(SMALL).read(offset, size)


def test_worn_block_goes_bad() -> None:
    flash = Flash(SMALL, endurance_erases=3)
    for _ in range(3):
        flash.erase(1)
    with pytest.raises(FlashError):
        flash.erase(1)
    assert flash.bad_blocks == {1}


def test_bad_block_can_be_read_and_not_written() -> None:
    flash = Flash(SMALL)
    flash.program(0, b"kept")
    flash.mark_bad(0)
    with pytest.raises(FlashError):
        flash.program(4, b"x")
    assert flash.read(0, 4) == b"kept"


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=16), st.binary(min_size=16, max_size=16), st.floats(0, 1))
def test_torn_page_lies_between_old_and_new(data: bytes, before: bytes, progress: float) -> None:
    flash = Flash(SMALL)
    flash.program(0, before)
    flash.fail_power_at(flash.operations, progress)
    with pytest.raises(PowerLostError):
        flash.program(0, data)
    with pytest.raises(PowerLostError):
        flash.read(0, 1)
    flash.power_up()
    after = flash.read(0, len(data))
    for old, new, found in zip(before, data, after, strict=False):
        assert old & new == old & new & found
        assert found | old == old
    if progress == 0:
        assert flash.read(0, 16) == before
    if progress == 1:
        assert after == bytes(a & b for a, b in zip(before, data, strict=False))


@settings(max_examples=30)
@given(st.floats(0, 1))
def test_torn_erase_lies_between_old_and_erased(progress: float) -> None:
    flash = Flash(SMALL)
    content = bytes(range(16))
    flash.program(0, content)
    flash.fail_power_at(flash.operations, progress)
    with pytest.raises(PowerLostError):
        flash.erase(0)
    flash.power_up()
    assert all(found & old == old for old, found in zip(content, flash.read(0, 16), strict=True))


def test_power_failure_is_reported_once_and_can_be_called_off() -> None:
    flash = Flash(SMALL)
    lost: list[int] = []
    flash.on_power_lost = lambda: lost.append(1)
    flash.fail_power_at(0)
    flash.cancel_failure()
    flash.program(0, b"a")
    flash.fail_power_at(1)
    with pytest.raises(PowerLostError):
        flash.program(1, b"b")
    assert lost == [1]


def test_image_keeps_contents_wear_and_bad_blocks(tmp_path: Path) -> None:
    flash = Flash(SMALL)
    flash.erase(3)
    flash.program(70, b"hello")
    flash.mark_bad(5)
    flash.save(tmp_path / "flash.bin")
    again = Flash.load(tmp_path / "flash.bin")
    assert again.read(0, SMALL.size_bytes) == flash.read(0, SMALL.size_bytes)
    assert again.erase_count(3) == 1
    assert again.bad_blocks == {5}
    assert again.geometry == SMALL


def test_every_write_is_in_the_file_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    flash = Flash.open(path, SMALL)
    flash.program(3, b"abc")
    flash.erase(1)
    flash.program(64, b"\x12")
    assert Flash.load(path).read(0, SMALL.size_bytes) == flash.read(0, SMALL.size_bytes)
    flash.close()
    again = Flash.open(path)
    assert again.read(3, 3) == b"abc"
    assert again.erase_count(1) == 1
    again.close()


@pytest.mark.parametrize("damage", ["magic", "header", "short", "empty"])
def test_damaged_image_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    image = bytearray(Flash(SMALL).image())
    if damage == "magic":
        image[0] ^= 1
    elif damage == "header":
        image[12] ^= 1
    elif damage == "short":
        del image[-1]
    else:
        image.clear()
    path = tmp_path / "flash.bin"
    path.write_bytes(image)
    with pytest.raises(BadInputError, match=r"flash\.bin"):
        Flash.load(path)
