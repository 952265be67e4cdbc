"""DH1CF, the direct hash channel function of Wi-SUN FAN: which channel a hopping sequence has in a slot.

The hash is Bob Jenkins's lookup3 `hashword` over three 32-bit words with initial value 0.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF
_SEED = (0xDEAD_BEEF + (3 << 2)) & _MASK


def hashword3(word0: int, word1: int, word2: int) -> int:
    """lookup3 `hashword` of three words: its final mix, as three words fill exactly one block."""
    a, b, c = (_SEED + word0) & _MASK, (_SEED + word1) & _MASK, (_SEED + word2) & _MASK
    c = ((c ^ b) - (b << 14 | b >> 18)) & _MASK
    a = ((a ^ c) - (c << 11 | c >> 21)) & _MASK
    b = ((b ^ a) - (a << 25 | a >> 7)) & _MASK
    c = ((c ^ b) - (b << 16 | b >> 16)) & _MASK
    a = ((a ^ c) - (c << 4 | c >> 28)) & _MASK
    b = ((b ^ a) - (a << 14 | a >> 18)) & _MASK
    return ((c ^ b) - (b << 24 | b >> 8)) & _MASK


def unicast_channel(slot: int, eui64: bytes, channel_count: int) -> int:
    """Channel index on which the node `eui64` listens in its unicast `slot`, 0 to 65,535."""
    return hashword3(slot, int.from_bytes(eui64[4:8], "big"), int.from_bytes(eui64[0:4], "big")) % channel_count


def broadcast_channel(slot: int, schedule_id: int, channel_count: int) -> int:
    """Channel index of the PAN's broadcast `slot`, 0 to 65,535, under a broadcast schedule identifier."""
    return hashword3(slot, schedule_id << 16, 0) % channel_count
