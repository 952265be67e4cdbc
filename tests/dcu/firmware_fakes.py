"""Meters that take firmware, as far as the concentrator can tell, and a head-end that has some."""

from __future__ import annotations

import hashlib
from typing import Any

from dcu_fakes import START_UTC_S, Bench, DataObject, FakeMesh
from firmware_files import TRUSTED
from profile_fakes import ProfileMeter

from protocols.dlms.data import (
    Data,
    array,
    bit_string,
    double_long_unsigned,
    enumerated,
    octet_string,
    structure,
)
from protocols.dlms.enums import ActionResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Attribute, Caller, CosemObject, InterfaceClass, Method
from protocols.errors import RemoteProtocolError
from protocols.firmware.file import FirmwareFile, open_firmware
from protocols.headend.firmware import FirmwareCampaign, FirmwareChunk, FirmwareFetch, FirmwareReport
from protocols.headend.topics import Channel
from protocols.meter_identity import FIRMWARE_VERSION

BLOCK_BYTES = 200
NOT_INITIATED, INITIATED, GOOD, BAD, ACTIVATING, ACTIVE, GIVEN_UP = 0, 1, 3, 4, 5, 6, 7


class ImageObject(CosemObject):
    """Class 18 in RAM."""

    INTERFACE = InterfaceClass(
        18,
        0,
        "Image transfer",
        tuple(Attribute(number, f"attribute {number}") for number in range(2, 8)),
        tuple(Method(number, f"method {number}") for number in range(1, 5)),
    )
    __slots__ = ("_meter",)

    def __init__(self, meter: ImageMeter) -> None:
        super().__init__(ObisCode.parse("0-0:44.0.0*255"))
        self._meter = meter

    def read(self, attribute_id: int, selector: Any, caller: Caller) -> Data:
        meter = self._meter
        info = array(())
        if meter.status in (GOOD, ACTIVATING, ACTIVE):
            signature = FirmwareFile.decode(meter.image()).head.signature
            info = array((structure(double_long_unsigned(meter.size), octet_string(b"x"), octet_string(signature)),))
        bits = "".join("1" if number in meter.blocks else "0" for number in range(meter.block_count))
        values = {2: double_long_unsigned(BLOCK_BYTES), 3: bit_string(bits), 6: enumerated(meter.status), 7: info}
        return values[attribute_id]

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        values = [item.value for item in argument.value] if method_id < 3 else []
        self._meter.invoked(method_id, values, is_multicast=caller.client_sap == 102)
        return None


class ImageMeter(ProfileMeter):
    """Verbs: `deaf` blocks are not heard by multicast; `crashes` gives the new version up."""

    def __init__(self, number: int, mesh: FakeMesh) -> None:
        self.mesh = mesh
        self.version = "5.0.0"
        self.status = NOT_INITIATED
        self.size = 0
        self.blocks: dict[int, bytes] = {}
        self.deaf: set[int] = set()
        self.unicast: list[int] = []
        self.multicast: list[int] = []
        self.initiations = 0
        self.activations: list[float] = []
        self.crashes = False
        self.report = ""
        super().__init__(number)

    @property
    def block_count(self) -> int:
        return -(-self.size // BLOCK_BYTES)

    def image(self) -> bytes:
        return b"".join(self.blocks.get(number, bytes(BLOCK_BYTES)) for number in range(self.block_count))[: self.size]

    def _objects(self) -> list[Any]:
        kept = [item for item in super()._objects() if item.obis != FIRMWARE_VERSION]
        version = DataObject(FIRMWARE_VERSION, {2: lambda: octet_string(self.version.encode())})
        report = DataObject(ObisCode.parse("0-0:96.50.4*255"), {2: lambda: octet_string(self.report.encode())})
        return [*kept, version, report, ImageObject(self)]

    def invoked(self, method_id: int, values: list[Any], *, is_multicast: bool) -> None:
        match method_id:
            case 1:
                self.initiations += 1
                self.status, self.size, self.blocks = INITIATED, values[1], {}
            case 2:
                self._block(*values, is_multicast=is_multicast)
            case 3:
                self._verify()
            case _:
                self._activate()

    def _block(self, number: int, data: bytes, *, is_multicast: bool) -> None:
        (self.multicast if is_multicast else self.unicast).append(number)
        if not (is_multicast and number in self.deaf) and self.status == INITIATED:
            self.blocks[number] = data

    def _verify(self) -> None:
        try:
            file, _ = open_firmware(self.image(), TRUSTED)
            file.manifest.check_target("ihm5000-1p", "IHM5000-1P-R3")
        except RemoteProtocolError as error:
            self.status, self.report = BAD, f"refused: {error}"
            raise AccessDenied(ActionResult.OTHER_REASON) from None
        self.status = GOOD

    def _activate(self) -> None:
        assert self.loop is not None
        self.activations.append(self.loop.time())
        self.status = ACTIVATING
        self.loop.call_later(2.0, self._booted)

    def _booted(self) -> None:
        assert self.loop is not None
        if self.crashes:
            self.status, self.report = GIVEN_UP, "rolled back: not confirmed in 3 starts"
        else:
            self.version = FirmwareFile.decode(self.image()).manifest.version
            self.loop.call_later(60.0, self._confirmed)
        self.restart()
        if self.mesh.listener is not None:  # the concentrator has power
            self.mesh.join(self, restarted=True)

    def _confirmed(self) -> None:
        self.status = ACTIVE


class FirmwareShelf:
    """The head-end's part: answers fetches with the pieces of `data`, of which `lost` never come the first time."""

    def __init__(self, bench: Bench, data: bytes) -> None:
        self._bench = bench
        self.data = data
        self.fetches: list[FirmwareFetch] = []
        self.lost: set[int] = set()
        received = bench.headend.received

        def hear(topic: str, payload: bytes) -> None:
            received(topic, payload)
            message = bench.headend.heard[-1]
            if topic.endswith(f"/{Channel.RESPONSE}") and isinstance(message, FirmwareFetch):
                self._answer(message)

        bench.headend.received = hear  # type: ignore[method-assign]

    def _answer(self, fetch: FirmwareFetch) -> None:
        self.fetches.append(fetch)
        if fetch.offset_bytes in self.lost:
            self.lost.remove(fetch.offset_bytes)
            return
        data = self.data[fetch.offset_bytes : fetch.offset_bytes + fetch.size_bytes]
        self._bench.headend.send(FirmwareChunk(fetch.campaign_id, fetch.offset_bytes, data))

    def order(self, *meters: ImageMeter, identifier: str = "fw-1", **changes: Any) -> FirmwareCampaign:
        """A campaign of this file, due in six hours."""
        now_s = START_UTC_S + self._bench.loop.time()
        fields: dict[str, Any] = {
            "model": "ihm5000-1p",
            "version": "5.1.0",
            "size_bytes": len(self.data),
            "sha256": hashlib.sha256(self.data).digest(),
            "serials": tuple(meter.serial for meter in meters),
            "deadline_utc_ms": round((now_s + 6 * 3600) * 1000),
        }
        return FirmwareCampaign(identifier, **(fields | changes))

    def reports(self) -> list[FirmwareReport]:
        return self._bench.headend.of(FirmwareReport)

    def ended(self) -> bool:
        return bool(self.reports()) and self.reports()[-1].phase.has_ended

    def progress(self) -> dict[str, str]:
        """What the head-end knows of each meter in the end."""
        found: dict[str, str] = {}
        for report in sorted(self.reports(), key=lambda report: report.number):
            found |= {meter.serial: meter.progress.value for meter in report.meters}
        return found
