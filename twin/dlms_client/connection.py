"""Reaching a meter: its address, the association that is asked for, the keys, and flows over the link."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from dcu.identity import ClientKeys, DeviceIdentity
from meters.keys import MeterKeys
from protocols.dlms import reading
from protocols.dlms.client import AttributeReference, ClientAssociation, ClientConfig, ClientSecurity
from protocols.dlms.enums import Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import Flow
from protocols.dlms.security.counters import COUNTER_MAX, MemoryCounterStore
from protocols.dlms.security.keys import Suite, SymmetricKeys
from protocols.dlms.security.signing import RandomSigner
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.headend.messages import MeterCredentials
from twin.clock.clocks import RunClock
from twin.clock.seeds import SystemKeys
from twin.conformance.links import Link, open_tcp, open_udp
from twin.conformance.serial import DeviceLine, HdlcLink, HdlcPort
from twin.conformance.targets import Saps, TargetKind, TargetSpec
from twin.errors import RigError

T = TypeVar("T")

ATTEMPTS = 3
"""How often a request is sent before the meter counts as silent."""
DEFAULT_CLIENT_TITLE = b"OAMDCU01"
_INVOCATION_COUNTER = AttributeReference(1, ObisCode.parse("0-0:43.1.0*255"), 2)
_FORMS = "HOST:PORT, tcp://HOST:PORT, udp://HOST:PORT or hdlc:DEVICE"
_KEY = "ADDRESS"


class Role(enum.StrEnum):
    """Associations that a meter offers."""

    PUBLIC = "public"
    READER = "reader"
    MANAGEMENT = "management"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """`keys` are the meter's, None for what needs none; `identity` is the client's own, for suite 1.

    `physical` is the meter's lower HDLC address, 0 for addresses of one byte.
    """

    address: TargetSpec
    role: Role
    keys: MeterKeys | None = None
    identity: DeviceIdentity | None = None
    physical: int = 17
    answer_timeout_s: float = 5.0


def parse_address(text: str) -> TargetSpec:
    """A meter's address; other service access points stand behind a question mark, as in `?management=1&server=1`.

    Raises BadInputError.
    """
    is_plain = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:/?]+):\d+(\?.*)?", text) is not None
    whole = f"tcp://{text}" if is_plain and not text.startswith("hdlc:") else text
    try:
        found = TargetSpec.parse(whole)
    except BadInputError as error:
        if "is not twin" not in str(error):
            raise BadInputError(str(error.args[0]).removeprefix(f"{error.key}: "), key=_KEY) from None
        raise BadInputError(f"{text!r} is not {_FORMS}", key=_KEY) from None
    if found.kind not in (TargetKind.TCP, TargetKind.UDP, TargetKind.HDLC):
        raise BadInputError(f"{text!r} is not {_FORMS}", key=_KEY)
    return found


def load_identity(path: Path) -> DeviceIdentity:
    """The client's keys and certificates: a JSON object of PEM texts. Raises BadInputError; never shows a value."""
    names = [row.name for row in fields(DeviceIdentity)]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInputError(f"cannot read the client's keys: {reason}", file=str(path)) from error
    except json.JSONDecodeError as error:
        raise BadInputError(f"not JSON: {error.msg}", file=str(path), line=error.lineno) from None
    if not isinstance(document, dict) or not all(isinstance(document.get(name), str) for name in names):
        raise BadInputError(f"must be an object with the texts {', '.join(names)}", file=str(path))
    return DeviceIdentity(**{name: document[name] for name in names})


class Connection:
    """An association that stands."""

    def __init__(self, link: Link, client: ClientAssociation) -> None:
        self._link = link
        self._client = client

    @property
    def client(self) -> ClientAssociation:
        return self._client

    async def run(self, flow: Flow[T]) -> T:
        """Carry a flow over the link. Raises RigError if the meter stays silent, and what the flow raises."""
        try:
            apdu = next(flow)
            while True:
                apdu = flow.send(await self._exchange(apdu))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _exchange(self, apdu: bytes) -> bytes:
        config = self._client.config
        for _ in range(ATTEMPTS):
            answer = await self._link.exchange(config.client_sap, config.server_sap, apdu)
            if answer is not None:
                return answer
            apdu = self._client.repeat()
        raise RigError(f"the meter does not answer client {config.client_sap}, asked {ATTEMPTS} times")


