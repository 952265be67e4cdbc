"""Firmware images on the concentrator: fetched piece by piece, and checked before a meter sees a block of them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging

from dcu.firmware_record import CAMPAIGN_PREFIX, IMAGE_PREFIX, CampaignRecord
from dcu.headend import Headend
from dcu.storage import Storage, StorageError
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.file import FirmwareFile, TrustedKeys, open_firmware
from protocols.headend.firmware import CHUNK_BYTES, FirmwareCampaign, FirmwareChunk, FirmwareFetch

_LOG = logging.getLogger(__name__)
_ANSWER_S = 60.0
"""A piece on a satellite link, behind a bundle."""
_PAUSE_S = 10.0


class ImageFetcher:
    """Fetches what is missing of a campaign's image: what is on storage is not asked for again."""

    def __init__(self, headend: Headend, storage: Storage, keys: TrustedKeys) -> None:
        self._headend = headend
        self._storage = storage
        self._keys = keys
        self._online = asyncio.Event()
        self._waiting: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self.fetched_bytes = 0
        """Since this concentrator started."""

    def online(self, is_online: bool) -> None:
        """The uplink came or went."""
        if is_online:
            self._online.set()
        else:
            self._online.clear()

    def arrived(self, chunk: FirmwareChunk) -> None:
        """A piece. One that nobody waits for came twice."""
        waiting = self._waiting.get((chunk.campaign_id, chunk.offset_bytes))
        if waiting is not None and not waiting.done():
            waiting.set_result(chunk.data)

    def have_bytes(self, record: CampaignRecord) -> int:
        return len(self._storage.read(record.image_name) or b"")

    async def image(self, record: CampaignRecord) -> tuple[bytes, FirmwareFile]:
        """The whole image and what it says about itself, every check passed.

        Raises FirmwareError if it must not be sent to a meter. A storage that refuses is tried again.
        """
        may_be_torn = self.have_bytes(record) > 0
        while True:
            try:
                data = await self._fetch(record)
            except StorageError as error:
                _LOG.error("the image of campaign %s cannot be stored: %s", record.order.id, error)
                await asyncio.sleep(_PAUSE_S)
                continue
            try:
                return data, self._checked(record.order, data)
            except FirmwareError:
                self.drop(record)
                if not may_be_torn:
                    raise
                may_be_torn = False  # by a power cut while a piece was written: once more from the beginning

    def drop(self, record: CampaignRecord) -> None:
        try:
            self._storage.delete(record.image_name)
        except StorageError as error:
            _LOG.error("record %s could not be deleted: %s", record.image_name, error)

    def drop_unused(self) -> None:
        """Images that no campaign on storage needs."""
        names = self._storage.names()
        if not any(name.startswith(CAMPAIGN_PREFIX) for name in names):
            for name in names:
                if name.startswith(IMAGE_PREFIX):
                    self._storage.delete(name)

    async def _fetch(self, record: CampaignRecord) -> bytes:
        order = record.order
        while (have := self.have_bytes(record)) < order.size_bytes:
            await self._online.wait()
            size = min(CHUNK_BYTES, order.size_bytes - have)
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting[order.id, have] = answer
            try:
                self._headend.send(FirmwareFetch(order.id, have, size))
                async with asyncio.timeout(_ANSWER_S):
                    data = await answer
            except TimeoutError:
                continue
            finally:
                del self._waiting[order.id, have]
            if not 0 < len(data) <= size:
                await asyncio.sleep(_PAUSE_S)
                continue
            self._storage.append(record.image_name, data)
            self.fetched_bytes += len(data)
        return self._storage.read(record.image_name) or b""

    def _checked(self, order: FirmwareCampaign, data: bytes) -> FirmwareFile:
        if len(data) != order.size_bytes:
            raise FirmwareError(FirmwareFault.SIZE, f"{len(data)} bytes came, {order.size_bytes} were announced")
        if not hmac.compare_digest(hashlib.sha256(data).digest(), order.sha256):
            raise FirmwareError(FirmwareFault.HASH, "what came is not the file that was announced (SHA-256)")
        file, _ = open_firmware(data, self._keys)
        manifest = file.manifest
        if (manifest.model, manifest.version) != (order.model, order.version):
            message = f"{manifest.identification} came, {order.model} {order.version} was announced"
            raise FirmwareError(FirmwareFault.MODEL, message)
        return file
