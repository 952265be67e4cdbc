"""The village with the concentrator's real ARMv7 image, in real time."""

import shutil
from pathlib import Path

import pytest
from twin_runs import twin_run

from twin.brokers.mosquitto import find_mosquitto

NEEDED = ("qemu-system-arm", "qemu-img", "mkfs.ubifs", "fdtput", "arm-linux-gnueabihf-gcc")


def test_the_village_passes_with_the_arm_image(tmp_path: Path) -> None:
    missing = [program for program in NEEDED if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing or find_mosquitto() is None:
        pytest.skip(f"not installed: {', '.join(missing) or 'mosquitto'}; make system")
    run = twin_run(tmp_path, "village", "--seed", "7", "--dcu", "qemu", "--clock", "real", "--broker", "mosquitto")
    assert run.status == 0, run.stderr
    assert run.report["verdict"] == "PASS"
    assert "QEMU" in run.report["conditions"]["real"] or "qemu" in run.report["command"]
