"""The protection core of a meter with several tenant lines, on emulated hardware, with everything else dead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from grid.waveforms import WAVEFORMS, LineFrequency, ResidualBatch  # noqa: E402
from meters.firmware.protection.safety import SafetyMemory  # noqa: E402
from meters.firmware.protection.unit import LineEvent, ProtectionUnit  # noqa: E402
from meters.hardware.leakage_sensor import SENSOR_MODELS, LeakageSensor  # noqa: E402
from meters.hardware.leakage_test_path import Leak, LeakageTestPath, Polarity  # noqa: E402
from meters.hardware.relay import RELAY_MODELS, Relay  # noqa: E402
from protocols.errors import RemoteProtocolError  # noqa: E402
from protocols.leakage_protection import Cause, Refusal, SafetyState  # noqa: E402
from protocols.trip_record import Components, TripRecord  # noqa: E402

_BLOCK = 80


class _Store:
    def __init__(self, full: bool = False) -> None:
        self.full, self.trips, self.safety = full, [], {}  # type: ignore[var-annotated]

    @property
    def next_number(self) -> int:
        return len(self.trips) + 1

    def append_trip(self, record: TripRecord) -> bool:
        if not self.full:
            self.trips.append(record.encode())
        return not self.full

    def save_safety(self, line: int, memory: SafetyMemory) -> bool:
        self.safety[line] = memory
        return True


class _Bench:
    """Three lines of one meter; faults are put on a line, and stop when its relay opens."""

    def __init__(self, full: bool = False) -> None:
        self.relays = [Relay(RELAY_MODELS["mosfet"]) for _ in range(3)]
        self.sensor = LeakageSensor(SENSOR_MODELS["type-b"], 3, np.random.default_rng(5))
        self.path, self.store = LeakageTestPath(3), _Store(full)
        self.unit = ProtectionUnit(self.relays, self.path, self, self.store, lambda: 1_700_000_000_123)
        self.now_s, self.faults, self.events = 0.0, {}, []  # type: ignore[var-annotated]

    def drive(self, line: int, test_ma: float) -> None:
        self.sensor.test_ma[line] = test_ma

    def fault(self, line: int, name: str, ma: float) -> float:
        self.faults[line] = (self.now_s, ResidualBatch(WAVEFORMS[name], np.zeros(1), np.array([ma]), LineFrequency()))
        return self.now_s

    def run(self, duration_s: float) -> list[LineEvent]:
        seen = len(self.events)
        for _ in range(round(duration_s * 8000 / _BLOCK)):
            times_s = self.now_s + np.arange(1, _BLOCK + 1) / 8000
            residual = np.full((3, _BLOCK), 2.0) * np.sin(2 * np.pi * 50 * times_s)
            for line, (onset_s, batch) in self.faults.items():
                if self.relays[line].is_closed(self.now_s):
                    residual[line] += batch.sample(times_s - onset_s)[0]
            self.now_s += _BLOCK / 8000
            self.events += self.unit.process(self.sensor.measure(residual), self.now_s)
            timer_s = self.unit.next_timer()
            if timer_s is not None and timer_s <= self.now_s:
                self.events += self.unit.handle_timer(self.now_s)
        return self.events[seen:]

    def close_all(self) -> None:
        for line in range(3):
            self.unit.request_close(line, self.now_s)
        self.run(0.3)
        assert all(relay.is_closed(self.now_s) for relay in self.relays)


@pytest.mark.requirement("SAF-8")
@pytest.mark.requirement("SAF-5")
def test_only_the_faulted_tenant_line_opens() -> None:
    bench = _Bench()
    bench.close_all()
    onset_s = bench.fault(1, "half-wave-90", 42.0)
    (event,) = bench.run(0.2)
    assert event.line == 1
    assert 0.0 < event.at_s - onset_s <= 0.039
    assert [relay.is_closed(bench.now_s) for relay in bench.relays] == [True, False, True]
    assert bench.unit.states[1] is SafetyState.TRIPPED


def test_a_trip_leaves_a_record_with_its_waveform_and_its_parts() -> None:
    bench = _Bench()
    bench.close_all()
    bench.fault(2, "dc-plus-ac", 6.0)
    bench.run(0.3)
    record = TripRecord.decode(bench.store.trips[0])
    assert (record.number, record.line, record.time_ms) == (1, 3, 1_700_000_000_123)
    assert len(record.samples_ma) == 800
    assert record.components.smooth_dc_ma == pytest.approx(6.0, abs=0.7)
    assert record.components.ac_ma == pytest.approx(10.0, abs=3.0)
    assert max(record.samples_ma[400:480]) > 15.0
    assert max(np.abs(record.samples_ma[600:])) < 4.0
    assert record.components.high_frequency_ma < 0.5
    assert bench.unit.records(2)[0].cause == record.cause


@pytest.mark.requirement("SAF-5")
def test_full_flash_does_not_keep_a_line_from_opening() -> None:
    bench = _Bench(full=True)
    bench.close_all()
    bench.fault(0, "ac", 30.0)
    bench.run(0.3)
    assert not bench.relays[0].is_closed(bench.now_s)
    assert bench.unit.lost_records(0) == 1
    assert len(bench.unit.records(0)) == 1


@pytest.mark.requirement("SAF-6")
def test_a_leaking_line_stays_open_until_it_is_mended_and_opens_again_when_the_leak_returns() -> None:
    bench = _Bench()
    bench.close_all()
    bench.path.set_leak(0, Leak(7667.0))
    bench.fault(0, "ac", 30.0)
    bench.run(0.3)
    bench.unit.request_close(0, bench.now_s)
    (refused,) = bench.run(0.5)
    assert refused.outcome.refusal is Refusal.LEAKAGE_PERSISTS
    bench.path.set_leak(0, None)
    del bench.faults[0]
    bench.unit.request_close(0, bench.now_s)
    bench.run(0.5)
    assert bench.unit.states[0] is SafetyState.WATCHING
    onset_s = bench.fault(0, "ac", 30.0)
    (event,) = bench.run(0.3)
    assert event.at_s - onset_s <= 0.039
    assert bench.unit.states[0] is SafetyState.TRIPPED


@pytest.mark.requirement("SAF-6")
def test_the_check_sees_a_rectifying_leak_and_refuses_on_a_broken_test_path() -> None:
    bench = _Bench()
    bench.path.set_leak(0, Leak(17e3, (Polarity.NEGATIVE,)))
    bench.path.break_path(1)
    bench.path.set_leak(2, Leak(200e3))
    for line in range(3):
        bench.unit.request_close(line, 0.0)
    bench.run(3.0)
    assert bench.unit.states == [SafetyState.TRIPPED, SafetyState.TRIPPED, SafetyState.WATCHING]
    assert {event.outcome.refusal for event in bench.events} == {
        Refusal.LEAKAGE_PERSISTS,
        Refusal.CHECK_TIMED_OUT,
        Refusal.NONE,
    }


def test_a_welded_relay_is_noticed() -> None:
    bench = _Bench()
    bench.close_all()
    bench.relays[0].weld("L")
    bench.fault(0, "ac", 60.0)
    bench.run(0.5)
    assert bench.unit.states[0] is SafetyState.ISOLATION_FAILED
    assert bench.unit.request_close(0, bench.now_s).refusal is Refusal.ISOLATION_FAILED


@pytest.mark.parametrize("what", ["unplug", "stick"])
def test_a_dead_sensor_opens_its_line_and_a_self_test_clears_it(what: str) -> None:
    bench = _Bench()
    bench.close_all()
    getattr(bench.sensor, what)(1)
    bench.run(0.8)
    assert bench.unit.states == [SafetyState.WATCHING, SafetyState.SENSOR_FAILED, SafetyState.WATCHING]
    assert not bench.relays[1].is_closed(bench.now_s)
    bench.unit.start_self_test(1, bench.now_s)
    bench.run(0.2)
    assert bench.unit.states[1] is SafetyState.SENSOR_FAILED
    bench.sensor.plug(1)
    bench.sensor.let_go(1)
    bench.run(0.2)
    bench.unit.start_self_test(1, bench.now_s)
    bench.run(0.2)
    assert bench.unit.states[1] is SafetyState.OPEN


def test_a_self_test_on_a_sound_line_changes_nothing() -> None:
    bench = _Bench()
    bench.close_all()
    bench.run(11.0)
    bench.unit.start_self_test(0, bench.now_s)
    bench.run(0.2)
    assert bench.unit.states == [SafetyState.CLOSED] * 3


def test_safety_is_saved_at_every_change() -> None:
    bench = _Bench()
    bench.close_all()
    bench.fault(0, "dc", -8.0)
    bench.run(0.2)
    assert bench.store.safety == {0: SafetyMemory(SafetyState.TRIPPED, 1)}


_RECORDS = st.builds(
    TripRecord,
    st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255), st.sampled_from(Cause),
    st.builds(Components, *[st.floats(-1e6, 1e6, width=32)] * 6), st.just(0),
    st.lists(st.integers(-32767, 32767).map(lambda count: count * 0.02), max_size=40).map(tuple),
)  # fmt: skip


@given(_RECORDS)
def test_trip_records_survive_their_own_bytes_and_nothing_shorter(record: TripRecord) -> None:
    data = record.encode()
    assert TripRecord.decode(data) == record
    for cut in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            TripRecord.decode(data[:cut])
    with pytest.raises(RemoteProtocolError):
        TripRecord.decode(data + b"\0")


@given(st.binary(max_size=200))
def test_junk_is_no_trip_record(data: bytes) -> None:
    try:
        TripRecord.decode(data)
    except RemoteProtocolError:
        return
