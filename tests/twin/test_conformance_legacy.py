"""A legacy model is flagged, and fails the security rows by name; suite 1 finds out what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_runs import conform, reasons, verdicts

from protocols.dlms.security.certificates import CertificateStore
from protocols.dlms.security.signing import Verifier
from twin.conformance.verdicts import Verdict


@pytest.mark.requirement("HW-7")
def test_a_legacy_model_is_flagged_and_fails_the_security_rows(tmp_path: Path) -> None:
    run = conform(tmp_path, "", "model:legacy-1p")
    rows = {identifier: verdict for identifier, _, verdict, _ in run.report.requirements()}
    assert [rows[f"SEC-{number}"] for number in (1, 2, 3, 4)] == [Verdict.FAIL] * 4
    found = verdicts(run)
    assert {verdict for name, verdict in found.items() if name.startswith("SYMSEC_0")} == {Verdict.FAIL}
    assert "the protected association is refused" in reasons(run)["SYMSEC_0_SecDataX_P1"]
    assert "does not offer security suite 1" in reasons(run)["SUITE_1_BasicCap_1"]
    assert found["COSEM_SWEEP_READ"] is found["HDLC_INFO_P1"] is Verdict.PASS
    assert run.report.warnings == ("legacy-1p is a LEGACY model: its security is not up to present needs.",)
    assert "LEGACY" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert run.verdict is Verdict.FAIL


@pytest.mark.requirement("HW-7")
def test_the_three_phase_model_passes_too(tmp_path: Path) -> None:
    run = conform(tmp_path, "COSEM or SYMSEC or SUITE_1", "model:ihm5000-3p")
    why = reasons(run)
    assert {name: why[name] for name, verdict in verdicts(run).items() if verdict is Verdict.FAIL} == {}
    assert set(verdicts(run).values()) <= {Verdict.PASS, Verdict.SKIP}


def test_a_meter_that_does_not_check_signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "is_signed", lambda self, message, signature: True)
    found = verdicts(conform(tmp_path, "SUITE_1_Auth_N1 or SUITE_1_GenSign_N1 or SUITE_1_KeyAgree_N1"))
    assert set(found.values()) == {Verdict.FAIL}


def test_a_meter_that_trusts_every_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CertificateStore, "distrust", lambda self, certificate: None)
    run = conform(tmp_path, "SUITE_1_Auth_N2 or SUITE_1_Cert_N1")
    assert set(verdicts(run).values()) == {Verdict.FAIL}
    assert "a certificate of a foreign authority is accepted" in reasons(run)["SUITE_1_Auth_N2"]
