"""Image transfer at the meter (use case VII): blocks, verification, activation, trial, and the way back."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from firmware_files import ADDED, STRANGER, VENDOR_PEM, firmware
from meter_bench import CLIENT_TITLE, METER_TITLE, START, Bench, Client

from meters.firmware.image_update import BLOCK_BYTES, TransferStatus
from meters.firmware.partitions import SLOT_A, STAGING
from meters.hardware.flash import Flash
from meters.keys import MeterKeys
from meters.models.library import load_model
from meters.models.schema import MeterModel
from protocols.dlms.action import MethodReference
from protocols.dlms.data import Data, array, double_long_unsigned, integer, octet_string, structure
from protocols.dlms.date_time import Date, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import MemoryCounterStore
from protocols.errors import BadInputError
from twin.clock.seeds import Seeds

IMAGE = "0-0:44.0.0*255"
ACTIVATE = MethodReference(18, ObisCode.parse(IMAGE), 4)
VERSION = "1-0:0.2.0*255"
REPORT = "0-0:96.50.4*255"
NEW = firmware()
CRASHING = firmware("6.6.6", "byte 0xee\n")


def keys() -> MeterKeys:
    made = MeterKeys.generate(
        Seeds(1).keys("keys"), system_title=METER_TITLE, client_system_title=CLIENT_TITLE, firmware_keys_pem=VENDOR_PEM
    )
    assert made.firmware_keys_pem == VENDOR_PEM
    return made


@functools.cache
def reference_model() -> MeterModel:
    """Reading it takes longer than a meter's whole update."""
    return load_model("ihm5000-1p")


def bench() -> Bench:
    return Bench(reference_model(), keys=keys())


def blocks(image: bytes) -> list[bytes]:
    return [image[at : at + BLOCK_BYTES] for at in range(0, len(image), BLOCK_BYTES)]


def initiate(client: Client, image: bytes) -> ActionResult:
    return client.call(18, IMAGE, 1, structure(octet_string(b"new"), double_long_unsigned(len(image))))


def send(client: Client, number: int, block: bytes) -> ActionResult:
    return client.call(18, IMAGE, 2, structure(double_long_unsigned(number), octet_string(block)))


def transfer(client: Client, image: bytes) -> None:
    assert initiate(client, image) is ActionResult.SUCCESS
    for number, block in enumerate(blocks(image)):
        assert send(client, number, block) is ActionResult.SUCCESS


def upgraded(device: Bench, image: bytes = NEW, seconds: float = 90.0) -> Client:
    """Transfer and activate, let the meter restart and prove itself."""
    client = device.client("management")
    transfer(client, image)
    assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.SUCCESS
    device.run(seconds)
    return device.client("management")


def status(client: Client) -> TransferStatus:
    return TransferStatus(client.get(18, IMAGE, 6))


@pytest.mark.requirement("UC-VII.1")
def test_a_new_program_is_transferred_verified_swapped_and_booted() -> None:
    device = bench()
    client = device.client("management")
    assert client.get(1, VERSION) == b"5.0.0"
    assert status(client) is TransferStatus.NOT_INITIATED
    transfer(client, NEW)
    assert client.get(18, IMAGE, 4) == len(blocks(NEW))
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS
    assert status(client) is TransferStatus.VERIFICATION_SUCCESSFUL
    ((size, identification, signature),) = client.get(18, IMAGE, 7)
    assert (size, identification, len(signature)) == (len(NEW), b"ihm5000-1p 5.1.0", 64)
    assert client.get(1, VERSION) == b"5.0.0"
    assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.SUCCESS
    device.run(10)
    client = device.client("management")
    assert client.get(1, VERSION) == b"5.1.0"
    assert client.get(1, ADDED) == 42  # the object that it adds, and what its code has computed
    assert status(client) is TransferStatus.ACTIVATION_INITIATED  # on trial
    device.run(60)
    assert status(client) is TransferStatus.ACTIVATION_SUCCESSFUL
    device.meter.power_off()
    device.meter.power_on()
    assert device.client("management").get(1, VERSION) == b"5.1.0"


def test_the_answer_to_activate_comes_before_the_restart() -> None:
    device = bench()
    client = device.client("management")
    transfer(client, NEW)
    before = device.meter.firmware
    assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.SUCCESS
    assert device.meter.firmware is before
    device.run(5)
    assert device.meter.firmware is not before


