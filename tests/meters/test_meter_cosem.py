"""The meter's objects, seen through associations: values follow their inputs, rights hold, nothing is lost."""

from __future__ import annotations

import gc
import random
import tracemalloc
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from meter_bench import METER_TITLE, START, Bench, Client, constant

from meters.hardware.rtc import EPOCH_UTC_S
from meters.meter import Meter, MeterHardware, MeterIdentity
from protocols.dlms.data import array, boolean, enumerated, integer, long, octet_string, structure
from protocols.dlms.date_time import ClockStatus, Date, DateTime, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import SymmetricKeys
from protocols.loads import ConstantLoad, PhaseLoad
from twin.clock.seeds import SeededKeys

CLOCK = (8, "0-0:1.0.0*255")
ENERGY = (3, "1-0:1.8.0*255")
SERIAL = (1, "0-0:96.1.0*255")
SECURITY = (64, "0-0:43.0.0*255")


def now_of(client: Client) -> DateTime:
    return DateTime.decode(client.get(*CLOCK))


# identity and associations


def test_identity_is_that_of_the_label() -> None:
    client = Bench().client("management")
    assert client.get(*SERIAL) == b"IHM00000001"
    assert client.get(1, "0-0:42.0.0*255") == b"INH00IHM00000001"
    assert client.get(17, "0-0:41.0.0*255") == [[1, b"INH00IHM00000001"]]
    assert client.get(1, "1-0:0.2.0*255") == b"5.0.0"
    assert len(client.get(1, "0-0:96.50.2*255")) == 64
    assert client.release()


@pytest.mark.requirement("SEC-3")
def test_every_association_sees_and_may_do_what_the_model_says() -> None:
    bench = Bench()
    public, reader, management = (bench.client(name) for name in ("public", "reader", "management"))
    assert len(public.get(15, "0-0:40.0.0*255")) < len(reader.get(15, "0-0:40.0.0*255"))
    assert public.read(*ENERGY) is DataAccessResult.OBJECT_UNDEFINED
    assert reader.get(*ENERGY) == 0
    assert reader.set(*CLOCK, 3, long(0)) is DataAccessResult.READ_WRITE_DENIED
    assert management.set(*CLOCK, 3, long(0)) is DataAccessResult.SUCCESS
    assert reader.read(*SECURITY) is DataAccessResult.OBJECT_UNDEFINED
    assert management.get(*SECURITY, 5) == METER_TITLE


def test_every_listed_attribute_can_be_read_as_its_rights_say() -> None:
    bench = Bench()
    for name in ("public", "reader", "management"):
        client = bench.client(name)
        for class_id, _, code, (attributes, _) in client.get(15, "0-0:40.0.0*255"):
            obis = ".".join(map(str, code))
            for attribute_id, access, _ in attributes:
                result = client.read(class_id, obis, attribute_id)
                assert isinstance(result, DataAccessResult) != bool(access & 1), (name, obis, attribute_id, result)


def test_association_objects_describe_themselves() -> None:
    management = Bench().client("management")
    own = "0-0:40.0.0*255"
    assert management.get(15, own, 3) == [1, 1]
    assert management.get(15, own, 4) == bytes.fromhex("60857405080103")
    assert management.get(15, own, 6) == bytes.fromhex("60857405080205")
    assert management.get(15, own, 8) == 2
    assert management.get(15, "0-0:40.0.2*255", 6) == bytes.fromhex("60857405080201")
    assert management.read(15, own, 7) is DataAccessResult.READ_WRITE_DENIED


@pytest.mark.requirement("UC-I.3")
def test_wrong_key_and_wrong_secret_are_refused_and_traced() -> None:
    bench = Bench()
    wrong = SymmetricKeys(bytes(16), bench.keys.authentication_key)
    assert not bench.client("management", keys=wrong, store=MemoryCounterStore()).is_associated
    assert "authentication_failure" in bench.client("reader", secret=b"guess").refusal
    refused = [fields for kind, fields in bench.traced if kind == "meter.security" and fields["event"] != "associated"]
    assert len(refused) >= 2
    assert bench.keys.encryption_key.hex() not in repr(bench.traced)


def test_new_reader_secret_counts_from_the_next_association_and_after_a_restart() -> None:
    bench = Bench()
    management = bench.client("management")
    assert management.set(15, "0-0:40.0.2*255", 7, octet_string(b"another")) is DataAccessResult.SUCCESS
    assert not bench.client("reader").is_associated
    assert bench.client("reader", secret=b"another").is_associated
    bench.meter.power_off()
    bench.meter.power_on()
    assert bench.client("reader", secret=b"another").is_associated


