"""The broadcast association's own security setup: two keys of a group, brought under the meter's master key."""

from __future__ import annotations

import pytest
from meter_bench import CLIENT_TITLE, Bench

from protocols.dlms.action import ActionRequestNormal, MethodReference
from protocols.dlms.data import Data, Tag, octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import GENERAL_GLO, wrap_general
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.security.key_management import KeyId, key_transfer
from protocols.dlms.set import SetRequestNormal

CLOCK = ObisCode.parse("0-0:1.0.0*255")
SETUP = "0-0:43.0.1*255"
GROUP = (b"\x42" * 16, b"\x43" * 16)
UNCONFIRMED = 0x80


def broadcast(bench: Bench, plain: bytes, counter: int, keys: tuple[bytes, bytes], age_s: float = 0.0) -> bytes | None:
    control = AUTHENTICATED | ENCRYPTED | BROADCAST
    number = counter.to_bytes(4, "big")
    sealed = bytes((control,)) + number + Gcm(*keys).seal(control, CLIENT_TITLE + number, plain)
    firmware = bench.meter.firmware
    assert firmware is not None
    return firmware.handle(102, 1, wrap_general(GENERAL_GLO, CLIENT_TITLE, sealed), "multicast", age_s)


def set_time(utc_s: float) -> bytes:
    value = octet_string(DateTime.from_utc_s(utc_s).encode())
    return SetRequestNormal(UNCONFIRMED, AttributeReference(8, CLOCK, 2), value).encode()


def bring(bench: Bench, keys: dict[KeyId, bytes], master: bytes | None = None) -> ActionResult:
    client = bench.client("management")
    return client.call(64, SETUP, 2, key_transfer(master or bench.keys.master_key, keys))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def grouped(bench: Bench) -> Bench:
    keys = {KeyId.BROADCAST: GROUP[0], KeyId.AUTHENTICATION: GROUP[1]}
    assert bring(bench, keys) is ActionResult.SUCCESS
    return bench


@pytest.mark.requirement("SEC-2", "UC-VI.2")
def test_group_keys_replace_the_factorys_for_broadcasts_and_for_nothing_else(bench: Bench) -> None:
    grouped(bench)
    now_s = bench.clock.utc_s()
    own = (bench.keys.broadcast_key, bench.keys.authentication_key)
    for keys in (own, (GROUP[0], own[1]), (own[0], GROUP[1])):
        assert broadcast(bench, set_time(now_s + 500), 900, keys) is None
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    broadcast(bench, set_time(now_s + 500), 7, GROUP)
    assert bench.meter.rtc.offset_s == pytest.approx(500.0, abs=0.01)
    assert bench.client("management").is_associated


@pytest.mark.requirement("UC-VI.4", "SEC-1")
def test_group_keys_and_their_counter_survive_a_power_cut(bench: Bench) -> None:
    grouped(bench)
    now_s = bench.clock.utc_s()
    broadcast(bench, set_time(now_s), 7, GROUP)
    bench.meter.power_off()
    bench.meter.power_on()
    broadcast(bench, set_time(now_s + 500), 7, GROUP)
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    broadcast(bench, set_time(now_s + 500), bench.client("public").get(1, "0-0:43.1.1*255"), GROUP)
    assert bench.meter.rtc.offset_s == pytest.approx(500.0, abs=0.01)


@pytest.mark.requirement("SEC-2", "SEC-3")
def test_a_group_takes_its_two_keys_only_and_under_the_master_key_only(bench: Bench) -> None:
    before = bench.keys.encryption_key
    assert bring(bench, {KeyId.ENCRYPTION: bytes(16)}) is ActionResult.OTHER_REASON
    assert bring(bench, {KeyId.MASTER: bytes(16), KeyId.BROADCAST: bytes(16)}) is ActionResult.OTHER_REASON
    assert bring(bench, {KeyId.BROADCAST: GROUP[0]}, master=bytes(16)) is ActionResult.OTHER_REASON
    firmware = bench.meter.firmware
    assert firmware is not None
    keys = firmware.services.security.keys
    assert (keys.encryption, keys.broadcast, keys.broadcast_authentication) == (before, bench.keys.broadcast_key, None)
    assert bench.client("reader").call(64, SETUP, 2, key_transfer(bytes(16), {KeyId.BROADCAST: GROUP[0]})) is not (
        ActionResult.SUCCESS
    )


def test_the_broadcast_association_names_its_security_setup(bench: Bench) -> None:
    client = bench.client("management")
    assert client.get(15, "0-0:40.0.4*255", 9) == bytes(ObisCode.parse(SETUP))
    assert client.get(15, "0-0:40.0.3*255", 9) == bytes(ObisCode.parse("0-0:43.0.0*255"))
    assert client.get(64, SETUP, 3) == 0


@pytest.mark.requirement("UC-VI.2")
@pytest.mark.parametrize(("age_s", "offset_s"), [(0.0, 0.0), (12.34, 12.34), (899.0, 899.0), (901.0, 40.0)])
def test_a_time_that_was_long_on_its_way_is_corrected_and_one_too_long_is_not_believed(
    bench: Bench, age_s: float, offset_s: float
) -> None:
    bench.meter.rtc.advance(40.0)
    broadcast(bench, set_time(bench.clock.utc_s()), 7, (bench.keys.broadcast_key, bench.keys.authentication_key), age_s)
    assert bench.meter.rtc.offset_s == pytest.approx(offset_s, abs=0.02)


def test_a_shift_by_nothing_uses_a_counter_up_and_leaves_clock_and_log_alone(bench: Bench) -> None:
    shift = ActionRequestNormal(UNCONFIRMED, MethodReference(8, CLOCK, 6), Data(Tag.LONG, 0)).encode()
    steps, events = bench.meter.rtc.steps, len(bench.traced)
    broadcast(bench, shift, 7, (bench.keys.broadcast_key, bench.keys.authentication_key))
    assert bench.client("public").get(1, "0-0:43.1.1*255") == 8
    assert bench.meter.rtc.steps == steps
    assert not [kind for kind, _ in bench.traced[events:] if kind == "meter.event"]
