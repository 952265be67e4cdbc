"""The head-end of a run, with the verbs that scenarios use. The operator's way is the REST interface, in process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
from fastapi import FastAPI

from dcu.uplink import Uplink, UplinkListener
from protocols.errors import BadInputError
from protocols.firmware.file import TrustedKeys
from protocols.headend.messages import MeterCredentials
from protocols.headend.shapes import utc_text
from protocols.headend.supply import SupplyAction
from protocols.headend.topics import headend_subscriptions
from protocols.ports import Trace
from twin.clock.clocks import RunClock
from twin.errors import RigError
from twin.hes.api import create_app
from twin.hes.service import HesService, Settings
from twin.hes.store import MEMORY_URL, Store
from twin.hes.tables import DcuRecord, EventRecord, Meter, MeterState, Reading, RegistrationRecord
from twin.hes.trip_tables import TripRow
from twin.hes.vault import KeyVault

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadValue:
    """One value as the operator got it."""

    name: str
    obis: str
    value: Decimal | str
    unit: str
    display: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What the operator got for one request. `status` is that of `RequestStatus`; `values` by quantity name."""

    request_id: str
    serial: str
    status: str
    detail: str
    elapsed_s: float
    values: dict[str, ReadValue]
    json: dict[str, Any]

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """What the operator got for a range: `request` as `/api/profile-requests/{id}`, `stored` what the database holds of
    the range now, as `/api/meters/{serial}/profiles/{profile}`."""

    request_id: str
    serial: str
    profile: str
    status: str
    detail: str
    request: dict[str, Any]
    stored: dict[str, Any]

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.stored["rows"]
        return rows

    @property
    def gaps(self) -> list[dict[str, Any]]:
        gaps: list[dict[str, Any]] = self.stored["gaps"]
        return gaps


@dataclass(frozen=True, slots=True)
class SupplyResult:
    """What the operator got for a disconnection or reconnection. `status` is that of `SupplyStatus`; `reason` that of
    the meter's leakage protection, empty where it did not refuse; `connected` what the contacts were read as."""

    request_id: str
    serial: str
    line: int
    status: str
    connected: bool | None
    reason: str
    detail: str
    elapsed_s: float

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"


