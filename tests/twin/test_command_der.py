"""The verb `twin der` as a process, with a grid from a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sunspec2 = pytest.importorskip("sunspec2")
pytest.importorskip("pymodbus")

from grid.der.grid_file import read_grid_file  # noqa: E402
from protocols.errors import BadInputError  # noqa: E402

_CODE = "import typer; from twin.commands.der import register; app = typer.Typer(); register(app); app()"


@pytest.mark.requirement("GRID-5")
def test_the_process_says_where_it_listens_follows_its_grid_and_stops_on_a_signal(tmp_path: Path) -> None:
    from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

    grid = tmp_path / "grid.csv"
    grid.write_text("time_s,voltage_v,frequency_hz\n0,230,50\n30,150,50\n30.5,230,50\n")
    command = [sys.executable, "-c", _CODE, "--listen", "tcp://127.0.0.1:0", "--unit", "3", "--category", "I"]
    command += ["--profile", "ieee1547-50", "--grid", str(grid), "--speed", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["unit"], ready["models"][0], ready["models"][-1]) == (3, 1, 714)
            host, port = ready["listening"].removeprefix("tcp://").split(":")
            client = SunSpecModbusClientDeviceTCP(slave_id=3, ipaddr=host, ipport=int(port))
            try:
                client.scan()
                assert client.DERMeasureAC[0].ConnSt.value == 1
                assert client.DERCapacity[0].AbnOpCatRtg.value == 0
            finally:
                client.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("time_s,frequency_hz\n0,50\n", "no column time_s; |no column voltage_pu"),
        ("time_s,voltage_pu,frequency_hz\n0,nan,50\n", "grid.csv:2"),
        ("time_s,voltage_pu,frequency_hz\n0,1,50\n0,1,50\n", "grid.csv:3"),
        ("time_s,voltage_pu,frequency_hz\n0,x,50\n", "not a number"),
        ("time_s,voltage_pu,frequency_hz\n", "holds no values"),
    ],
)
def test_a_bad_grid_file_is_named_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(text)
    with pytest.raises(BadInputError, match=said):
        read_grid_file(path, 230.0)


def test_rows_hold_until_the_next_or_lead_to_it(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("time_s,voltage_v,frequency_hz\n0,230,50\n10,207,45\n")
    stepped = read_grid_file(path, 230.0)
    assert (stepped.at(9.99).hz, stepped.at(10.0).hz, stepped.at(99.0).voltage_pu) == (50.0, 45.0, 0.9)
    straight = read_grid_file(path, 230.0, linear=True)
    assert straight.at(5.0).hz == pytest.approx(47.5)
    assert straight.at(5.0).voltage_pu == pytest.approx(0.95)
