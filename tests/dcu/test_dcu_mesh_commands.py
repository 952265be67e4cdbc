"""What a technician asks of the mesh over the maintenance line: echoes, group keys, revocation."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maintenance_line import Line

from dcu.maintenance import MaintenancePort
from dcu.mesh_commands import MOST_PAYLOAD_BYTES, MeshCommands
from protocols.errors import BadInputError, LocalProtocolError, TwinError
from protocols.mesh.config import LinkKey

NODE = "0249484d00000001"
KEY = "000102030405060708090a0b0c0d0e0f"


class Keeper:
    """A concentrator that notes what it is asked; a node answers an echo after the seconds of `answers_s`."""

    def __init__(self, answers_s: dict[str, float] | None = None) -> None:
        self.answers_s = answers_s or {}
        self.asked: list[tuple[bytes, int, float]] = []
        self.keys: list[LinkKey] = []
        self.revoked: list[bytes] = []

    async def ping(self, eui64: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None:
        self.asked.append((eui64, len(payload), timeout_s))
        await asyncio.sleep(0)
        return self.answers_s.get(eui64.hex())

    def rotate_group_key(self, key: LinkKey) -> None:
        if key.index == 1:
            raise LocalProtocolError("group key 1 cannot be brought into use here")
        self.keys.append(key)

    def revoke_access(self, eui64: bytes) -> None:
        self.revoked.append(eui64)


def answered(keeper: Keeper, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes back over the line, in its order."""
    line = Line()
    tasks: list[asyncio.Future[None]] = []

    async def main() -> None:
        mesh = MeshCommands(lambda: keeper)
        MaintenancePort(
            line,
            {"rotate-group-key": mesh.rotate_group_key, "revoke": mesh.revoke},
            {"ping": mesh.ping},
            lambda job, name: tasks.append(asyncio.ensure_future(job)),
        )
        for number, request in enumerate(requests):
            line.receive(json.dumps({"id": number, **request}).encode() + b"\n")
        await asyncio.gather(*tasks)

    asyncio.run(main())
    return line.answers()


def test_echo_is_sent_with_its_size_and_its_round_trip_told() -> None:
    keeper = Keeper({NODE: 0.125})
    found = answered(keeper, {"command": "ping", "eui64": NODE, "payload_bytes": 1232, "wait_s": 20})
    assert found == [{"id": 0, "ok": True, "round_trip_s": 0.125}]
    assert keeper.asked == [(bytes.fromhex(NODE), 1232, 20.0)]


def test_node_that_does_not_answer_is_null_and_no_error() -> None:
    assert answered(Keeper(), {"command": "ping", "eui64": NODE}) == [{"id": 0, "ok": True, "round_trip_s": None}]


def test_slow_command_does_not_hold_up_those_behind_it() -> None:
    found = answered(Keeper(), {"command": "ping", "eui64": NODE}, {"command": "revoke", "eui64": NODE})
    assert [answer["id"] for answer in found] == [1, 0]


def test_group_key_comes_into_use_and_one_that_cannot_is_refused_with_the_reason() -> None:
    keeper = Keeper()
    found = answered(
        keeper,
        {"command": "rotate-group-key", "index": 2, "key": KEY},
        {"command": "rotate-group-key", "index": 1, "key": KEY},
    )
    assert keeper.keys == [LinkKey(2, bytes.fromhex(KEY))]
    assert found[0] == {"id": 0, "ok": True}
    assert found[1] == {"id": 1, "ok": False, "error": "group key 1 cannot be brought into use here"}


def test_device_is_revoked() -> None:
    keeper = Keeper()
    assert answered(keeper, {"command": "revoke", "eui64": NODE}) == [{"id": 0, "ok": True}]
    assert keeper.revoked == [bytes.fromhex(NODE)]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"command": "ping"}, "eui64"),
        ({"command": "ping", "eui64": "02"}, "eui64"),
        ({"command": "ping", "eui64": NODE, "payload_bytes": MOST_PAYLOAD_BYTES + 1}, "payload_bytes"),
        ({"command": "ping", "eui64": NODE, "wait_s": -1}, "wait_s"),
        ({"command": "ping", "eui64": NODE, "wait_s": True}, "wait_s"),
        ({"command": "rotate-group-key", "index": 5, "key": KEY}, "index"),
        ({"command": "rotate-group-key", "index": 2, "key": KEY[:-2]}, "key"),
        ({"command": "rotate-group-key", "index": 2, "key": KEY + "zz"}, "key"),
        ({"command": "revoke", "eui64": 5}, "eui64"),
    ],
)
def test_field_that_cannot_be_used_is_named_and_no_key_is_repeated(request_: dict[str, Any], field: str) -> None:
    keeper = Keeper({NODE: 1.0})
    (answer,) = answered(keeper, request_)
    assert not answer["ok"]
    assert answer["error"].startswith(f"{field}: ")
    assert KEY[:-2] not in answer["error"]
    assert (keeper.asked, keeper.keys, keeper.revoked) == ([], [], [])


@given(st.dictionaries(st.sampled_from(["eui64", "key", "index", "payload_bytes", "wait_s"]), st.none() | st.text()))
def test_whatever_the_fields_are_there_is_one_answer(fields: dict[str, Any]) -> None:
    for command in ("ping", "rotate-group-key", "revoke"):
        assert len(answered(Keeper(), {"command": command, **fields})) == 1


def test_without_an_identity_each_is_refused() -> None:
    def running() -> Keeper:
        raise BadInputError("the concentrator does not run")

    mesh = MeshCommands(running)
    with pytest.raises(TwinError, match="does not run"):
        mesh.revoke({"eui64": NODE})
    with pytest.raises(TwinError, match="does not run"):
        asyncio.run(mesh.ping({"eui64": NODE}))
