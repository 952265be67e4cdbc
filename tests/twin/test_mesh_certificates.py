"""The scenario join-certificates: verdicts, repetition, and what an independent decoder makes of its capture."""

import json
import shutil
import subprocess

import pytest
from twin_runs import Run, twin_run


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("certificates"), "join-certificates", "--seed", "3")


def _tshark(run: Run, *arguments: str) -> list[str]:
    keys = json.loads((run.folder / "keys.json").read_text())["group_keys"]
    options = [
        part for index, key in keys.items() for part in ("-o", f'uat:ieee802154_keys:"{key}","{index}","No hash"')
    ]
    done = subprocess.run(
        ["tshark", "-r", str(run.folder / "air.pcap"), *options, *arguments],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: make system")


@pytest.mark.requirement("UC-I.1", "UC-I.3", "NET-3")
def test_good_certificates_join_and_bad_or_revoked_ones_stay_out(joined: Run) -> None:
    assert joined.status == 0, joined.stdout + joined.stderr
    assert {case["verdict"] for case in joined.report["cases"]} == {"PASS"}
    reasons = {event["reason"] for event in joined.events("mesh.access_refused")}
    assert reasons == {"certificate of a foreign authority", "certificate outside its validity", "revoked"}


def test_no_key_is_in_the_trace_or_the_log(joined: Run) -> None:
    secrets = json.loads((joined.folder / "keys.json").read_text())["group_keys"].values()
    text = "".join(
        (joined.folder / name).read_text() for name in ("events.jsonl", "run.log") if (joined.folder / name).exists()
    )
    assert not any(secret in text.lower() for secret in secrets)


@pytest.mark.requirement("VEND-3")
def test_scapy_leaves_the_same_capture(joined: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = twin_run(tmp_path_factory.mktemp("scapy"), "join-certificates", "--seed", "3", "--air", "scapy")
    assert again.status == 0, again.stdout
    assert (again.folder / "air.pcap").read_bytes() == (joined.folder / "air.pcap").read_bytes()


@needs_tshark
@pytest.mark.requirement("NET-6", "NET-3")
def test_tshark_sees_eapol_eap_tls_and_certificates_and_nothing_malformed(joined: Run) -> None:
    assert _tshark(joined, "-Y", "_ws.malformed || _ws.expert.severity >= 0x00800000") == []
    chains = set(_tshark(joined, "-T", "fields", "-e", "frame.protocols"))
    for wanted in ("eapol", "tls", "x509", "wisun.eapol_relay"):
        assert any(wanted in chain for chain in chains), wanted
    undecrypted = "wpan.security == 1 && wpan.frame_type == 1 && !wpan.payload_ie_tlv"
    assert _tshark(joined, "-Y", undecrypted) == []
    names = set(_tshark(joined, "-Y", "eapol", "-T", "fields", "-e", "_ws.col.Info"))
    for wanted in ("Request, Identity", "Success", "Failure", "Key (Message 3 of 4)", "Key (Group Message 1 of 2)"):
        assert wanted in names, names
    assert any("Server Hello, Certificate, Server Key Exchange" in name for name in names)
    assert any("Alert" in name for name in names)


def test_certificates_need_long_frames(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = twin_run(tmp_path_factory.mktemp("short"), "join-certificates", "--set", "radio.max_psdu_bytes=127")
    assert run.status == 2
    assert "radio.max_psdu_bytes" in run.stderr + run.stdout