class Hes:
    """Database, service, broker connection and REST interface of one head-end on the clock of the run.

    `uplink` is an MQTT client that was not started yet. `vault_key`, 32 bytes, wraps the meters' keys in the database.
    """

    def __init__(
        self,
        clock: RunClock,
        *,
        uplink: Uplink,
        rng: random.Random,
        trace: Trace,
        vault_key: bytes,
        store_url: str = MEMORY_URL,
        settings: Settings | None = None,
        firmware_keys: TrustedKeys | None = None,
    ) -> None:
        self._clock = clock
        self._uplink = uplink
        self._trace = trace
        self.store = Store(store_url, KeyVault(vault_key))
        self.service = HesService(
            self.store,
            timers=clock.loop,
            utc_s=clock.utc_s,
            publish=uplink.publish,
            rng=rng,
            trace=trace,
            settings=settings,
            firmware_keys=firmware_keys,
        )
        self.app: FastAPI = create_app(self.service)
        self.api = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://hes")
        """A client of the REST interface, in this process and without a socket."""

    def start(self) -> None:
        """Connect to the broker, and stay connected until `stop`."""
        for topic_filter in headend_subscriptions():
            self._uplink.subscribe(topic_filter)
        self._uplink.start(
            UplinkListener(
                connected=lambda present: self._trace("hes.connected", session_present=present),
                disconnected=self._disconnected,
                message=self.service.handle,
                confirmed=lambda _: None,
            )
        )

    async def stop(self) -> None:
        """Orderly end: leave the broker, close the database."""
        self._uplink.stop()
        self.service.stop()
        await self.api.aclose()
        self.store.close()

    @property
    def is_connected(self) -> bool:
        return self._uplink.is_connected

    def _disconnected(self, reason: str) -> None:
        _log.warning("no broker: %s", reason)
        self._trace("hes.disconnected", reason=reason)

    # preparation

    def add_shipment(
        self,
        serial: str,
        *,
        eui64: bytes,
        system_title: bytes,
        encryption_key: bytes,
        authentication_key: bytes,
        security_suite: int = 0,
        master_key: bytes | None = None,
        signing_certificate_pem: str | None = None,
        agreement_certificate_pem: str | None = None,
    ) -> None:
        """Announce a meter, as a manufacturer's shipment file does: it may register from now on.

        `master_key`: under it, new keys are brought to the meter."""
        self.store.add_shipment(
            eui64,
            MeterCredentials(
                serial,
                system_title,
                security_suite,
                encryption_key,
                authentication_key,
                signing_certificate_pem=signing_certificate_pem,
                agreement_certificate_pem=agreement_certificate_pem,
            ),
            master_key,
        )

    def revoke(self, serial: str, reason: str = "revoked by the operator") -> None:
        """Take a meter's permission away. Raises BadInputError for a serial number that no shipment has."""
        if not self.service.revoke(serial, reason):
            raise BadInputError(f"no shipment has the serial number {serial!r}", key="serial")

    # the operator's way

    async def read_meter(
        self, serial: str, quantities: Sequence[str] | None = None, timeout_s: float = 60.0
    ) -> ReadResult:
        """Read a meter over the REST interface and wait for the end of the request (use case II).

        Raises BadInputError when the interface refuses the request itself.
        """
        started_s = self._clock.now()
        body: dict[str, Any] = {"timeout_s": timeout_s}
        if quantities is not None:
            body["quantities"] = list(quantities)
        response = await self.api.post(f"/api/meters/{serial}/readings", params={"wait": "true"}, json=body)
        answer: dict[str, Any] = response.json()
        if "request_id" not in answer:
            raise BadInputError(str(answer.get("detail", response.status_code)), key="read_meter")
        values = {
            item["name"]: ReadValue(
                item["name"],
                item["obis"],
                item["value_text"] if isinstance(item["value"], str) else Decimal(item["value_text"]),
                item["unit"],
                item["display"],
            )
            for item in answer["values"]
        }
        elapsed_s = self._clock.now() - started_s
        return ReadResult(answer["request_id"], serial, answer["status"], answer["detail"], elapsed_s, values, answer)

    async def upload_firmware(self, data: bytes) -> str:
        """Upload a firmware file over the REST interface: its image id. Raises BadInputError when it is refused."""
        headers = {"Content-Type": "application/octet-stream"}
        response = await self.api.post("/api/firmware", content=data, headers=headers)
        answer: dict[str, Any] = response.json()
        if "image_id" not in answer:
            raise BadInputError(str(answer.get("detail", response.status_code)), key="firmware")
        return str(answer["image_id"])

    async def start_firmware(
        self,
        image_id: str,
        *,
        serials: Sequence[str] | None = None,
        activate_utc_s: float | None = None,
        timeout_s: float = 2 * 86_400.0,
    ) -> str:
        """Begin a campaign (use case VII) over the REST interface, for the meters of one concentrator: its id.

        Raises BadInputError when the interface refuses it.
        """
        body: dict[str, Any] = {"timeout_s": timeout_s}
        if serials is not None:
            body["serials"] = list(serials)
        if activate_utc_s is not None:
            body["activate_at"] = utc_text(round(activate_utc_s * 1000))
        answer = (await self.api.post(f"/api/firmware/{image_id}/campaigns", json=body)).json()
        if not isinstance(answer, list):
            raise BadInputError(str(answer.get("detail", answer)), key="firmware")
        return str(answer[0]["campaign_id"])

    async def firmware_campaign(self, campaign_id: str) -> dict[str, Any]:
        """A campaign as `/api/firmware-campaigns/{id}` shows it."""
        answer: dict[str, Any] = (await self.api.get(f"/api/firmware-campaigns/{campaign_id}")).json()
        return answer

    async def read_profile(
        self, serial: str, profile: str, start_utc_s: float, end_utc_s: float, timeout_s: float = 1800.0
    ) -> ProfileResult:
        """Read a profile by range over the REST interface and wait for the end (use case III): both limits included.

        Raises BadInputError when the interface refuses the request itself.
        """
        limits = {"from": utc_text(round(start_utc_s * 1000)), "to": utc_text(round(end_utc_s * 1000))}
        path = f"/api/meters/{serial}/profiles/{profile}"
        response = await self.api.post(
            f"{path}/requests", params={"wait": "true"}, json={**limits, "timeout_s": timeout_s}
        )
        answer: dict[str, Any] = response.json()
        if "request_id" not in answer:
            raise BadInputError(str(answer.get("detail", response.status_code)), key="read_profile")
        stored = (await self.api.get(path, params=limits)).json()
        return ProfileResult(answer["request_id"], serial, profile, answer["status"], answer["detail"], answer, stored)

    async def disconnect(self, serial: str, line: int = 1, timeout_s: float = 60.0) -> SupplyResult:
        """Open a line over the REST interface and wait for the end of the request.

        Raises BadInputError when the interface refuses the request itself.
        """
        return await self._switch(serial, SupplyAction.DISCONNECT, line, timeout_s)

    async def reconnect(self, serial: str, line: int = 1, timeout_s: float = 60.0) -> SupplyResult:
        """Close a line, as `disconnect` opens it. The meter refuses while its leakage check finds a leak."""
        return await self._switch(serial, SupplyAction.RECONNECT, line, timeout_s)

    async def _switch(self, serial: str, action: SupplyAction, line: int, timeout_s: float) -> SupplyResult:
        started_s = self._clock.now()
        body = {"action": action.value, "line": line, "timeout_s": timeout_s}
        response = await self.api.post(f"/api/meters/{serial}/supply", params={"wait": "true"}, json=body)
        answer: dict[str, Any] = response.json()
        if "request_id" not in answer:
            raise BadInputError(str(answer.get("detail", response.status_code)), key=action.value)
        return SupplyResult(
            answer["request_id"],
            serial,
            line,
            answer["status"],
            answer["connected"],
            answer["reason"],
            answer["detail"],
            self._clock.now() - started_s,
        )

    async def define_group(self, group: str, serials: Sequence[str]) -> None:
        """Make a group for load shedding over the REST interface. Raises BadInputError when it is refused."""
        response = await self.api.put(f"/api/shedding/groups/{group}", json={"serials": list(serials)})
        if response.status_code != 200:
            raise BadInputError(str(response.json().get("detail", response.status_code)), key=group)

    async def shed(
        self, group: str, action: SupplyAction, *, stagger_s: float = 0.0, timeout_s: float = 120.0
    ) -> dict[str, Any]:
        """Disconnect or reconnect a group over the REST interface and wait until every meter's part has ended.

        The answer is that of `/api/shedding/orders/{id}`. Raises BadInputError when the interface refuses the order.
        """
        body = {"action": action.value, "stagger_s": stagger_s, "timeout_s": timeout_s}
        response = await self.api.post(f"/api/shedding/groups/{group}/orders", params={"wait": "true"}, json=body)
        answer: dict[str, Any] = response.json()
        if "order_id" not in answer:
            raise BadInputError(str(answer.get("detail", response.status_code)), key=group)
        return answer

    # what it knows

    def meters(self) -> list[Meter]:
        return self.store.meters()

    def registrations(self, serial: str | None = None) -> list[RegistrationRecord]:
        return self.store.registrations(serial)

    def readings(self, serial: str | None = None) -> list[Reading]:
        return self.store.readings(serial=serial)

    def events(self, kind: str | None = None, serial: str | None = None) -> list[EventRecord]:
        return self.store.events(kind=kind, serial=serial)

    def trips(self, serial: str | None = None) -> list[TripRow]:
        """Leakage trips with their waveforms, the newest first."""
        return self.store.trips.trips(serial)

    def dcus(self) -> list[DcuRecord]:
        return self.store.dcus()

    async def wait_until(self, condition: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Wait until `condition` holds; it is looked at after every message. Raises RigError naming `what`."""
        deadline_s = self._clock.now() + timeout_s
        while not condition():
            try:
                await asyncio.wait_for(self.service.changed(), deadline_s - self._clock.now())
            except TimeoutError:
                raise RigError(f"head-end: {what} did not happen within {timeout_s:g} s") from None

    async def wait_registered(self, serials: Iterable[str], timeout_s: float) -> None:
        """Wait until all of these meters are registered. Raises RigError that lists those that are not."""
        wanted = list(serials)

        def missing() -> list[str]:
            there = {meter.serial for meter in self.meters() if meter.state == MeterState.REGISTERED}
            return [serial for serial in wanted if serial not in there]

        try:
            await self.wait_until(lambda: not missing(), what="registration", timeout_s=timeout_s)
        except RigError:
            raise RigError(f"head-end: not registered within {timeout_s:g} s: {', '.join(missing())}") from None