def test_other_logical_device_and_a_meter_without_power_do_not_answer() -> None:
    bench = Bench()
    aarq = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
    assert bench.meter.handle_apdu(16, 2, aarq) is None
    assert bench.meter.handle_apdu(16, 1, aarq) is not None
    bench.meter.power_off()
    assert bench.meter.handle_apdu(16, 1, aarq) is None


# measuring


def test_registers_follow_the_load() -> None:
    bench = Bench(load=ConstantLoad((PhaseLoad(920.0, 690.0, 231.4),), 49.97))
    reader = bench.client("reader")
    assert reader.get(3, "1-0:1.7.0*255") == 920
    assert reader.get(3, "1-0:3.7.0*255") == 690
    assert reader.get(3, "1-0:9.7.0*255") == 1150
    assert reader.get(3, "1-0:32.7.0*255") == 2314
    assert reader.get(3, "1-0:31.7.0*255") == 497
    assert reader.get(3, "1-0:13.7.0*255") == 800
    assert reader.get(3, "1-0:14.7.0*255") == 4997
    bench.run(7200)
    assert reader.get(*ENERGY) == 1840
    assert reader.get(3, "1-0:3.8.0*255") == 1380
    bench.meter.metrology.set_source(constant(-500.0))
    assert reader.get(3, "1-0:2.7.0*255") == 500
    bench.run(3600)
    assert reader.get(*ENERGY) == 1840
    assert reader.get(3, "1-0:2.8.0*255") == 500


def test_scaler_and_unit_stand_beside_the_value() -> None:
    reader = Bench().client("reader")
    assert reader.get(3, "1-0:32.7.0*255", 3) == [-1, 35]
    assert reader.get(*ENERGY, 3) == [0, 30]


def test_maximum_demand_is_the_highest_half_hour_and_can_be_reset() -> None:
    bench = Bench(load=constant(400.0))
    reader, management = bench.client("reader"), bench.client("management")
    bench.run(1800)
    bench.meter.metrology.set_source(constant(2400.0))
    bench.run(900)
    assert reader.get(5, "1-0:1.4.0*255") == 1200
    bench.meter.metrology.set_source(constant(100.0))
    bench.run(900)
    assert reader.get(5, "1-0:1.4.0*255", 3) == 1250
    bench.run(3600)
    assert reader.get(4, "1-0:1.6.0*255") == 1250
    at = DateTime.decode(reader.get(4, "1-0:1.6.0*255", 5))
    assert at.to_datetime() == START + timedelta(hours=1)
    assert reader.call(4, "1-0:1.6.0*255", 1, integer(0)) is ActionResult.READ_WRITE_DENIED
    assert management.call(4, "1-0:1.6.0*255", 1, integer(0)) is ActionResult.SUCCESS
    assert reader.get(4, "1-0:1.6.0*255") == 0
    assert reader.get(4, "1-0:1.6.0*255", 5) == DateTime().encode()


@pytest.mark.requirement("HW-6")
def test_energy_and_demand_survive_a_power_cut() -> None:
    bench = Bench(load=constant(1000.0))
    bench.run(5 * 3600 + 1)
    bench.meter.power_off()
    bench.run(3600)
    bench.meter.power_on()
    assert bench.client("reader").get(*ENERGY) == pytest.approx(5000, abs=1)
    assert bench.client("reader").get(4, "1-0:1.6.0*255") == 1000
    bench.run(999)
    bench.meter.power.cut()
    bench.run(10)
    assert not bench.meter.running
    bench.meter.power_on()
    assert bench.client("reader").get(*ENERGY) == pytest.approx(5277, abs=1)


# time


@pytest.mark.requirement("UC-VI.3")
def test_clock_shows_local_time_with_its_deviation() -> None:
    bench = Bench()
    client = bench.client("management")
    shown = now_of(client)
    assert (shown.time.hour, shown.deviation_min, shown.status) == (12, -180, ClockStatus.OK)
    assert shown.to_datetime() == START
    assert client.set(*CLOCK, 3, long(60)) is DataAccessResult.SUCCESS
    assert (now_of(client).time.hour, now_of(client).to_datetime()) == (8, START)
    bench.meter.power_off()
    bench.meter.power_on()
    assert bench.client("management").get(*CLOCK, 3) == 60


