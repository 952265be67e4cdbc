"""Steps of use case VII: firmware over the air, what is refused, what fails on the way, and the way back."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

from protocols.dlms.data import Data
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Caller, object_key
from protocols.errors import BadInputError
from protocols.firmware.file import FirmwareFile
from protocols.headend.firmware import CampaignPhase, MeterProgress
from twin.conformance.verdicts import Record, at_least, equals
from twin.errors import RigError
from twin.firmware_maker import ANSWER, answer_source, make_firmware
from twin.rigs.meters import RigMeter
from twin.rigs.rig import DCU_NODE, Rig
from twin.scenarios.steps import SkipStep, step

_HOUR_S = 3600.0
_FORTY_TWO = 42
_LOOK_S = 20.0
_OPERATIONS = 80
"""Of the flash, from the first block of 8 KiB into its slot: fewer than there are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A campaign that has ended, and what it took."""

    view: dict[str, Any]
    elapsed_s: float
    airtime_s: float

    @property
    def progress(self) -> dict[str, str]:
        """By serial number."""
        return {meter["serial"]: meter["progress"] for meter in self.view["meters"]}

    @property
    def details(self) -> list[str]:
        return [meter["detail"] for meter in self.view["meters"]]


def _image(rig: Rig, version: str, meters: list[RigMeter] | None = None, **changes: Any) -> bytes:
    """A file of the run's own vendor, for the model of the first of these meters."""
    if rig.firmware_vendor is None:
        raise SkipStep("this rig has no firmware vendor")
    model = (meters or list(rig.meters.values()))[0].provision.model
    settings = {"model": model.model, "hardware_revisions": [model.hardware_revision], **changes}
    return make_firmware(answer_source(version, **settings), rig.firmware_vendor.signer)


def _of_model(rig: Rig) -> list[RigMeter]:
    """The meters of the first one's model: one image is for one model."""
    first = next(iter(rig.meters.values())).provision.model.model
    return [meter for meter in rig.meters.values() if meter.provision.model.model == first]


def _version(meter: RigMeter) -> str:
    """What runs, asked of the meter itself."""
    firmware = meter.meter.firmware
    return "no power" if firmware is None else firmware.services.firmware_version


def _answer(meter: RigMeter) -> object:
    """What the object that the new firmware adds shows; None where there is no such object."""
    firmware = meter.meter.firmware
    target = None if firmware is None else firmware.services.find(object_key(1, ObisCode.parse(ANSWER)))
    value = None if target is None else target.read(2, None, Caller(client_sap=1))
    return value.value if isinstance(value, Data) else None


def _airtime_s(rig: Rig) -> float:
    return sum(node.airtime_s for node in rig.air.statistics().nodes)


def _seen_at_the_headend(rig: Rig, version: str) -> int:
    return sum(row.firmware_version == version for row in rig.hes.meters())


async def _campaign(
    rig: Rig, image_id: str, meters: list[RigMeter], within_s: float, *, activate_after_s: float = 0.0
) -> Outcome:
    """Begin a campaign for these meters and wait for its end."""
    began_s, airtime_s = rig.clock.now(), _airtime_s(rig)
    activate_utc_s = rig.clock.utc_s() + activate_after_s if activate_after_s else None
    campaign_id = await rig.hes.start_firmware(
        image_id, serials=[meter.serial for meter in meters], activate_utc_s=activate_utc_s, timeout_s=within_s
    )
    try:
        async with asyncio.timeout(within_s + 300.0):
            await rig.hes.service.firmware.wait(campaign_id)
    except TimeoutError:
        raise RigError(f"campaign {campaign_id} has not ended within {within_s:g} s") from None
    view = await rig.hes.firmware_campaign(campaign_id)
    return Outcome(view, rig.clock.now() - began_s, _airtime_s(rig) - airtime_s)


@step("every link loses frames", timeout_s=60.0)
async def links_lose_frames(rig: Rig, record: Record, probability: float | None = None) -> None:
    """From now on every frame is lost with this probability, or the scenario's parameter `loss`, at each receiver."""
    chance = float(rig.value("loss")) if probability is None else probability
    names = [DCU_NODE, *rig.meters]
    for one, other in itertools.combinations(names, 2):
        rig.air.set_loss(one, other, chance)
    lossy = [link for link in rig.air.links() if link.expected_delivery <= 1.0 - chance]
    record.measure("probability", chance, limit=at_least(0.0))
    record.measure("links that lose frames", len(lossy), limit=equals(len(rig.air.links())))