def test_energy_and_events_survive_the_change() -> None:
    device = bench()
    device.run(3 * 3600)
    before = device.client("management").get(3, "1-0:1.8.0*255")
    client = upgraded(device)
    assert before == pytest.approx(3000, abs=1)
    assert client.get(3, "1-0:1.8.0*255") == pytest.approx(3025, abs=2)
    codes = [row[1] for row in client.get(7, "0-0:99.98.0*255")]
    assert codes.index(17) < codes.index(18)  # image ready, image activated
    assert codes.count(1) == 0  # a restart is no power failure
    assert codes.count(2) == 1


def test_a_second_image_goes_into_the_other_slot() -> None:
    device = bench()
    upgraded(device)
    client = upgraded(device, firmware("5.2.0"))
    assert client.get(1, VERSION) == b"5.2.0"
    slots = [fields["slot"] for kind, fields in device.traced if kind == "meter.image_installed"]
    assert slots == ["a", "b"]


def test_code_runs_periodically_on_what_the_meter_measures() -> None:
    from firmware_files import MODEL, REVISION, VENDOR, program

    from protocols.firmware.code import Routine, assemble
    from protocols.firmware.file import build_firmware

    content = program("halt\n")
    content = replace(
        content,
        routines=(Routine(30, assemble("load 3\npush 1\nadd\nstore 3\nmeasure voltage_l1\nstore 4\nuptime\nstore 5")),),
    )
    image = build_firmware(content.encode(), VENDOR, model=MODEL, hardware_revisions=(REVISION,), version="5.3.0")
    device = bench()
    client = upgraded(device, image, seconds=3700.0)
    assert client.get(1, ADDED) == 123  # (3700 - 2) // 30
    firmware_now = device.meter.firmware
    assert firmware_now is not None
    assert firmware_now.services.machine.variables[4:6] == [230_000, 3690]


@pytest.mark.requirement("UC-VII.2")
def test_blocks_may_come_in_any_order_twice_and_with_gaps() -> None:
    image = firmware(filler_bytes=20_000)
    device = bench()
    client = device.client("management")
    assert initiate(client, image) is ActionResult.SUCCESS
    parts = blocks(image)
    for number in reversed(range(len(parts))):
        if number not in (0, 7):
            assert send(client, number, parts[number]) is ActionResult.SUCCESS
    assert send(client, 3, parts[3]) is ActionResult.SUCCESS
    assert client.get(18, IMAGE, 4) == 0
    assert [number for number, bit in enumerate(client.get(18, IMAGE, 3)) if bit == "0"] == [0, 7]
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.OTHER_REASON  # not all is there
    assert status(client) is TransferStatus.INITIATED
    send(client, 0, parts[0])
    assert client.get(18, IMAGE, 4) == 7
    send(client, 7, parts[7])
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS


@pytest.mark.requirement("UC-VII.2")
def test_blocks_that_were_taken_survive_a_power_cut() -> None:
    image = firmware(filler_bytes=20_000)
    device = bench()
    client = device.client("management")
    initiate(client, image)
    for number, block in enumerate(blocks(image)[:11]):
        send(client, number, block)
    device.meter.power_off()
    device.meter.power_on()
    client = device.client("management")
    assert status(client) is TransferStatus.INITIATED
    assert client.get(18, IMAGE, 4) == 11


@pytest.mark.parametrize("number", [-1, 0, 999])
def test_a_block_that_does_not_fit_is_refused(number: int) -> None:
    client = bench().client("management")
    assert send(client, 0, b"x") is ActionResult.OTHER_REASON  # nothing is initiated
    initiate(client, NEW)
    assert send(client, number & 0xFFFF, blocks(NEW)[0] + b"x") is ActionResult.OTHER_REASON
    assert client.call(18, IMAGE, 2, integer(0)) is ActionResult.TYPE_UNMATCHED


def test_an_image_that_no_slot_can_hold_is_refused_before_its_first_block() -> None:
    client = bench().client("management")
    too_big = structure(octet_string(b"new"), double_long_unsigned(STAGING.size_bytes))
    assert client.call(18, IMAGE, 1, too_big) is ActionResult.OTHER_REASON
    assert client.call(18, IMAGE, 1, structure(octet_string(b""), double_long_unsigned(0))) is ActionResult.OTHER_REASON
    assert status(client) is TransferStatus.NOT_INITIATED


