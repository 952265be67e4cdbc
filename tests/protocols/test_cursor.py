import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError


@given(st.binary(max_size=40), st.integers(0, 60))
def test_take_gives_exactly_what_was_asked_or_says_what_is_missing(data: bytes, size: int) -> None:
    reader = Reader(data, spec="a test")
    if size <= len(data):
        assert reader.take(size) == data[:size]
        assert reader.rest() == data[size:]
        reader.expect_end()
    else:
        with pytest.raises(RemoteProtocolError, match=f"need {size} bytes, have {len(data)} at byte 0 \\(a test\\)"):
            reader.take(size)


@pytest.mark.parametrize(
    ("method", "size", "order"),
    [("u16", 2, "big"), ("u24", 3, "big"), ("u32", 4, "big"), ("u64", 8, "big"), ("u16_le", 2, "little"),
     ("u24_le", 3, "little"), ("u32_le", 4, "little"), ("u64_le", 8, "little"), ("u8", 1, "big")],
)  # fmt: skip
@given(value=st.integers(0, 2**64 - 1))
def test_integers_read_what_int_to_bytes_wrote(method: str, size: int, order: str, value: int) -> None:
    value %= 1 << (8 * size)
    data = value.to_bytes(size, "big" if order == "big" else "little")
    reader = Reader(data)
    assert getattr(reader, method)() == value
    reader.expect_end()
    with pytest.raises(RemoteProtocolError):
        getattr(Reader(data[:-1]), method)()


def test_a_sub_reader_is_bounded_by_its_length() -> None:
    reader = Reader(b"abcdef")
    inner = reader.sub(4)
    assert inner.take(4) == b"abcd"
    with pytest.raises(RemoteProtocolError, match="at byte 4"):
        inner.u8()
    assert reader.rest() == b"ef"


def test_leftover_bytes_are_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="3 bytes left over"):
        Reader(b"abc").expect_end()
