"""Kinds of fields that several messages share."""

from __future__ import annotations

from protocols.headend.shapes import Hex, Integer, Text, UtcMs

ID = Text(64, "[A-Za-z0-9][A-Za-z0-9._:-]*", 1)
SERIAL = Text(32, "[A-Za-z0-9][A-Za-z0-9._-]*", 1)
NAME = Text(64)
DETAIL = Text(512)
EUI64 = Hex(8, 8)
OBIS = Text(23, r"[0-9]{1,3}-[0-9]{1,3}:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\*[0-9]{1,3}")
UTC = UtcMs()
COUNT = Integer(0, 2**31 - 1)