def test_a_transfer_can_be_forbidden() -> None:
    device = bench()
    client = device.client("management")
    assert client.set(18, IMAGE, 5, Data(3, False)) is DataAccessResult.SUCCESS  # type: ignore[arg-type]
    assert initiate(client, NEW) is ActionResult.OTHER_REASON
    device.meter.power_off()
    device.meter.power_on()
    assert device.client("management").get(18, IMAGE, 5) is False


def test_only_the_management_client_may_change_the_firmware() -> None:
    client = bench().client("reader")
    assert (
        client.call(18, IMAGE, 1, structure(octet_string(b"new"), double_long_unsigned(9))) is not ActionResult.SUCCESS
    )
    assert client.set(18, IMAGE, 5, Data(3, False)) is not DataAccessResult.SUCCESS  # type: ignore[arg-type]


def damaged(image: bytes) -> bytes:
    return image[:-1] + bytes((image[-1] ^ 1,))


@pytest.mark.requirement("UC-VII.3")
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"MZ" + NEW[2:], "magic: not a firmware file"),
        (NEW[:-1], "size: the payload has"),
        (damaged(NEW), "hash: the payload's SHA-256"),
        (firmware(signer=STRANGER), "signature: not signed by a key that is trusted here"),
        (firmware(model="ihm5000-3p"), "model: for model ihm5000-3p, this meter is ihm5000-1p"),
        (firmware(revision="IHM5000-1P-R9"), "hardware: for IHM5000-1P-R9, this meter is IHM5000-1P-R3"),
    ],
)
def test_a_bad_image_is_refused_with_its_reason_and_the_old_firmware_runs_on(image: bytes, reason: str) -> None:
    device = bench()
    before = device.meter.firmware
    client = device.client("management")
    transfer(client, image)
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.OTHER_REASON
    assert status(client) is TransferStatus.VERIFICATION_FAILED
    assert client.get(1, REPORT).decode().startswith(f"refused: {reason}")
    assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.OTHER_REASON
    device.run(60)
    assert device.meter.firmware is before
    assert client.get(1, VERSION) == b"5.0.0"
    assert [row[1] for row in client.get(7, "0-0:99.98.0*255")].count(51) >= 1  # verification failed
    transfer(client, NEW)  # and a good one is taken afterwards
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS


@pytest.mark.requirement("UC-VII.3")
def test_a_program_that_cannot_run_here_is_refused_although_it_is_signed() -> None:
    from firmware_files import MODEL, REVISION, VENDOR, program

    from protocols.firmware.file import build_firmware

    content = program()
    row = dict(content.objects[0], shows="the future")
    image = build_firmware(
        replace(content, objects=(row,)).encode(), VENDOR, model=MODEL, hardware_revisions=(REVISION,), version="5.1.0"
    )
    client = bench().client("management")
    transfer(client, image)
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.OTHER_REASON
    assert "program: objects[0] (0-0:96.128.0*255): shows: must be one of" in client.get(1, REPORT).decode()


def test_without_a_key_for_firmware_every_image_is_refused() -> None:
    device = Bench()
    client = device.client("management")
    transfer(client, NEW)
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.OTHER_REASON
    assert "no key for firmware" in client.get(1, REPORT).decode()


@pytest.mark.requirement("UC-VII.5")
@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("byte 0xee\n", "illegal instruction 0xee at 0"),
        ("again:\njump again\n", "watchdog: no end within"),
        ("push 1\npush 0\ndiv\n", "division by zero at 18"),
        ("add\n", "stack underflow at 0"),
        ("measure the_future\n", "no quantity 'the_future' at 0"),
    ],
)
def test_a_program_that_crashes_is_rolled_back(start: str, reason: str) -> None:
    device = bench()
    client = upgraded(device, firmware("6.6.6", start))
    crashes = [fields["reason"] for kind, fields in device.traced if kind == "meter.crashed"]
    assert len(crashes) == 3
    assert all(str(crash).startswith(reason) for crash in crashes)
    assert client.get(1, VERSION) == b"5.0.0"
    assert status(client) is TransferStatus.ACTIVATION_FAILED
    assert client.get(1, REPORT) == b"rolled back: not confirmed in 3 starts"
    assert upgraded(device).get(1, VERSION) == b"5.1.0"  # the next one is not held against it


