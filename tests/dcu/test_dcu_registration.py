"""Use case I at the concentrator: registration, refusal, recovery."""

from __future__ import annotations

import asyncio
import logging

import pytest
from dcu_fakes import ENERGY, Bench, FakeMeter, bench

from protocols.headend import messages as m

__all__ = ["bench"]


@pytest.mark.requirement("UC-I.1")
@pytest.mark.requirement("UC-I.2")
def test_a_meter_that_appears_proves_itself_and_is_registered(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        (registration,) = bench.headend.of(m.Registration)
        assert registration.serial == meter.serial
        assert registration.eui64 == meter.eui64
        assert registration.system_title == meter.title
        assert registration.hardware_revision == "B"
        assert registration.firmware_version == "1.0.0"
        assert registration.model == "ihm5000-1p"
        assert registration.authentication_mechanism == 5
        assert registration.public_keys == (m.PublicKey(m.KeyPurpose.SIGNING, bytes(range(64))),)

    bench.run(body)


def test_many_meters_register_a_few_at_a_time(bench: Bench) -> None:
    meters = [FakeMeter(number) for number in range(1, 13)]

    async def body() -> None:
        bench.start()
        await bench.registered(*meters)
        assert sorted(bench.headend.rows) == [meter.serial for meter in meters]
        assert len(bench.headend.of(m.Registration)) == 12

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_a_meter_with_a_wrong_key_is_refused_told_and_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    impostor = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.headend.shipment[impostor.eui64] = impostor.credentials(key=b"what the HES has")
        with caplog.at_level(logging.WARNING):
            bench.mesh.join(impostor)
            await bench.until(lambda: bench.headend.events("meter-refused"), 60)
        assert bench.state(impostor) == "refused"
        assert bench.headend.of(m.Registration) == []
        assert "refused" in caplog.text
        event = bench.headend.events("meter-refused")[0]
        assert event.eui64 == impostor.eui64
        # Back-off, not a busy loop: few attempts in an hour.
        await asyncio.sleep(3600)
        assert 5 < len(bench.headend.events("meter-refused")) < 100
        assert len(bench.mesh.sent) < 1000

    bench.run(body)


@pytest.mark.requirement("UC-I.3")
def test_a_refused_meter_is_registered_once_its_keys_are_right(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.headend.shipment[meter.eui64] = meter.credentials(key=b"what the HES has")
        bench.mesh.join(meter)
        await bench.until(lambda: bench.state(meter) == "refused", 60)
        bench.headend.known(meter)
        await bench.until(lambda: bench.state(meter) == "registered", 120)

    bench.run(body)


def test_a_meter_that_the_headend_does_not_know_is_told_of(bench: Bench) -> None:
    stranger = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.mesh.join(stranger)
        await bench.until(lambda: bench.headend.events("meter-unknown"), 30)
        assert bench.state(stranger) == "refused"
        assert bench.mesh.sent == []  # not a byte of its own was asked for

    bench.run(body)


def test_a_meter_that_answers_with_random_bytes_is_refused_and_counted(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        bench.headend.known(meter)
        junk = [b"", b"\x00", bytes(200), b"\x00\x01\x00\x01\x00\x01\x00\x03abc", b"\xff" * 60]
        bench.mesh.up = lambda _: junk[len(bench.mesh.sent) % len(junk)]
        bench.mesh.join(meter)
        await bench.until(lambda: bench.headend.events("meter-refused"), 60)
        assert bench.state(meter) == "refused"
        assert ("reason", "unverifiable") in bench.headend.events("meter-refused")[0].details
        assert started.counters()["dlms"]["unverifiable"] > 0
        bench.mesh.up = lambda datagram: datagram
        await bench.until(lambda: bench.state(meter) == "registered", 120)

    bench.run(body)


def test_a_tampered_answer_is_dropped_and_the_right_one_taken(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        started = bench.start()
        seen = []

        def tamper(datagram: bytes) -> bytes:
            seen.append(datagram)
            return datagram if len(seen) % 2 else datagram[:-1] + bytes((datagram[-1] ^ 1,))

        bench.mesh.up = tamper
        await bench.registered(meter, within_s=120)
        assert started.counters()["dlms"]["unverifiable"] > 0

    bench.run(body)


def test_every_other_datagram_lost_in_either_direction_still_registers(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        counts = [0, 0]

        def lossy(direction: int) -> object:
            def carry(datagram: bytes) -> bytes | None:
                counts[direction] += 1
                return datagram if counts[direction] % 3 else None

            return carry

        bench.mesh.down = lossy(0)  # type: ignore[assignment]
        bench.mesh.up = lossy(1)  # type: ignore[assignment]
        await bench.registered(meter, within_s=200)

    bench.run(body)


@pytest.mark.requirement("UC-I.4")
def test_power_recovery_registers_again_without_a_duplicate(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.lose(meter)
        await bench.until(lambda: bench.headend.events("meter-lost"), 10)
        assert bench.state(meter) == "lost"
        meter.restart()
        bench.mesh.join(meter, restarted=True)
        await bench.until(lambda: bench.state(meter) == "registered", 60)
        registrations = bench.headend.of(m.Registration)
        assert len(registrations) == 2
        assert len(bench.headend.rows) == 1
        assert registrations[0].id != registrations[1].id

    bench.run(body)


def test_a_restart_that_the_mesh_did_not_notice_registers_again(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        meter.restart()
        bench.mesh.join(meter, restarted=True)
        assert bench.state(meter) == "seen"
        await bench.until(lambda: bench.state(meter) == "registered", 60)

    bench.run(body)


@pytest.mark.requirement("NET-2")
def test_a_meter_that_only_lost_its_route_is_back_at_once(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.mesh.lose(meter)
        bench.mesh.join(meter)
        assert bench.state(meter) == "registered"
        await bench.until(lambda: bench.headend.events("meter-recovered"), 10)
        assert len(bench.headend.of(m.Registration)) == 1

    bench.run(body)


def test_a_restarted_concentrator_registers_its_meters_again_with_stored_credentials(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        first = bench.start()
        await bench.registered(meter)
        first.halt()
        asked = len(bench.headend.of(m.CredentialsRequest))
        await asyncio.sleep(5)
        bench.start()
        assert bench.state(meter) == "lost"
        bench.mesh.join(meter, restarted=False)
        await bench.until(lambda: bench.state(meter) == "registered", 60)
        assert len(bench.headend.of(m.CredentialsRequest)) == asked
        assert len(bench.headend.rows) == 1
        assert len({registration.id for registration in bench.headend.of(m.Registration)}) == 2

    bench.run(body)


def test_registration_waits_for_an_uplink_and_then_goes_on(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.headend.is_reachable = False
        bench.start()
        bench.headend.known(meter)
        bench.mesh.join(meter)
        await asyncio.sleep(7200)
        assert bench.state(meter) == "credentials-asked"
        assert bench.headend.heard == []
        assert bench.uplink is not None
        bench.uplink.connect()
        await bench.until(lambda: bench.state(meter) == "registered", 60)

    bench.run(body)


def test_an_unacknowledged_registration_is_repeated_under_its_identifier(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.headend.known(meter)
        bench.headend.acknowledges = False
        bench.mesh.join(meter)
        await bench.until(lambda: len(bench.headend.of(m.Registration)) >= 3, 600)
        assert bench.state(meter) == "announced"
        bench.headend.acknowledges = True
        await bench.until(lambda: bench.state(meter) == "registered", 200)
        assert len({registration.id for registration in bench.headend.of(m.Registration)}) == 1

    bench.run(body)


def test_a_silent_headend_is_asked_again_with_back_off(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.headend.known(meter)
        bench.headend.answers_credentials = False
        bench.mesh.join(meter)
        await asyncio.sleep(3600)
        assert 3 < len(bench.headend.of(m.CredentialsRequest)) < 150
        bench.headend.answers_credentials = True
        await bench.until(lambda: bench.state(meter) == "registered", 200)

    bench.run(body)


def test_a_refusal_of_the_registration_itself_is_told(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        bench.headend.known(meter)
        bench.headend.acknowledges = False
        bench.mesh.join(meter)
        await bench.until(lambda: bench.headend.of(m.Registration), 60)
        registration = bench.headend.of(m.Registration)[0]
        bench.headend.send(
            m.RegistrationAck(registration.id, meter.eui64, m.RegistrationStatus.REFUSED, "serial is taken")
        )
        await bench.until(lambda: bench.headend.events("meter-refused"), 10)
        assert ("detail", "serial is taken") in bench.headend.events("meter-refused")[0].details

    bench.run(body)


def test_a_revocation_ends_the_association(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        await bench.registered(meter)
        bench.headend.shipment.clear()
        bench.headend.send(m.Credentials("revocation-1", meter.eui64, m.CredentialsStatus.REVOKED))
        await bench.until(lambda: bench.state(meter) == "refused", 10)
        bench.headend.request("r1", meter, 20, ENERGY)
        await bench.until(lambda: bench.headend.responses("r1"), 30)
        assert bench.headend.responses("r1")[0].status is m.ReadingStatus.REFUSED
        assert [name for name in bench.storage.names() if name.startswith("credentials.")] == []

    bench.run(body)


def test_a_serial_number_that_is_not_the_shipped_one_is_refused(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        shipped = meter.credentials()
        bench.headend.shipment[meter.eui64] = m.MeterCredentials(
            "ANOTHER", shipped.system_title, 0, shipped.encryption_key, shipped.authentication_key
        )
        bench.mesh.join(meter)
        await bench.until(lambda: bench.headend.events("meter-refused"), 60)
        assert ("reason", "inconsistent") in bench.headend.events("meter-refused")[0].details

    bench.run(body)


def test_an_unsupported_suite_is_refused_by_name(bench: Bench) -> None:
    meter = FakeMeter(1)

    async def body() -> None:
        bench.start()
        shipped = meter.credentials()
        bench.headend.shipment[meter.eui64] = m.MeterCredentials(
            meter.serial, shipped.system_title, 2, shipped.encryption_key, shipped.authentication_key
        )
        bench.mesh.join(meter)
        await bench.until(lambda: bench.headend.events("meter-refused"), 60)
        assert ("reason", "unsupported") in bench.headend.events("meter-refused")[0].details

    bench.run(body)


def test_no_key_is_in_any_trace_log_or_stored_record(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    meter = FakeMeter(1, key=b"SECRET-ENCRYPT-K")

    async def body() -> None:
        bench.start()
        with caplog.at_level(logging.DEBUG):
            await bench.registered(meter)

    bench.run(body)
    stored = b"".join(bench.storage.read(name) or b"" for name in bench.storage.names())
    for secret in (meter.keys.encryption, meter.keys.authentication, bench.config.link_key):
        for place in (repr(bench.events), caplog.text, repr(stored), repr(bench.config), stored.hex()):
            assert secret.hex() not in place
            assert repr(secret)[2:-1] not in place


def test_two_runs_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def once() -> list[object]:
        run = Bench()
        with monkeypatch.context() as patch:
            patch.setattr("dcu.daemon.BorderRouter", run.mesh.router)

            async def body() -> None:
                run.start()
                await run.registered(*(FakeMeter(number) for number in range(1, 6)))

            run.run(body)
        return [run.events, run.mesh.sent, run.headend.heard]

    assert once() == once()
