# SPDX-License-Identifier: GPL-2.0-only
"""A fuzzer of frames: seeded edits of one field, of lengths, of bytes, for `ScapyPipeline` and for injection."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from scapy.fields import BitField, PacketListField
from scapy.packet import NoPayload, Packet

from twin.air.scapy_layers.dot15d4 import Dot15d4
from twin.air.scapy_layers.fields import HexField

_PROTECTED = {"fcs", "fcs_bytes", "mic"}
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0xFFFF_FFFF)


@dataclass(slots=True)
class Fuzzer:
    """Changes one field of a frame at a time: `Edit(fuzzer.change)`. What it did is in `log`.

    With `keep_link` the MAC header stays, so that frames still reach their destination and are let in by its link
    security, and the layers above have to refuse them.
    """

    rng: random.Random
    keep_link: bool = True
    log: list[str] = field(default_factory=list)

    def change(self, packet: Packet) -> Packet:
        """A copy of `packet` with one field changed; the packet itself if it has none to change."""
        copy = packet.copy()
        candidates = list(self._candidates(copy))
        if not candidates:
            return copy
        layer, target = self.rng.choice(candidates)
        before = layer.getfieldval(target.name)
        after = self._other_value(target, before)
        layer.setfieldval(target.name, after)
        self.log.append(f"{layer.name}.{target.name}: {before!r} -> {after!r}")
        return copy

    def _candidates(self, packet: Packet) -> Iterator[tuple[Packet, Any]]:
        layer: Packet = packet
        while not isinstance(layer, NoPayload):
            if not (self.keep_link and isinstance(layer, Dot15d4)):
                yield from self._fields_of(layer)
            layer = layer.payload

    def _fields_of(self, layer: Packet) -> Iterator[tuple[Packet, Any]]:
        for name in layer.fields:
            target = layer.get_field(name)
            value = layer.fields[name]
            if isinstance(target, PacketListField):
                for element in value:
                    yield from self._fields_of(element)
            elif name not in _PROTECTED and isinstance(value, int | bytes | str):
                yield layer, target

    def _other_value(self, target: Any, value: object) -> object:
        if isinstance(value, int):
            bits = target.size if isinstance(target, BitField) else 8 * target.sz
            return self._other_number(value, int(bits))
        if isinstance(value, str) and isinstance(target, HexField):
            return self._other_bytes(bytes.fromhex(value)).hex()
        if isinstance(value, bytes):
            return self._other_bytes(value)
        return value

    def _other_number(self, value: int, bits: int) -> int:
        mask = (1 << bits) - 1
        choices = [number & mask for number in (*_INTERESTING, value + 1, value - 1, self.rng.getrandbits(bits))]
        return self.rng.choice([number for number in choices if number != value] or [value])

    def _other_bytes(self, value: bytes) -> bytes:
        data = bytearray(value)
        kind = self.rng.randrange(4)
        if kind == 0 and data:
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        elif kind == 1:
            del data[self.rng.randrange(len(data) + 1) :]
        elif kind == 2:
            data += self.rng.randbytes(self.rng.randint(1, 8))
        else:
            data[:] = self.rng.randbytes(len(data))
        return bytes(data)
