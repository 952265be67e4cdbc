"""`twin meter` as a stranger meets it: a process, sockets, an independent DLMS client."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dlms_cosem", reason="dlms-cosem is the independent client")

from dlms_cosem import cosem, enumerations, exceptions, utils
from dlms_cosem.clients.dlms_client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor

from protocols.errors import BadInputError
from twin.rigs.meter_ports import ListenAddress

KEYS = {
    "system_title": "494E480000000001",
    "client_system_title": "4F414D4443553031",
    "suite": 0,
    "encryption_key": "000102030405060708090A0B0C0D0E0F",
    "authentication_key": "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF",
    "broadcast_key": "0F0E0D0C0B0A09080706050403020100",
    "master_key": "00112233445566778899AABBCCDDEEFF",
    "reader_secret": "letmeread",
}


class RunningMeter:
    """The command in a process, after it has said where it listens."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from twin.commands.main import main; main()", "meter", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.said: dict[str, Any] = json.loads(line)
        self.ports = [int(address.rsplit(":", 1)[1]) for address in self.said["listeners"] if "//" in address]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[RunningMeter]:
    meter = RunningMeter(folder, *arguments)
    try:
        yield meter
    finally:
        if meter.process.poll() is None:
            meter.process.kill()
        meter.process.communicate()


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMeter]:
    folder = tmp_path_factory.mktemp("meter")
    (folder / "keys.json").write_text(json.dumps(KEYS))
    arguments = (
        "--listen",
        "tcp://127.0.0.1:0",
        "--listen",
        "udp://127.0.0.1:0",
        "--listen",
        "hdlc:PTY",
        "--keys",
        "keys.json",
    )
    with running(folder, *arguments, "--state", "state", "--load-w", "1150") as found:
        yield found


def public(port: int) -> DlmsClient:
    return DlmsClient.with_tcp_transport(
        "127.0.0.1",
        port,
        client_logical_address=16,
        server_logical_address=1,
        authentication_method=enumerations.AuthenticationMechanism.NONE,
    )


def reader(port: int, password: bytes = b"letmeread") -> DlmsClient:
    return DlmsClient.with_tcp_transport(
        "127.0.0.1",
        port,
        client_logical_address=32,
        server_logical_address=1,
        authentication_method=enumerations.AuthenticationMechanism.LLS,
        password=password,
    )


def management(port: int, invocation_counter: int, **changes: Any) -> DlmsClient:
    settings: dict[str, Any] = {
        "encryption_key": bytes.fromhex(KEYS["encryption_key"]),  # type: ignore[arg-type]
        "authentication_key": bytes.fromhex(KEYS["authentication_key"]),  # type: ignore[arg-type]
        "client_system_title": bytes.fromhex(KEYS["client_system_title"]),  # type: ignore[arg-type]
    } | changes
    return DlmsClient.with_tcp_transport(
        "127.0.0.1",
        port,
        client_logical_address=1,
        server_logical_address=1,
        authentication_method=enumerations.AuthenticationMechanism.HLS_GMAC,
        client_initial_invocation_counter=invocation_counter,
        **settings,
    )


def read(client: DlmsClient, class_id: int, obis: str, attribute: int = 2) -> Any:
    code = cosem.Obis.from_dotted(obis) if hasattr(cosem.Obis, "from_dotted") else cosem.Obis.from_string(obis)
    interface = enumerations.CosemInterface(class_id)
    raw = client.get(cosem.CosemAttribute(interface=interface, instance=code, attribute=attribute))
    return utils.parse_as_dlms_data(raw)


def next_counter(port: int) -> int:
    with public(port).session() as client:
        return int(read(client, 1, "0.0.43.1.0.255")) + 1


def clock_of(raw: bytes) -> datetime:
    year = int.from_bytes(raw[0:2], "big")
    deviation_min = int.from_bytes(raw[9:11], "big", signed=True)
    local = datetime(year, raw[2], raw[3], raw[5], raw[6], raw[7], tzinfo=UTC)
    return local + timedelta(minutes=deviation_min)


def test_it_says_where_it_listens_and_shows_no_key(meter: RunningMeter) -> None:
    assert meter.said["listening"].startswith("tcp://127.0.0.1:")
    assert meter.said["model"] == "ihm5000-1p"
    assert KEYS["encryption_key"] not in json.dumps(meter.said)


