"""The bench beside a remote meter: the verbs of its hardware by JSON-RPC, the same as in one process."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meters.keys import MeterKeys
from meters.meter import Meter, MeterHardware, MeterIdentity
from meters.models.library import load_model
from protocols.dlms.client import Associated, ClientAssociation, ClientConfig, GetDone
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.wrapper import Wpdu
from protocols.errors import BadInputError
from protocols.loads import ConstantLoad, PhaseLoad
from twin.clock.clocks import VirtualClock
from twin.clock.seeds import Seeds
from twin.rigs.bench_verbs import Bench, verbs
from twin.rigs.meter_bench import BenchRpc, bench_address

CLOCK = ObisCode.parse("0-0:1.0.0*255")


def make_bench(model_name: str = "ihm5000-1p") -> Bench:
    seeds, clock, model = Seeds(1), VirtualClock(datetime(2026, 3, 2, tzinfo=UTC)), load_model(model_name)
    load = ConstantLoad((PhaseLoad(1000.0, 0.0, 230.0),) * model.phases)
    hardware = MeterHardware.for_model(model, clock, clock.loop, load, seeds.stream("hardware"), crystal_ppm=0.0)
    meter = Meter(
        model,
        MeterIdentity("IHM00000001", bytes.fromhex("0249484d00000001")),
        MeterKeys.generate(seeds.keys("keys"), system_title=b"INH\0\0\0\0\x01"),
        hardware,
        timers=clock.loop,
        rng=seeds.stream("firmware"),
        key_source=seeds.keys("firmware"),
    )
    meter.power_on()
    return Bench(meter, clock.loop)


BENCH = make_bench()
METER, RPC = BENCH.meter, BenchRpc(BENCH)


def call(method: str, params: object = None, rpc: BenchRpc = RPC) -> Any:
    request = {"jsonrpc": "2.0", "id": 7, "method": method} | ({} if params is None else {"params": params})
    line = rpc.answer(json.dumps(request).encode())
    assert line is not None
    answer = json.loads(line)
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == 7
    return answer["result"] if "result" in answer else (answer["error"]["code"], answer["error"]["message"])


@pytest.mark.requirement("HW-6")
def test_a_verb_does_what_the_call_in_one_process_does() -> None:
    before_s = METER.rtc.offset_s
    assert call("rtc.advance", {"seconds": 45}) is None
    assert METER.rtc.offset_s == pytest.approx(before_s + 45)
    assert call("rtc.advance", [-45.0]) is None
    assert call("rtc.offset_s") == pytest.approx(before_s)
    assert call("power.cut_at_once") is None
    assert not METER.running
    assert call("power.state") == "off"
    assert call("power.restore") is None
    assert METER.running
    assert call("metrology.set_voltage", {"phase": 1, "voltage_v": 190}) is None
    assert METER.metrology.instant().phases[0].voltage_v == 190.0
    assert call("metrology.set_voltage", {"phase": 1, "voltage_v": None}) is None
    assert call("metrology.set_load", {"power_w": 2000}) is None
    assert METER.metrology.instant().active_power_w == 2000.0
    assert call("flash.operations") == METER.flash.operations


def test_every_verb_is_listed_with_what_it_takes_and_says_what_it_does() -> None:
    listed = {item["method"]: item for item in call("verbs")}
    assert set(listed) == set(verbs())
    assert all(item["about"] for item in listed.values())
    assert listed["flash.fail_power_at"]["parameters"] == [
        {"name": "operation", "type": "integer", "required": True},
        {"name": "progress", "type": "number", "required": False},
    ]
    assert listed["metrology.set_voltage"]["parameters"][1]["type"] == "number or null"
    parts = {name.partition(".")[0] for name in listed}
    assert parts == {"rtc", "flash", "metrology", "power", "enclosure", "disconnector", "leakage"}


@pytest.mark.parametrize("name", sorted(name for name, verb in verbs().items() if not verb.parameters))
def test_verbs_without_values_can_be_called(name: str) -> None:
    answer = call(name, rpc=BenchRpc(make_bench()))
    json.dumps(answer)
    assert not isinstance(answer, tuple), answer


@pytest.mark.parametrize(
    ("method", "params", "code", "about"),
    [
        ("rtc.fly", {}, -32601, "no verb 'rtc.fly'; `verbs` lists"),
        ("meter.power_on", {}, -32601, "no verb"),
        ("rtc.advance", {}, -32602, "seconds: rtc.advance needs it"),
        ("rtc.advance", {"seconds": "45"}, -32602, "seconds: must be number"),
        ("rtc.advance", {"seconds": True}, -32602, "seconds: must be number"),
        ("rtc.advance", {"minutes": 1}, -32602, "minutes: rtc.advance takes no such value; it takes: seconds"),
        ("rtc.advance", [1, 2], -32602, "rtc.advance takes 1 values, not 2"),
        ("rtc.advance", 45, -32600, "params an object or a list"),
        ("metrology.set_voltage", {"phase": 4, "voltage_v": 1}, -32000, "phase 4 of 1"),
        ("flash.mark_bad", [100_000], -32000, "outside the flash"),
        ("leakage.apply", {"waveform": "ac"}, -32602, "ma: leakage.apply needs it"),
        ("leakage.apply", {"waveform": "tea", "ma": 30}, -32000, "no 'tea'; there are ac"),
        ("leakage.unplug_sensor", {"line": 2}, -32000, "no line 2"),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(method: str, params: object, code: int, about: str) -> None:
    answer = call(method, params)
    assert answer[0] == code
    assert about in answer[1]


def test_a_part_that_the_model_has_not_is_named() -> None:
    assert call("disconnector.weld", rpc=BenchRpc(make_bench("legacy-1p"))) == (
        -32602,
        "model legacy-1p has no disconnector",
    )


def test_batches_and_notifications() -> None:
    read = {"jsonrpc": "2.0", "method": "power.state"}
    assert RPC.answer(json.dumps(read).encode()) is None
    answers = json.loads(RPC.answer(json.dumps([read | {"id": 1}, read, read | {"id": "x"}]).encode()) or b"")
    assert [answer["id"] for answer in answers] == [1, "x"]
    assert RPC.answer(json.dumps([read]).encode()) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_junk_is_answered_with_an_error_or_not_at_all(line: bytes) -> None:
    answer = RPC.answer(line)
    if answer is not None:
        found = json.loads(answer)
        assert all("error" in item for item in (found if isinstance(found, list) else [found]))


_NUMBERED = ["rtc.set_temperature", "rtc.set", "rtc.advance", "metrology.set_voltage", "flash.erase_count"]


@given(st.sampled_from(_NUMBERED), json_values)
@example("rtc.set_temperature", [1.3407807929942597e154])
@example("rtc.set", [1e300])
@example("rtc.advance", [-1e300])
@example("metrology.set_voltage", [1, 1e300])
def test_junk_as_values_never_raises(method: str, params: object) -> None:
    line = RPC.answer(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    assert line is not None
    json.loads(line)
    METER.metrology.set_voltage(1, None)
    METER.rtc.set_temperature(25.0)
    METER.rtc.advance(-METER.rtc.offset_s)


@pytest.mark.parametrize("text", ["udp://127.0.0.1:0", "hdlc:PTY", "127.0.0.1:5", "tcp://127.0.0.1", ""])
def test_the_bench_listens_on_tcp_only(text: str) -> None:
    with pytest.raises(BadInputError, match="tcp://HOST:PORT"):
        bench_address(text)


class Lines:
    """A JSON-RPC client on a socket."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._file = self._socket.makefile("rwb")

    def call(self, method: str, **params: object) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self._file.write(json.dumps(request).encode() + b"\n")
        self._file.flush()
        return json.loads(self._file.readline())["result"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def read(listening: str, obis: ObisCode, class_id: int, attribute: int = 2) -> Any:
    """One value as the public client or, for a register, with no security at all gets it."""
    host, _, port = listening.removeprefix("tcp://").rpartition(":")
    client = ClientAssociation(ClientConfig(client_sap=16), keys=Seeds(1).keys("client"))
    with socket.create_connection((host, int(port)), timeout=30) as connection:

        def exchange(apdu: bytes) -> list[Any]:
            connection.sendall(Wpdu(16, 1, apdu).encode())
            head = connection.recv(8, socket.MSG_WAITALL)
            body = connection.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)
            return list(client.receive(body))

        assert isinstance(exchange(client.associate())[-1], Associated)
        (done,) = exchange(client.get(AttributeReference(class_id, obis, attribute)))
        assert isinstance(done, GetDone)
        return done.results[0].value  # type: ignore[union-attr]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[dict[str, Any]]:
    command = "from twin.commands.main import main; main()"
    arguments = ["meter", "--listen", "tcp://127.0.0.1:0", "--bench", "tcp://127.0.0.1:0", "--load-w", "500"]
    running = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    assert running.stdout is not None
    try:
        yield json.loads(running.stdout.readline())
    finally:
        running.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.communicate(timeout=30)
        assert running.returncode == 0