@step("use case VII: new firmware reaches every meter", timeout_s=3 * 86_400.0, requirement=("UC-VII.1", "UC-VII.2"))
async def upgrade(
    rig: Rig,
    record: Record,
    version: str = "5.1.0",
    size_kib: int | None = None,
    within_s: float = 12 * _HOUR_S,
    activate_after_s: float = 0.0,
    dcu_restarts: bool = False,
) -> None:
    """Upload, multicast, repair, verify, swap, boot. `size_kib`, or the scenario's parameter, is that of the file."""
    size = int(rig.loaded.values.get("size_kib", 16)) if size_kib is None else size_kib
    meters = _of_model(rig)
    image = _image(rig, version, meters, random_bytes=size * 1024)
    image_id = await rig.hes.upload_firmware(image)
    record.measure("size of the file", len(image) / 1024, unit="KiB", limit=at_least(size))
    before = {meter.name: _version(meter) for meter in meters}
    record.measure("version before", ", ".join(sorted(set(before.values()))))
    if dcu_restarts:
        _restart_dcu_in_the_middle(rig)
    outcome = await _campaign(rig, image_id, meters, within_s, activate_after_s=activate_after_s)
    _measure_distribution(record, outcome, len(meters))
    confirmed = sum(progress == MeterProgress.CONFIRMED for progress in outcome.progress.values())
    record.measure("meters confirmed to the head-end", confirmed, limit=equals(len(meters)))
    record.measure("meters that run it", sum(_version(meter) == version for meter in meters), limit=equals(len(meters)))
    answers = sum(_answer(meter) == _FORTY_TWO for meter in meters)
    record.measure("meters whose new object shows what its code computed", answers, limit=equals(len(meters)))
    await rig.until(lambda: _seen_at_the_headend(rig, version) == len(meters), timeout_s=1800.0)
    record.measure("versions seen at the head-end", _seen_at_the_headend(rig, version), limit=equals(len(meters)))
    if dcu_restarts:
        record.measure("restarts of the concentrator", rig.trace.counts.get("dcu-started", 0), limit=at_least(2))


def _measure_distribution(record: Record, outcome: Outcome, meters: int) -> None:
    view = outcome.view
    total, repaired = view["blocks_total"] * meters, sum(meter["repaired"] for meter in view["meters"])
    record.measure("blocks of the image", view["blocks_total"], limit=at_least(1))
    record.measure("multicasts", view["blocks_multicast"])
    record.measure("blocks sent to single meters", view["blocks_unicast"])
    record.measure("repair rate", 100.0 * repaired / max(total, 1), unit="%")
    record.measure("airtime of all nodes", outcome.airtime_s, unit="s")
    record.measure("time", outcome.elapsed_s, unit="s")
    record.measure("bytes at the concentrator", view["fetched_bytes"], unit="B", limit=equals(view["size_bytes"]))


def _restart_dcu_in_the_middle(rig: Rig) -> None:
    """Cut the concentrator's power when some blocks have gone out."""
    done: list[str] = []

    def watch(kind: str, fields: dict[str, object]) -> None:
        if kind == "hes.firmware_report" and fields.get("phase") == CampaignPhase.MULTICAST and not done:
            done.append(kind)
            rig.clock.loop.call_later(20.0, rig.dcu.cut_power)
            rig.clock.loop.call_later(80.0, rig.dcu.start)

    rig.trace.listeners.append(watch)


@step("a meter that was away catches up", timeout_s=86_400.0, requirement="UC-VII.2")
async def late_joiner(
    rig: Rig, record: Record, meter: str, version: str, off_s: float = 600.0, within_s: float = 6 * _HOUR_S
) -> None:
    """It has no power while the others get the image, and gets it alone when it is back."""
    target, others = rig.meter(meter), [item for item in _of_model(rig) if item.name != meter]
    image_id = await rig.hes.upload_firmware(_image(rig, version, [target], random_bytes=8192))
    target.power_off()
    rig.clock.loop.call_later(off_s, target.power_on)
    outcome = await _campaign(rig, image_id, [target, *others], within_s)
    alone = next(item for item in outcome.view["meters"] if item["serial"] == target.serial)
    record.measure(
        "meters confirmed", list(outcome.progress.values()).count("confirmed"), limit=equals(len(others) + 1)
    )
    record.measure("blocks that the late one got alone", alone["repaired"], limit=equals(outcome.view["blocks_total"]))
    record.measure("it runs", _version(target), limit=equals(version))


@step("a bad firmware file is refused, everywhere", timeout_s=86_400.0, requirement="UC-VII.3")
async def bad_firmware_is_refused(rig: Rig, record: Record, version: str = "9.9.9") -> None:
    """Wrong magic, size, hash and signature: by the head-end; forced past it, by the concentrator; and a genuine file
    for other hardware by the meters themselves. Nothing changes what runs."""
    meters = _of_model(rig)
    before = {meter.name: _version(meter) for meter in meters}
    good = _image(rig, version, meters)
    for name, data in _spoiled(good).items():
        try:
            await rig.hes.upload_firmware(data)
            refusal = "accepted"
        except BadInputError as error:
            refusal = str(error)
        _measure_refusal(record, f"the head-end on a wrong {name}", refusal, name)
        _measure_refusal(record, f"the DCU on a wrong {name}", await _forced(rig, good, data, meters[:1]), name)
    other = _image(rig, version, meters, hardware_revisions=["SOMETHING-ELSE"])
    outcome = await _campaign(rig, await rig.hes.upload_firmware(other), meters[:2], 2 * _HOUR_S)
    refused = list(outcome.progress.values()).count(MeterProgress.REFUSED)
    record.measure("meters that refuse what is for other hardware", refused, limit=equals(len(meters[:2])))
    _measure_refusal(record, "a meter on other hardware", outcome.details[0], "hardware")
    unchanged = sum(_version(meter) == before[meter.name] for meter in meters)
    record.measure("meters that run what they ran", unchanged, limit=equals(len(meters)))


