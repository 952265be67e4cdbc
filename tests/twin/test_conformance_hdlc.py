"""HDLC cases: all names are there, they can fail, and they run over a real serial device."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance_runs import conform, reasons, verdicts

from meters.keys import MeterKeys
from meters.models.library import load_model
from protocols.dlms.hdlc.frames import Frame, checksum
from protocols.dlms.hdlc.link import Link
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.dlms.hdlc.server import HdlcServer, HdlcServerConfig
from twin.clock.clocks import VirtualClock
from twin.clock.seeds import Seeds
from twin.conformance.bench import MeterBench
from twin.conformance.cases import Plan
from twin.conformance.library import all_cases
from twin.conformance.runner import START
from twin.conformance.verdicts import Verdict
from twin.errors import RigError

PUBLIC_NAMES = [
    *[f"FRAME_P{number}" for number in (1, 2, 3)],
    *[f"FRAME_N{number}" for number in (1, 2, 3, 4, 5, 7, 8)],
    "ADDRESS_P1",
    *[f"ADDRESS_N{number}" for number in (1, 4, 6, 7)],
    "NDM2NRM_P1",
    "NDM2NRM_P2",
    "INFO_P1",
    *[f"INFO_N{number}" for number in (1, 2, 3)],
    "NDMOP_N1",
]


def test_every_public_name_is_a_case() -> None:
    names = [case.name.removeprefix("HDLC_") for case in all_cases() if case.plan is Plan.HDLC]
    assert sorted(names) == sorted(PUBLIC_NAMES)
    assert len(names) == 22


def must_fail(folder: Path, case: str, because: str) -> None:
    run = conform(folder, case)
    assert verdicts(run)[case] is Verdict.FAIL
    assert because in reasons(run)[case]


def test_a_station_that_does_not_check_the_fcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Frame.decode
    monkeypatch.setattr(Frame, "decode", lambda raw: plain(raw[:-2] + checksum(raw[:-2])))
    must_fail(tmp_path, "HDLC_FRAME_N1", "SNRM with a wrong FCS is UA")


def test_a_station_that_answers_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HdlcServer, "_reach", lambda self, own: "ours")
    must_fail(tmp_path, "HDLC_ADDRESS_N1", "another physical device, 2 bytes is UA")
    must_fail(tmp_path, "HDLC_ADDRESS_N4", "another logical device, 1 byte is UA")
    must_fail(tmp_path, "HDLC_ADDRESS_N7", "SNRM to all stations, 1 bytes is UA")


def test_a_station_that_serves_what_is_out_of_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Link.accept

    def careless(self: Link, frame: Frame) -> bytes | None:
        self._receive = frame.send
        return plain(self, frame)

    monkeypatch.setattr(Link, "accept", careless)
    must_fail(tmp_path, "HDLC_INFO_N1", "I frame repeated is I")


def test_a_station_that_ignores_what_was_negotiated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkParameters, "answer_to", lambda self, peer: self)
    must_fail(tmp_path, "HDLC_NDM2NRM_P2", "meter sends is 2030 bytes, must be ≤ 128")


def test_a_station_that_waits_for_ever_inside_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HdlcServerConfig, "__init__", _patient(HdlcServerConfig.__init__))
    must_fail(tmp_path, "HDLC_FRAME_N8", "the rest after a long silence is UA")


def _patient(plain: Any) -> Any:
    def patient(self: HdlcServerConfig, **settings: Any) -> None:
        plain(self, **settings, inter_octet_s=1e9)

    return patient


class MeterOnAPty(threading.Thread):
    """A meter's secondary station behind a pseudo-terminal, in real time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.master, self.slave = os.openpty()
        self.device = os.ttyname(self.slave)
        self.bench = MeterBench(load_model("ihm5000-1p"), VirtualClock(START), Seeds(4), 0, None)
        config = HdlcServerConfig(physical_address=17, inter_octet_s=0.1)
        self.server = HdlcServer(config, self._serve, on_disconnect=lambda sap: self.bench.meter.close_channel(sap))
        self.stop_end, self.wake_end = os.pipe()

    @property
    def keys(self) -> MeterKeys:
        return self.bench.keys

    def _serve(self, client_sap: int, server_sap: int, apdu: bytes, now: float) -> bytes | None:
        return self.bench.meter.handle_apdu(client_sap, server_sap, apdu, channel=client_sap)

    def run(self) -> None:
        clock = self.bench.clock.loop
        while True:
            ready, _, _ = select.select([self.master, self.stop_end], [], [])
            if self.stop_end in ready:
                return
            os.write(self.master, self.server.receive(os.read(self.master, 4096), clock.time()))

    def stop(self) -> None:
        os.write(self.wake_end, b"x")
        self.join(5)
        for descriptor in (self.master, self.slave, self.stop_end, self.wake_end):
            os.close(descriptor)


@pytest.fixture
def pty_meter() -> Iterator[MeterOnAPty]:
    meter = MeterOnAPty()
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


@pytest.mark.requirement("VEND-1")
@pytest.mark.requirement("UNECE-1")
def test_a_strangers_meter_over_a_serial_device(pty_meter: MeterOnAPty, tmp_path: Path) -> None:
    target = f"hdlc:{pty_meter.device}?physical=17"
    expression = (
        "HDLC_INFO_P1 or HDLC_NDM or MANDATORY or SYMSEC_0_BasicCap or SYMSEC_0_FraCount or OPEN_14 or ADDRESS_P1"
    )
    run = conform(tmp_path, expression, target, keys=pty_meter.keys)
    assert {name: reasons(run)[name] for name, verdict in verdicts(run).items() if verdict is not Verdict.PASS} == {}
    assert run.report.conditions["meter"] == "stranger INH"


def test_a_device_that_is_not_there_or_no_line_is_the_rigs_fault(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="cannot open"):
        conform(tmp_path / "a", "FRAME_P1", f"hdlc:{tmp_path / 'none'}")
    (tmp_path / "file").touch()
    with pytest.raises(RigError, match="is no serial line"):
        conform(tmp_path / "b", "FRAME_P1", f"hdlc:{tmp_path / 'file'}")
