"""OBIS codes, the logical names of COSEM objects (IEC 62056-6-1)."""

from __future__ import annotations

import re

_TEXT = re.compile(r"(\d+)[-.](\d+)[:.](\d+)\.(\d+)\.(\d+)(?:[*.](\d+))?")


class ObisCode(bytes):
    """Six value groups A to F. It is its own six bytes, so a slice of an APDU finds it in a dict.

    `ObisCode.parse` takes `1-0:1.8.0*255`, `1.0.1.8.0.255` and both without F, which is then 255.
    """

    __slots__ = ()

    def __new__(cls, value: bytes) -> ObisCode:
        if len(value) != 6:
            raise ValueError(f"an OBIS code has 6 bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> ObisCode:
        """Raises ValueError if `text` is not an OBIS code."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not an OBIS code such as 1-0:1.8.0*255")
        groups = [int(group) for group in match.groups(default="255")]
        if max(groups) > 255:
            raise ValueError(f"{text!r}: a value group of an OBIS code is at most 255")
        return cls(bytes(groups))

    @property
    def dotted(self) -> str:
        """`1.0.1.8.0.255`"""
        return ".".join(str(group) for group in self)

    def __str__(self) -> str:
        a, b, c, d, e, f = self
        return f"{a}-{b}:{c}.{d}.{e}*{f}"

    def __repr__(self) -> str:
        return f"ObisCode({self!s})"
