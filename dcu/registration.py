"""Use case I: a meter that appears in the mesh proves itself, says what it is, and is made known to the head-end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable

from dcu.config import RegistrationPolicy
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.registry import Meter, MeterIdentity, MeterState, Registry, RegistryFullError, Step
from dcu.sessions import Sessions
from dcu.storage import StorageError
from dcu.tasks import TaskGroup
from dcu.vault import CredentialVault
from protocols.headend.messages import (
    Credentials,
    CredentialsRequest,
    CredentialsStatus,
    EventKind,
    KeyPurpose,
    MeterCredentials,
    PublicKey,
    Registration,
    RegistrationAck,
    RegistrationStatus,
)

_LOG = logging.getLogger(__name__)
_STORAGE_RETRY_S = 60.0


class _Refusal(Exception):  # noqa: N818 (never leaves this module)
    """Somebody said no, for `reason`; the event that tells it is of `kind`."""

    def __init__(self, kind: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.reason = reason
        self.detail = detail


class Registrar:
    """Runs one registration per meter at a time, at most `policy.parallel` over the air together.

    A registration goes on until the head-end has acknowledged it, or until the meter leaves. Every repetition waits,
    twice as long as the one before up to `policy.retry_max_s`, less a random part so that meters do not come together.
    """

    def __init__(
        self,
        policy: RegistrationPolicy,
        *,
        registry: Registry,
        sessions: Sessions,
        vault: CredentialVault,
        headend: Headend,
        rng: random.Random,
        tasks: TaskGroup,
        on_changed: Callable[[Meter], None],
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._sessions = sessions
        self._vault = vault
        self._headend = headend
        self._rng = rng
        self._tasks = tasks
        self._on_changed = on_changed
        self._air = asyncio.Semaphore(policy.parallel)
        self._online = asyncio.Event()
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._credentials_awaited: dict[str, asyncio.Future[Credentials]] = {}
        self._acks_awaited: dict[str, asyncio.Future[RegistrationAck]] = {}
        self.counters: Counter[str] = Counter()

    # from outside

    def online(self, is_online: bool) -> None:
        """The uplink came or went."""
        if is_online:
            self._online.set()
        else:
            self._online.clear()

    def appeared(self, eui64: bytes, restarted: bool) -> None:
        """A meter is in the mesh: new, back, or restarted."""
        try:
            meter = self._registry.see(eui64)
        except RegistryFullError as error:
            self.counters["registry_full"] += 1
            _LOG.error("meter %s is ignored: %s", eui64.hex(), error)
            return
        if meter.state is MeterState.LOST and not restarted and self._sessions.has(eui64):
            self._recovered(meter)
            return
        if meter.state is MeterState.REGISTERED and not restarted and self._sessions.has(eui64):
            # Its route was broken and has healed: nothing else has changed.
            self._on_changed(meter)
            return
        self._cancel(eui64)
        self._registry.move(meter, Step.APPEARED, "restarted" if restarted else "")
        self._start(meter)

    def updated(self, meter: Meter, firmware_version: str) -> None:
        """A meter runs other firmware than when it was identified: it says anew who it is."""
        identity = meter.identity
        if (
            meter.state is not MeterState.REGISTERED
            or identity is None
            or identity.firmware_version == firmware_version
        ):
            return
        self._cancel(meter.eui64)
        self._registry.move(meter, Step.APPEARED, "new firmware")
        self._start(meter)

    def vanished(self, eui64: bytes, why: str) -> None:
        """A meter is not in the mesh any more."""
        meter = self._registry.find(eui64)
        if meter is None or meter.state in (MeterState.UNREACHABLE, MeterState.LOST):
            return
        was_registered = meter.state is MeterState.REGISTERED
        self._cancel(eui64)
        self._registry.move(meter, Step.VANISHED, why)
        if was_registered:
            self._report(meter, EventKind.METER_LOST, {"why": why})

    def credentials(self, message: Credentials) -> None:
        """The head-end's answer, or a revocation that came unasked."""
        waiting = self._credentials_awaited.pop(message.request_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
        elif message.status is CredentialsStatus.REVOKED:
            self._revoked(message.eui64)

    def acknowledged(self, message: RegistrationAck) -> None:
        waiting = self._acks_awaited.pop(message.request_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    # one meter

    def _start(self, meter: Meter) -> None:
        self._running[meter.eui64] = self._tasks.spawn(self._run(meter), f"register {meter.name}")

    def _cancel(self, eui64: bytes) -> None:
        task = self._running.pop(eui64, None)
        if task is not None:
            task.cancel()

    async def _run(self, meter: Meter) -> None:
        failures = 0
        while True:
            try:
                await self._register(meter)
                return
            except _Refusal as refusal:
                self._refused(meter, refusal)
                await asyncio.sleep(self._backoff_s(meter.refusals))
            except NoAnswerError as error:
                failures += 1
                self.counters["unanswered"] += 1
                _LOG.warning("registration of meter %s, attempt %d: %s", meter.name, failures, error)
                await asyncio.sleep(self._backoff_s(failures))
            except StorageError as error:
                # Without room for its counters nothing is sent, so nobody is spared by waiting longer each time.
                self.counters["storage_errors"] += 1
                _LOG.warning("registration of meter %s waits for room on storage: %s", meter.name, error)
                await asyncio.sleep(_STORAGE_RETRY_S)
            if meter.state is not MeterState.SEEN:
                self._registry.move(meter, Step.RETRY)

    def _backoff_s(self, failures: int) -> float:
        longest_s = min(self._policy.retry_first_s * 2.0 ** min(failures - 1, 30), self._policy.retry_max_s)
        return longest_s * (1.0 - 0.5 * self._rng.random())

    async def _register(self, meter: Meter) -> None:
        credentials = self._vault.find(meter.eui64) or await self._ask(meter)
        self._registry.move(meter, Step.GRANTED)
        try:
            async with self._air:
                identity = await self._sessions.open(meter.eui64, credentials).identify()
        except MeterRefusedError as error:
            # The keys may have been changed at the head-end: next time it is asked again.
            self._vault.forget(meter.eui64)
            raise _Refusal(EventKind.METER_REFUSED, error.reason, str(error)) from error
        self._vault.keep(meter.eui64, credentials)
        self._registry.identify(meter, identity)
        self._registry.move(meter, Step.IDENTIFIED)
        self._on_changed(meter)
        await self._announce(meter, identity)

    async def _ask(self, meter: Meter) -> MeterCredentials:
        """The meter's keys from the head-end. Raises _Refusal, NoAnswerError."""
        self._registry.move(meter, Step.ASK)
        await self._online.wait()
        request = CredentialsRequest(id=self._headend.new_id(), eui64=meter.eui64, time_utc_ms=self._headend.utc_ms())
        answer: asyncio.Future[Credentials] = asyncio.get_running_loop().create_future()
        self._credentials_awaited[request.id] = answer
        self._headend.ask_credentials(request)
        try:
            async with asyncio.timeout(self._policy.credentials_timeout_s):
                message = await answer
        except TimeoutError as error:
            raise NoAnswerError("the head-end did not answer the credentials request") from error
        finally:
            self._credentials_awaited.pop(request.id, None)
        if message.eui64 != meter.eui64:
            raise NoAnswerError("the head-end answered for another meter")
        if message.status is CredentialsStatus.UNKNOWN:
            raise _Refusal(EventKind.METER_UNKNOWN, "unknown", "the head-end does not know the meter")
        if message.meter is None:
            raise _Refusal(EventKind.METER_REFUSED, "revoked", "the head-end has revoked the meter")
        return message.meter

    async def _announce(self, meter: Meter, identity: MeterIdentity) -> None:
        """Publish the registration until it is acknowledged, under one identifier."""
        registration = self._registration(meter, identity)
        for attempt in itertools.count(1):
            answer: asyncio.Future[RegistrationAck] = asyncio.get_running_loop().create_future()
            self._acks_awaited[registration.id] = answer
            self._headend.register(registration)
            await self._online.wait()
            try:
                async with asyncio.timeout(self._policy.ack_timeout_s + self._backoff_s(attempt)):
                    ack = await answer
            except TimeoutError:
                self.counters["unacknowledged"] += 1
                continue
            finally:
                self._acks_awaited.pop(registration.id, None)
            if ack.status is RegistrationStatus.REFUSED:
                raise _Refusal(EventKind.METER_REFUSED, "headend", ack.detail or "the head-end refused")
            break
        self._registry.move(meter, Step.ACKNOWLEDGED)
        self.counters["registered"] += 1
        self._running.pop(meter.eui64, None)
        self._on_changed(meter)

    def _registration(self, meter: Meter, identity: MeterIdentity) -> Registration:
        return Registration(
            id=self._headend.new_id(),
            serial=identity.serial,
            eui64=meter.eui64,
            system_title=identity.system_title,
            logical_device_name=identity.logical_device_name,
            model=identity.model,
            hardware_revision=identity.hardware_revision,
            firmware_version=identity.firmware_version,
            security_suite=identity.security_suite,
            authentication_mechanism=identity.authentication_mechanism,
            public_keys=tuple(PublicKey(KeyPurpose(purpose), key) for purpose, key in identity.public_keys),
            signing_certificate_pem=identity.signing_certificate_pem,
            time_utc_ms=self._headend.utc_ms(),
        )

    # what happens to it

    def _refused(self, meter: Meter, refusal: _Refusal) -> None:
        self._sessions.close(meter.eui64)
        self._registry.move(meter, Step.DENIED, refusal.reason)
        self.counters[f"refused_{refusal.reason}"] += 1
        _LOG.warning("meter %s is refused (%s): %s", meter.name, refusal.reason, refusal.detail)
        self._on_changed(meter)
        self._report(
            meter,
            refusal.kind,
            {"reason": refusal.reason, "detail": refusal.detail, "attempt": str(meter.refusals)},
        )

    def refused(self, meter: Meter, error: MeterRefusedError) -> None:
        """A registered meter refused a reading, or could not prove itself any more: it has to register again."""
        self._vault.forget(meter.eui64)
        self._end(meter, _Refusal(EventKind.METER_REFUSED, error.reason, str(error)))

    def _revoked(self, eui64: bytes) -> None:
        meter = self._registry.find(eui64)
        self._vault.forget(eui64)
        if meter is not None:
            self._end(meter, _Refusal(EventKind.METER_REFUSED, "revoked", "the head-end has revoked the meter"))

    def _end(self, meter: Meter, refusal: _Refusal) -> None:
        self._cancel(meter.eui64)
        self._refused(meter, refusal)
        if meter.state is MeterState.REFUSED:
            self._running[meter.eui64] = self._tasks.spawn(self._retry_later(meter), f"retry {meter.name}")

    async def _retry_later(self, meter: Meter) -> None:
        await asyncio.sleep(self._backoff_s(meter.refusals))
        self._registry.move(meter, Step.RETRY)
        await self._run(meter)

    def _recovered(self, meter: Meter) -> None:
        self._registry.move(meter, Step.RECOVERED)
        self._report(meter, EventKind.METER_RECOVERED, {})
        self._on_changed(meter)

    def _report(self, meter: Meter, kind: str, details: dict[str, str]) -> None:
        serial = meter.identity.serial if meter.identity is not None else None
        self._headend.report(kind, serial=serial, eui64=meter.eui64, details=details)
