"""The maintenance line and what it leaves in flash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maintenance_line import Line

from dcu.maintenance import MAX_LINE_BYTES, MaintenancePort
from dcu.provisioning import ProvisioningStore
from dcu.storage import MemoryStorage
from protocols.errors import BadInputError

KEY = "000102030405060708090a0b0c0d0e0f"
CONFIG: dict[str, Any] = {
    "dcu_id": "dcu-1",
    "eui64": "0212740100000001",
    "system_title": "4f414d4443553031",
    "link_key": KEY,
    "radio_device": "/dev/ttymxc1",
    "storage": "/opt/data",
    "broker": {"host": "10.0.2.2", "port": 1883, "client_id": "dcu-1"},
}


def echo_port() -> Line:
    line = Line()

    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        raise BadInputError("is not good", key="value")

    MaintenancePort(line, {"echo": lambda request: {"got": request}, "refuse": refuse})
    return line


@given(st.lists(st.integers(1, 40), max_size=20))
def test_requests_are_answered_however_the_bytes_are_cut(cuts: list[int]) -> None:
    line = echo_port()
    rest = b'{"id": 1, "command": "echo", "x": 5}\r\n\n{"id": "two", "command": "refuse"}\n'
    for cut in cuts:
        line.receive(rest[:cut])
        rest = rest[cut:]
    line.receive(rest)
    assert line.answers() == [
        {"id": 1, "ok": True, "got": {"x": 5}},
        {"id": "two", "ok": False, "error": "value: is not good"},
    ]


@given(st.binary(max_size=200))
def test_junk_is_refused_and_the_next_request_is_answered(junk: bytes) -> None:
    line = echo_port()
    line.receive(junk + b"\n")
    line.said = b""
    line.receive(b'{"id": 7, "command": "echo"}\n')
    assert line.answers() == [{"id": 7, "ok": True, "got": {}}]


def test_endless_line_is_refused_once_and_skipped() -> None:
    line = echo_port()
    for _ in range(3):
        line.receive(b"x" * MAX_LINE_BYTES)
    line.receive(b'x\n{"id": 1, "command": "echo"}\n')
    assert [answer["ok"] for answer in line.answers()] == [False, True]


def test_unknown_command_says_which_there_are() -> None:
    line = echo_port()
    line.receive(b'{"id": 1, "command": "format"}\n')
    assert line.answers() == [{"id": 1, "ok": False, "error": "no such command; there are echo, refuse"}]


def test_provisioning_survives_a_restart_and_is_forgotten_on_demand(tmp_path: Path) -> None:
    storage = MemoryStorage()
    store = ProvisioningStore(storage, tmp_path / "ram")
    assert store.load() is None
    store.save(CONFIG, {"ca.pem": "certificate"})
    later = ProvisioningStore(storage, tmp_path / "other-ram")
    found = later.load()
    assert found is not None
    assert found.dcu.dcu_id == "dcu-1"
    assert (tmp_path / "other-ram/ca.pem").read_text() == "certificate"
    assert (tmp_path / "other-ram/dcu.json").stat().st_mode & 0o777 == 0o600
    later.forget()
    assert later.load() is None
    assert list((tmp_path / "other-ram").iterdir()) == []


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (None, {}),
        ([], {}),
        ({}, {}),
        (CONFIG | {"link_key": "short"}, {}),
        (CONFIG, {"../ca.pem": ""}),
        (CONFIG, {"dcu.json": "{}"}),
        (CONFIG, {"ca.pem": 5}),
        (CONFIG, []),
    ],
)
def test_bad_provisioning_is_refused_and_the_old_one_kept(tmp_path: Path, config: Any, files: Any) -> None:
    store = ProvisioningStore(MemoryStorage(), tmp_path / "ram")
    store.save(CONFIG, {})
    with pytest.raises(BadInputError) as refusal:
        store.save(config, files)
    assert KEY not in str(refusal.value)
    found = store.load()
    assert found is not None
    assert found.dcu.dcu_id == "dcu-1"


def test_damaged_record_is_said_to_be_damaged(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.write("provisioning", b'{"config": {')
    with pytest.raises(BadInputError, match="provision again"):
        ProvisioningStore(storage, tmp_path).load()