def _measure_refusal(record: Record, who: str, said: str, fault: str) -> None:
    """What was said, and whether it names the check that the file has failed."""
    record.measure(f"{who} says", said)
    record.measure(f"{who} names the fault", f"{fault}: " in said, limit=equals(True))


def _spoiled(good: bytes) -> dict[str, bytes]:
    """The file with one thing wrong, by the name of the check that must find it."""
    file = FirmwareFile.decode(good)
    end = file.head.size_bytes
    return {
        "magic": b"ELF!" + good[4:],
        "size": good[:-1],
        "hash": good[:-1] + bytes((good[-1] ^ 1,)),
        "signature": good[: end - 64] + bytes((good[end - 64] ^ 1,)) + good[end - 63 :],
    }


async def _forced(rig: Rig, good: bytes, data: bytes, meters: list[RigMeter]) -> str:
    """What the concentrator says of a file that the head-end has let through: its database was tampered with."""
    manifest = FirmwareFile.decode(good).manifest
    image = rig.hes.store.firmware.add_image(data, manifest, round(rig.clock.utc_s() * 1000))
    outcome = await _campaign(rig, image.image_id, meters, _HOUR_S)
    detail: str = outcome.view["detail"]
    return detail if outcome.view["phase"] == CampaignPhase.REFUSED else f"it did not refuse: {outcome.view['phase']}"


@step("firmware that crashes is rolled back", timeout_s=86_400.0, requirement="UC-VII.5")
async def crashing_firmware_rolls_back(rig: Rig, record: Record, version: str = "6.6.6", count: int = 2) -> None:
    """An illegal instruction at the start: three tries, then the program before it runs again, and all know it."""
    meters = _of_model(rig)[:count]
    before = {meter.name: _version(meter) for meter in meters}
    crashes = rig.trace.counts.get("meter.crashed", 0)
    image_id = await rig.hes.upload_firmware(_image(rig, version, meters, code="byte 0xee\n"))
    outcome = await _campaign(rig, image_id, meters, 3 * _HOUR_S)
    back = list(outcome.progress.values()).count(MeterProgress.ROLLED_BACK)
    record.measure("meters rolled back", back, limit=equals(len(meters)))
    crashed = rig.trace.counts.get("meter.crashed", 0) - crashes
    record.measure("crashes", crashed, limit=equals(3 * len(meters)))
    unchanged = sum(_version(meter) == before[meter.name] for meter in meters)
    record.measure("meters that run what they ran before", unchanged, limit=equals(len(meters)))
    record.measure("what the head-end shows", outcome.details[0])


@step("power fails while firmware is installed", timeout_s=86_400.0, requirement="UC-VII.4")
async def power_cuts_while_installing(rig: Rig, record: Record, version: str, within_s: float = 6 * _HOUR_S) -> None:
    """The power of every meter fails in the middle of a flash operation, each in another one, from the first block to
    the swap, and comes back within minutes. (That every single operation may be cut, a test of the meter shows.)"""
    meters = _of_model(rig)
    image_id = await rig.hes.upload_firmware(_image(rig, version, meters, random_bytes=8192))
    before = {_version(meter) for meter in meters}
    booted: list[str] = []
    for number, meter in enumerate(meters[:-1]):
        _cut_after(rig, meter, 10 + _OPERATIONS * number // len(meters), booted)
    _cut_after_the_swap(rig, meters[-1], booted)
    outcome = await _campaign(rig, image_id, meters, within_s)
    record.measure("power cuts inside a flash operation", len(booted), limit=equals(len(meters)))
    record.measure("versions that ran after a cut", ", ".join(sorted(set(booted))))
    allowed = {*before, version}
    record.measure("meters that started old or new", sum(item in allowed for item in booted), limit=equals(len(meters)))
    confirmed = list(outcome.progress.values()).count(MeterProgress.CONFIRMED)
    record.measure("meters upgraded in the end", confirmed, limit=equals(len(meters)))


def _cut_after_the_swap(rig: Rig, meter: RigMeter, booted: list[str]) -> None:
    """Power fails while the new program starts for the first time."""

    is_set = False

    def watch(kind: str, fields: dict[str, object]) -> None:
        nonlocal is_set
        if kind == "meter.image_installed" and fields.get("node") == meter.name and not is_set:
            is_set = True
            _cut_after(rig, meter, 5, booted)

    rig.trace.listeners.append(watch)


def _cut_after(rig: Rig, meter: RigMeter, operations: int, booted: list[str]) -> None:
    """Power fails in that flash operation from now, and returns within a minute."""
    meter.flash.fail_power_at(meter.flash.operations + operations, 0.5)

    def look() -> None:
        if meter.meter.running:
            rig.clock.loop.call_later(_LOOK_S, look)
            return
        meter.power_on()
        booted.append(_version(meter))

    rig.clock.loop.call_later(_LOOK_S, look)
