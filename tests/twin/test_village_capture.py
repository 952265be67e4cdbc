"""An independent decoder, tshark, reads what the village sent."""

import collections
import shutil
import subprocess
from pathlib import Path

import pytest
from twin_runs import Run, twin_run

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: make system")


def _tshark(run: Run, *arguments: str) -> list[str]:
    key = f'uat:ieee802154_keys:"{run.group_key}","1","No hash"'
    done = subprocess.run(
        ["tshark", "-r", str(run.folder / "air.pcap"), "-o", key, *arguments],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def _fields(run: Run, display_filter: str, *names: str) -> list[list[str]]:
    options = [part for name in names for part in ("-e", name)]
    return [line.split("\t") for line in _tshark(run, "-Y", display_filter, "-T", "fields", *options)]


@pytest.fixture(scope="module")
def protocols(village: Run) -> collections.Counter[str]:
    """How often each chain of protocols was seen."""
    return collections.Counter(line for line in _tshark(village, "-T", "fields", "-e", "frame.protocols"))


@pytest.mark.requirement("NET-6")
def test_no_frame_is_malformed_and_none_stays_encrypted(village: Run) -> None:
    assert _tshark(village, "-Y", "_ws.malformed || _ws.expert.severity >= 0x00800000") == []
    secured = "wpan.security == 1 && wpan.frame_type == 1"
    assert len(_fields(village, secured, "frame.number")) > 500
    # Payload elements are encrypted: that they are seen says that the frame was decrypted.
    assert _fields(village, f"{secured} && !wpan.payload_ie_tlv", "frame.number") == []
    assert _fields(village, "wpan.fcs_ok == 0", "frame.number") == []


@pytest.mark.requirement("NET-4")
def test_lowpan_udp_and_rpl_are_seen(protocols: collections.Counter[str]) -> None:
    for wanted in ("6lowpan", "ipv6", "udp", "icmpv6"):
        assert any(wanted in chain for chain in protocols), (wanted, protocols)


def test_rpl_messages_and_source_routes_are_seen_by_name(village: Run) -> None:
    codes = {row[0] for row in _fields(village, "icmpv6.type == 155", "icmpv6.code")}
    assert {"0", "1", "2"} <= codes  # DIS, DIO, DAO
    assert _fields(village, "ipv6.routing.type == 3", "frame.number")


@pytest.mark.requirement("NET-1")
def test_a_reading_of_a_crosses_two_hops_with_segments_left_going_down(village: Run) -> None:
    """The same datagram between two pairs of link addresses, on its way from the DCU to A."""
    rows = _fields(
        village, "ipv6.routing.type == 3 && udp.dstport == 4059", "frame.number", "wpan.src64", "wpan.dst64",
        "ipv6.routing.segleft", "udp.checksum", "udp.payload",
    )  # fmt: skip
    by_datagram = collections.defaultdict(list)
    for _, source, destination, segments_left, checksum, payload in rows:
        by_datagram[checksum, payload].append((source, destination, int(segments_left)))
    relayed = [hops for hops in by_datagram.values() if {hop[2] for hop in hops} >= {0, 1}]
    assert relayed, "no datagram was seen on two hops"
    first = next(hop for hop in relayed[0] if hop[2] == 1)
    second = next(hop for hop in relayed[0] if hop[2] == 0)
    assert first[1] == second[0], "the relay that received it is the one that sends it on"
    assert len({first[0], first[1], second[1]}) == 3


def test_a_village_with_127_byte_frames_shows_fragments(tmp_path: Path) -> None:
    small = twin_run(tmp_path, "village", "--seed", "7", "--set", "radio.max_psdu_bytes=127")
    assert small.status == 0, small.stderr
    assert _tshark(small, "-Y", "_ws.malformed") == []
    assert all(int(row[0]) <= 127 + 32 for row in _fields(small, "frame", "frame.len"))
    assert _fields(small, "6lowpan.frag.offset", "frame.number"), "no second fragment"
    assert _fields(small, "6lowpan.reassembled.length && udp", "frame.number"), "nothing was reassembled"
