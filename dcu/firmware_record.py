"""What a firmware campaign keeps over a restart of the concentrator: the order, and how far each meter is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from protocols.errors import RemoteProtocolError
from protocols.headend.firmware import CampaignPhase, FirmwareCampaign, FirmwareMeterReport, MeterProgress
from protocols.headend.messages import decode_message, encode_message
from protocols.headend.topics import Channel

CAMPAIGN_PREFIX = "firmware-campaign."
IMAGE_PREFIX = "firmware-image."


@dataclass(slots=True)
class MeterPart:
    """One meter of a campaign. `initiated` and `activated` say what this concentrator has told it; `refusals` counts
    how often it has refused the image; `repaired` the blocks that went to it alone."""

    serial: str
    progress: MeterProgress = MeterProgress.WAITING
    initiated: bool = False
    activated: bool = False
    refusals: int = 0
    blocks: int = 0
    repaired: int = 0
    detail: str = ""

    def report(self) -> FirmwareMeterReport:
        return FirmwareMeterReport(self.serial, self.progress, self.blocks, self.repaired, self.detail[:512])


@dataclass(slots=True)
class CampaignRecord:
    """`next_block` is the first that was not sent to all yet; `block_bytes` is 0 while no meter has said it."""

    order: FirmwareCampaign
    phase: CampaignPhase = CampaignPhase.FETCHING
    next_block: int = 0
    block_bytes: int = 0
    blocks_total: int = 0
    blocks_multicast: int = 0
    blocks_unicast: int = 0
    reports: int = 0
    multicast_utc_s: float = 0.0
    """When the last block went to all."""
    detail: str = ""
    meters: dict[str, MeterPart] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for serial in self.order.serials:
            self.meters.setdefault(serial, MeterPart(serial))

    @property
    def name(self) -> str:
        """Of the record on storage."""
        return CAMPAIGN_PREFIX + hashlib.sha256(self.order.id.encode()).hexdigest()[:16]

    @property
    def image_name(self) -> str:
        """Of the image's record."""
        return IMAGE_PREFIX + self.order.sha256.hex()[:32]

    def encode(self) -> bytes:
        meters = [
            [part.serial, part.progress.value, part.initiated, part.activated, part.refusals, part.blocks,
             part.repaired, part.detail]
            for part in self.meters.values()
        ]  # fmt: skip
        fields = {
            "order": encode_message(self.order).decode(),
            "phase": self.phase.value,
            "counts": [getattr(self, name) for name in _COUNTS],
            "multicast_utc_s": self.multicast_utc_s,
            "detail": self.detail,
            "meters": meters,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, data: bytes) -> CampaignRecord:
        """Raises ValueError, KeyError, TypeError, RemoteProtocolError for what `encode` did not make."""
        fields = json.loads(data)
        order = decode_message(fields["order"].encode(), Channel.REQUEST)
        if not isinstance(order, FirmwareCampaign):
            raise RemoteProtocolError("no firmware campaign")
        counts = dict(zip(_COUNTS, (int(value) for value in fields["counts"]), strict=True))
        meters = {row[0]: _part(*row) for row in fields["meters"]}
        return cls(
            order,
            CampaignPhase(fields["phase"]),
            multicast_utc_s=float(fields["multicast_utc_s"]),
            detail=str(fields["detail"]),
            meters=meters,
            **counts,
        )


_COUNTS = ("next_block", "block_bytes", "blocks_total", "blocks_multicast", "blocks_unicast", "reports")


def _part(serial: str, progress: str, *rest: object) -> MeterPart:
    initiated, activated, refusals, blocks, repaired, detail = rest
    return MeterPart(
        serial,
        MeterProgress(progress),
        bool(initiated),
        bool(activated),
        int(str(refusals)),
        int(str(blocks)),
        int(str(repaired)),
        str(detail),
    )