@pytest.mark.requirement("UC-VII.5")
def test_a_program_that_crashes_before_it_has_confirmed_itself_is_rolled_back() -> None:
    from firmware_files import MODEL, REVISION, VENDOR

    from protocols.firmware.code import Routine, assemble
    from protocols.firmware.file import build_firmware
    from protocols.firmware.program import Program

    content = Program(routines=(Routine(40, assemble("byte 0xee\n")),))
    image = build_firmware(content.encode(), VENDOR, model=MODEL, hardware_revisions=(REVISION,), version="6.6.7")
    device = bench()
    client = upgraded(device, image, seconds=300.0)
    assert sum(kind == "meter.crashed" for kind, _ in device.traced) == 3
    assert client.get(1, VERSION) == b"5.0.0"


@pytest.mark.requirement("UC-VII.5")
def test_the_way_back_leads_to_the_version_before_and_not_to_the_factory() -> None:
    device = bench()
    upgraded(device)
    assert upgraded(device, CRASHING).get(1, VERSION) == b"5.1.0"


@pytest.mark.requirement("UC-VII.5")
def test_a_slot_that_is_damaged_later_is_not_booted() -> None:
    device = bench()
    upgraded(device)
    device.meter.power_off()
    device.meter.flash.flip_bit(SLOT_A.offset_bytes + 4096 + 100, 3)
    device.meter.power_on()
    assert device.client("management").get(1, VERSION) == b"5.0.0"
    assert any(kind == "meter.image_rolled_back" and "hash" in str(fields["reason"]) for kind, fields in device.traced)


def test_activation_waits_for_its_time() -> None:
    device = bench()
    client = device.client("management")
    transfer(client, NEW)
    assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS
    moment = datetime(2026, 3, 2, 13, 30, tzinfo=UTC)  # local time: UTC and three hours
    when = array((structure(octet_string(Time(13, 30, 0, 0).encode()), octet_string(Date(2026, 3, 2).encode())),))
    assert client.set(22, "0-0:15.0.2*255", 4, when) is DataAccessResult.SUCCESS
    wait_s = (moment - START).total_seconds() - 3 * 3600
    device.run(wait_s - 60)
    assert client.get(1, VERSION) == b"5.0.0"
    device.run(65)
    assert device.client("management").get(1, VERSION) == b"5.1.0"


