"""A join with certificates, readings and a multicast in one capture: every layer is seen by name by tshark."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from twin_runs import Run, twin_run

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: make system")

SCENARIO = """
scenario: layers
title: Every layer of the mesh at once
radio: {region: EU-1, data_rate_kbps: 150, max_psdu_bytes: 2047, security: certificates}
dcu: {id: IHM4000-0001, position: [0, 0]}
meters:
  - {name: near, serial: IHM5000001, position: [280, 0]}
  - {name: middle, serial: IHM5000002, position: [560, 0]}
  - {name: far, serial: IHM5000003, position: [840, 0]}
  - {name: west, serial: IHM5000004, position: [-200, 0]}
script:
  - {step: authenticate, title: all prove themselves by their certificates}
  - {step: register, title: all are registered}
  - {step: echo, title: all answer an echo}
  - {step: read-all, title: all are read}
  - {step: clocks-are-set, title: a multicast sets every clock, with: {meter: far}}
"""
SECURED = "wpan.security == 1 && wpan.frame_type == 1"
MUST_NOT_BE = (
    "_ws.malformed || _ws.expert.severity >= 0x00800000",
    "wpan.fcs_ok == 0",
    f"{SECURED} && !wpan.payload_ie_tlv",  # payload elements are encrypted: not to see them is not to have decrypted
)
MUST_BE = {
    "frame": "frames",
    SECURED: "secured frames",
    **{f"wisun.uttie.type == {n}": name for n, name in enumerate(("PA", "PAS", "PC", "PCS", "DATA", "ACK", "EAPOL"))},
    "wpan.mpx.multiplex_id == 0xa0ed": "MPX, 6LoWPAN",
    "wpan.mpx.kmp.id == 1": "MPX, key management",
    "6lowpan.iphc.tf": "IPHC",
    "icmpv6.type == 155 && icmpv6.code == 0": "DIS",
    "icmpv6.type == 155 && icmpv6.code == 1": "DIO",
    "icmpv6.type == 155 && icmpv6.code == 2": "DAO",
    "icmpv6.type == 155 && icmpv6.code == 3": "DAO-ACK",
    "ipv6.opt.rpl.sender_rank": "RPI",
    "ipv6.routing.type == 3 && ipv6.routing.segleft > 0": "SRH",
    "ipv6.opt.mpl.sequence && udp.dstport == 4059": "MPL data",
    "icmpv6.type == 159": "MPL control",
    "icmpv6.opt.aro.eui64": "ARO",
    "icmpv6.type == 129": "echo reply",
    "eapol": "EAPOL",
    "tls.handshake.type == 11": "EAP-TLS with certificates",
}
"""Display filters, and what each one shows."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("layers")
    file = folder / "layers.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return twin_run(folder / "run", str(file), "--seed", "2")


@pytest.fixture(scope="module")
def frames(run: Run) -> dict[str, int]:
    """How many frames match each display filter, by one pass of tshark over the capture."""
    keys = json.loads((run.folder / "keys.json").read_text())["group_keys"]
    options = [word for index, key in keys.items() for word in ("-o", _decryption(index, key))]
    capture, wanted = str(run.folder / "air.pcap"), [*MUST_NOT_BE, *MUST_BE]
    done = subprocess.run(
        ["tshark", "-r", capture, *options, "-q", "-z", ",".join(("io,stat,0", *wanted))],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (row,) = [
        line for line in done.stdout.splitlines() if "<>" in line and line.startswith("|") and "Interval" not in line
    ]
    counts = [int(cell) for cell in row.strip("|").split("|")[1::2]]
    return dict(zip(wanted, counts, strict=True))


def _decryption(index: str, key: str) -> str:
    return f'uat:ieee802154_keys:"{key}","{index}","No hash"'


def test_everybody_joins_is_read_and_set_by_multicast(run: Run) -> None:
    assert run.status == 0, run.stdout + run.stderr


@pytest.mark.requirement("NET-6", "NET-3")
@pytest.mark.parametrize("wrong", MUST_NOT_BE)
def test_nothing_is_malformed_and_nothing_stays_encrypted(frames: dict[str, int], wrong: str) -> None:
    assert frames["frame"] > 500
    assert frames[SECURED] > 100
    assert frames[wrong] == 0


@pytest.mark.requirement("NET-3", "NET-4", "NET-6")
@pytest.mark.parametrize("seen_as", [pytest.param(key, id=name) for key, name in MUST_BE.items()])
def test_every_kind_of_frame_and_every_layer_is_seen_by_name(frames: dict[str, int], seen_as: str) -> None:
    assert frames[seen_as] > 0
