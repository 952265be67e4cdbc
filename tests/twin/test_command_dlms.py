"""`twin dlms` against `twin meter`, each in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocols.dlms.security.agreement import new_private_key
from protocols.errors import BadInputError
from twin.clock.seeds import SeededKeys
from twin.commands.main import main
from twin.conformance.targets import TargetKind
from twin.dlms_client.connection import parse_address
from twin.rigs.authority import RunAuthority, Standing, private_key_pem

TITLE, CLIENT_TITLE = bytes.fromhex("494E480000000001"), bytes.fromhex("4F414D4443553031")
KEYS = {
    "system_title": TITLE.hex(),
    "client_system_title": CLIENT_TITLE.hex(),
    "suite": 0,
    "encryption_key": "000102030405060708090A0B0C0D0E0F",
    "authentication_key": "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF",
    "reader_secret": "letmeread",
}
VOLTAGE, SERIAL, CLOCK, EVENTS = "1-0:32.7.0*255", "0-0:96.1.0*255", "0-0:1.0.0*255", "0-0:99.98.0*255"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from twin.commands.main import main; main()", *arguments]


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """`twin meter`: what it says when it listens."""
    process = subprocess.Popen(
        command("meter", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield json.loads(line)
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Bench:
    folder: Path
    said: dict[str, Any]

    def twin(self, *arguments: str) -> Ended:
        """`twin dlms` in this process, as its entry point runs it; files are looked for in the bench's folder."""
        paths = [str(self.folder / part) if part.endswith(".json") else part for part in arguments]
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["twin", "dlms", *paths])
            patch.setenv("COLUMNS", "200")
            with pytest.raises(SystemExit) as ended:
                main()
        return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def found(self, *arguments: str) -> Any:
        done = self.twin(*arguments, "--keys", "keys.json", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def tcp(self) -> str:
        listening: str = self.said["listening"]
        return listening.removeprefix("tcp://")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("dlms")
    (folder / "keys.json").write_text(json.dumps(KEYS))
    listen = [part for url in ("tcp://127.0.0.1:0", "udp://127.0.0.1:0", "hdlc:PTY") for part in ("--listen", url)]
    with running(folder, *listen, "--keys", "keys.json", "--load-w", "1150") as said:
        yield Bench(folder, said)


@pytest.mark.requirement("UNECE-1")
@pytest.mark.parametrize("number", [0, 1, 2], ids=["tcp", "udp", "hdlc"])
def test_same_values_are_read_over_every_transport(bench: Bench, number: int) -> None:
    voltage, serial = bench.found("get", bench.said["listeners"][number], VOLTAGE, SERIAL)
    assert voltage == {"obis": VOLTAGE, "class_id": 3, "attribute": 2, "value": 230, "unit": "V"}
    assert serial["value"] == bench.said["serial"]


def test_each_association_reads_what_it_may(bench: Bench) -> None:
    lists = {role: bench.found("objects", bench.tcp, "--as", role) for role in ("public", "reader", "management")}
    sizes = {role: len(found) for role, found in lists.items()}
    assert sizes["public"] < sizes["reader"] <= sizes["management"]
    assert VOLTAGE not in {item["obis"] for item in lists["public"]}
    assert bench.found("get", bench.tcp, VOLTAGE, "--as", "management")[0]["value"] == 230


def test_reading_shows_registers_with_units_and_the_clock(bench: Bench) -> None:
    found = {item["obis"]: item for item in bench.found("read", bench.tcp)}
    assert (found[VOLTAGE]["value"], found[VOLTAGE]["unit"]) == (230, "V")
    assert found[CLOCK]["value"].endswith("+03:00")
    assert len(found) > 30


def test_people_get_tables(bench: Bench) -> None:
    done = bench.twin("get", bench.tcp, VOLTAGE, "--keys", "keys.json")
    assert done.returncode == 0, done.stderr
    assert "Voltage L1" in done.stdout
    assert "230.0 V" in done.stdout
    assert "letmeread" not in done.stdout + done.stderr


def test_profile_is_a_table_by_range(bench: Bench) -> None:
    whole = bench.found("profile", bench.tcp, EVENTS)
    assert whole["columns"][0]["class_id"] == 8
    assert whole["rows"]
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    assert bench.found("profile", bench.tcp, EVENTS, "--from", day)["rows"] == whole["rows"]
    assert bench.found("profile", bench.tcp, EVENTS, "--to", day)["rows"] == []
    done = bench.twin("profile", bench.tcp, EVENTS, "--keys", "keys.json")
    assert whole["rows"][0][0][:10] in done.stdout


def test_object_that_is_not_there_ends_with_1(bench: Bench) -> None:
    done = bench.twin("get", bench.tcp, VOLTAGE, "1-0:99.99.9*255", "--keys", "keys.json", "--json")
    assert done.returncode == 1
    assert [item.get("error") for item in json.loads(done.stdout)] == [None, "not in the object list"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("read", "nowhere"), 2, "nowhere"),
        (("get", "127.0.0.1:1", "1.8.0"), 2, "is not an OBIS code"),
        (("get", "127.0.0.1:1", VOLTAGE), 3, "cannot connect"),
        (("profile", "127.0.0.1:1", EVENTS, "--from", "yesterday"), 2, "--from"),
        (("read", "127.0.0.1:1", "--as", "admin"), 2, "public, reader, management"),
        (("read", "127.0.0.1:1", "--as", "management"), 2, "--keys"),
        (("read", "hdlc:/nowhere"), 3, "cannot open /nowhere"),
    ],
)
def test_bad_usage_and_silence_are_told_apart(bench: Bench, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = bench.twin(*arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_wrong_secret_is_refused(bench: Bench) -> None:
    (bench.folder / "wrong.json").write_text(json.dumps(KEYS | {"reader_secret": "guessing"}))
    done = bench.twin("read", bench.tcp, "--keys", "wrong.json")
    assert done.returncode == 3
    assert "authentication_failure" in done.stderr
    assert "guessing" not in done.stderr


@pytest.mark.requirement("SEC-1")
def test_suite_1_needs_a_certificate_that_the_meter_trusts(tmp_path: Path) -> None:
    source = SeededKeys(b"suite 1")
    authority = RunAuthority.for_run(source, start_utc_s=time.time(), repeatable=True)
    pems = [private_key_pem(new_private_key(source)) for _ in range(6)]
    meter = authority.certify(TITLE, *pems[:2])
    suite_1 = {
        "suite": 1,
        "signing_key_pem": pems[0],
        "agreement_key_pem": pems[1],
        "certificates_pem": meter.pem(authority.certificate),
    }
    (tmp_path / "keys.json").write_text(json.dumps(KEYS | suite_1))
    for standing, signing, agreement in ((Standing.VALID, *pems[2:4]), (Standing.FOREIGN, *pems[4:])):
        own = authority.certify(CLIENT_TITLE, signing, agreement, standing)
        client = {
            "signing_key_pem": signing,
            "agreement_key_pem": agreement,
            "certificates_pem": own.pem(authority.certificate),
        }
        (tmp_path / f"{standing}.json").write_text(json.dumps(client))
    with running(tmp_path, "--listen", "tcp://127.0.0.1:0", "--keys", "keys.json") as said:
        bench = Bench(tmp_path, said)
        manage = ("get", bench.tcp, SERIAL, "--as", "management")
        assert bench.found(*manage, "--client-keys", "valid.json")[0]["value"] == said["serial"]
        foreign = bench.twin(*manage, "--keys", "keys.json", "--client-keys", "foreign.json")
        assert foreign.returncode == 3
        assert "does not accept our proof" in foreign.stderr
        assert bench.twin(*manage, "--keys", "keys.json").returncode == 2


@pytest.mark.parametrize("text", ["twin", "model:x", "127.0.0.1", "ftp://h:1", "tcp://h", "hdlc:", "h:1/x"])
def test_bad_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(BadInputError, match="ADDRESS"):
        parse_address(text)


def test_address_without_a_scheme_is_tcp() -> None:
    found = parse_address("meter.example:4059?management=3")
    assert (found.kind, found.host, found.port, found.saps.management) == (TargetKind.TCP, "meter.example", 4059, 3)
    assert parse_address("[::1]:4059").host == "::1"