@pytest.mark.requirement("SEC-3")
def test_public_client_reads_clock_and_name_but_no_register(meter: RunningMeter) -> None:
    with public(meter.ports[0]).session() as client:
        assert abs(clock_of(read(client, 8, "0.0.1.0.0.255")) - datetime.now(UTC)) < timedelta(seconds=5)
        assert bytes(read(client, 1, "0.0.42.0.0.255")).startswith(b"INH")
        listed = {bytes(row[2]) for row in read(client, 15, "0.0.40.0.0.255")}
        assert bytes((0, 0, 42, 0, 0, 255)) in listed
        assert bytes((1, 0, 1, 8, 0, 255)) not in listed
        with pytest.raises(Exception, match=r"(?i)undefined|denied"):
            read(client, 3, "1.0.1.8.0.255")


def test_reader_reads_registers_with_its_secret(meter: RunningMeter) -> None:
    with reader(meter.ports[0]).session() as client:
        assert read(client, 3, "1.0.32.7.0.255") == 2300
        assert read(client, 3, "1.0.31.7.0.255") == 500
        assert read(client, 3, "1.0.1.7.0.255") == 1150
        assert read(client, 3, "1.0.1.7.0.255", 3) == [0, 27]
        assert read(client, 3, "1.0.1.8.0.255") >= 0


def test_wrong_secret_is_refused(meter: RunningMeter) -> None:
    client = reader(meter.ports[0], b"guessing")
    client.connect()
    with pytest.raises(exceptions.DlmsClientException, match="AUTHENTICATION_FAILED"):
        client.associate()
    client.disconnect()


