"""Captures of the air, and what tshark says about every kind of frame in them."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import BadInputError, LocalProtocolError
from protocols.mesh.checksum import append_fcs
from protocols.mesh.ieee802154 import AuxiliarySecurity, MacFrameType, MacHeader
from protocols.mesh.link_security import LinkCipher
from protocols.mesh.mac_frames import Sealing, build_ack, build_frame
from protocols.mesh.mac_schedule import Timing
from protocols.mesh.wisun import (
    KMP_8021X,
    MULTIPLEX_KMP,
    BroadcastSchedule,
    FrameType,
    Multiplex,
    PanInformation,
    PayloadElements,
    UnicastSchedule,
    encode_datagram,
)
from twin.air.capture import CapturedFrame, CaptureWriter, read_capture

KEY = bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("0200000000000002")
START_UTC_S = 1_793_000_000.25
# IPv6 in 6LoWPAN: IPHC with everything elided (link-local by EUI-64), NHC UDP with ports 4059 and its checksum.
DATAGRAM = bytes.fromhex("7e33f00fdb0fdb") + bytes.fromhex("1e4c") + b"reading"
EAPOL_START = bytes.fromhex("03010000")
SCHEDULES = PayloadElements(
    unicast_schedule=UnicastSchedule(channel_function=2),
    broadcast_schedule=BroadcastSchedule(schedule_id=0x1234, channel_function=2),
    pan=PanInformation(pan_size=12, routing_cost=256),
    network_name="kibera",
    pan_version=7,
    gtk_hashes=(b"\1" * 8, b"\2" * 8, bytes(8), bytes(8)),
)

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def tshark(path: Path, fields: list[str], display_filter: str = "") -> list[list[str]]:
    command = ["tshark", "-r", str(path), "-o", f'uat:ieee802154_keys:"{KEY.hex()}","1","No hash"', "-T", "fields"]
    command += [argument for field in fields for argument in ("-e", field)]
    if display_filter:
        command += ["-Y", display_filter]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def frame(
    kind: FrameType, to: bytes | None, ies: bytes, *, secured: bool, fcs_bytes: int = 4, payload: bytes = b""
) -> bytes:
    sealing = Sealing(LinkCipher(KEY), 1, 42) if secured else None
    return build_frame(kind, A, to, 9, 0xABCD, Timing(0x123456, 0x0102, 0x030405), ies, payload, sealing, fcs_bytes)


def ack(psdu: bytes, *, secured: bool, fcs_bytes: int = 4) -> bytes:
    header, _ = MacHeader.decode(psdu[:-fcs_bytes])
    sealing = Sealing(LinkCipher(KEY), 1, 77) if secured else None
    return build_ack(B, header, Timing(0x654321), -71, sealing, fcs_bytes)


def every_kind_of_frame(fcs_bytes: int) -> list[bytes]:
    data = encode_datagram(DATAGRAM)
    eapol = PayloadElements(multiplex=Multiplex(MULTIPLEX_KMP, EAPOL_START, KMP_8021X)).encode()
    unicast = frame(FrameType.DATA, B, data, secured=True, fcs_bytes=fcs_bytes)
    plain = frame(FrameType.DATA, B, data, secured=False, fcs_bytes=fcs_bytes)
    handshake = frame(FrameType.EAPOL, B, eapol, secured=False, fcs_bytes=fcs_bytes)
    frames = [
        frame(FrameType.PAS, None, PayloadElements(network_name="kibera").encode(), secured=False, fcs_bytes=fcs_bytes),
        frame(FrameType.PA, None, SCHEDULES.encode(), secured=False, fcs_bytes=fcs_bytes),
        frame(FrameType.PCS, None, PayloadElements(network_name="k").encode(), secured=False, fcs_bytes=fcs_bytes),
        frame(FrameType.PC, None, SCHEDULES.encode(), secured=True, fcs_bytes=fcs_bytes)
        if fcs_bytes == 4
        else frame(FrameType.PC, None, PayloadElements(pan_version=7).encode(), secured=True, fcs_bytes=fcs_bytes),
        frame(FrameType.DATA, None, data, secured=True, fcs_bytes=fcs_bytes),
        unicast,
        ack(unicast, secured=True, fcs_bytes=fcs_bytes),
        plain,
        ack(plain, secured=False, fcs_bytes=fcs_bytes),
        handshake,
        ack(handshake, secured=False, fcs_bytes=fcs_bytes),
        frame(FrameType.DATA, B, PayloadElements(pan_version=7).encode() + data, secured=True, fcs_bytes=fcs_bytes),
    ]
    if fcs_bytes == 4:
        frames.append(frame(FrameType.DATA, B, encode_datagram(DATAGRAM + bytes(1200)), secured=True))
    return frames


@pytest.fixture
def captured(tmp_path: Path) -> Callable[[list[bytes], int], Path]:
    def capture(psdus: list[bytes], fcs_bytes: int) -> Path:
        path = tmp_path / "air.pcap"
        with path.open("wb") as stream:
            writer = CaptureWriter(stream, start_utc_s=START_UTC_S)
            for index, psdu in enumerate(psdus):
                writer.write(index * 0.125, psdu, rss_dbm=-71.5, channel=5, lqi=200, fcs_bytes=fcs_bytes)
        return path

    return capture


@needs_tshark
@pytest.mark.requirement("NET-6")
@pytest.mark.requirement("NET-3")
@pytest.mark.parametrize("fcs_bytes", [2, 4])
def test_tshark_finds_nothing_wrong_with_any_kind_of_frame(
    captured: Callable[[list[bytes], int], Path], fcs_bytes: int
) -> None:
    psdus = every_kind_of_frame(fcs_bytes)
    path = captured(psdus, fcs_bytes)
    fields = ["wpan.fcs_ok", "_ws.malformed", "_ws.expert.message", "wisun.uttie.type", "_ws.col.Protocol"]
    rows = tshark(path, fields)
    assert len(rows) == len(psdus)
    assert [row[3] for row in rows][:12] == ["1", "0", "3", "2", "4", "4", "5", "4", "5", "6", "5", "4"]
    for row in rows:
        assert row[0] == "1", row
        assert row[1] == "", row
        assert row[2] == "", row


@needs_tshark
@pytest.mark.requirement("NET-6")
def test_tshark_reads_the_same_values(captured: Callable[[list[bytes], int], Path]) -> None:
    path = captured(every_kind_of_frame(4), 4)
    assert tshark(
        path,
        [
            "wpan.src_pan",
            "wpan.src64",
            "wisun.uttie.ufsi",
            "wisun.btie.slot",
            "wisun.btie.bio",
            "wisun.usie.dwell",
            "wisun.usie.channel.function",
            "wisun.bsie.interval",
            "wisun.bsie.schedule",
            "wisun.panie.size",
            "wisun.panie.cost",
            "wisun.panie.flags",
            "wisun.netnameie.name",
            "wisun.panverie.version",
            "wisun.gtkhashie.gtk1",
        ],
        "wisun.uttie.type == 2",
    ) == [
        [
            "0xabcd",
            "02:00:00:00:00:00:00:01",
            "1193046",
            "258",
            "197637",
            "255,255",
            "2,2",
            "1020",
            "4660",
            "12",
            "256",
            "0x23",
            "kibera",
            "7",
            "0202020202020202",
        ]
    ]
    assert tshark(
        path, ["wisun.rslie.rsl", "wpan.seq_no", "wpan.dst64"], "wisun.uttie.type == 5 && wpan.security == 1"
    ) == [["103", "9", "02:00:00:00:00:00:00:01"]]


@needs_tshark
@pytest.mark.requirement("NET-6")
def test_tshark_decrypts_and_follows_the_layers_up(captured: Callable[[list[bytes], int], Path]) -> None:
    path = captured(every_kind_of_frame(4), 4)
    rows = tshark(path, ["frame.number", "wpan.security", "udp.dstport", "ipv6.src", "data.data"], "udp")
    assert [row[0] for row in rows] == ["5", "6", "8", "12", "13"]
    assert all(row[2] == "4059" for row in rows)
    assert all(row[3] == "fe80::1" for row in rows)
    assert b"reading".hex() in rows[0][4].replace(":", "")
    assert tshark(path, ["wpan.mpx.kmp.id", "eapol.type"], "eapol") == [["1", "1"]]
    assert tshark(path, ["wpan.aux_sec.frame_counter"], "wpan.aux_sec.sec_level == 6")[0] == ["42"]
    assert tshark(path, ["frame.number"], "wpan.decrypt_error") == []


@needs_tshark
def test_tshark_agrees_on_addressing_of_other_makers(captured: Callable[[list[bytes], int], Path]) -> None:
    headers = [
        MacHeader(MacFrameType.DATA, 1, b"\x12\x34", b"\x56\x78", 1, 2),
        MacHeader(MacFrameType.DATA, 2, b"\x12\x34", A, 1, None, True),
        MacHeader(MacFrameType.DATA, None, A, B, 0x77),
        MacHeader(MacFrameType.DATA, None, A, None, 0x77),
        MacHeader(MacFrameType.DATA, 3, b"\xff\xff", B, 0xFFFF, None, True, version=1),
        MacHeader(MacFrameType.COMMAND, 3, A, B, 1, 2, version=1),
    ]
    path = captured([append_fcs(header.encode() + b"\x04", 4) for header in headers], 4)
    rows = tshark(path, ["wpan.dst_pan", "wpan.src_pan", "wpan.dst16", "wpan.dst64", "wpan.src16", "wpan.src64"])
    a, b = "02:00:00:00:00:00:00:01", "02:00:00:00:00:00:00:02"
    assert rows == [
        ["0x0001", "0x0002", "0x1234", "", "0x5678", ""],
        ["0x0001", "", "0x1234", "", "", a],
        ["0x0077", "", "", a, "", b],
        ["0x0077", "", "", a, "", ""],
        ["0xffff", "", "0xffff", "", "", b],
        ["0x0001", "0x0002", "", a, "", b],
    ]


@needs_tshark
@pytest.mark.parametrize("level", [1, 2, 3, 5, 6, 7])
def test_tshark_verifies_every_security_level(captured: Callable[[list[bytes], int], Path], level: int) -> None:
    cipher = LinkCipher(KEY, level)
    head = MacHeader(MacFrameType.DATA, 1, B, A, None, None, True, security=AuxiliarySecurity(level, 9)).encode()
    path = captured([append_fcs(head + cipher.seal(head, b"\x7b\x3a\x80\x00\x01", A, 9), 4)], 4)
    assert tshark(path, ["wpan.decrypt_error", "wpan.aux_sec.sec_level"]) == [["", f"0x{level:02x}"]]


@needs_tshark
def test_tshark_reads_the_pseudo_header(captured: Callable[[list[bytes], int], Path]) -> None:
    path = captured(every_kind_of_frame(4)[:2], 4)
    fields = ["wpan-tap.fcs_type", "wpan-tap.rss", "wpan-tap.ch_num", "wpan-tap.ch_page", "wpan-tap.lqi"]
    rows = tshark(path, [*fields, "frame.time_epoch"])
    assert rows == [
        ["2", "-71.5", "5", "9", "200", "1793000000.250000000"],
        ["2", "-71.5", "5", "9", "200", "1793000000.375000000"],
    ]


def test_a_capture_is_read_back_and_is_the_same_bytes_every_time(captured: Callable[[list[bytes], int], Path]) -> None:
    psdus = every_kind_of_frame(4)
    path = captured(psdus, 4)
    first = path.read_bytes()
    frames = list(read_capture(path))
    assert [frame.psdu for frame in frames] == psdus
    assert frames[1] == CapturedFrame(1_793_000_000_375_000_000, psdus[1], -71.5, 5, 9, 200, 4)
    assert captured(psdus, 4).read_bytes() == first


@given(size=st.integers(0, 400), junk=st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_cut_or_damaged_captures_are_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, size: int, junk: bytes
) -> None:
    stream = io.BytesIO()
    writer = CaptureWriter(stream)
    for psdu in every_kind_of_frame(4)[:3]:
        writer.write(1.0, psdu, rss_dbm=-70, channel=1, lqi=1)
    path = tmp_path_factory.mktemp("captures") / "cut.pcap"
    path.write_bytes(stream.getvalue()[:size] + junk)
    try:
        list(read_capture(path))
    except BadInputError as error:
        assert "cut.pcap" in str(error)  # noqa: PT017 (junk may also happen to be readable)


def test_a_frame_that_cannot_be_captured_is_our_fault() -> None:
    writer = CaptureWriter(io.BytesIO())
    with pytest.raises(LocalProtocolError):
        writer.write(0.0, b"", rss_dbm=-70, channel=-1, lqi=0)
    with pytest.raises(LocalProtocolError):
        writer.write(0.0, b"", rss_dbm=-70, channel=1, lqi=0, fcs_bytes=3)
