"""Firmware between DCU and head-end (use case VII): a campaign, its image in pieces, and how far each meter is.

The DCU fetches the image: it says which piece it lacks, so nothing is sent twice after a restart of either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from protocols.firmware.manifest import DIGEST, MAX_FILE_BYTES, MODEL, VERSION
from protocols.headend.bulk import MAX_PART_BYTES, Base64
from protocols.headend.kinds import COUNT, DETAIL, ID, SERIAL, UTC
from protocols.headend.shapes import Choice, Integer, ListOf, Nested, Optional, wrong

CHUNK_BYTES = 16_384
"""What a DCU asks for at a time: a few seconds of a satellite link."""
_SIZE = Integer(1, MAX_FILE_BYTES)
_OFFSET = Integer(0, MAX_FILE_BYTES)
_BLOCKS = Integer(0, MAX_FILE_BYTES)


class MeterProgress(StrEnum):
    """How far one meter of a campaign is."""

    WAITING = "waiting"
    """Not in reach yet, or not its turn."""
    INITIATED = "initiated"
    """Its staging partition is ready for blocks."""
    TRANSFERRED = "transferred"
    """It has every block."""
    VERIFIED = "verified"
    """It has checked size, hashes, signature and target by itself."""
    SCHEDULED = "scheduled"
    """It will activate by itself at the campaign's time."""
    ACTIVATED = "activated"
    """It was told to activate, and has not been heard since."""
    CONFIRMED = "confirmed"
    """It runs the new version."""
    REFUSED = "refused"
    """It has refused the image."""
    ROLLED_BACK = "rolled-back"
    """It runs its old version again: the new one did not start, or did not confirm."""
    FAILED = "failed"
    """It was not done by the deadline, or cannot be done."""

    @property
    def has_ended(self) -> bool:
        return self in (
            MeterProgress.CONFIRMED,
            MeterProgress.REFUSED,
            MeterProgress.ROLLED_BACK,
            MeterProgress.FAILED,
        )


class CampaignPhase(StrEnum):
    """What the DCU is doing for a campaign as a whole."""

    FETCHING = "fetching"
    PREPARING = "preparing"
    """Meters are asked for their versions, and initiated."""
    MULTICAST = "multicast"
    REPAIR = "repair"
    """Meter by meter: what is missing, verification, activation, and whether the new version runs."""
    DONE = "done"
    REFUSED = "refused"
    """The DCU has refused the image, or the campaign."""

    @property
    def has_ended(self) -> bool:
        return self in (CampaignPhase.DONE, CampaignPhase.REFUSED)


@dataclass(frozen=True, slots=True)
class FirmwareCampaign:
    """Head-end to DCU: bring this image to these meters. Kept over a restart of the DCU.

    `sha256` is that of the whole file. `activate_utc_ms` is when all of them change over; without it each does as soon
    as it can.
    """

    TYPE: ClassVar[str] = "firmware-campaign"
    id: Annotated[str, ID]
    model: Annotated[str, MODEL]
    version: Annotated[str, VERSION]
    size_bytes: Annotated[int, _SIZE]
    sha256: Annotated[bytes, DIGEST]
    serials: Annotated[tuple[str, ...], ListOf(SERIAL, 5000, 1)]
    deadline_utc_ms: Annotated[int, UTC]
    activate_utc_ms: Annotated[int | None, Optional(UTC)] = None

    def check(self) -> None:
        if self.activate_utc_ms is not None and self.activate_utc_ms >= self.deadline_utc_ms:
            raise wrong("activate_utc", "must be before deadline_utc")


@dataclass(frozen=True, slots=True)
class FirmwareFetch:
    """DCU to head-end: send at most `size_bytes` of the campaign's image from `offset_bytes` on. Repeated until it
    comes."""

    TYPE: ClassVar[str] = "firmware-fetch"
    campaign_id: Annotated[str, ID]
    offset_bytes: Annotated[int, _OFFSET]
    size_bytes: Annotated[int, Integer(1, MAX_PART_BYTES)]


@dataclass(frozen=True, slots=True)
class FirmwareChunk:
    """Head-end to DCU: answers `FirmwareFetch`."""

    TYPE: ClassVar[str] = "firmware-chunk"
    campaign_id: Annotated[str, ID]
    offset_bytes: Annotated[int, _OFFSET]
    data: Annotated[bytes, Base64(MAX_PART_BYTES)]


@dataclass(frozen=True, slots=True)
class FirmwareMeterReport:
    """One meter of a `FirmwareReport`: `blocks` of the image are there; of them `repaired` went by unicast."""

    serial: Annotated[str, SERIAL]
    progress: Annotated[MeterProgress, Choice(MeterProgress)]
    blocks: Annotated[int, _BLOCKS] = 0
    repaired: Annotated[int, _BLOCKS] = 0
    detail: Annotated[str, DETAIL] = ""


@dataclass(frozen=True, slots=True)
class FirmwareReport:
    """DCU to head-end: the campaign's phase, and the meters whose progress has changed since the last report.

    `number` counts the reports of a campaign, so that one that comes late is seen to be old. `blocks_multicast` were
    sent to all, out of `blocks_total`; `blocks_unicast` to single meters.
    """

    TYPE: ClassVar[str] = "firmware-report"
    campaign_id: Annotated[str, ID]
    number: Annotated[int, COUNT]
    time_utc_ms: Annotated[int, UTC]
    phase: Annotated[CampaignPhase, Choice(CampaignPhase)]
    fetched_bytes: Annotated[int, _OFFSET]
    blocks_total: Annotated[int, _BLOCKS] = 0
    blocks_multicast: Annotated[int, COUNT] = 0
    blocks_unicast: Annotated[int, COUNT] = 0
    meters: Annotated[tuple[FirmwareMeterReport, ...], ListOf(Nested(FirmwareMeterReport), 5000)] = ()
    detail: Annotated[str, DETAIL] = ""
