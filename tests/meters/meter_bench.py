"""A meter on a virtual clock, and DLMS clients that talk to it by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from meters.hardware.flash import Flash
from meters.keys import MeterKeys
from meters.meter import Meter, MeterHardware, MeterIdentity
from meters.models.library import load_model
from meters.models.schema import MeterModel
from protocols.dlms.action import MethodReference
from protocols.dlms.client import (
    Associated,
    ClientAssociation,
    ClientConfig,
    ClientSecurity,
    Event,
    Refused,
    Send,
)
from protocols.dlms.client_events import ActionDone, GetDone, Released, RequestFailed, SetDone
from protocols.dlms.data import Data
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.dlms.security.keys import Suite, SymmetricKeys
from protocols.dlms.selective import Selector
from protocols.loads import ConstantLoad, LoadSource, PhaseLoad
from twin.clock.clocks import VirtualClock
from twin.clock.seeds import Seeds

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CLIENT_TITLE = b"OAMDCU01"
METER_TITLE = b"INH\x00\x00\x00\x00\x01"
SAPS = {"public": 16, "reader": 32, "management": 1}


def constant(*powers_w: float, q_var: float = 0.0, u_v: float = 230.0) -> ConstantLoad:
    return ConstantLoad(tuple(PhaseLoad(power_w, q_var, u_v) for power_w in powers_w))


class Bench:
    """One meter, switched on, with an ideal crystal unless told otherwise."""

    def __init__(
        self,
        model: str | MeterModel = "ihm5000-1p",
        load: LoadSource | None = None,
        *,
        crystal_ppm: float = 0.0,
        seed: int = 1,
        keys: MeterKeys | None = None,
        flash: Flash | None = None,
    ) -> None:
        seeds = Seeds(seed)
        self.clock = VirtualClock(START)
        self.model = load_model(model) if isinstance(model, str) else model
        self.keys = keys or MeterKeys.generate(
            seeds.keys("keys"), system_title=METER_TITLE, client_system_title=CLIENT_TITLE
        )
        self.hardware = MeterHardware.for_model(
            self.model,
            self.clock,
            self.clock.loop,
            load or constant(*[1000.0] * self.model.phases),
            seeds.stream("hardware"),
            crystal_ppm=crystal_ppm,
            flash=flash,
        )
        self.traced: list[tuple[str, dict[str, object]]] = []
        self.meter = Meter(
            self.model,
            MeterIdentity("IHM00000001", bytes.fromhex("0249484d00000001")),
            self.keys,
            self.hardware,
            timers=self.clock.loop,
            rng=seeds.stream("firmware"),
            key_source=seeds.keys("firmware"),
            trace=self._trace,
        )
        self._sent = 0
        self.meter.power_on()

    def _trace(self, kind: str, /, **fields: object) -> None:
        self.traced.append((kind, fields))

    def fresh_store(self) -> MemoryCounterStore:
        """Counters of a client that knows how far its predecessors have got."""
        store = MemoryCounterStore()
        store.save("send", self._sent)
        self._sent += 1000
        return store

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        loop = self.clock.loop
        loop.call_at(loop.time() + seconds, loop.stop)
        loop.run_forever()

    def client(self, name: str, **changes: Any) -> Client:
        return Client(self, name, **changes)


class Client:
    """An association that is opened at once, unless `open_` is False."""

    def __init__(self, bench: Bench, name: str, *, open_: bool = True, **changes: Any) -> None:
        self.bench = bench
        keys = bench.keys
        settings: dict[str, Any] = {
            "public": {},
            "reader": {"mechanism": Mechanism.LOW, "secret": keys.reader_secret},
            "management": {"mechanism": Mechanism.HIGH_GMAC, "ciphered": True},
        }[name]
        symmetric = changes.pop("keys", SymmetricKeys(keys.encryption_key, keys.authentication_key))
        store = changes.pop("store", None) or bench.fresh_store()
        asymmetric = changes.pop("asymmetric", None)
        self.association = ClientAssociation(
            ClientConfig(SAPS[name], **(settings | changes)),
            security=ClientSecurity(CLIENT_TITLE, symmetric, store, suite=Suite(keys.suite), asymmetric=asymmetric),
            keys=Seeds(99).keys(f"client/{name}"),
        )
        self.opened: list[Event] = self.carry(self.association.associate()) if open_ else []

    @property
    def is_associated(self) -> bool:
        return any(isinstance(event, Associated) for event in self.opened)

    @property
    def refusal(self) -> str:
        return next(event.reason for event in self.opened if isinstance(event, Refused))

    def carry(self, apdu: bytes) -> list[Event]:
        """Carry APDUs to and fro until the client has nothing more to send; no answer is no event."""
        events: list[Event] = []
        waiting = [apdu]
        while waiting:
            sap = self.association.config.client_sap
            answer = self.bench.meter.handle_apdu(sap, 1, waiting.pop(0), channel=id(self))
            for event in () if answer is None else self.association.receive(answer):
                if isinstance(event, Send):
                    waiting.append(event.apdu)
                else:
                    events.append(event)
        return events

    def read(
        self, class_id: int, obis: str, attribute: int = 2, selector: Selector | None = None
    ) -> Data | DataAccessResult | str:
        reference = AttributeReference(class_id, ObisCode.parse(obis), attribute, selector)
        (event,) = self.carry(self.association.get(reference))
        if isinstance(event, GetDone):
            return event.results[0]
        assert isinstance(event, RequestFailed)
        return event.reason

    def get(self, class_id: int, obis: str, attribute: int = 2, selector: Selector | None = None) -> Any:
        """The plain value; fails the test if there is none."""
        result = self.read(class_id, obis, attribute, selector)
        assert isinstance(result, Data), result
        return result.plain()

    def set(self, class_id: int, obis: str, attribute: int, value: Data) -> DataAccessResult:
        reference = AttributeReference(class_id, ObisCode.parse(obis), attribute)
        (event,) = self.carry(self.association.set(reference, value))
        assert isinstance(event, SetDone), event
        return event.results[0]

    def call(self, class_id: int, obis: str, method: int, argument: Data | None = None) -> ActionResult:
        reference = MethodReference(class_id, ObisCode.parse(obis), method)
        (event,) = self.carry(self.association.action(reference, argument))
        assert isinstance(event, ActionDone), event
        self.returned = event.outcomes[0].returned
        return event.outcomes[0].result

    def release(self) -> bool:
        return any(isinstance(event, Released) for event in self.carry(self.association.release()))
