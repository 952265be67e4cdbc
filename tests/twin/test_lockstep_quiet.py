"""When the agent promises that no process of the guest runs: `images/agent/quiet.c`, compiled for this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from images.agent.build import SOURCES

_NS = 1_000_000_000
_ALONE = "0.00 0.01 0.05 1/61 340\n"
_NEVER = 2**64 - 1
Promise = Callable[[str, str], int]


@pytest.fixture(scope="module")
def promise(tmp_path_factory: pytest.TempPathFactory) -> Promise:
    """What `quiet_until_ns` returns for a text of /proc/loadavg and one of /proc/timer_list."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("not installed: cc; make system")
    folder = tmp_path_factory.mktemp("quiet")
    load, timers, library = folder / "loadavg", folder / "timer_list", folder / "quiet.so"
    places = (f'-DLOAD_FILE="{load}"', f'-DTIMERS_FILE="{timers}"')
    subprocess.run(
        [compiler, "-std=gnu11", "-shared", "-fPIC", *places, "-o", library, SOURCES / "quiet.c"], check=True
    )
    load.touch()
    timers.touch()
    agent = ctypes.CDLL(str(library))
    agent.quiet_begin.restype = ctypes.c_bool
    agent.quiet_until_ns.restype = ctypes.c_uint64
    assert agent.quiet_begin()

    def ask(load_text: str, timers_text: str) -> int:
        load.write_text(load_text, encoding="ascii")
        timers.write_text(timers_text, encoding="ascii")
        return int(agent.quiet_until_ns())

    return ask


def _timer_list(*timers: tuple[str, int], offset_ns: int = 0, slack_ns: int = 50_000) -> str:
    """The kernel's list with `timers`: function and expiry (ns, CLOCK_MONOTONIC), on a clock that is ahead of it."""
    lines = [
        "Timer List Version: v0.9",
        "",
        "cpu: 0",
        " clock 0:",
        f"  .offset:     {offset_ns} nsecs",
        "active timers:",
    ]
    for number, (function, expiry_ns) in enumerate(timers):
        at_ns = expiry_ns + offset_ns
        lines.append(f" #{number}: <58e4b33d>, {function}, S:01")
        lines.append(f" # expires at {at_ns}-{at_ns + slack_ns} nsecs [in 1 to 2 nsecs]")
    return "\n".join([*lines, "", "Tick Device: mode:     1", ""])


def _in(seconds: float) -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) + round(seconds * _NS)


def _promised_s(until_ns: int) -> float:
    return (until_ns - time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)) / _NS


@pytest.mark.parametrize("offset_ns", [0, 1_772_483_374_345_989_260])
def test_quiet_is_promised_until_the_first_timer_that_wakes_a_process(promise: Promise, offset_ns: int) -> None:
    timers = _timer_list(
        ("tick_sched_timer", _in(500)), ("hrtimer_wakeup", _in(1000)), ("hrtimer_wakeup", _in(900)), offset_ns=offset_ns
    )
    assert _promised_s(promise(_ALONE, timers)) == pytest.approx(900, abs=100)


def test_no_promise_is_made_while_another_task_can_run(promise: Promise) -> None:
    timers = _timer_list(("hrtimer_wakeup", _in(1000)))
    assert promise("0.00 0.01 0.05 2/61 340\n", timers) == 0


def test_a_list_during_which_a_timer_ran_off_is_not_believed(promise: Promise) -> None:
    """The tick ran off after it had been listed: the timer that moved up into its place is left out."""
    timers = _timer_list(
        ("tick_sched_timer", _in(-0.0001)), ("tick_sched_timer", _in(500)), ("hrtimer_wakeup", _in(1000))
    )
    assert promise(_ALONE, timers) == 0


def test_a_timer_that_may_still_wait_does_not_spoil_the_list(promise: Promise) -> None:
    """One that the kernel may put off by as much as it likes: due since a moment, and not yet run off."""
    timers = _timer_list(("sched_rt_period_timer", _in(-0.1)), ("hrtimer_wakeup", _in(1000)), slack_ns=500 * _NS)
    assert _promised_s(promise(_ALONE, timers)) == pytest.approx(1000, abs=100)


def test_timers_of_the_kernel_alone_wake_nobody(promise: Promise) -> None:
    assert promise(_ALONE, _timer_list(("tick_sched_timer", _in(500)))) == _NEVER


@pytest.mark.parametrize("timers", ["", _timer_list(("hrtimer_wakeup", -5), offset_ns=5_000)])
def test_what_is_not_understood_is_no_promise(promise: Promise, timers: str) -> None:
    assert promise(_ALONE, timers) == 0