@pytest.mark.requirement("HW-6", "VEND-1")
def test_a_meter_in_another_process_is_handled_by_its_bench(process: dict[str, Any]) -> None:
    bench = Lines(process["bench"])
    assert process["bench"] != process["listening"]
    assert abs(bench.call("rtc.offset_s")) < 5.0
    bench.call("rtc.advance", seconds=86_400)
    before = read(process["listening"], CLOCK, 8)
    bench.call("rtc.advance", seconds=-86_400)
    after = read(process["listening"], CLOCK, 8)
    assert before[:4] != after[:4]
    bench.call("power.cut_at_once")
    bench.call("power.restore")
    bench.call("rtc.kill_cell")
    assert read(process["listening"], CLOCK, 8, 4) & 0x01 == 0
    bench.call("power.cut_at_once")
    bench.call("power.restore")
    assert read(process["listening"], CLOCK, 8, 4) & 0x01 == 1
    bench.close()


@pytest.mark.requirement("HW-6", "SAF-1")
def test_an_earth_fault_beside_a_meter_in_another_process_opens_its_line(process: dict[str, Any]) -> None:
    bench = Lines(process["bench"])
    assert bench.call("disconnector.is_closed") is True
    assert bench.call("leakage.isolation") is None
    bench.call("leakage.apply", waveform="ac", ma=60)
    by_s = time.monotonic() + 60.0
    while (found := bench.call("leakage.isolation"))["isolate_ms"] is None:
        assert time.monotonic() < by_s, "the line is still closed"
    assert 0.0 < found["command_ms"] <= found["isolate_ms"] <= 40.0
    assert bench.call("disconnector.is_closed") is False
    bench.close()
