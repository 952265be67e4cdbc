"""A cursor over received bytes. Every read is bounded, and leftover bytes are an error."""

from __future__ import annotations

from protocols.errors import RemoteProtocolError


class Reader:
    """Reads integers and slices from `data` in order; raises RemoteProtocolError when bytes are missing.

    Integers are big-endian unless the name ends in `_le`. `spec` names the document for error texts.
    """

    __slots__ = ("_data", "_end", "offset", "spec")

    def __init__(self, data: bytes, *, offset: int = 0, end: int | None = None, spec: str | None = None) -> None:
        self._data = data
        self._end = len(data) if end is None else end
        self.offset = offset
        self.spec = spec

    @property
    def remaining(self) -> int:
        return self._end - self.offset

    def error(self, message: str) -> RemoteProtocolError:
        """An error that carries this cursor's place and document, for the caller to raise."""
        return RemoteProtocolError(message, offset=self.offset, spec=self.spec)

    def take(self, size_bytes: int) -> bytes:
        start, stop = self.offset, self.offset + size_bytes
        if size_bytes < 0 or stop > self._end:
            raise self.error(f"need {size_bytes} bytes, have {self.remaining}")
        self.offset = stop
        return self._data[start:stop]

    def rest(self) -> bytes:
        return self.take(self.remaining)

    def peek(self) -> int:
        """The next byte, not consumed."""
        if self.offset >= self._end:
            raise self.error("need 1 byte, have 0")
        return self._data[self.offset]

    def u8(self) -> int:
        offset = self.offset
        if offset >= self._end:
            raise self.error("need 1 byte, have 0")
        self.offset = offset + 1
        return self._data[offset]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u24(self) -> int:
        return int.from_bytes(self.take(3), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def u16_le(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u24_le(self) -> int:
        return int.from_bytes(self.take(3), "little")

    def u32_le(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64_le(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def sub(self, size_bytes: int) -> Reader:
        """A reader over the next `size_bytes`, which this one skips. Offsets stay those of the whole."""
        start = self.offset
        if size_bytes < 0 or start + size_bytes > self._end:
            raise self.error(f"need {size_bytes} bytes, have {self.remaining}")
        self.offset = start + size_bytes
        return Reader(self._data, offset=start, end=self.offset, spec=self.spec)

    def expect_end(self) -> None:
        if self.offset != self._end:
            raise self.error(f"{self.remaining} bytes left over")