def test_a_bad_block_in_the_slot_leaves_the_old_firmware_running() -> None:
    device = bench()
    device.meter.flash.mark_bad(SLOT_A.offset_bytes // 4096)
    client = device.client("management")
    transfer(client, NEW)
    assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.OTHER_REASON
    assert status(client) is TransferStatus.ACTIVATION_FAILED
    device.run(30)
    assert client.get(1, VERSION) == b"5.0.0"


def test_a_key_file_with_a_key_for_firmware_that_is_none_is_refused() -> None:
    text = keys().to_json()
    assert MeterKeys.from_json(text).firmware_keys_pem == VENDOR_PEM
    broken = text.replace("BEGIN PUBLIC KEY", "BEGIN PRIVATE KEY")
    with pytest.raises(BadInputError, match="firmware_keys_pem"):
        MeterKeys.from_json(broken)


# every cut point

BEFORE_THE_SWAP = (
    TransferStatus.INITIATED,
    TransferStatus.VERIFICATION_INITIATED,
    TransferStatus.VERIFICATION_SUCCESSFUL,
)


@functools.cache
def meter_keys() -> MeterKeys:
    return keys()


def again(flash_image: bytes) -> Bench:
    """A meter with that flash, switched on."""
    return Bench(reference_model(), keys=meter_keys(), flash=Flash.from_image(flash_image))


def late_client(device: Bench, number: int) -> Client:
    """A management client whose counters are ahead of those of all clients with lower numbers."""
    store = MemoryCounterStore()
    store.save("send", 10_000 * number)
    return device.client("management", store=store)


@functools.cache
def staged(image: bytes) -> bytes:
    """The flash of a meter that has every block of the image."""
    device = bench()
    transfer(device.client("management"), image)
    device.meter.power_off()
    return device.meter.flash.image()


def activate(device: Bench, number: int) -> None:
    """Ask for the activation and let time pass for a restart, a trial and a confirmation."""
    client = late_client(device, number)
    client.carry(client.association.action(ACTIVATE, integer(0)))
    device.run(90)


def cut_points(image: bytes) -> range:
    """Numbers of the flash operations of an activation and all that follows."""
    device = again(staged(image))
    client = late_client(device, 1)
    first = device.meter.flash.operations
    client.carry(client.association.action(ACTIVATE, integer(0)))
    device.run(90)
    return range(first, device.meter.flash.operations)


def cut_short(image: bytes, cut: int, progress: float) -> Bench:
    """A meter whose power failed in that flash operation, and has come back since."""
    device = again(staged(image))
    device.meter.flash.fail_power_at(cut, progress)
    activate(device, 1)
    assert not device.meter.running, cut
    device.meter.power_on()
    device.run(90)
    return device


@pytest.mark.requirement("UC-VII.4")
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_a_power_cut_at_any_flash_operation_of_install_and_swap_leaves_old_or_new(progress: float) -> None:
    image = firmware(filler_bytes=9_000)
    seen = []
    for cut in cut_points(image):
        device = cut_short(image, cut, progress)
        client = late_client(device, 2)
        seen.append(client.get(1, VERSION))
        assert finished(device, client) == b"5.1.0", cut
    assert len(seen) > 50
    assert {version: seen.count(version) for version in sorted(set(seen))}.keys() == {b"5.0.0", b"5.1.0"}


def finished(device: Bench, client: Client) -> bytes:
    """What a concentrator does after a power cut: it looks, and activates again if the meter is ready for it."""
    if client.get(1, VERSION) == b"5.0.0":
        assert status(client) in BEFORE_THE_SWAP
        assert client.call(18, IMAGE, 4, integer(0)) is ActionResult.SUCCESS
        device.run(90)
        client = late_client(device, 3)
    assert status(client) is TransferStatus.ACTIVATION_SUCCESSFUL
    version: bytes = client.get(1, VERSION)
    return version


@pytest.mark.requirement("UC-VII.4")
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_a_power_cut_at_any_flash_operation_of_the_way_back_leads_to_the_old_program(progress: float) -> None:
    for cut in cut_points(CRASHING):
        client = late_client(cut_short(CRASHING, cut, progress), 2)
        assert client.get(1, VERSION) == b"5.0.0", cut
        assert status(client) in (*BEFORE_THE_SWAP, TransferStatus.ACTIVATION_FAILED), cut
        transfer(client, NEW)
        assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS, cut


@pytest.mark.requirement("UC-VII.4")
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_a_power_cut_at_any_flash_operation_of_the_transfer_loses_no_block_that_was_acknowledged(
    progress: float,
) -> None:
    image = firmware(filler_bytes=2_500)
    before = staged(firmware("5.0.1"))  # there is something to erase
    device = again(before)
    client = late_client(device, 1)
    first = device.meter.flash.operations
    transfer(client, image)
    for cut in range(first, device.meter.flash.operations):
        device = again(before)
        client = late_client(device, 1)
        device.meter.flash.fail_power_at(cut, progress)
        acknowledged = send_until_power_fails(client, image)
        device.meter.power_on()
        client = late_client(device, 2)
        if acknowledged is None:
            transfer(client, image)
        else:
            bits = client.get(18, IMAGE, 3)
            assert all(bits[number] == "1" for number in range(acknowledged)), cut
            for number, block in enumerate(blocks(image)):
                if bits[number] == "0":
                    assert send(client, number, block) is ActionResult.SUCCESS
        assert client.call(18, IMAGE, 3, integer(0)) is ActionResult.SUCCESS, cut


def send_until_power_fails(client: Client, image: bytes) -> int | None:
    """How many blocks were acknowledged; None if not even the initiation was."""
    argument = structure(octet_string(b"new"), double_long_unsigned(len(image)))
    if not client.carry(client.association.action(MethodReference(18, ObisCode.parse(IMAGE), 1), argument)):
        return None
    for number, block in enumerate(blocks(image)):
        argument = structure(double_long_unsigned(number), octet_string(block))
        if not client.carry(client.association.action(MethodReference(18, ObisCode.parse(IMAGE), 2), argument)):
            return number
    return len(blocks(image))
