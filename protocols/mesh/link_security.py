"""Link security of IEEE 802.15.4-2015, clause 9: AES-CCM*, frame counters, and refusal of replays."""

from __future__ import annotations

from collections import OrderedDict
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ieee802154 import mic_size

ENC_MIC_64 = 6
KEY_BYTES = 16
MAX_FRAME_COUNTER = 0xFFFF_FFFF
"""Never used: the counter that says that a key is worn out (9.4.3)."""

_ENCRYPTS = 4
_SPEC = "IEEE 802.15.4-2015, 9.3"


class AuthenticationError(RemoteProtocolError):
    """The integrity code does not fit: wrong key, forged or damaged."""


class LinkCipher:
    """One key at one security level: 1 to 3 authenticate, 5 to 7 encrypt too. Holds its cipher for reuse.

    Level 4 (encryption without integrity) is withdrawn and refused. Raises LocalProtocolError.
    """

    __slots__ = ("_ccm", "_encrypts", "_key", "_level_byte", "level", "mic_bytes")

    def __init__(self, key: bytes, level: int = ENC_MIC_64) -> None:
        if len(key) != KEY_BYTES:
            raise LocalProtocolError(f"a link key has {KEY_BYTES} bytes, not {len(key)}")
        if level not in (1, 2, 3, 5, 6, 7):
            raise LocalProtocolError(f"security level {level} is not supported")
        self._key = key
        self.level = level
        self.mic_bytes = mic_size(level)
        self._level_byte = bytes((level,))
        self._encrypts = level > _ENCRYPTS
        self._ccm = AESCCM(key, tag_length=self.mic_bytes)

    def has_key(self, key: bytes) -> bool:
        return compare_digest(self._key, key)

    def seal(self, header: bytes, body: bytes, source_eui64: bytes, frame_counter: int) -> bytes:
        """What follows `header` in the frame: the body (encrypted from level 5 on) and its integrity code.

        `header` is the whole MAC header, header elements and their termination included.
        """
        nonce = source_eui64 + frame_counter.to_bytes(4, "big") + self._level_byte
        if self._encrypts:
            return self._ccm.encrypt(nonce, body, header)
        return body + self._ccm.encrypt(nonce, b"", header + body)

    def open(self, header: bytes, secured: bytes, source_eui64: bytes, frame_counter: int) -> bytes:
        """The body in clear. Raises AuthenticationError."""
        if len(secured) < self.mic_bytes:
            raise AuthenticationError("integrity code is cut off", spec=_SPEC)
        nonce = source_eui64 + frame_counter.to_bytes(4, "big") + self._level_byte
        try:
            if self._encrypts:
                return self._ccm.decrypt(nonce, secured, header)
            body = secured[: -self.mic_bytes]
            self._ccm.decrypt(nonce, secured[-self.mic_bytes :], header + body)
        except InvalidTag as error:
            raise AuthenticationError("integrity code does not fit", spec=_SPEC) from error
        return body


class KeyTable:
    """The group keys of a node, index 1 to 7, and the frame counter that each sends next."""

    def __init__(self, level: int = ENC_MIC_64) -> None:
        self._level = level
        self._ciphers: dict[int, LinkCipher] = {}
        self._counters: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ciphers)

    def set(self, index: int, key: bytes, frame_counter: int) -> bool:
        """Install a key, which replaces one of the same index. Raises LocalProtocolError.

        Returns whether the key differs from the one that was there: what was heard under the old one then says
        nothing about the new one.
        """
        if not 1 <= index <= 7:
            raise LocalProtocolError(f"key index {index} is not 1 to 7")
        old = self._ciphers.get(index)
        is_new = old is None or not old.has_key(key)
        if is_new:
            self._ciphers[index] = LinkCipher(key, self._level)
        self._counters[index] = frame_counter
        return is_new

    def clear(self, index: int) -> None:
        self._ciphers.pop(index, None)
        self._counters.pop(index, None)

    def cipher(self, index: int) -> LinkCipher | None:
        return self._ciphers.get(index)

    def is_usable(self, index: int) -> bool:
        """Whether there is such a key with counters left."""
        return self._counters.get(index, MAX_FRAME_COUNTER) < MAX_FRAME_COUNTER

    def take_counter(self, index: int) -> int:
        """The counter for the next frame under a usable key. Raises LocalProtocolError when there is none."""
        if not self.is_usable(index):
            raise LocalProtocolError(f"key {index} is missing or its frame counters are used up")
        counter = self._counters[index]
        self._counters[index] = counter + 1
        return counter


class ReplayGuard:
    """Frame counters already heard, by source and key index.

    Holds at most `capacity` entries; beyond, the one that was heard longest ago is forgotten, and the source's next
    authentic frame is taken as its first. Only authentic frames make entries, so a stranger cannot push others out.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._next: OrderedDict[tuple[bytes, int], int] = OrderedDict()

    def is_fresh(self, source: bytes, key_index: int, frame_counter: int) -> bool:
        return frame_counter >= self._next.get((source, key_index), 0) and frame_counter < MAX_FRAME_COUNTER

    def note(self, source: bytes, key_index: int, frame_counter: int) -> None:
        """An authentic frame with this counter was accepted."""
        self.raise_floor(source, key_index, frame_counter + 1)

    def raise_floor(self, source: bytes, key_index: int, minimum_frame_counter: int) -> None:
        """Refuse counters below `minimum_frame_counter` from now on. A floor is never lowered."""
        entry = (source, key_index)
        if minimum_frame_counter > self._next.get(entry, -1):
            self._next[entry] = minimum_frame_counter
        self._next.move_to_end(entry)
        if len(self._next) > self._capacity:
            self._next.popitem(last=False)

    def forget_key(self, key_index: int) -> None:
        for entry in [entry for entry in self._next if entry[1] == key_index]:
            del self._next[entry]