def test_clock_is_set_in_local_time_with_or_without_deviation() -> None:
    bench = Bench()
    client = bench.client("management")
    wanted_s = START.timestamp() + 100
    assert client.set(*CLOCK, 2, octet_string(DateTime.from_utc_s(wanted_s, deviation_min=300).encode())) == 0
    assert bench.meter.rtc.offset_s == pytest.approx(100)
    local = DateTime(Date(2026, 3, 2, 1), Time(12, 0, 5, 0))
    assert client.set(*CLOCK, 2, octet_string(local.encode())) == 0
    assert bench.meter.rtc.offset_s == pytest.approx(5)
    assert client.set(*CLOCK, 2, octet_string(DateTime().encode())) is DataAccessResult.OTHER_REASON
    assert client.set(*CLOCK, 2, octet_string(b"soon")) is DataAccessResult.TYPE_UNMATCHED
    assert client.set(*CLOCK, 2, boolean(True)) is DataAccessResult.TYPE_UNMATCHED
    assert bench.meter.rtc.offset_s == pytest.approx(5)


def test_clock_methods_shift_and_adjust() -> None:
    bench = Bench()
    client = bench.client("management")
    assert client.call(*CLOCK, 6, long(-40)) is ActionResult.SUCCESS
    assert bench.meter.rtc.offset_s == pytest.approx(-40)
    assert client.call(*CLOCK, 6, long(901)) is ActionResult.OTHER_REASON
    assert client.call(*CLOCK, 3, integer(0)) is ActionResult.SUCCESS
    assert bench.meter.rtc.offset_s == pytest.approx(-60)
    assert client.call(*CLOCK, 1, integer(0)) is ActionResult.SUCCESS
    assert bench.meter.rtc.offset_s == pytest.approx(0)
    moments = (START.timestamp() + 30, START.timestamp() - 60, START.timestamp() + 60)
    preset = structure(*(octet_string(DateTime.from_utc_s(moment).encode()) for moment in moments))
    assert client.call(*CLOCK, 4, integer(0)) is ActionResult.OTHER_REASON
    assert client.call(*CLOCK, 5, preset) is ActionResult.SUCCESS
    assert client.call(*CLOCK, 4, integer(0)) is ActionResult.SUCCESS
    assert bench.meter.rtc.offset_s == pytest.approx(30)


@pytest.mark.requirement("UC-VI.3")
def test_daylight_saving_begins_and_ends_by_its_rules() -> None:
    bench = Bench()
    client = bench.client("management")
    client.set(*CLOCK, 3, long(-60))
    client.set(*CLOCK, 8, boolean(True))
    for day, hour, minute, dst in ((29, 0, 59, False), (29, 1, 1, True), (25, 0, 59, True), (25, 1, 1, False)):
        month = 3 if day == 29 else 10
        utc_s = START.replace(month=month, day=day, hour=hour, minute=minute).timestamp()
        bench.meter.rtc.set(utc_s)
        shown = now_of(client)
        assert shown.to_utc_s() == utc_s
        assert (shown.deviation_min, bool(shown.status & ClockStatus.DAYLIGHT_SAVING)) == (-120 if dst else -60, dst)


@pytest.mark.requirement("HW-6")
def test_dead_cell_marks_the_clock_invalid_until_it_is_set() -> None:
    bench = Bench()
    bench.meter.rtc.kill_cell()
    bench.meter.power_off()
    bench.run(60)
    bench.meter.power_on()
    client = bench.client("management")
    shown = now_of(client)
    assert shown.status & ClockStatus.INVALID
    assert shown.to_utc_s() == EPOCH_UTC_S
    client.set(*CLOCK, 2, octet_string(DateTime.from_utc_s(bench.clock.utc_s()).encode()))
    assert now_of(client).status == ClockStatus.OK


def test_periods_end_by_the_meters_own_clock() -> None:
    bench = Bench(load=constant(1000.0))
    bench.meter.rtc.advance(-600)
    bench.client("management").call(*CLOCK, 6, long(0))
    bench.run(1900)
    assert bench.meter.firmware is not None
    assert bench.client("reader").get(5, "1-0:1.4.0*255", 3) == 333
    bench.run(600)
    assert bench.client("reader").get(5, "1-0:1.4.0*255", 3) == 1000


# security


