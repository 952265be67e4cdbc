"""Cases can fail: each deliberately broken meter is found out, by the case that is about what is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conformance_runs import conform, reasons, verdicts

from meters.firmware import security as meter_security
from meters.firmware.firmware import Firmware
from meters.firmware.objects.basic import RegisterObject
from meters.firmware.objects.security_setup import SecuritySetupObject
from protocols.dlms import associating, server_protection
from protocols.dlms.accessor import ObjectAccessor
from protocols.dlms.data import Data, visible_string
from protocols.dlms.enums import AcseUserDiagnostic
from protocols.dlms.security import gcm
from protocols.dlms.security.counters import ReceiveCounter
from protocols.dlms.security.keys import Policy
from protocols.dlms.server import CosemServer
from protocols.dlms.server_security import ServerSecurity
from twin.conformance.verdicts import Verdict


def must_fail(folder: Path, case: str, because: str) -> None:
    run = conform(folder, case)
    assert verdicts(run)[case] is Verdict.FAIL
    assert because in reasons(run)[case]


def test_a_meter_that_does_not_check_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcm.hmac, "compare_digest", lambda a, b: True)
    must_fail(tmp_path, "SYMSEC_0_SecDataX_N1", "tampered tag is data")


def test_a_meter_that_takes_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReceiveCounter, "is_fresh", lambda self, value: True)
    must_fail(tmp_path, "SYMSEC_0_FraCount_1", "the second time is data")


def test_a_meter_that_forgets_its_counters_with_the_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ReceiveCounter.__init__

    def forgetful(self: ReceiveCounter, *args: Any, **settings: Any) -> None:
        plain(self, *args, **settings)
        self._least = self._reserved = 0

    monkeypatch.setattr(ReceiveCounter, "__init__", forgetful)
    run = conform(tmp_path, "SYMSEC_0_FraCount_1")
    assert "the AARQ's replay after a power cut is accepted" in reasons(run)["SYMSEC_0_FraCount_1"]


def test_a_meter_whose_counter_moves_before_the_tag_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ReceiveCounter.is_fresh

    def hasty(self: ReceiveCounter, value: int) -> bool:
        fresh = plain(self, value)
        if fresh:
            self.accept(value)
        return fresh

    monkeypatch.setattr(ReceiveCounter, "is_fresh", hasty)
    run = conform(tmp_path, "SYMSEC_0_FraCount_3")
    assert verdicts(run)["SYMSEC_0_FraCount_3"] is Verdict.FAIL


def test_a_meter_that_lets_everyone_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectAccessor, "write", lambda *args: 0)
    must_fail(tmp_path, "COSEM_SWEEP_RIGHTS", "is written (success) without the right")
    must_fail(tmp_path, "APPL_DATA_LN_N4", "SET: read-only attribute is success")


def test_a_meter_that_refuses_what_its_object_list_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ObjectAccessor.read

    def stingy(self: ObjectAccessor, session: Any, key: bytes, attribute_id: int, selector: Any) -> Any:
        return 3 if key[:2] == b"\x00\x08" else plain(self, session, key, attribute_id, selector)

    monkeypatch.setattr(ObjectAccessor, "read", stingy)
    run = conform(tmp_path, "COSEM_SWEEP_READ")
    assert verdicts(run)["COSEM_SWEEP_READ"] is not Verdict.PASS


def test_a_meter_with_a_value_of_another_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = RegisterObject.read

    def wordy(self: RegisterObject, attribute_id: int, selector: Any, caller: Any) -> Any:
        return visible_string("Wh") if attribute_id == 3 else plain(self, attribute_id, selector, caller)

    monkeypatch.setattr(RegisterObject, "read", wordy)
    must_fail(tmp_path, "COSEM_SWEEP_TYPE", "attribute 3 is visible-string, not structure")


def test_a_meter_with_a_wrong_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = RegisterObject.read

    def mixed_up(self: RegisterObject, attribute_id: int, selector: Any, caller: Any) -> Any:
        value = plain(self, attribute_id, selector, caller)
        if attribute_id == 3 and isinstance(value, Data):
            return value._replace(value=(value.value[0], value.value[1]._replace(value=35)))
        return value

    monkeypatch.setattr(RegisterObject, "read", mixed_up)
    must_fail(tmp_path, "COSEM_SWEEP_TYPE", "the unit is volt, not watt_hour")


def test_a_meter_that_takes_any_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(associating, "_check_secret", lambda association, aarq: None)
    must_fail(tmp_path, "APPL_OPEN_7", "AARQ with a wrong secret is accepted")
    assert verdicts(conform(tmp_path, "SEC_Lockout_1"))["SEC_Lockout_1"] is Verdict.FAIL


def test_a_meter_that_gives_a_wrong_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = associating.AssociationRefused.__init__

    def vague(self: Any, diagnostic: Any, reason: str, **settings: Any) -> None:
        plain(self, AcseUserDiagnostic.NO_REASON_GIVEN, reason, **settings)

    monkeypatch.setattr(associating.AssociationRefused, "__init__", vague)
    must_fail(tmp_path, "APPL_OPEN_3", "no_reason_given, must be rejected with application_context_name")


def test_a_meter_that_ignores_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: ServerSecurity, policy: Policy) -> None:
        self._policy = policy
        self.required_request = self.required_response = 0

    monkeypatch.setattr(ServerSecurity, "policy", property(lambda self: self._policy, nothing))
    must_fail(tmp_path, "SYMSEC_0_SecPol_2", "GET, authenticated only is data")
    must_fail(tmp_path, "SYMSEC_0_REL_N1", "RLRQ in the clear is released: normal")


def test_a_meter_whose_policy_can_be_made_weaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weak(self: SecuritySetupObject, value: int) -> bool:
        return True

    monkeypatch.setattr(SecuritySetupObject, "_strengthen", weak)
    must_fail(tmp_path, "SYMSEC_0_SecPol_3", "activating nothing is success")


def test_a_meter_that_answers_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_protection, "seal_like", lambda tag, ciphering, answer, control: answer)
    run = conform(tmp_path, "SYMSEC_0_BasicCap_1 or SYMSEC_0_SecDataX_P1")
    assert set(verdicts(run).values()) == {Verdict.FAIL}


def test_a_meter_that_loses_new_keys_with_the_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_security.SecretStore, "keep", lambda self, keys: None)
    must_fail(tmp_path, "SYMSEC_0_Key_Tx_P1", "the new key after a power cut is refused")


def test_a_silent_meter_is_a_time_out_and_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CosemServer, "handle", lambda *args, **settings: None)
    found = verdicts(conform(tmp_path, "not HDLC"))
    assert Verdict.PASS not in found.values()
    assert found["COSEM_MANDATORY_1"] is Verdict.TIMEOUT


def test_a_meter_that_crashes_is_an_error_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object, **settings: object) -> bytes:
        raise ZeroDivisionError("in the firmware")

    monkeypatch.setattr(RegisterObject, "read", crash)
    run = conform(tmp_path, "COSEM_SWEEP_READ")
    assert verdicts(run)["COSEM_SWEEP_READ"] is Verdict.ERROR
    assert "in the firmware" in reasons(run)["COSEM_SWEEP_READ"]
    assert "Traceback" in (tmp_path / "run.log").read_text(encoding="utf-8")


def test_a_meter_that_pushes_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CosemServer, "notify", lambda self, client_sap, notification: notification)
    must_fail(tmp_path, "COSEM_PUSH_2", "it is protected is 0F, must be = DB")


def test_a_meter_that_says_other_things_over_the_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Firmware.handle

    def two_faced(
        self: Firmware, client_sap: int, server_sap: int, apdu: bytes, channel: Any, age_s: float = 0.0
    ) -> bytes | None:
        answer = plain(self, client_sap, server_sap, apdu, channel, age_s)
        is_mesh = isinstance(channel, tuple) and isinstance(channel[0], bytes)
        return answer[:-1] + b"?" if answer is not None and is_mesh and answer[0] == 0xC4 else answer

    monkeypatch.setattr(Firmware, "handle", two_faced)
    must_fail(tmp_path, "TRANSPORT_SameReading_1", "logical device name: the same bytes is False")
