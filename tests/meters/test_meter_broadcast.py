"""Broadcast: a pre-established association under its own key, whose counter survives."""

from __future__ import annotations

import pytest
from meter_bench import CLIENT_TITLE, Bench

from protocols.dlms.data import Data, double_long_unsigned, octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import GLO_TAGS, wrap
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.set import SetRequestNormal

SAP = 102
CLOCK = ObisCode.parse("0-0:1.0.0*255")
UNCONFIRMED = 0x81 & ~0x40


def set_clock(bench: Bench, counter: int, utc_s: float, *, key: bytes | None = None) -> bytes | None:
    value = octet_string(DateTime.from_utc_s(utc_s).encode())
    return send(bench, counter, AttributeReference(8, CLOCK, 2), value, key=key)


def send(
    bench: Bench, counter: int, reference: AttributeReference, value: Data, *, key: bytes | None = None
) -> bytes | None:
    plain = SetRequestNormal(UNCONFIRMED, reference, value).encode()
    control = AUTHENTICATED | ENCRYPTED | BROADCAST
    gcm = Gcm(key or bench.keys.broadcast_key, bench.keys.authentication_key)
    sealed = (
        bytes((control,))
        + counter.to_bytes(4, "big")
        + gcm.seal(control, CLIENT_TITLE + counter.to_bytes(4, "big"), plain)
    )
    return bench.meter.handle_apdu(SAP, 1, wrap(GLO_TAGS[plain[0]], sealed), channel="multicast")


@pytest.mark.requirement("UC-VI.2")
def test_broadcast_sets_the_clock_and_is_not_answered() -> None:
    bench = Bench()
    bench.meter.rtc.advance(7)
    assert set_clock(bench, 5, bench.clock.utc_s()) is None
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    assert bench.client("public").get(1, "0-0:43.1.1*255") == 6


@pytest.mark.requirement("UC-VI.4")
def test_forged_and_replayed_broadcasts_change_nothing_also_after_a_restart() -> None:
    bench = Bench()
    now_s = bench.clock.utc_s()
    set_clock(bench, 5, now_s)
    for counter, key in ((6, bytes(16)), (5, None), (0, None)):
        assert set_clock(bench, counter, now_s + 500, key=key) is None
    bench.meter.power_off()
    bench.meter.power_on()
    set_clock(bench, 5, now_s + 500)
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    least = bench.client("public").get(1, "0-0:43.1.1*255")
    set_clock(bench, least, now_s + 500)
    assert bench.meter.rtc.offset_s == pytest.approx(500.0, abs=0.01)


@pytest.mark.requirement("UC-VI.4")
@pytest.mark.parametrize(
    ("counter", "after_s", "noted"),
    [(6, 5.0, False), (5, 5.0, False), (4, 5.0, True), (6, 61.0, True), (5, 61.0, True)],
    ids=["doubled", "overtaken", "older than what is known", "played again later", "overtaken by a minute"],
)
def test_what_the_mesh_doubles_or_delays_is_refused_but_no_attempt(counter: int, after_s: float, noted: bool) -> None:
    bench = Bench()
    now_s = bench.clock.utc_s()
    set_clock(bench, 4, now_s)
    bench.run(2000.0)
    set_clock(bench, 6, now_s + 2000.0)
    bench.run(after_s)
    assert set_clock(bench, counter, now_s + 500) is None
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    assert bench.meter.firmware is not None
    assert bench.meter.firmware.server.refusals["replay"] == 1
    events = [fields["event"] for kind, fields in bench.traced if kind == "meter.event"]
    assert ("replay_refused" in events) is noted


@pytest.mark.requirement("UC-VI.4")
@pytest.mark.parametrize(("after_s", "noted"), [(20.0, False), (1799.0, False), (1801.0, True)])
def test_what_neighbours_hand_on_after_a_restart_is_refused_but_no_attempt(after_s: float, noted: bool) -> None:
    bench = Bench()
    now_s = bench.clock.utc_s()
    set_clock(bench, 5, now_s)
    bench.meter.power_off()
    bench.meter.power_on()
    bench.run(after_s)
    assert set_clock(bench, 5, now_s + 500) is None
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
    events = [fields["event"] for kind, fields in bench.traced if kind == "meter.event"]
    assert ("replay_refused" in events) is noted


@pytest.mark.requirement("SEC-3")
def test_broadcast_may_do_nothing_but_set_the_clock() -> None:
    bench = Bench()
    send(bench, 5, AttributeReference(71, ObisCode.parse("0-0:17.0.0*255"), 4), double_long_unsigned(1))
    assert bench.client("reader").get(71, "0-0:17.0.0*255", 4) == 0
    unicast = bench.client("management")
    assert unicast.is_associated
    plain = bytes.fromhex("C1018100080000010000FF0200090C") + DateTime.from_utc_s(0).encode()
    assert bench.meter.handle_apdu(SAP, 1, plain, channel="multicast") is None
    assert bench.meter.rtc.offset_s == pytest.approx(0.0, abs=0.01)
