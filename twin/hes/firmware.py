"""Use case VII at the head-end: firmware files are checked and kept, and campaigns bring them to groups of meters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from protocols.errors import BadInputError
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import TrustedKeys, open_firmware
from protocols.headend.firmware import CampaignPhase, FirmwareCampaign, FirmwareChunk, FirmwareFetch, FirmwareReport
from protocols.headend.messages import Message
from protocols.ports import Trace
from twin.hes.firmware_store import ORDERED, FirmwareStore
from twin.hes.firmware_tables import FirmwareCampaignRecord, FirmwareImage
from twin.hes.tables import Meter, MeterState

MIN_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 60 * 86_400.0
DEFAULT_TIMEOUT_S = 2 * 86_400.0


class FirmwareService:
    """`keys` are those whose firmware is accepted; `send(dcu_id, message)` publishes; `meters` lists all meters."""

    def __init__(
        self,
        store: FirmwareStore,
        *,
        keys: TrustedKeys,
        now_ms: Callable[[], int],
        send: Callable[[str, Message], None],
        meters: Callable[[], list[Meter]],
        notify: Callable[[], None],
        prefix: str,
        trace: Trace,
    ) -> None:
        self.store = store
        self._keys = keys
        self._now_ms = now_ms
        self._send = send
        self._meters = meters
        self._notify = notify
        self._prefix = prefix
        self._trace = trace
        self._waiters: list[asyncio.Future[None]] = []

    # for the operator

    def upload(self, data: bytes) -> FirmwareImage:
        """Check a file and keep it. Raises FirmwareError with the check that it has failed; nothing is kept then."""
        try:
            file, _ = open_firmware(data, self._keys)
        except FirmwareError as error:
            self._trace("hes.firmware_refused", fault=error.fault.value, reason=str(error))
            raise
        image = self.store.add_image(data, file.manifest, self._now_ms())
        self._trace("hes.firmware_stored", image=image.image_id, model=image.model, version=image.version)
        return image

    def start(
        self,
        image_id: str,
        *,
        serials: Sequence[str] | None = None,
        dcu_id: str | None = None,
        activate_utc_ms: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> list[FirmwareCampaignRecord]:
        """Bring an image to these meters, or to all of its model, of one concentrator or of each: a campaign for each
        concentrator. Without `activate_utc_ms` every meter changes over as soon as it can.

        Raises BadInputError for an image, a meter or a time that cannot be.
        """
        image = self.store.image(image_id)
        if image is None:
            raise BadInputError(f"no image {image_id!r}; upload it first", key="image_id")
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            raise BadInputError(f"must be {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}", key="timeout_s")
        deadline_ms = self._now_ms() + round(timeout_s * 1000)
        if activate_utc_ms is not None and not self._now_ms() <= activate_utc_ms < deadline_ms:
            raise BadInputError("must lie between now and the time-out", key="activate_utc")
        groups: dict[str, list[str]] = {}
        for meter in self._targets(image, serials, dcu_id):
            groups.setdefault(meter.dcu_id, []).append(meter.serial)
        return [
            self._order(image, owner, group, activate_utc_ms, deadline_ms) for owner, group in sorted(groups.items())
        ]

    async def wait(self, campaign_id: str) -> FirmwareCampaignRecord:
        """The campaign when it has ended. Raises KeyError for an unknown id."""
        while True:
            record = self.store.campaign(campaign_id)
            if record is None:
                raise KeyError(campaign_id)
            if record.ended_utc_ms is not None:
                return record
            changed = asyncio.get_running_loop().create_future()
            self._waiters.append(changed)
            await changed

    def _targets(self, image: FirmwareImage, serials: Sequence[str] | None, dcu_id: str | None) -> list[Meter]:
        known = {meter.serial: meter for meter in self._meters()}
        if serials is None:
            found = [meter for meter in known.values() if meter.model == image.model]
        else:
            missing = [serial for serial in serials if serial not in known]
            if missing:
                raise BadInputError(f"no meter {missing[0]!r} has registered", key="serials")
            found = [known[serial] for serial in dict.fromkeys(serials)]
        found = [meter for meter in found if meter.state != MeterState.REVOKED and dcu_id in (None, meter.dcu_id)]
        wrong = [meter for meter in found if meter.model != image.model]
        if wrong:
            raise BadInputError(
                f"the image is for model {image.model}, meter {wrong[0].serial} is {wrong[0].model}", key="serials"
            )
        if not found:
            raise BadInputError("no meter would get this image", key="serials")
        return found

    def _order(
        self, image: FirmwareImage, dcu_id: str, serials: list[str], activate_ms: int | None, deadline_ms: int
    ) -> FirmwareCampaignRecord:
        sequence = self.store.next_sequence()
        record = FirmwareCampaignRecord(
            campaign_id=f"firmware-{self._prefix}-{sequence}",
            sequence=sequence,
            image_id=image.image_id,
            dcu_id=dcu_id,
            phase=ORDERED,
            created_utc_ms=self._now_ms(),
            activate_utc_ms=activate_ms,
            deadline_utc_ms=deadline_ms,
        )
        self.store.add_campaign(record, serials)
        self._trace("hes.firmware_campaign", campaign=record.campaign_id, dcu=dcu_id, meters=len(serials))
        order = FirmwareCampaign(
            id=record.campaign_id,
            model=image.model,
            version=image.version,
            size_bytes=image.size_bytes,
            sha256=bytes.fromhex(image.sha256),
            serials=tuple(serials),
            deadline_utc_ms=deadline_ms,
            activate_utc_ms=activate_ms,
        )
        self._send(dcu_id, order)
        return self.store.campaign(record.campaign_id) or record

    # from the concentrators

    def take_fetch(self, dcu_id: str, fetch: FirmwareFetch) -> str:
        """Send the piece. Gives why it cannot be, or nothing."""
        record = self.store.campaign(fetch.campaign_id)
        if record is None or record.dcu_id != dcu_id:
            return "no such campaign of this concentrator"
        image = self.store.image(record.image_id)
        data = b"" if image is None else image.data[fetch.offset_bytes : fetch.offset_bytes + fetch.size_bytes]
        if not data:
            return f"no byte {fetch.offset_bytes} in the image"
        self._send(dcu_id, FirmwareChunk(fetch.campaign_id, fetch.offset_bytes, data))
        return ""

    def take_report(self, dcu_id: str, report: FirmwareReport) -> str:
        """Keep the report. Gives why it is none of ours, or nothing."""
        record = self.store.campaign(report.campaign_id)
        if record is None or record.dcu_id != dcu_id:
            return "no such campaign of this concentrator"
        if self.store.take_report(report, self._now_ms()):
            phase = CampaignPhase(report.phase)
            self._trace(
                "hes.firmware_report", campaign=report.campaign_id, phase=phase.value, meters=len(report.meters)
            )
            waiting, self._waiters = self._waiters, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            self._notify()
        return ""
