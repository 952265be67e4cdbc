"""100,000 damaged inputs: no crash, no hang, no growth of memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest
from dlms_support import MANAGEMENT, MANY, NAME, NOTE, PUBLIC, READER, Meter, associated, client

from protocols.dlms.access import AccessItem
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import octet_string
from protocols.dlms.gbt import GeneralBlockTransfer
from protocols.dlms.hdlc.frames import Frame, FrameType, HdlcAddress
from protocols.dlms.hdlc.server import HdlcServer, HdlcServerConfig
from protocols.errors import RemoteProtocolError

SAPS = (PUBLIC, READER, MANAGEMENT, 102, 9)


def seeds(meter: Meter) -> list[bytes]:
    """Good APDUs of every kind."""
    reader, management = associated(meter, READER, max_receive_pdu_bytes=128), associated(meter)
    name, note, table = (
        AttributeReference(1, NAME, 2),
        AttributeReference(1, NOTE, 2),
        AttributeReference(7, MANY, 2),
    )
    found = [client(sap).associate() for sap in (PUBLIC, READER, MANAGEMENT)]
    for association in (reader, management):
        for make in (
            lambda item: item.get(name),
            lambda item: item.get(table),
            lambda item: item.get(name, note, table),
            lambda item: item.set(note, octet_string(b"soaked")),
            lambda item: item.set(note, octet_string(bytes(3000))),
            lambda item: item.access(AccessItem.get(name), AccessItem.get(table)),
        ):
            found.append(make(association))
            association.abandon_request()
        found.append(association.release())
        association.abandon()
    found += [GeneralBlockTransfer(last, True, 3, 1, 0, found[-2]).encode() for last in (True, False)]
    return found


def damage(rng: random.Random, apdu: bytes) -> bytes:
    kind = rng.randrange(5)
    raw = bytearray(apdu)
    if kind == 0:
        return rng.randbytes(rng.randrange(120))
    if kind == 1:
        return bytes(raw[: rng.randrange(len(raw) + 1)])
    if kind == 2:
        position = rng.randrange(len(raw) + 1)
        raw[position:position] = rng.randbytes(rng.randrange(1, 9))
    for _ in range(rng.randrange(1, 5)):
        raw[rng.randrange(len(raw))] = rng.choice((0, 0xFF, 0x80, rng.randrange(256)))
    return bytes(raw)


def soak(rounds: int) -> None:
    rng = random.Random(20261123)
    meter = Meter(rows=20)
    good = seeds(meter)
    line = HdlcServer(
        HdlcServerConfig(physical_address=17), lambda sap, _server, apdu, now: meter.server.handle(sap, apdu, now)
    )
    line.receive(Frame(HdlcAddress(1, 17), HdlcAddress(READER), FrameType.SNRM, final=True).encode(), 0.0)
    listener = associated(Meter(), READER)
    listener.get(AttributeReference(1, NAME, 2))
    meter.events.clear()
    settled = 0
    for number in range(rounds):
        if number == rounds // 2:
            settled, _ = tracemalloc.get_traced_memory()
        apdu = damage(rng, rng.choice(good))
        meter.server.handle(rng.choice(SAPS), apdu, number * 0.01, channel=rng.randrange(20))
        if number % 5 == 0:
            line.receive(apdu, number * 0.01)
            try:
                listener.receive(apdu)
            except RemoteProtocolError:
                continue
        meter.events.clear()
    grown, _ = tracemalloc.get_traced_memory()
    assert len(meter.server.sessions) <= 8
    assert grown - settled < 200_000


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.requirement("OSI-7")
def test_thousands_of_damaged_inputs_are_survived() -> None:
    soak(3_000)


@pytest.mark.soak
@pytest.mark.requirement("OSI-7")
def test_hundred_thousand_damaged_inputs_are_survived() -> None:
    soak(100_000)
