"""`twin dcu shell` as somebody at a terminal or a script meets it."""

from __future__ import annotations

import subprocess
import sys

from dcu_guest import emulated_or_skip

_LIMIT_S = 900.0


def _shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twin", "dcu", "shell", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False,
    )  # fmt: skip


def test_what_a_command_says_on_the_concentrator_goes_to_stdout() -> None:
    emulated_or_skip()
    done = _shell("-c", "uname -m; cat /proc/device-tree/model")
    assert done.returncode == 0, done.stderr
    machine, model = done.stdout.rstrip("\0\n").splitlines()
    assert machine == "armv7l"
    assert model.startswith("INHEMETER IHM-4000 DCU")


def test_a_command_that_fails_on_the_concentrator_is_a_failure() -> None:
    emulated_or_skip()
    done = _shell("-c", "sh -c 'echo before; exit 7'")
    assert done.stdout.strip() == "before"
    assert done.returncode == 1
    assert "status 7 on the concentrator" in done.stderr


def test_a_shell_without_a_terminal_asks_for_a_command() -> None:
    done = _shell()
    assert done.returncode == 2
    assert "-c" in done.stderr
