"""Whole meters: 1,000 in one process, each with an association open, answering in turn; and what one weighs."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks import Row
from meters.keys import MeterKeys
from meters.meter import Meter, MeterHardware, MeterIdentity
from meters.models.library import load_model
from meters.models.schema import MeterModel
from protocols.dlms.client import AttributeReference, ClientAssociation, ClientConfig, ClientSecurity
from protocols.dlms.enums import Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import associate, drive
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import SymmetricKeys
from protocols.loads import ConstantLoad, PhaseLoad
from protocols.meter_identity import MANAGEMENT_SAP, READER_SAP, SERVER_SAP
from twin.clock.clocks import VirtualClock
from twin.clock.seeds import SeededKeys

MODEL = "ihm5000-1p"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
METERS = 1000
WEIGHED = 100
"""Tracing memory is slow: this many are weighed."""
CLIENT_TITLE = b"OAMDCU01"
ENERGY = AttributeReference(3, ObisCode.parse("1-0:1.8.0*255"), 2)
LOAD = ConstantLoad((PhaseLoad(500.0, 0.0, 230.0),), 50.0)


@dataclass(frozen=True, slots=True)
class _Fleet:
    clock: VirtualClock
    meters: list[Meter]
    keys: MeterKeys


def _build(model: MeterModel, count: int) -> _Fleet:
    """Meters that have power. They share their keys: deriving a thousand public keys is not what is measured."""
    clock = VirtualClock(START)
    source = SeededKeys(b"fleet")
    keys = MeterKeys.generate(source, system_title=b"BENCH001", client_system_title=CLIENT_TITLE)
    meters = []
    for number in range(count):
        rng = random.Random(number)
        meter = Meter(
            model,
            MeterIdentity(f"BENCH{number:05d}", number.to_bytes(8, "big")),
            keys,
            MeterHardware.for_model(model, clock, clock.loop, LOAD, rng),
            timers=clock.loop,
            rng=rng,
            key_source=SeededKeys(number.to_bytes(4, "big")),
        )
        meter.power_on()
        meters.append(meter)
    return _Fleet(clock, meters, keys)


def _client(fleet: _Fleet, meter: Meter, client_sap: int) -> ClientAssociation:
    """An association that stands."""
    keys = fleet.keys
    if client_sap == MANAGEMENT_SAP:
        config = ClientConfig(client_sap, mechanism=Mechanism.HIGH_GMAC, ciphered=True)
    else:
        config = ClientConfig(client_sap, mechanism=Mechanism.LOW, secret=keys.reader_secret)
    symmetric = SymmetricKeys(keys.encryption_key, keys.authentication_key)
    security = ClientSecurity(CLIENT_TITLE, symmetric, MemoryCounterStore())
    client = ClientAssociation(config, security=security, keys=SeededKeys(b"client"))
    drive(associate(client), lambda apdu: meter.handle_apdu(client_sap, SERVER_SAP, apdu) or b"")
    return client


def _turns(fleet: _Fleet, client_sap: int, name: str) -> Row:
    """Mean time of a GET, every meter asked once; the best of three rounds."""
    clients = [_client(fleet, meter, client_sap) for meter in fleet.meters]
    best = float("inf")
    for _ in range(3):
        requests = []
        for client in clients:
            requests.append(client.get(ENERGY))
            client.abandon_request()
        begin = time.perf_counter()
        for meter, request in zip(fleet.meters, requests, strict=True):
            meter.handle_apdu(client_sap, SERVER_SAP, request)
        best = min(best, time.perf_counter() - begin)
    return Row(f"{METERS:,} meters in turn, {name}", best / METERS * 1e6, "us", "one association open each")


def _weigh(model: MeterModel) -> list[Row]:
    """Memory of a meter with an open association, beside its flash image and what all meters of a model share."""
    _build(model, 1).clock.loop.close()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    fleet = _build(model, WEIGHED)
    for meter in fleet.meters:
        _client(fleet, meter, READER_SAP)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    flash_bytes = sum(meter.flash.used_bytes for meter in fleet.meters) / WEIGHED
    meter_bytes = (after - before) / WEIGHED - flash_bytes
    fleet.clock.loop.close()
    return [
        Row("memory of a meter", meter_bytes, "bytes", f"beside its flash; aim: 65,536; mean of {WEIGHED}, {MODEL}"),
        Row("flash image of a meter", flash_bytes, "bytes", "blocks in use after the first start"),
    ]


def run() -> list[Row]:
    model = load_model(MODEL)
    rows = _weigh(model)
    fleet = _build(model, METERS)
    rows += [_turns(fleet, READER_SAP, "a plain GET"), _turns(fleet, MANAGEMENT_SAP, "a ciphered GET")]
    fleet.clock.loop.close()
    return rows