@pytest.mark.requirement("OSI-7")
def test_management_client_authenticates_by_gmac_and_reads(meter: RunningMeter) -> None:
    with management(meter.ports[0], next_counter(meter.ports[0])).session() as client:
        assert bytes(read(client, 1, "0.0.96.1.0.255")).decode() == meter.said["serial"]
        assert len(read(client, 15, "0.0.40.0.0.255")) > 30
        assert abs(clock_of(read(client, 8, "0.0.1.0.0.255")) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.requirement("SEC-1")
def test_wrong_key_and_used_counter_are_refused(meter: RunningMeter) -> None:
    port = meter.ports[0]
    wrong = management(port, next_counter(port), encryption_key=bytes(16))
    wrong.connect()
    with pytest.raises(Exception):  # noqa: B017, PT011 (dlms-cosem has no common root for what it raises here)
        wrong.associate()
    wrong.disconnect()
    with management(port, next_counter(port)).session() as client:
        read(client, 1, "0.0.96.1.0.255")
    replayed = management(port, 0)
    replayed.connect()
    with pytest.raises(Exception):  # noqa: B017, PT011
        replayed.associate()
    replayed.disconnect()


@pytest.mark.requirement("UNECE-1")
def test_the_same_answer_comes_over_udp(meter: RunningMeter) -> None:
    aarq = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
    name = bytes.fromhex("C001C1000100002A0000FF0200")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", meter.ports[1]))
        answers = []
        for apdu in (aarq, name):
            client.send(bytes.fromhex("000100100001") + len(apdu).to_bytes(2, "big") + apdu)
            answers.append(client.recv(2048))
    with public(meter.ports[0]).session() as stream:
        over_tcp = bytes(read(stream, 1, "0.0.42.0.0.255"))
    assert answers[1][:6] == bytes.fromhex("000100010010")
    assert answers[1].endswith(over_tcp)


@pytest.mark.requirement("UNECE-1")
@pytest.mark.requirement("VEND-1")
def test_the_same_reading_is_had_over_hdlc_on_a_serial_line(meter: RunningMeter) -> None:
    device = meter.said["listeners"][2].removeprefix("hdlc:")
    client = DlmsClient.with_serial_hdlc_transport(
        device,
        client_logical_address=32,
        server_logical_address=1,
        server_physical_address=17,
        authentication_method=enumerations.AuthenticationMechanism.LLS,
        password=b"letmeread",
    )
    client.connect()
    client.associate()
    over_serial = (read(client, 3, "1.0.32.7.0.255"), bytes(read(client, 1, "0.0.96.1.0.255")))
    client.release_association()
    # dlms-cosem cannot read a UA without an information field, which is what answers DISC: it is not asked to.
    with reader(meter.ports[0]).session() as stream:
        assert over_serial == (read(stream, 3, "1.0.32.7.0.255"), bytes(read(stream, 1, "0.0.96.1.0.255")))


def test_profile_is_read_by_range(meter: RunningMeter) -> None:
    with reader(meter.ports[0]).session() as client:
        log = read(client, 7, "0.0.99.98.0.255")
        assert log[-1][1] == 2
        clock = cosem.CosemAttribute(
            interface=enumerations.CosemInterface.CLOCK, instance=cosem.Obis(0, 0, 1, 0, 0, 255), attribute=2
        )
        found = []
        for days in (0, 7):
            now = datetime.now(UTC) - timedelta(days=days)
            chosen = RangeDescriptor(
                restricting_object=CaptureObject(cosem_attribute=clock, data_index=0),
                from_value=now - timedelta(hours=1),
                to_value=now + timedelta(hours=1),
            )
            attribute = cosem.CosemAttribute(
                interface=enumerations.CosemInterface.PROFILE_GENERIC,
                instance=cosem.Obis(0, 0, 99, 98, 0, 255),
                attribute=2,
            )
            found.append(utils.parse_as_dlms_data(client.get(attribute, access_descriptor=chosen)))
        assert found == [log, []]


def test_a_stream_out_of_step_is_closed_and_others_go_on(meter: RunningMeter) -> None:
    with socket.create_connection(("127.0.0.1", meter.ports[0]), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    with public(meter.ports[0]).session() as other:
        assert read(other, 1, "0.0.42.0.0.255")


def test_fresh_keys_are_kept_private_and_the_meter_stays_itself(tmp_path: Path) -> None:
    arguments = ("--listen", "tcp://127.0.0.1:0", "--state", "state", "--load-w", "3600000")
    with running(tmp_path, *arguments) as first:
        identity = (first.said["serial"], first.said["eui64"])
        keys = json.loads((tmp_path / "state/keys.json").read_text())
        deadline_s = time.monotonic() + 10
        energy_wh = 0
        while energy_wh == 0 and time.monotonic() < deadline_s:
            with reader(first.ports[0], keys["reader_secret"].encode()).session() as client:
                energy_wh = read(client, 3, "1.0.1.8.0.255")
        assert energy_wh > 0
        assert first.stop() == 0
    assert (tmp_path / "state/keys.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state/flash.bin").stat().st_mode & 0o077 == 0
    with running(tmp_path, *arguments) as second:
        assert (second.said["serial"], second.said["eui64"]) == identity
        assert json.loads((tmp_path / "state/keys.json").read_text()) == keys
        with reader(second.ports[0], keys["reader_secret"].encode()).session() as client:
            assert read(client, 3, "1.0.1.8.0.255") >= energy_wh
        assert second.stop(signal.SIGINT) == 0


@pytest.mark.requirement("SEC-1")
def test_counters_are_refused_after_the_process_was_killed(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(KEYS))
    arguments = ("--listen", "tcp://127.0.0.1:0", "--state", "state", "--keys", "keys.json")
    with running(tmp_path, *arguments) as first:
        with management(first.ports[0], 1000).session() as client:
            read(client, 1, "0.0.96.1.0.255")
        first.process.kill()
    with running(tmp_path, *arguments) as second:
        assert next_counter(second.ports[0]) > 1003
        replayed = management(second.ports[0], 1000)
        replayed.connect()
        with pytest.raises(Exception):  # noqa: B017, PT011
            replayed.associate()
        replayed.disconnect()
        with management(second.ports[0], next_counter(second.ports[0])).session() as client:
            assert read(client, 1, "0.0.96.1.0.255")


def refused(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from twin.commands.main import main; main()", "meter", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=20,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.replace("\n", " ")


def test_bad_key_file_is_refused_with_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(KEYS | {"encryption_key": "0011"}, indent=1))
    status, said = refused(tmp_path, "--keys", "keys.json", "--listen", "tcp://127.0.0.1:0")
    assert status == 2
    assert "keys.json:5: encryption_key: must be 32 hexadecimal digits" in said
    assert "0011" not in said


@pytest.mark.parametrize("address", ["127.0.0.1:4059", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "ftp://h:1"])
def test_bad_address_is_a_usage_error(address: str) -> None:
    with pytest.raises(BadInputError, match="--listen"):
        ListenAddress.parse(address)


def test_unknown_model_and_taken_port_are_told_apart(tmp_path: Path, meter: RunningMeter) -> None:
    status, said = refused(tmp_path, "--model", "ihm9000")
    assert status == 2
    assert "ihm5000-1p" in said
    status, said = refused(tmp_path, "--listen", f"tcp://127.0.0.1:{meter.ports[0]}", "--state", "state")
    assert status == 3
    assert "cannot listen" in said
