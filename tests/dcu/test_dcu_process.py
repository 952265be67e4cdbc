"""`python -m dcu`: its configuration file, its serial line, its life as a process."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcu.__main__ import EXIT_BAD_INPUT, EXIT_OK, EXIT_UNUSABLE, main
from dcu.config import Predecessor
from dcu.config_file import load
from dcu.provisioning import ProvisioningStore
from dcu.serial_link import SerialError, SerialLink, open_serial
from dcu.service import Service, ServiceOptions, State
from dcu.storage import FileStorage
from protocols.errors import BadInputError
from protocols.rcp.codes import ChannelFunction

ROOT = Path(__file__).parents[2]
KEY = "000102030405060708090a0b0c0d0e0f"
MINIMAL: dict[str, Any] = {
    "dcu_id": "dcu-1",
    "eui64": "0212740100000001",
    "system_title": "4f414d4443553031",
    "link_key": KEY,
    "radio_device": "/dev/ttymxc1",
    "storage": "state",
    "broker": {"host": "127.0.0.1", "port": 1883, "client_id": "dcu-1"},
}


def written(folder: Path, content: object) -> Path:
    path = folder / "dcu.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(key: str, value: object) -> dict[str, Any]:
    content = copy.deepcopy(MINIMAL)
    *sections, name = key.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = value
    return content


def test_a_minimal_file_gets_the_defaults(tmp_path: Path) -> None:
    found = load(written(tmp_path, MINIMAL))
    assert found.dcu.dcu_id == "dcu-1"
    assert found.dcu.link_key == bytes.fromhex(KEY)
    assert found.dcu.timers_profile == "fan-small"
    assert found.storage == tmp_path / "state"
    assert found.broker.tls is None


def test_everything_can_be_said(tmp_path: Path) -> None:
    content = copy.deepcopy(MINIMAL) | {
        "radio_baud": 115200,
        "trace_file": "/tmp/trace.jsonl",
        "mesh": {
            "network_name": "village",
            "pan_id": 7,
            "prefix": "fd00000000000007",
            "key_index": 2,
            "timers_profile": "bench",
            "radio": {"max_psdu_bytes": 127, "channel_function": "dh1cf", "sensitivity_dbm": -97},
        },
        "dlms": {"response_s": 2.5, "attempts": 5},
        "registration": {"retry_first_s": 1, "parallel": 2},
        "limits": {"max_meters": 12},
        "predecessor": {"starts": 3, "frame_counter": 70_000},
    }
    content["broker"] |= {
        "username": "dcu",
        "password": "secret",
        "keep_alive_s": 30,
        "tls": {"ca_file": "ca.pem", "certificate_file": "/etc/c.pem", "key_file": "k.pem", "server_name": "hes"},
    }
    found = load(written(tmp_path, content))
    assert found.dcu.radio.max_psdu_bytes == 127
    assert found.dcu.radio.channel_function is ChannelFunction.DH1CF
    assert found.dcu.dlms.attempts == 5
    assert found.dcu.registration.parallel == 2
    assert found.dcu.max_meters == 12
    assert found.dcu.predecessor == Predecessor(starts=3, frame_counter=70_000)
    assert found.broker.tls is not None
    assert found.broker.tls.ca_file == str(tmp_path / "ca.pem")
    assert found.broker.tls.certificate_file == "/etc/c.pem"


def test_no_key_and_no_password_is_in_a_repr(tmp_path: Path) -> None:
    content = changed("broker.password", "hunter2")
    text = repr(load(written(tmp_path, content)))
    assert "hunter2" not in text
    assert repr(bytes.fromhex(KEY)) not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dcu_id", "a/b"),
        ("dcu_id", 7),
        ("eui64", "0212"),
        ("link_key", "not hexadecimal"),
        ("link_key", KEY + "00"),
        ("typo", 1),
        ("mesh.pan_id", 0xFFFF),
        ("mesh.pan_id", True),
        ("mesh.key_index", 0),
        ("predecessor", {"starts": -1, "frame_counter": 0}),
        ("predecessor", {"starts": 1}),
        ("predecessor", {"starts": 1, "frame_counter": 2**32}),
        ("mesh.timers_profile", "quick"),
        ("mesh.network_name", "n" * 33),
        ("mesh.radio.plan", 9999),
        ("mesh.radio.channel_function", "sideways"),
        ("mesh.radio.typo", 1),
        ("dlms.attempts", 1.5),
        ("dlms.response_s", -1),
        ("dlms.typo", 1),
        ("registration.parallel", "two"),
        ("limits.max_meters", 0),
        ("broker.port", 0),
        ("broker.host", ""),
        ("broker.typo", 1),
        ("broker.tls", {"ca_file": "x"}),
        ("radio_baud", 1),
    ],
)
def test_a_bad_value_is_refused_by_file_and_key_without_showing_it(tmp_path: Path, key: str, value: object) -> None:
    path = written(tmp_path, changed(key, value))
    with pytest.raises(BadInputError) as caught:
        load(path)
    assert caught.value.file == str(path)
    assert caught.value.key is not None
    assert caught.value.key.startswith(key)
    assert KEY not in str(caught.value)
    assert "not hexadecimal" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(MINIMAL))
def test_a_missing_key_is_named(tmp_path: Path, name: str) -> None:
    content = {key: value for key, value in MINIMAL.items() if key != name}
    with pytest.raises(BadInputError, match="is missing") as caught:
        load(written(tmp_path, content))
    assert caught.value.key == name


def test_broken_json_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        load(written(tmp_path, '{"dcu_id": "a",\n "eui64": }'))
    assert caught.value.line == 2
    with pytest.raises(BadInputError, match="twice"):
        load(written(tmp_path, '{"dcu_id": "a", "dcu_id": "b"}'))
    with pytest.raises(BadInputError, match="must be an object"):
        load(written(tmp_path, "[]"))
    with pytest.raises(BadInputError, match="cannot read"):
        load(tmp_path / "missing.json")


# the serial line


def on_a_line(body: Callable[[SerialLink, int, list[str]], Any], *, rest_s: float = 0.0) -> None:
    """Run `body(link, the other end's descriptor, reasons of loss)` on a pseudo-terminal."""

    async def run() -> None:
        far, near = pty.openpty()
        lost: list[str] = []
        link = open_serial(os.ttyname(near), 115200, asyncio.get_running_loop(), lost.append, rest_s=rest_s)
        os.close(near)
        os.set_blocking(far, False)
        try:
            await body(link, far, lost)
        finally:
            link.close()
            os.close(far)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (a device of the host)
            await asyncio.sleep(0.005)


def test_every_byte_value_crosses_the_line_both_ways() -> None:
    async def body(link: SerialLink, far: int, _lost: list[str]) -> None:
        everything, received = bytes(range(256)), bytearray()
        link.on_data(received.extend)
        os.write(far, everything)
        await until(lambda: len(received) == 256)
        assert received == everything
        link.write(everything)
        sent = bytearray()

        def all_sent() -> bool:
            try:
                sent.extend(os.read(far, 4096))
            except BlockingIOError:
                return False
            return len(sent) == 256

        await until(all_sent)
        assert sent == everything

    on_a_line(body)


def test_a_line_that_rests_is_read_in_few_pieces_and_loses_nothing() -> None:
    async def body(link: SerialLink, far: int, _lost: list[str]) -> None:
        pieces: list[bytes] = []
        link.on_data(pieces.append)
        for value in range(200):
            os.write(far, bytes((value,)))
            await asyncio.sleep(0)
        await until(lambda: sum(map(len, pieces)) == 200)
        assert b"".join(pieces) == bytes(range(200))
        assert len(pieces) <= 5, "every byte woke the reader"

    on_a_line(body, rest_s=0.2)


def test_a_line_that_rests_still_notices_its_end() -> None:
    async def body(link: SerialLink, far: int, lost: list[str]) -> None:
        received = bytearray()
        link.on_data(received.extend)
        os.write(far, b"last words")
        await until(lambda: received == b"last words")
        link.close()
        link.close()
        await asyncio.sleep(0.02)  # a rest that ends on a closed line would raise in the loop
        assert lost == []

    on_a_line(body, rest_s=0.01)


def test_a_line_that_takes_nothing_is_bounded() -> None:
    async def body(link: SerialLink, _far: int, lost: list[str]) -> None:
        for _ in range(100):
            link.write(bytes(8192))
        assert link.dropped_bytes > 0
        assert not lost

    on_a_line(body)


def test_a_socket_stands_for_a_line_and_its_end_is_reported() -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = f"{folder}/rcp"
            server.bind(path)
            server.listen()
            lost: list[str] = []
            received = bytearray()
            link = open_serial(path, 115200, asyncio.get_running_loop(), lost.append)
            link.on_data(received.extend)
            peer, _ = server.accept()
            peer.sendall(b"ready")
            await until(lambda: received == b"ready")
            peer.close()
            await until(lambda: lost == ["end of file"])
            link.write(b"into the void")
            assert link.dropped_bytes == 13

    asyncio.run(run())


def test_what_is_no_serial_device_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(SerialError, match="cannot open"):
            open_serial(str(tmp_path / "missing"), 115200, loop, print)
        with pytest.raises(SerialError, match="no serial device"):
            open_serial(str(plain), 115200, loop, print)
        with pytest.raises(SerialError, match="baud"):
            open_serial(str(plain), 12345, loop, print)

    asyncio.run(run())


# the process


def test_a_bad_configuration_ends_with_2_and_a_missing_radio_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "missing.json")]) == EXIT_BAD_INPUT
    path = written(tmp_path, changed("radio_device", str(tmp_path / "no-radio")))
    assert main(["--config", str(path)]) == EXIT_UNUSABLE
    assert "no-radio" in capsys.readouterr().err


def test_a_start_that_flash_refused_is_tried_again_until_there_is_room(tmp_path: Path) -> None:
    async def run() -> None:
        lines = [pty.openpty() for _ in range(2)]
        radio, maintenance = (os.ttyname(near) for _, near in lines)
        flash = tmp_path / "flash"
        flash.write_text("where the folder of the records should be")
        content = changed("radio_device", radio) | {"storage": str(flash)}
        content["broker"]["port"] = 1  # nobody listens
        ProvisioningStore(FileStorage(tmp_path / "state"), tmp_path / "ram").save(content, {})
        options = ServiceOptions(tmp_path / "state", maintenance, tmp_path / "ram", begin_again_s=0.02)
        loop = asyncio.get_running_loop()
        service = Service(options, loop)
        ended = loop.create_task(service.run())
        try:
            await until(lambda: service.state is State.FAILED)
            flash.unlink()
            await until(lambda: service.state is State.RUNNING)
            assert (flash / "start-count").exists()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            assert await ended == ""
            for far, near in lines:
                os.close(far)
                os.close(near)

    asyncio.run(run())


def test_the_process_starts_logs_json_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    far, near = pty.openpty()
    content = changed("radio_device", os.ttyname(near)) | {"trace_file": "trace.jsonl"}
    content["broker"]["port"] = 1  # nobody listens: the daemon has to live with that
    process = subprocess.Popen(
        [sys.executable, "-m", "dcu", "--config", str(written(tmp_path, content))],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert first["dcu"] == "dcu-1"
        assert first["level"] == "info"
        assert os.read(far, 1)  # the radio is being reset
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == EXIT_OK, rest
        assert all(json.loads(line) for line in rest.splitlines())
        events = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
        assert events[0]["kind"] == "dcu-started"
        assert events[-1]["kind"] == "dcu-stopped"
    finally:
        process.kill()
        process.wait()
        os.close(far)
        os.close(near)


def test_the_daemon_imports_nothing_beyond_its_few_dependencies() -> None:
    program = (
        "import sys, dcu.__main__, dcu.mqtt_uplink\n"
        "own = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in own if not name.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(eval(done.stdout)) <= {"cryptography", "dcu", "paho", "protocols", "cffi", "sitecustomize", "bcrypt"}  # noqa: S307
