"""The meters that the concentrator knows, and how far each one's registration has come (use case I)."""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import dataclass, field

from dcu.storage import Storage, StorageError
from protocols.errors import LocalProtocolError, TwinError
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_PREFIX = "meter."


class MeterState(enum.Enum):
    """How far a meter's registration has come."""

    SEEN = "seen"
    """In the mesh; nothing else is known."""
    CREDENTIALS_ASKED = "credentials-asked"
    ASSOCIATING = "associating"
    """Its keys are known: association, and reading of its identity."""
    ANNOUNCED = "announced"
    """Its registration was published; the head-end has not acknowledged yet."""
    REGISTERED = "registered"
    REFUSED = "refused"
    """By the head-end, or because it does not hold its keys. Tried again after a back-off."""
    UNREACHABLE = "unreachable"
    """Left the mesh before it was registered."""
    LOST = "lost"
    """Was registered, and is not in the mesh."""


class Step(enum.Enum):
    """What moves a meter from one state to another."""

    APPEARED = "appeared"
    """In the mesh for the first time, or after a restart of its own."""
    RECOVERED = "recovered"
    """Back in the mesh without a restart, its credentials still known."""
    VANISHED = "vanished"
    ASK = "ask"
    GRANTED = "granted"
    DENIED = "denied"
    IDENTIFIED = "identified"
    ACKNOWLEDGED = "acknowledged"
    RETRY = "retry"
    """No answer from somebody, or the back-off of a refusal is over: start again."""


