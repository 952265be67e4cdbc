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
FRAME_TYPES = {"PA": 0, "PAS": 1, "PC": 2, "PCS": 3, "DATA": 4, "ACK": 5, "EAPOL": 6}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("layers")
    file = folder / "layers.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return twin_run(folder / "run", str(file), "--seed", "2")


def frames(run: Run, display_filter: str) -> list[str]:
    """Numbers of the frames that match."""
    keys = json.loads((run.folder / "keys.json").read_text())["group_keys"]
    options = [word for index, key in keys.items() for word in ("-o", _decryption(index, key))]
    capture = str(run.folder / "air.pcap")
    done = subprocess.run(
        ["tshark", "-r", capture, *options, "-Y", display_filter, "-T", "fields", "-e", "frame.number"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.split()


def _decryption(index: str, key: str) -> str:
    return f'uat:ieee802154_keys:"{key}","{index}","No hash"'


def test_everybody_joins_is_read_and_set_by_multicast(run: Run) -> None:
    assert run.status == 0, run.stdout + run.stderr


@pytest.mark.requirement("NET-6", "NET-3")
def test_nothing_is_malformed_and_nothing_stays_encrypted(run: Run) -> None:
    assert frames(run, "_ws.malformed || _ws.expert.severity >= 0x00800000") == []
    assert frames(run, "wpan.fcs_ok == 0") == []
    assert len(frames(run, "wpan.security == 1 && wpan.frame_type == 1")) > 100
    assert frames(run, "wpan.security == 1 && wpan.frame_type == 1 && !wpan.payload_ie_tlv") == []


@pytest.mark.requirement("NET-3")
@pytest.mark.parametrize("name", FRAME_TYPES)
def test_every_kind_of_frame_is_seen(run: Run, name: str) -> None:
    assert frames(run, f"wisun.uttie.type == {FRAME_TYPES[name]}")


@pytest.mark.requirement("NET-4", "NET-6")
@pytest.mark.parametrize(
    "seen_as",
    [
        pytest.param("wpan.mpx.multiplex_id == 0xa0ed", id="MPX, 6LoWPAN"),
        pytest.param("wpan.mpx.kmp.id == 1", id="MPX, key management"),
        pytest.param("6lowpan.iphc.tf", id="IPHC"),
        pytest.param("icmpv6.type == 155 && icmpv6.code == 0", id="DIS"),
        pytest.param("icmpv6.type == 155 && icmpv6.code == 1", id="DIO"),
        pytest.param("icmpv6.type == 155 && icmpv6.code == 2", id="DAO"),
        pytest.param("icmpv6.type == 155 && icmpv6.code == 3", id="DAO-ACK"),
        pytest.param("ipv6.opt.rpl.sender_rank", id="RPI"),
        pytest.param("ipv6.routing.type == 3 && ipv6.routing.segleft > 0", id="SRH"),
        pytest.param("ipv6.opt.mpl.sequence && udp.dstport == 4059", id="MPL data"),
        pytest.param("icmpv6.type == 159", id="MPL control"),
        pytest.param("icmpv6.opt.aro.eui64", id="ARO"),
        pytest.param("icmpv6.type == 129", id="echo reply"),
        pytest.param("eapol", id="EAPOL"),
        pytest.param("tls.handshake.type == 11", id="EAP-TLS with certificates"),
    ],
)
def test_every_layer_is_seen_by_name(run: Run, seen_as: str) -> None:
    assert frames(run, seen_as)
