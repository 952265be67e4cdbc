"""The concentrator's own update: signed, on trial, confirmed or rolled back."""

from __future__ import annotations

import functools
import io
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from dcu.update import ProgramState, Slot, Status, UpdateError, Updater

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@functools.cache  # gzip notes the time
def archive(content: bytes = b"#!/bin/sh\n", name: str = "daemon") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def signed(data: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def installed(folder: Path, data: bytes) -> Updater:
    updater = Updater(folder, PUBLIC)
    for offset in range(0, len(data), 50):
        updater.upload(offset, data[offset : offset + 50])
    updater.install(signed(data))
    return updater


def test_signed_update_is_put_on_trial_and_confirmed(tmp_path: Path) -> None:
    updater = installed(tmp_path, archive())
    assert updater.state() == ProgramState(Slot.A, Status.TRIAL, 0, Slot.FACTORY)
    assert (tmp_path / "a/update.tar.gz").read_bytes() == archive()
    assert (tmp_path / "state").read_text() == "a trial 0 factory\n"
    assert updater.confirm()
    assert updater.state() == ProgramState(Slot.A, Status.CONFIRMED, 0, Slot.FACTORY)
    assert not updater.confirm()


def test_next_update_takes_the_other_slot_and_falls_back_to_this_one(tmp_path: Path) -> None:
    installed(tmp_path, archive()).confirm()
    updater = installed(tmp_path, archive(b"newer"))
    assert updater.state() == ProgramState(Slot.B, Status.TRIAL, 0, Slot.A)
    assert (tmp_path / "a/update.tar.gz").read_bytes() == archive()


def test_foreign_signature_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    updater = Updater(tmp_path, PUBLIC)
    updater.upload(0, archive())
    with pytest.raises(UpdateError, match="signature"):
        updater.install(signed(archive(), ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(UpdateError, match="signature"):
        updater.install(signed(archive(b"something else")))
    assert updater.state() == ProgramState()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", archive()[:-20], archive(name="../daemon"), archive(name="other")],
    ids=["empty", "no archive", "cut off", "path outside", "other name"],
)
def test_signed_archive_that_is_no_update_is_refused(tmp_path: Path, data: bytes) -> None:
    updater = Updater(tmp_path, PUBLIC)
    updater.upload(0, data)
    with pytest.raises(UpdateError, match=r"update\.tar\.gz"):
        updater.install(signed(data))
    assert updater.state() == ProgramState()


def test_second_update_waits_until_the_first_is_confirmed(tmp_path: Path) -> None:
    updater = installed(tmp_path, archive())
    updater.upload(0, archive(b"newer"))
    with pytest.raises(UpdateError, match="not been confirmed"):
        updater.install(signed(archive(b"newer")))


def test_without_a_key_nothing_installs(tmp_path: Path) -> None:
    updater = Updater(tmp_path, None)
    updater.upload(0, archive())
    with pytest.raises(UpdateError, match="no key"):
        updater.install(signed(archive()))


def test_upload_with_a_gap_is_refused(tmp_path: Path) -> None:
    updater = Updater(tmp_path, PUBLIC)
    assert updater.upload(0, b"abc") == 3
    with pytest.raises(UpdateError, match="3 bytes are here"):
        updater.upload(5, b"d")


@given(
    st.builds(ProgramState, st.sampled_from(Slot), st.sampled_from(Status), st.integers(0, 9), st.sampled_from(Slot))
)
def test_state_line_round_trips(state: ProgramState) -> None:
    assert ProgramState.decode(state.encode()) == state


@given(st.text(max_size=60))
def test_junk_is_no_state(text: str) -> None:
    try:
        ProgramState.decode(text)
    except UpdateError:
        return
    assert len(text.split()) == 4
