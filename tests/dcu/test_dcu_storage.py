"""Records that a power cut cannot tear, the journal on them, and counters that never repeat."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcu.counters import FrameCounterReserve, StoredCounters
from dcu.journal import Journal
from dcu.storage import FileStorage, MemoryStorage, Storage, StorageError
from protocols.dlms.security.counters import SendCounter
from protocols.errors import LocalProtocolError


@pytest.fixture(params=["memory", "files"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else FileStorage(tmp_path / "records")


def test_records_are_written_appended_read_listed_and_deleted(storage: Storage) -> None:
    assert storage.read("a") is None
    storage.write("b.2", b"two")
    storage.append("a", b"on")
    storage.append("a", b"e")
    storage.write("b.2", b"TWO")
    assert storage.read("a") == b"one"
    assert storage.read("b.2") == b"TWO"
    assert storage.names() == ["a", "b.2"]
    storage.delete("a")
    storage.delete("a")
    assert storage.names() == ["b.2"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "Upper", "a b", "tail~"])
def test_a_name_that_could_leave_the_folder_is_refused(storage: Storage, name: str) -> None:
    with pytest.raises(StorageError):
        storage.write(name, b"")
    with pytest.raises(StorageError):
        storage.read(name)


def test_a_write_that_the_power_cut_short_leaves_the_old_record(tmp_path: Path) -> None:
    FileStorage(tmp_path).write("a", b"old")
    (tmp_path / "a~").write_bytes(b"ne")
    storage = FileStorage(tmp_path)
    assert storage.read("a") == b"old"
    assert storage.names() == ["a"]
    assert not (tmp_path / "a~").exists()


def test_a_refused_write_keeps_the_old_record_and_says_so(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    storage.write("a", b"old")
    (tmp_path / "a~").mkdir()
    with pytest.raises(StorageError, match="cannot write record a"):
        storage.write("a", b"new")
    assert storage.read("a") == b"old"


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    FileStorage(folder).write("a", b"secret")
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "a").stat().st_mode & 0o077 == 0


def test_a_journal_gives_back_what_was_appended(storage: Storage) -> None:
    journal = Journal(storage, "log")
    journal.append(b"one", b"")
    journal.append(b"three")
    assert Journal(storage, "log").loaded == [b"one", b"", b"three"]


@given(bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=5), data=st.data())
def test_a_journal_cut_anywhere_gives_its_whole_records(bodies: list[bytes], data: st.DataObject) -> None:
    storage = MemoryStorage()
    Journal(storage, "log").append(*bodies)
    whole = storage.read("log") or b""
    cut = data.draw(st.integers(0, len(whole)))
    storage.write("log", whole[:cut])
    journal = Journal(storage, "log")
    assert journal.loaded == bodies[: len(journal.loaded)]
    assert (len(journal.loaded) == len(bodies)) == (cut == len(whole))
    if journal.is_damaged:
        with pytest.raises(LocalProtocolError):
            journal.append(b"lost")
    journal.rewrite([*journal.loaded, b"new"])
    assert Journal(storage, "log").loaded[-1] == b"new"


@given(junk=st.binary(max_size=64))
def test_a_journal_of_junk_raises_nothing(junk: bytes) -> None:
    storage = MemoryStorage()
    storage.write("log", junk)
    Journal(storage, "log")


def test_frame_counters_leap_ahead_at_every_start_and_are_never_given_twice() -> None:
    storage = MemoryStorage()
    highest = -1
    for _ in range(5):
        reserve = FrameCounterReserve(storage, "frame", block=100, margin=10)
        assert reserve.first > highest
        for used in range(reserve.first, reserve.first + 250):
            highest = used
            reserve.note(used)
    # A radio that reports late has not used more than the reserve.
    assert FrameCounterReserve(storage, "frame", block=100, margin=10).first >= highest + 10


def test_frame_counters_go_on_behind_those_of_a_predecessor_and_leap_from_there() -> None:
    storage = MemoryStorage()
    first = FrameCounterReserve(storage, "frame", block=100, margin=10, least=5_000)
    assert first.first == 5_000
    first.note(9_000)
    # At a later start its own are the newer ones.
    assert FrameCounterReserve(storage, "frame", block=100, margin=10, least=5_000).first > 9_000


def test_frame_counters_are_written_once_per_block() -> None:
    storage = MemoryStorage()
    reserve = FrameCounterReserve(storage, "frame", block=1000, margin=10)
    before = storage.bytes_written
    for used in range(reserve.first, reserve.first + 5000):
        reserve.note(used)
    assert storage.bytes_written - before <= 5 * 8


def test_a_used_up_frame_counter_is_an_error_and_not_a_wrap() -> None:
    storage = MemoryStorage()
    StoredCounters(storage).save("frame", 0xFFFF_FFF0)
    with pytest.raises(LocalProtocolError, match="link key"):
        FrameCounterReserve(storage, "frame", block=100, margin=100)


@pytest.mark.requirement("SEC-1")
def test_invocation_counters_go_on_behind_everything_used_before_a_restart() -> None:
    storage = MemoryStorage()
    used: set[int] = set()
    for _ in range(4):
        counter = SendCounter(StoredCounters(storage, "0212740001010101"), "Client", reserve=16)
        for _ in range(40):
            value = counter.next()
            assert value not in used
            used.add(value)
    assert StoredCounters(storage, "another").load("Client") is None
