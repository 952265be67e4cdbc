"""Seeded randomness and keys. One seed, one result: every consumer draws from a stream of its own name."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable

from protocols.ports import KeySource

KeyFactory = Callable[[str], KeySource]
"""A key source for each consumer, by name."""


class Seeds:
    """Independent random streams of one run, by name: adding a consumer does not move the others."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _digest(self, name: str) -> bytes:
        return hashlib.sha256(f"openami-twin/{self.seed}/{name}".encode()).digest()

    def stream(self, name: str) -> random.Random:
        return random.Random(int.from_bytes(self._digest(name), "big"))

    def keys(self, name: str) -> SeededKeys:
        return SeededKeys(self._digest(f"keys/{name}"))


class SeededKeys:
    """Key source of virtual runs: SHA-256 in counter mode over a seed. For tests only, as anyone can repeat it."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._counter = 0

    def random_bytes(self, size_bytes: int) -> bytes:
        out = bytearray()
        while len(out) < size_bytes:
            out += hashlib.sha256(self._seed + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        return bytes(out[:size_bytes])


class SystemKeys:
    """Key source of real runs: the operating system's."""

    def random_bytes(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)
