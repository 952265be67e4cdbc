"""The firmware file: both directions, and a reason of its own for every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from firmware_files import MODEL, REVISION, STRANGER, TRUSTED, VENDOR, VENDOR_KEY, VENDOR_PEM, firmware, program
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import BadInputError, LocalProtocolError, RemoteProtocolError
from protocols.firmware.code import Routine, assemble, disassemble, listing
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.file import HEADER_BYTES, FirmwareFile, FirmwareHead, TrustedKeys, build_firmware, open_firmware
from protocols.firmware.manifest import MAX_FILE_BYTES, MAX_PROGRAM_BYTES, Manifest
from protocols.firmware.program import Program, Resource

GOOD = firmware()


def fault_of(data: bytes, keys: TrustedKeys = TRUSTED) -> FirmwareFault:
    with pytest.raises(FirmwareError) as caught:
        open_firmware(data, keys)
    assert str(caught.value).startswith(f"{caught.value.fault}: ")
    return caught.value.fault


def forged(change: Callable[[Manifest], Manifest]) -> bytes:
    """Another manifest under the old signature."""
    file = FirmwareFile.decode(GOOD)
    return FirmwareHead(change(file.manifest), file.head.signature).encode() + file.payload


def test_a_good_file_opens_and_unpacks_to_its_program() -> None:
    file, content = open_firmware(GOOD, TRUSTED)
    assert content == program().encode()
    assert (file.manifest.model, file.manifest.version) == (MODEL, "5.1.0")
    assert file.encode() == GOOD
    file.manifest.check_target(MODEL, REVISION)


def test_building_is_reproducible() -> None:
    assert firmware() == GOOD


def test_layout_is_what_the_document_says() -> None:
    """Parsed by hand, with nothing of ours: as a vendor's own tool would."""
    assert GOOD[:8] == b"OAMIFIRM"
    assert int.from_bytes(GOOD[8:10], "big") == 1
    size = int.from_bytes(GOOD[10:12], "big")
    signed, signature = GOOD[: 12 + size], GOOD[12 + size : 12 + size + 64]
    payload = GOOD[12 + size + 64 :]
    encoded = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    VENDOR_KEY.public_key().verify(encoded, signed, ec.ECDSA(hashes.SHA256()))
    assert hashlib.sha256(payload).hexdigest().encode() in signed
    assert hashlib.md5(payload).hexdigest().encode() in signed  # noqa: S324 (a checksum)
    assert hashlib.sha256(zlib.decompress(payload)).hexdigest().encode() in signed


@pytest.mark.requirement("UC-VII.3")
@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", FirmwareFault.MAGIC),
        (b"ELF" + GOOD[3:], FirmwareFault.MAGIC),
        (GOOD[:8] + b"\0\2" + GOOD[10:], FirmwareFault.FORMAT),
        (GOOD[:9], FirmwareFault.SIZE),
        (GOOD[:100], FirmwareFault.SIZE),
        (GOOD[:-1], FirmwareFault.SIZE),
        (GOOD + b"\0", FirmwareFault.SIZE),
        (GOOD[:10] + b"\xff\xff" + GOOD[12:], FirmwareFault.MANIFEST),
        (GOOD[:HEADER_BYTES] + b"[" + GOOD[HEADER_BYTES + 1 :], FirmwareFault.MANIFEST),
        (GOOD[:-1] + bytes((GOOD[-1] ^ 1,)), FirmwareFault.HASH),
        (firmware(signer=STRANGER), FirmwareFault.SIGNATURE),
        (forged(lambda old: replace(old, version="9.9.9")), FirmwareFault.SIGNATURE),
        (forged(lambda old: replace(old, payload_md5=bytes(16))), FirmwareFault.CHECKSUM),
        (forged(lambda old: replace(old, payload_sha256=bytes(32))), FirmwareFault.HASH),
    ],
)
def test_each_fault_has_a_reason_of_its_own(data: bytes, fault: FirmwareFault) -> None:
    assert fault_of(data) is fault


def test_nobody_is_trusted_without_a_key() -> None:
    assert fault_of(GOOD, TrustedKeys()) is FirmwareFault.SIGNATURE


def test_a_signature_over_a_program_that_is_not_there_is_no_use() -> None:
    payload = zlib.compress(b"something else")
    manifest = replace(
        FirmwareFile.decode(GOOD).manifest,
        payload_size_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).digest(),
        payload_md5=None,
    )
    head = FirmwareHead(manifest, VENDOR.sign(FirmwareHead(manifest, b"").signed_bytes()))
    assert fault_of(head.encode() + payload) is FirmwareFault.SIZE