@pytest.mark.requirement("SEC-1")
def test_used_invocation_counters_are_refused_after_a_power_cut() -> None:
    bench = Bench()
    bench.client("management").get(*SERIAL)
    bench.meter.power_off()
    bench.meter.power_on()
    assert not bench.client("management", store=MemoryCounterStore()).is_associated
    store = MemoryCounterStore()
    store.save("send", bench.client("public").get(1, "0-0:43.1.0*255"))
    assert bench.client("management", store=store).get(*SERIAL)


@pytest.mark.requirement("SEC-2")
def test_keys_are_transferred_whole_or_not_at_all_at_every_cut_point() -> None:
    def transfer(bench: Bench) -> bool:
        client = bench.client("management")
        keys = ((0, b"E" * 16), (2, b"A" * 16))
        wrapped = [
            structure(enumerated(number), octet_string(aes_key_wrap(bench.keys.master_key, key)))
            for number, key in keys
        ]
        try:
            return client.is_associated and client.call(*SECURITY, 2, array(wrapped)) is ActionResult.SUCCESS
        except ValueError:
            return False  # power went: no answer came

    reference = Bench()
    before = reference.meter.flash.operations
    assert transfer(reference)
    operations = range(before, reference.meter.flash.operations)
    new = SymmetricKeys(b"E" * 16, b"A" * 16)
    assert reference.client("management", keys=new).is_associated
    assert len(operations) >= 2
    for operation in operations:
        for progress in (0.0, 0.5, 1.0):
            bench = Bench()
            bench.meter.flash.fail_power_at(operation, progress)
            answered = transfer(bench)
            assert not bench.meter.running or answered
            bench.meter.power_off()
            bench.meter.power_on()
            old_works = bench.client("management").is_associated
            new_works = bench.client("management", keys=new).is_associated
            assert old_works != new_works
            assert new_works or not answered


def test_keys_that_are_not_wrapped_with_the_master_key_are_refused() -> None:
    bench = Bench()
    client = bench.client("management")
    wrong = array((structure(enumerated(0), octet_string(aes_key_wrap(bytes(16), b"E" * 16))),))
    assert client.call(*SECURITY, 2, wrong) is ActionResult.OTHER_REASON
    assert client.get(*SERIAL)


@pytest.mark.requirement("SEC-1")
def test_policy_is_never_made_weaker() -> None:
    bench = Bench()
    client = bench.client("management")
    strong = client.get(*SECURITY, 2)
    assert client.call(*SECURITY, 1, enumerated(0)) is ActionResult.OTHER_REASON
    assert client.get(*SECURITY, 2) == strong
    plain = bytes.fromhex("C001C10001") + bytes.fromhex("0000600100FF") + b"\x02\x00"
    answer = bench.meter.handle_apdu(1, 1, plain, channel=id(client))
    assert answer is not None
    assert answer[0] == 0xD8


# wear and size


@pytest.mark.requirement("HW-6")
@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.soak)])
def test_power_failing_in_any_write_of_a_day_leaves_a_meter_that_starts_again(step: int) -> None:
    day = Bench(load=constant(700.0))
    day.run(86_400)
    for operation in range(0, day.meter.flash.operations, step):
        bench = Bench(load=constant(700.0))
        bench.meter.flash.fail_power_at(max(operation, bench.meter.flash.operations), 0.5)
        bench.run(86_400)
        assert not bench.meter.running
        bench.meter.power_off()
        bench.meter.power_on()
        stored_wh = bench.client("reader").get(*ENERGY)
        assert 0 <= bench.meter.metrology.delivered.active_import_nj / 3.6e12 - stored_wh < 700 * 900 / 3600 + 1


def test_a_meter_takes_little_memory_beside_its_flash() -> None:
    first = Bench()
    count = 60
    gc.collect()
    tracemalloc.start()
    meters = []
    for number in range(count):
        hardware = MeterHardware.for_model(
            first.model, first.clock, first.clock.loop, constant(100.0), random.Random(number)
        )
        meter = Meter(
            first.model,
            MeterIdentity(f"IHM{number:08d}", number.to_bytes(8, "big")),
            first.keys,
            hardware,
            timers=first.clock.loop,
            rng=random.Random(number),
            key_source=SeededKeys(number.to_bytes(4, "big")),
        )
        meter.power_on()
        meters.append(meter)
    gc.collect()
    size_bytes = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    flash_bytes = sum(meter.flash.used_bytes for meter in meters) / count
    # Some 170 objects, six record stores and the state of their services: a thousand meters in 80 MB.
    assert size_bytes - flash_bytes < 80 * 1024
