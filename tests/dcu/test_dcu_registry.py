"""Meters and their states; credentials at rest."""

from __future__ import annotations

from typing import Any

import pytest

from dcu.registry import TRANSITIONS, MeterIdentity, MeterState, Registry, RegistryFullError, Step
from dcu.storage import MemoryStorage
from dcu.vault import CredentialVault
from protocols.errors import LocalProtocolError
from protocols.headend.messages import MeterCredentials

EUI64 = bytes.fromhex("0212740101010101")
OTHER_EUI64 = bytes.fromhex("0212740101010102")
IDENTITY = MeterIdentity(
    serial="A1",
    system_title=b"OAM\x00\x00\x00\x00\x01",
    logical_device_name="OAM0000000000001",
    model="ihm5000-1p",
    hardware_revision="B",
    firmware_version="1.0.0",
    security_suite=0,
    authentication_mechanism=5,
    public_keys=(("signing", bytes(range(64))),),
)
CREDENTIALS = MeterCredentials(
    serial="A1",
    system_title=b"OAM\x00\x00\x00\x00\x01",
    security_suite=0,
    encryption_key=b"ENCRYPTION-KEY-1",
    authentication_key=b"AUTHENTICATION-1",
)


class Keys:
    def __init__(self) -> None:
        self._count = 0

    def random_bytes(self, size_bytes: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(size_bytes, "big")


def trace(_kind: str, /, **_fields: Any) -> None: ...


def make(storage: MemoryStorage | None = None, max_meters: int = 10) -> Registry:
    return Registry(storage or MemoryStorage(), trace, max_meters=max_meters)


def test_the_way_of_a_registration() -> None:
    registry = make()
    meter = registry.see(EUI64)
    for step, state in (
        (Step.ASK, MeterState.CREDENTIALS_ASKED),
        (Step.GRANTED, MeterState.ASSOCIATING),
        (Step.IDENTIFIED, MeterState.ANNOUNCED),
        (Step.ACKNOWLEDGED, MeterState.REGISTERED),
        (Step.VANISHED, MeterState.LOST),
        (Step.RECOVERED, MeterState.REGISTERED),
        (Step.APPEARED, MeterState.SEEN),
    ):
        registry.move(meter, step)
        assert meter.state is state


@pytest.mark.parametrize("state", MeterState)
@pytest.mark.parametrize("step", Step)
def test_a_step_that_the_table_lacks_raises_and_changes_nothing(state: MeterState, step: Step) -> None:
    registry = make()
    meter = registry.see(EUI64)
    meter.state = state
    if (state, step) in TRANSITIONS:
        registry.move(meter, step)
        assert meter.state is TRANSITIONS[state, step]
    else:
        with pytest.raises(LocalProtocolError):
            registry.move(meter, step)
        assert meter.state is state


def test_every_state_can_be_left_and_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(MeterState)
    assert set(TRANSITIONS.values()) == set(MeterState)


def test_consecutive_refusals_are_counted_until_a_registration() -> None:
    registry = make()
    meter = registry.see(EUI64)
    for count in (1, 2):
        registry.move(meter, Step.ASK)
        registry.move(meter, Step.DENIED)
        assert meter.refusals == count
        registry.move(meter, Step.RETRY)
    for step in (Step.GRANTED, Step.IDENTIFIED, Step.ACKNOWLEDGED):
        registry.move(meter, step)
    assert meter.refusals == 0


def test_identities_survive_a_restart_and_places_do_not() -> None:
    storage = MemoryStorage()
    registry = make(storage)
    registry.identify(registry.see(EUI64), IDENTITY)
    registry.see(OTHER_EUI64)
    again = make(storage)
    assert [meter.eui64 for meter in again.meters()] == [EUI64]
    meter = again.find_serial("A1")
    assert meter is not None
    assert meter.identity == IDENTITY
    assert meter.state is MeterState.LOST


def test_a_serial_number_moves_to_a_new_radio() -> None:
    storage = MemoryStorage()
    registry = make(storage)
    registry.identify(registry.see(EUI64), IDENTITY)
    registry.identify(registry.see(OTHER_EUI64), IDENTITY)
    for which in (registry, make(storage)):
        meter = which.find_serial("A1")
        assert meter is not None
        assert meter.eui64 == OTHER_EUI64


def test_an_unchanged_identity_is_not_written_again() -> None:
    storage = MemoryStorage()
    registry = make(storage)
    registry.identify(registry.see(EUI64), IDENTITY)
    before = storage.bytes_written
    registry.identify(registry.see(EUI64), IDENTITY)
    assert storage.bytes_written == before


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"serial":1}', b"\xff"])
def test_an_unreadable_record_is_skipped(junk: bytes) -> None:
    storage = MemoryStorage()
    storage.write(f"meter.{EUI64.hex()}", junk)
    storage.write("meter.not-hex", junk)
    assert len(make(storage)) == 0


def test_a_full_registry_says_so_and_knows_its_meters_still() -> None:
    registry = make(max_meters=1)
    registry.see(EUI64)
    with pytest.raises(RegistryFullError):
        registry.see(OTHER_EUI64)
    assert registry.see(EUI64) is registry.find(EUI64)


def test_credentials_survive_a_restart_encrypted() -> None:
    storage = MemoryStorage()
    CredentialVault(storage, b"link key 16 byte", Keys()).keep(EUI64, CREDENTIALS)
    record = storage.read(f"credentials.{EUI64.hex()}") or b""
    for secret in (CREDENTIALS.encryption_key, CREDENTIALS.authentication_key):
        assert secret not in record
        assert secret.hex().encode() not in record
    assert CredentialVault(storage, b"link key 16 byte", Keys()).find(EUI64) == CREDENTIALS


def test_credentials_that_do_not_verify_are_not_used() -> None:
    storage = MemoryStorage()
    CredentialVault(storage, b"link key 16 byte", Keys()).keep(EUI64, CREDENTIALS)
    name = f"credentials.{EUI64.hex()}"
    record = storage.read(name) or b""
    assert CredentialVault(storage, b"another link key", Keys()).find(EUI64) is None
    storage.write(f"credentials.{OTHER_EUI64.hex()}", record)
    assert CredentialVault(storage, b"link key 16 byte", Keys()).find(OTHER_EUI64) is None
    for cut in range(len(record)):
        storage.write(name, record[:cut])
        assert CredentialVault(storage, b"link key 16 byte", Keys()).find(EUI64) is None


def test_forgotten_credentials_are_gone() -> None:
    storage = MemoryStorage()
    vault = CredentialVault(storage, b"link key 16 byte", Keys())
    vault.keep(EUI64, CREDENTIALS)
    vault.forget(EUI64)
    assert vault.find(EUI64) is None
    assert storage.names() == []
