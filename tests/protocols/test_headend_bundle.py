"""Bundles as bytes: reproducible, whole, and nothing else is taken for one."""

from __future__ import annotations

import gzip
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.headend.bulk import MAX_PART_BYTES, Bundle, MeterTables, Table, TableColumn, TableRow
from protocols.headend.bundle import pack_bundle, split_bundle, unpack_bundle

COLUMN = TableColumn("1-0:1.8.0*255", 3, 2, "Wh")


def bundle(rows: int = 48) -> Bundle:
    made = tuple(TableRow((Decimal(number),), 1_772_323_200_000 + number, 0, 0) for number in range(rows))
    table = Table("load", "1-0:99.1.0*255", 1800, (COLUMN,), made)
    return Bundle("dcu-1", "dcu-1.1.1", 1_772_323_200_000, (MeterTables("IHM1", (table,), rows),))


@pytest.mark.requirement("UC-IV.1")
def test_the_same_content_gives_the_same_bytes_and_any_gzip_reads_them() -> None:
    first, second = pack_bundle(bundle()), pack_bundle(bundle())
    assert first == second
    assert first[4:8] == bytes(4)  # RFC 1952: MTIME
    assert b'"bundle_id":"dcu-1.1.1"' in gzip.decompress(first)
    assert len(first) < len(gzip.decompress(first)) / 5
    assert unpack_bundle(first) == bundle()


@settings(deadline=None)
@given(st.integers(0, 500))
def test_a_bundle_cut_short_is_refused(size: int) -> None:
    packed = pack_bundle(bundle())
    with pytest.raises(RemoteProtocolError):
        unpack_bundle(packed[: min(size, len(packed) - 1)])


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_junk_is_refused(junk: bytes, packed: bool) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_bundle(gzip.compress(junk) if packed else junk)


def test_what_follows_a_bundle_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="does not end"):
        unpack_bundle(pack_bundle(bundle()) + b"x")


@given(st.integers(1, 3 * MAX_PART_BYTES + 7))
def test_parts_are_bounded_and_make_the_whole(size: int) -> None:
    data = bytes(size)
    parts = list(split_bundle("b", data))
    assert b"".join(part.data for part in parts) == data
    assert [part.number for part in parts] == list(range(1, parts[0].count + 1))
    assert all(0 < len(part.data) <= MAX_PART_BYTES and part.size_bytes == size for part in parts)