@asynccontextmanager
async def connected(options: ClientOptions, clock: RunClock) -> AsyncIterator[Connection]:
    """Open the link and the association, and close both again.

    Raises BadInputError where keys are missing, RigError without a way to the meter, ServiceRefused if it refuses.
    """
    security = _security(options, clock)
    link = await _open_link(options)
    try:
        if security is not None:
            await _advance_counter(link, options, security)
        connection = Connection(link, _client(options, security))
        await connection.run(reading.associate(connection.client))
        yield connection
        await connection.run(reading.release(connection.client))
    finally:
        await link.close()


async def _open_link(options: ClientOptions) -> Link:
    address, timeout_s = options.address, options.answer_timeout_s
    if address.kind is TargetKind.TCP:
        return await open_tcp(address.host, address.port, answer_timeout_s=timeout_s)
    if address.kind is TargetKind.UDP:
        return await open_udp(address.host, address.port, answer_timeout_s=timeout_s)
    saps = address.saps
    if saps.physical is None and options.physical:
        saps = replace(saps, physical=options.physical)
    return _OwnedHdlcLink(DeviceLine(address.device), saps)


class _OwnedHdlcLink(HdlcLink):
    """A link that closes its line."""

    def __init__(self, line: DeviceLine, saps: Saps) -> None:
        super().__init__(HdlcPort(line, saps))
        self._line = line

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            self._line.close()


def _sap(options: ClientOptions) -> int:
    saps = options.address.saps
    return {Role.PUBLIC: saps.public, Role.READER: saps.reader, Role.MANAGEMENT: saps.management}[options.role]


def _client(options: ClientOptions, security: ClientSecurity | None) -> ClientAssociation:
    config = ClientConfig(_sap(options), options.address.saps.server)
    if options.role is Role.READER:
        secret = b"" if options.keys is None else options.keys.reader_secret
        if not secret:
            raise BadInputError("the reader association needs the secret of a key file", key="--keys")
        config = replace(config, mechanism=Mechanism.LOW, secret=secret)
    elif security is not None:
        high = Mechanism.HIGH_ECDSA if security.suite is Suite.SUITE_1 else Mechanism.HIGH_GMAC
        config = replace(config, mechanism=high, ciphered=True)
    return ClientAssociation(config, security=security, keys=SystemKeys())


def _security(options: ClientOptions, clock: RunClock) -> ClientSecurity | None:
    """For the management association. Raises BadInputError where something is missing."""
    if options.role is not Role.MANAGEMENT:
        return None
    keys = options.keys
    if keys is None:
        raise BadInputError("the management association needs the meter's key file", key="--keys")
    title = keys.client_system_title or DEFAULT_CLIENT_TITLE
    asymmetric = None
    if keys.suite == Suite.SUITE_1:
        if options.identity is None:
            raise BadInputError("suite 1 needs the client's own keys and certificate", key="--client-keys")
        own = ClientKeys(options.identity, title, utc_s=clock.utc_s, make_signer=RandomSigner)
        known = MeterCredentials("-", keys.system_title, keys.suite, keys.encryption_key, keys.authentication_key)
        asymmetric = own.towards(own.trust(known))
    return ClientSecurity(
        title,
        SymmetricKeys(keys.encryption_key, keys.authentication_key),
        MemoryCounterStore(),
        suite=Suite(keys.suite),
        server_system_title=keys.system_title,
        asymmetric=asymmetric,
    )


async def _advance_counter(link: Link, options: ClientOptions, security: ClientSecurity) -> None:
    """Go on from the invocation counter that the meter accepts; the public client may read it."""
    config = ClientConfig(options.address.saps.public, options.address.saps.server)
    public = Connection(link, ClientAssociation(config, keys=SystemKeys()))
    await public.run(reading.associate(public.client))
    value = (await public.run(reading.read_value(public.client, _INVOCATION_COUNTER))).value
    if not isinstance(value, int) or not 0 <= value <= COUNTER_MAX:
        raise RemoteProtocolError("the meter's invocation counter is no number")
    security.send.advance_to(value + 1)
    await public.run(reading.release(public.client))
