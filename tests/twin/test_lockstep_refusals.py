"""What cannot run in lock-step says so before anything starts, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from images.dcu.build import Image
from twin.errors import RigError
from twin.rigs.lockstep.emulator import check_emulator, check_image
from twin.rigs.lockstep.protocol import VERSION

# What QEMU before 7.2 says to the option.
_OLD_QEMU = """#!/bin/sh
for word in "$@"; do case $word in *userspace=*) echo "Invalid parameter 'userspace'" >&2; exit 1 ;; esac; done
exit 0
"""


@pytest.fixture
def old_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "qemu-system-arm"
    program.parent.mkdir()
    program.write_text(_OLD_QEMU)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def _image(folder: Path, agent_version: int | None) -> Image:
    return Image(folder, *(folder / name for name in ("k", "d", "r", "i", "c", "p", "u")), "6.1", agent_version)


def test_a_qemu_without_semihosting_for_programs_is_refused(old_qemu: Path) -> None:
    with pytest.raises(RigError, match=r"no semihosting.*QEMU 7\.2 or newer, or use --clock real"):
        check_emulator()


def test_the_command_says_so_and_ends_with_3(old_qemu: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twin", "run", "village", "--dcu", "qemu", "--clock", "virtual", "--out", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 3
    assert "no semihosting" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "report.json").exists()


def test_an_image_without_the_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"no lock-step agent.*twin dcu build.*--clock real"):
        check_image(_image(tmp_path, None))


def test_an_image_with_another_agent_is_refused(tmp_path: Path) -> None:
    image = _image(tmp_path, VERSION + 1)
    with pytest.raises(RigError, match=rf"agent of version {VERSION + 1}, not {VERSION}"):
        check_image(image)
    check_image(replace(image, agent_version=VERSION))
