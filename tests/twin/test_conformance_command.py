"""`twin conform` as a person and a CI server meet it; and a stranger's meter over sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conformance_runs import conform, reasons, verdicts

from meters.keys import MeterKeys
from twin.clock.seeds import Seeds
from twin.commands.main import main
from twin.conformance.verdicts import Verdict
from twin.errors import RigError


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]
KEYS = MeterKeys.generate(Seeds(3).keys("stranger"), system_title=b"INH\x00\x00\x00\x00\x07")


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command as it is started, in an empty folder, without the cost of another interpreter."""

    def run(*arguments: str) -> Ended:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["twin", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A meter in a process of its own, of which only an address and a key file are known."""
    folder = tmp_path_factory.mktemp("stranger")
    KEYS.save(folder / "keys.json")
    arguments = ["meter", "--listen", "tcp://127.0.0.1:0", "--listen", "udp://127.0.0.1:0", "--keys", "keys.json"]
    with subprocess.Popen(
        [sys.executable, "-c", "from twin.commands.main import main; main()", *arguments, "--state", "state"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield json.loads(line) | {"folder": folder}
        finally:
            process.terminate()


@pytest.mark.requirement("VEND-3")
def test_exit_status_and_json_for_ci(twin: Command, tmp_path: Path) -> None:
    done = twin("conform", "--select", "OPEN_3 or REL_P1", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert [case["name"] for case in document["cases"]] == ["APPL_OPEN_3", "APPL_REL_P1"]
    assert document["command"] == "twin conform --target twin --seed 1 --select 'OPEN_3 or REL_P1'"
    assert "PASS  APPL_REL_P1" in done.stderr
    before = document | {"cases": [case | {"verdict": "FAIL"} for case in document["cases"]]}
    (tmp_path / "before.json").write_text(json.dumps(before), encoding="utf-8")
    done = twin("conform", "--select", "REL_P1", "--baseline", "before.json", "--out", "run")
    assert done.returncode == 0
    assert "better: APPL_REL_P1: FAIL → PASS" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--select", "no_such_case"),
        ("--select", "(OPEN"),
        ("--shard", "5/4"),
        ("--target", "model:no-such-model"),
        ("--target", "carrier-pigeon"),
        ("--target", "container:meter"),
        ("--keys", "no-such-file.json"),
        ("--baseline", "no-such-report.json"),
    ],
)
def test_usage_and_bad_files_exit_2(twin: Command, arguments: tuple[str, ...]) -> None:
    done = twin("conform", *arguments)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_names_the_selected_cases_and_runs_none(twin: Command, tmp_path: Path) -> None:
    done = twin("conform", "--list", "--select", "SecPol", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert "not the official test" in document["note"]
    assert [case["name"] for case in document["cases"]] == [f"SYMSEC_0_SecPol_{number}" for number in (1, 2, 3)]
    assert not (tmp_path / "runs").exists()


def test_nobody_there_exits_3(twin: Command, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = twin("conform", "--target", f"tcp://127.0.0.1:{port}", "--out", "run")
    assert done.returncode == 3
    assert "cannot connect" in done.stderr
    with pytest.raises(RigError, match="nobody answers"):
        conform(tmp_path / "udp", "REL_P1", f"udp://127.0.0.1:{port}")


@pytest.mark.requirement("VEND-1")
@pytest.mark.requirement("UNECE-1")
def test_a_strangers_meter_over_tcp(stranger: dict[str, Any], tmp_path: Path) -> None:
    run = conform(tmp_path, "not HDLC and not PROFILE and not PUSH_2", stranger["listeners"][0], keys=KEYS)
    found, why = verdicts(run), reasons(run)
    failed = {name: why[name] for name, verdict in found.items() if verdict not in (Verdict.PASS, Verdict.SKIP)}
    assert not failed
    assert found["SYMSEC_0_SecDataX_N1"] is found["COSEM_SWEEP_RIGHTS"] is Verdict.PASS
    assert "--allow-changes" in why["SYMSEC_0_Key_Tx_P1"]
    assert "bench verbs" in why["SEC_Lockout_1"]
    assert run.report.conditions["clock"] == "real"
    assert run.report.conditions["meter"] == "stranger INH"
    for secret in (KEYS.reader_secret, KEYS.encryption_key, KEYS.authentication_key, KEYS.master_key):
        for path in tmp_path.iterdir():
            content = path.read_bytes()
            assert secret not in content
            assert secret.hex().encode() not in content.lower()


@pytest.mark.requirement("VEND-1")
def test_a_strangers_meter_over_udp_without_keys(stranger: dict[str, Any], tmp_path: Path) -> None:
    run = conform(tmp_path, "MANDATORY or SecPol_1 or OPEN_7 or FRAME", stranger["listeners"][1])
    found, why = verdicts(run), reasons(run)
    assert found["COSEM_MANDATORY_3"] is Verdict.PASS
    assert "needs the meter's keys (--keys)" in why["SYMSEC_0_SecPol_1"]
    assert found["APPL_OPEN_7"] is Verdict.SKIP


@pytest.mark.requirement("SEC-2")
def test_keys_are_changed_and_put_back_where_that_is_allowed(stranger: dict[str, Any], tmp_path: Path) -> None:
    run = conform(tmp_path, "Key_Tx", stranger["listeners"][0], keys=KEYS, may_change=True)
    assert set(verdicts(run).values()) == {Verdict.PASS}
