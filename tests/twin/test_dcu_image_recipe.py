"""The image's recipe, as far as it needs no emulator: flash pages, kernel source edits, archives, caching."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.dcu import flash, nandsim, program
from images.dcu.build import Vendor, build_image, check_vendor, default_cache
from images.dcu.layout import BLOCK_BYTES, DUMP_BYTES, LEB_BYTES, PAGE_BYTES, PARTITIONS
from images.dcu.workshop import BuildError, Workshop, find_program, missing_programs
from protocols.errors import BadInputError

_ROOT = Path(__file__).parents[2]


def _elsewhere() -> dict[str, str]:
    """The surroundings of somebody else's process."""
    return {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}


def bitwise_hamming(step: bytes) -> bytes:
    """The code from its definition: the parity of the bits whose address has, or has not, each of its 11 bits set."""
    set_parity, clear_parity = [0] * 11, [0] * 11
    for address in range(2048):
        if step[address // 8] >> address % 8 & 1:
            for bit in range(11):
                (set_parity if address >> bit & 1 else clear_parity)[bit] ^= 1
    pairs = [(set_parity[bit] << 1) | clear_parity[bit] for bit in range(11)]
    columns = pairs[0] | pairs[1] << 2 | pairs[2] << 4
    lines = sum(pair << 2 * number for number, pair in enumerate(pairs[3:]))
    return bytes((~lines >> 8 & 0xFF, ~lines & 0xFF, (~columns & 0x3F) << 2 | 3))


@pytest.mark.parametrize("seed", range(4))
def test_code_of_a_page_follows_from_its_definition(seed: int) -> None:
    step = random.Random(seed).randbytes(256)
    assert flash.hamming(step) == bitwise_hamming(step)


@given(st.binary(min_size=256, max_size=256), st.integers(0, 2047))
def test_code_locates_any_single_flipped_bit(step: bytes, address: int) -> None:
    flipped = bytearray(step)
    flipped[address // 8] ^= 1 << address % 8
    high, low, column = (a ^ b for a, b in zip(flash.hamming(step), flash.hamming(bytes(flipped)), strict=True))
    lines = high << 8 | low
    byte_index = sum((lines >> (2 * bit + 1) & 1) << bit for bit in range(8))
    bit_index = sum((column >> (2 * bit + 3) & 1) << bit for bit in range(3))
    assert (byte_index, bit_index) == (address // 8, address % 8)


def test_erased_page_stays_erased_and_torn_page_is_seen() -> None:
    erased = b"\xff" * PAGE_BYTES
    assert flash.program_page(erased) == b"\xff" * 2112
    page = bytearray(flash.program_page(bytes(range(256)) * 8))
    assert flash.read_page(bytes(page)) == bytes(range(256)) * 8
    page[1000] &= 0x0F
    with pytest.raises(BuildError, match="error-correcting"):
        flash.read_page(bytes(page))


def test_blank_block_s_header_is_ubi_s() -> None:
    header = flash.erase_counter_header(7)
    assert len(header) == 64
    assert header[:5] == b"UBI#\x01"
    assert int.from_bytes(header[60:], "big") == zlib.crc32(header[:60]) ^ 0xFFFFFFFF


def test_partitions_fit_the_chip() -> None:
    assert sum(partition.blocks for partition in PARTITIONS) <= 2048 - 4  # the bad-block table's
    assert DUMP_BYTES == 276_824_064
    assert LEB_BYTES == BLOCK_BYTES - PAGE_BYTES


def test_foreign_simulator_source_is_refused() -> None:
    with pytest.raises(BuildError, match=r"Linux 6\.1"):
        nandsim.edit("int main(void) { return 0; }\n")


def test_daemon_and_archive_are_the_same_bytes_each_time_and_start(tmp_path: Path) -> None:
    write = (
        "import sys; from pathlib import Path; from images.dcu import program; folder = Path(sys.argv[1]); "
        "program.write_daemon(folder / 'daemon'); program.write_update(folder / 'update.tar.gz', folder / 'daemon')"
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    # This process has done much before, the other nothing: what they have in memory is different.
    program.write_daemon(tmp_path / "one/daemon")
    program.write_update(tmp_path / "one/update.tar.gz", tmp_path / "one/daemon")
    subprocess.run([sys.executable, "-c", write, str(tmp_path / "two")], env=_elsewhere(), cwd=_ROOT, check=True)
    for file in ("daemon", "update.tar.gz"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    program.check_daemon(tmp_path / "one/daemon")


def test_daemon_that_does_not_start_is_said_before_anything_boots(tmp_path: Path) -> None:
    broken = tmp_path / "daemon"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(BuildError, match="nothing_of_that_name"):
        program.check_daemon(broken)


def test_step_is_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    said: list[str] = []
    workshop = Workshop(tmp_path, said.append)
    made = [workshop.step("part", [value], lambda folder: (folder / "x").touch(), "making") for value in "aab"]
    assert made[0] == made[1] != made[2]
    assert said == ["making", "making"]


def test_failed_step_leaves_nothing_behind(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, lambda what: None)

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise BuildError("no")

    with pytest.raises(BuildError):
        workshop.step("part", [], fail, "making")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BuildError, match=r"mkfs\.ubifs is missing: apt-get install mtd-utils"):
        find_program("mkfs.ubifs")


def test_vendor_s_own_files_are_taken_if_they_are_what_they_should_be(tmp_path: Path) -> None:
    kernel, tree, modules = tmp_path / "zImage", tmp_path / "board.dtb", tmp_path / "modules"
    kernel.write_bytes(bytes(0x24) + bytes.fromhex("18286f01") + bytes(100))
    tree.write_bytes(bytes.fromhex("d00dfeed") + bytes(100))
    (modules / "lib/modules/4.1.15").mkdir(parents=True)
    check_vendor(Vendor(kernel, tree, modules))
    check_vendor(Vendor())


@pytest.mark.parametrize(
    ("field", "said"), [("kernel", "no ARM zImage"), ("device_tree", "no compiled device tree"), ("modules", "VERSION")]
)
def test_vendor_s_file_that_is_something_else_is_named(tmp_path: Path, field: str, said: str) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir() if field == "modules" else wrong.write_bytes(b"ELF, perhaps" * 10)
    with pytest.raises(BadInputError, match=f"{wrong}.*{said}"):
        check_vendor(Vendor(**{field: wrong}))
    if field != "modules":
        with pytest.raises(BadInputError, match="cannot be read: No such file"):
            check_vendor(Vendor(**{field: tmp_path / "nothing"}))


def _modules(folder: Path, version: str) -> Path:
    (folder / f"lib/modules/{version}/updates").mkdir(parents=True)
    return folder


def test_simulator_for_another_kernel_is_refused_before_anything_boots(tmp_path: Path) -> None:
    built = tmp_path / "nandsim.ko"
    built.write_bytes(b"\x7fELF...vermagic=6.1.0-50-armmp SMP mod_unload\0")
    same, other = _modules(tmp_path / "same", "6.1.0-50-armmp"), _modules(tmp_path / "other", "6.1.0-5")
    assert nandsim.module_for(same, built) == built
    with pytest.raises(BadInputError, match=r"updates/nandsim\.ko.*Linux 6\.1\.0-5, .*no NAND simulator"):
        nandsim.module_for(other, built)
    own = other / "lib/modules/6.1.0-5" / nandsim.OWN_MODULE
    own.write_bytes(built.read_bytes())
    with pytest.raises(BadInputError, match=r"not a module for Linux 6\.1\.0-5"):
        nandsim.module_for(other, built)
    own.write_bytes(b"vermagic=6.1.0-5 SMP\0")
    assert nandsim.module_for(other, built) == own


@pytest.mark.soak
def test_image_is_the_same_bytes_from_two_empty_caches(tmp_path: Path) -> None:
    """Everything but the packages is made twice: other folder, process, time zone, umask."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"the image needs {', '.join(missing)}")
    caches = [tmp_path / name for name in ("one", "another")]
    for cache in caches:
        cache.mkdir()
        source = default_cache()
        if (source / "packages.json").exists():
            shutil.copy(source / "packages.json", cache)
            (cache / "packages").symlink_to(source / "packages")
    here = build_image(caches[0], lambda what: None).digests()
    build = (
        "import json, os, sys; from pathlib import Path; from images.dcu.build import build_image; os.umask(0o077); "
        "print(json.dumps(build_image(Path(sys.argv[1]), lambda what: None).digests()))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", build, str(caches[1])], env=_elsewhere(), cwd=_ROOT, check=True, stdout=subprocess.PIPE
    )
    assert here == json.loads(elsewhere.stdout)
    print(json.dumps(here, indent=2))