_S, _X = MeterState, Step
TRANSITIONS: dict[tuple[MeterState, Step], MeterState] = {
    (_S.SEEN, _X.APPEARED): _S.SEEN,
    (_S.SEEN, _X.ASK): _S.CREDENTIALS_ASKED,
    (_S.SEEN, _X.GRANTED): _S.ASSOCIATING,
    (_S.SEEN, _X.DENIED): _S.REFUSED,
    (_S.SEEN, _X.VANISHED): _S.UNREACHABLE,
    (_S.CREDENTIALS_ASKED, _X.APPEARED): _S.SEEN,
    (_S.CREDENTIALS_ASKED, _X.GRANTED): _S.ASSOCIATING,
    (_S.CREDENTIALS_ASKED, _X.DENIED): _S.REFUSED,
    (_S.CREDENTIALS_ASKED, _X.RETRY): _S.SEEN,
    (_S.CREDENTIALS_ASKED, _X.VANISHED): _S.UNREACHABLE,
    (_S.ASSOCIATING, _X.APPEARED): _S.SEEN,
    (_S.ASSOCIATING, _X.IDENTIFIED): _S.ANNOUNCED,
    (_S.ASSOCIATING, _X.DENIED): _S.REFUSED,
    (_S.ASSOCIATING, _X.RETRY): _S.SEEN,
    (_S.ASSOCIATING, _X.VANISHED): _S.UNREACHABLE,
    (_S.ANNOUNCED, _X.APPEARED): _S.SEEN,
    (_S.ANNOUNCED, _X.ACKNOWLEDGED): _S.REGISTERED,
    (_S.ANNOUNCED, _X.DENIED): _S.REFUSED,
    (_S.ANNOUNCED, _X.VANISHED): _S.UNREACHABLE,
    (_S.REGISTERED, _X.APPEARED): _S.SEEN,
    (_S.REGISTERED, _X.DENIED): _S.REFUSED,
    (_S.REGISTERED, _X.ACKNOWLEDGED): _S.REGISTERED,
    (_S.REGISTERED, _X.VANISHED): _S.LOST,
    (_S.REFUSED, _X.APPEARED): _S.SEEN,
    (_S.REFUSED, _X.RETRY): _S.SEEN,
    (_S.REFUSED, _X.DENIED): _S.REFUSED,
    (_S.REFUSED, _X.VANISHED): _S.UNREACHABLE,
    (_S.UNREACHABLE, _X.APPEARED): _S.SEEN,
    (_S.UNREACHABLE, _X.DENIED): _S.UNREACHABLE,
    (_S.LOST, _X.APPEARED): _S.SEEN,
    (_S.LOST, _X.RECOVERED): _S.REGISTERED,
    (_S.LOST, _X.DENIED): _S.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class MeterIdentity:
    """What a meter said about itself over an authenticated association. `public_keys` are (purpose, point) pairs."""

    serial: str
    system_title: bytes
    logical_device_name: str
    model: str
    hardware_revision: str
    firmware_version: str
    security_suite: int
    authentication_mechanism: int
    public_keys: tuple[tuple[str, bytes], ...] = ()
    signing_certificate_pem: str | None = None

    def encode(self) -> bytes:
        """Canonical JSON, for storage."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["system_title"] = self.system_title.hex()
        fields["public_keys"] = [[purpose, key.hex()] for purpose, key in self.public_keys]
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> MeterIdentity:
        """Raises ValueError, KeyError or TypeError for what `encode` did not make."""
        fields = json.loads(data)
        fields["system_title"] = bytes.fromhex(fields["system_title"])
        fields["public_keys"] = tuple((purpose, bytes.fromhex(key)) for purpose, key in fields["public_keys"])
        return cls(**fields)


@dataclass(slots=True)
class Meter:
    """One meter, by its radio address. `identity` is what it last proved; it outlives restarts of both sides."""

    eui64: bytes
    state: MeterState = MeterState.SEEN
    identity: MeterIdentity | None = None
    refusals: int = field(default=0)
    """Consecutive ones, for the back-off."""

    @property
    def name(self) -> str:
        """For logs and traces."""
        return self.eui64.hex()

    @property
    def kind(self) -> str:
        """Meters of one kind have the same objects: model and firmware version."""
        identity = self.identity
        return self.name if identity is None else f"{identity.model} {identity.firmware_version}"


class RegistryFullError(TwinError):
    """More meters than the concentrator was configured for."""


class Registry:
    """All known meters. What a meter proved about itself is on storage; where it is in the mesh is not."""

    def __init__(self, storage: Storage, trace: Trace, *, max_meters: int) -> None:
        self._storage = storage
        self._trace = trace
        self._max_meters = max_meters
        self._meters: dict[bytes, Meter] = {}
        self._by_serial: dict[str, Meter] = {}
        for name in storage.names():
            if name.startswith(_PREFIX):
                self._load(name)

    def __len__(self) -> int:
        return len(self._meters)

    def meters(self) -> list[Meter]:
        """In the order of their addresses."""
        return [self._meters[eui64] for eui64 in sorted(self._meters)]

    def find(self, eui64: bytes) -> Meter | None:
        return self._meters.get(eui64)

    def find_serial(self, serial: str) -> Meter | None:
        """The meter that proved this serial number, now or before a restart."""
        return self._by_serial.get(serial)

    def see(self, eui64: bytes) -> Meter:
        """The meter with this address, made if it is new. Raises RegistryFullError."""
        meter = self._meters.get(eui64)
        if meter is None:
            if len(self._meters) >= self._max_meters:
                raise RegistryFullError(f"{self._max_meters} meters are known already")
            meter = self._meters[eui64] = Meter(eui64)
        return meter

    def move(self, meter: Meter, step: Step, why: str = "") -> None:
        """The one way to change a meter's state. Raises LocalProtocolError for a step that the table does not have."""
        state = TRANSITIONS.get((meter.state, step))
        if state is None:
            raise LocalProtocolError(f"meter {meter.name} cannot take step {step.value} in state {meter.state.value}")
        if state is not meter.state:
            _LOG.info("meter %s: %s -> %s%s", meter.name, meter.state.value, state.value, f" ({why})" if why else "")
            self._trace("dcu-meter-state", eui64=meter.name, previous=meter.state.value, state=state.value, why=why)
        meter.state = state
        if state is MeterState.REGISTERED:
            meter.refusals = 0
        elif state is MeterState.REFUSED:
            meter.refusals += 1

    def identify(self, meter: Meter, identity: MeterIdentity) -> None:
        """Keep what a meter proved. A serial number moves with it to another radio (a replaced module)."""
        previous = self._by_serial.get(identity.serial)
        if previous is not None and previous is not meter:
            previous.identity = None
            self._store(previous)
        if meter.identity is not None and meter.identity.serial != identity.serial:
            self._by_serial.pop(meter.identity.serial, None)
        self._by_serial[identity.serial] = meter
        if meter.identity != identity:
            meter.identity = identity
            self._store(meter)

    def _store(self, meter: Meter) -> None:
        name = _PREFIX + meter.name
        try:
            if meter.identity is None:
                self._storage.delete(name)
            else:
                self._storage.write(name, meter.identity.encode())
        except StorageError as error:
            _LOG.error("meter %s is known until the next restart only: %s", meter.name, error)
            self._trace("dcu-storage-error", record=name, error=str(error))

    def _load(self, name: str) -> None:
        try:
            meter = Meter(bytes.fromhex(name.removeprefix(_PREFIX)), MeterState.LOST)
            meter.identity = MeterIdentity.decode(self._storage.read(name) or b"")
        except (ValueError, KeyError, TypeError) as error:
            _LOG.error("record %s is unreadable and was skipped: %s", name, error)
            return
        self._meters[meter.eui64] = meter
        self._by_serial[meter.identity.serial] = meter
