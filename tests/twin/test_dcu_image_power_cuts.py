"""Flash that survives: the emulator is killed while the daemon's own storage is being written."""

from __future__ import annotations

import asyncio
import base64
import random
import re
from pathlib import Path

import pytest
from dcu_guest import Guest, guest_in

# The daemon's own storage class, out of the daemon's own file, on the data partition.
_LOAD = r"""
import sys
sys.path.insert(0, "/tmp/work/daemon")
from hashlib import sha256
from pathlib import Path
from dcu.storage import FileStorage
store = FileStorage(Path("/opt/load"))
have, bad = -1, 0
for name in store.names():
    data = store.read(name)
    good = sha256(data[:-32]).digest() == data[-32:]
    bad += not good
    have = max(have, int(data[:8])) if good else have
print("CHECK bad", bad, "have", have, "END", flush=True)
while True:
    have += 1
    body = b"%08d" % have + bytes([have % 256]) * 900
    store.write("row-%02d" % (have % 40), body + sha256(body).digest())
    print("ACK", have, "END", flush=True)
"""


def _acknowledged(text: str) -> int:
    return max((int(number) for number in re.findall(r"ACK (\d+) END", text)), default=-1)


def _load_until_cut(guest: Guest, rng: random.Random, known: int) -> int:
    """Write under load and kill the emulator at a random moment; gives the last row that was acknowledged."""
    console, line = guest.machine.console, guest.machine.line("console")
    encoded = base64.b64encode(_LOAD.encode()).decode()
    guest.shell(f"echo {encoded} | busybox base64 -d > /tmp/load.py")
    line.write(b"\npython3 /tmp/load.py\n")
    check = guest.run(console.wait_for(r"CHECK bad (\d+) have (-?\d+) END", timeout_s=120))
    assert int(check[1]) == 0, "a torn record was taken for a whole one"
    assert int(check[2]) >= known, "an acknowledged row is missing"
    guest.run(console.wait_for(r"ACK \d+ END", timeout_s=60))
    guest.run(asyncio.sleep(rng.uniform(0.2, 3.0)))  # the moment of the cut is the condition
    guest.cut_power()
    return max(int(check[2]), _acknowledged(console.text))


def _cuts(folder: Path, count: int, seed: int) -> None:
    rng, known = random.Random(seed), -1
    with guest_in(folder) as guest:
        guest.from_snapshot()
        known = _load_until_cut(guest, rng, known)
        for _ in range(count - 1):
            guest.from_cold()
            log = guest.shell("dmesg")
            assert "UBIFS error" not in log
            assert not re.search(r"ubi\d error", log)
            known = _load_until_cut(guest, rng, known)
        guest.from_cold()
        assert known > 0
        assert "UBIFS error" not in guest.shell("dmesg")


@pytest.mark.requirement("HW-2", "UC-IV.2")
def test_flash_survives_power_cuts_under_load(tmp_path: Path) -> None:
    _cuts(tmp_path, 3, seed=5)


@pytest.mark.soak
@pytest.mark.requirement("HW-2", "UC-IV.2")
def test_flash_survives_twenty_power_cuts_under_load(tmp_path: Path) -> None:
    _cuts(tmp_path, 20, seed=11)