def test_a_payload_that_unpacks_without_end_is_stopped() -> None:
    payload = zlib.compress(bytes(50_000_000), 9)
    manifest = replace(
        FirmwareFile.decode(GOOD).manifest,
        payload_size_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).digest(),
        payload_md5=None,
        program_size_bytes=MAX_PROGRAM_BYTES,
    )
    head = FirmwareHead(manifest, VENDOR.sign(FirmwareHead(manifest, b"").signed_bytes()))
    assert fault_of(head.encode() + payload) is FirmwareFault.SIZE


def test_it_is_for_its_model_and_hardware_only() -> None:
    manifest = FirmwareFile.decode(GOOD).manifest
    for model, revision, fault in (
        ("ihm5000-3p", REVISION, FirmwareFault.MODEL),
        (MODEL, "IHM5000-1P-R2", FirmwareFault.HARDWARE),
    ):
        with pytest.raises(FirmwareError) as caught:
            manifest.check_target(model, revision)
        assert caught.value.fault is fault


@pytest.mark.parametrize("pem", ["rubbish", VENDOR_PEM.replace("MF", "MA", 1)])
def test_a_key_that_is_none_is_told(pem: str) -> None:
    with pytest.raises(LocalProtocolError, match="key for firmware"):
        TrustedKeys.from_pem(pem)


def test_keys_come_in_pem_one_behind_the_other() -> None:
    open_firmware(GOOD, TrustedKeys.from_pem(VENDOR_PEM))
    open_firmware(GOOD, TrustedKeys.from_pem(VENDOR_PEM + VENDOR_PEM))
    assert not TrustedKeys.from_pem("")


@pytest.mark.parametrize("change", [{"version": ""}, {"version": "5 1"}, {"model": "IHM"}, {"hardware_revisions": ()}])
def test_a_manifest_that_breaks_its_rules_is_not_built(change: dict[str, object]) -> None:
    fields: dict[str, object] = {"model": MODEL, "hardware_revisions": (REVISION,), "version": "1"} | change
    with pytest.raises(LocalProtocolError):
        build_firmware(b"x", VENDOR, **fields)  # type: ignore[arg-type]


def test_what_no_meter_can_hold_is_not_built() -> None:
    with pytest.raises(LocalProtocolError, match="takes"):
        build_firmware(bytes(MAX_PROGRAM_BYTES + 1), VENDOR, model=MODEL, hardware_revisions=(REVISION,), version="1")
    with pytest.raises(LocalProtocolError, match="takes"):
        firmware(filler_bytes=MAX_FILE_BYTES)


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_refused(size: int) -> None:
    with pytest.raises(FirmwareError):
        open_firmware(GOOD[:size], TRUSTED)


@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_junk_is_refused_as_the_peers_fault(junk: bytes, at: int) -> None:
    data = GOOD[:at] + junk
    if data != GOOD:
        with pytest.raises(RemoteProtocolError):
            open_firmware(data, TRUSTED)


@given(st.integers(0, 8 * len(GOOD) - 1))
def test_no_single_bit_can_be_changed(bit: int) -> None:
    data = bytearray(GOOD)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FirmwareError):
        open_firmware(bytes(data), TRUSTED)


ROUTINES = st.builds(
    Routine,
    st.integers(0, 0xFFFF),
    st.lists(st.sampled_from([b"\x00", b"\x01" + bytes(8), b"\x02\x03", b"\x10", b"\x04\x02ab", b"\xee"])).map(
        b"".join
    ),
)
PROGRAMS = st.builds(
    Program,
    st.lists(st.dictionaries(st.sampled_from(["obis", "class"]), st.integers(0, 9)), max_size=3).map(tuple),
    st.lists(ROUTINES, max_size=3).map(tuple),
    st.lists(st.builds(Resource, st.text("abc", max_size=5), st.binary(max_size=50)), max_size=3).map(tuple),
)


@given(PROGRAMS)
def test_a_program_survives_the_round_trip(content: Program) -> None:
    assert Program.decode(content.encode()) == content


@given(PROGRAMS, st.data())
def test_a_damaged_program_is_refused_or_is_another_program(content: Program, data: st.DataObject) -> None:
    raw = content.encode()
    cut = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=20))
    if cut != raw:
        try:
            found = Program.decode(cut)
        except FirmwareError:
            return  # nothing else may come out
        assert Program.decode(found.encode()) == found


def test_code_is_assembled_and_listed() -> None:
    code = assemble(
        "again: \n push -5  # a comment\n store 15\n load 15\n jump-if-zero again\n measure voltage_l1\n byte 0xee\n"
    )
    assert [item.operand for item in disassemble(code)] == [-5, 15, 15, 0, "voltage_l1", None]
    assert listing(code)[-1].endswith("byte 0xee")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fly 1", "no operation 'fly'"),
        ("push", "takes one operand"),
        ("add 1", "takes no operand"),
        ("store 16", "not within 0 to 15"),
        ("push many", "no whole number"),
        ("jump nowhere", "no label 'nowhere'"),
    ],
)
def test_code_that_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said) as caught:
        assemble("halt\n" + text)
    assert caught.value.line == 2
