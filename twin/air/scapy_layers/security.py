# SPDX-License-Identifier: GPL-2.0-only
"""From PSDUs to layers in clear, and back to PSDUs, given the link keys."""

from __future__ import annotations

from collections.abc import Mapping

from scapy.config import conf
from scapy.packet import Packet

from protocols.errors import RemoteProtocolError
from protocols.mesh.checksum import append_fcs, has_valid_fcs
from protocols.mesh.ieee802154 import MacHeader
from protocols.mesh.link_security import AuthenticationError, LinkCipher
from twin.air.scapy_layers.dot15d4 import Ciphertext, Dot15d4, Dot15d4Clear
from twin.air.scapy_layers.fields import address_bytes

_SUPPORTED_LEVELS = (1, 2, 3, 5, 6, 7)
_MIN_PSDU_BYTES = 6


class LinkKeys:
    """Group keys by index, 1 to 7. A key on its own is that of index 1."""

    def __init__(self, keys: bytes | Mapping[int, bytes] | None = None) -> None:
        self._keys = {1: keys} if isinstance(keys, bytes) else dict(keys or {})
        self._ciphers: dict[tuple[int, int], LinkCipher] = {}

    def set(self, index: int, key: bytes) -> None:
        """Install or replace a key."""
        self._keys[index] = key
        self._ciphers = {known: cipher for known, cipher in self._ciphers.items() if known[0] != index}

    def cipher_of(self, frame: Dot15d4) -> LinkCipher | None:
        """The cipher for a secured frame; None without its key, or for security that is not supported."""
        if not frame.security or frame.key_id_mode != 1 or frame.security_level not in _SUPPORTED_LEVELS:
            return None
        wanted = (frame.key_index, frame.security_level)
        cipher = self._ciphers.get(wanted)
        if cipher is None and frame.key_index in self._keys:
            cipher = self._ciphers[wanted] = LinkCipher(self._keys[frame.key_index], frame.security_level)
        return cipher


def dissect(psdu: bytes) -> Packet:
    """The layers of a PSDU with its FCS; `Raw` if it is no frame. What is encrypted stays so."""
    if len(psdu) < _MIN_PSDU_BYTES or not _has_header(psdu[:-4]) or psdu[0] & 0x80:
        return conf.raw_layer(psdu)
    frame = Dot15d4(psdu)
    if has_valid_fcs(psdu, frame.fcs_bytes):
        frame.fcs = None
    return frame


def _has_header(content: bytes) -> bool:
    try:
        MacHeader.decode(content)
    except RemoteProtocolError:
        return False
    return True


def open_frame(psdu: bytes, keys: LinkKeys) -> Packet:
    """The layers of a PSDU, decrypted if its key is there and its integrity code fits, else as by `dissect`.

    A frame that was secured and is in clear now is a `Dot15d4Clear`; `mic` and `fcs` are made anew by `seal_frame`.
    """
    frame = dissect(psdu)
    if not isinstance(frame, Dot15d4) or not frame.security or frame.fcs is not None:
        return frame
    cipher = keys.cipher_of(frame)
    source = address_bytes(frame.fields.get("source"))
    if cipher is None or len(source) != 8 or frame.mic is None:
        return frame
    content = psdu[: -frame.fcs_bytes]
    body_bytes = len(bytes(frame.payload))
    header = content[: len(content) - cipher.mic_bytes - body_bytes]
    try:
        body = cipher.open(header, content[len(header) :], source, frame.frame_counter)
    except AuthenticationError:
        return frame
    clear = Dot15d4Clear(append_fcs(header + body + bytes(cipher.mic_bytes), frame.fcs_bytes))
    clear.mic = None
    clear.fcs = None
    return clear


def seal_frame(packet: Packet, keys: LinkKeys, fallback: LinkCipher | None = None) -> bytes:
    """The PSDU of a packet: a `Dot15d4Clear` is secured again, with its own counter; others are built as they are.

    `fallback` secures a frame whose header names a key that is not there, as an edit may make it. Raises LookupError
    without one.
    """
    if not isinstance(packet, Dot15d4Clear) or not packet.security:
        return bytes(packet)
    cipher = keys.cipher_of(packet) or fallback
    if cipher is None:
        raise LookupError(f"no key {packet.key_index} for security level {packet.security_level}")
    header = packet.finish_header(packet.self_build())
    body = packet.payload.build()
    source = address_bytes(packet.fields.get("source")).rjust(8, b"\0")[-8:]
    return append_fcs(header + cipher.seal(header, body, source, packet.frame_counter), packet.fcs_bytes)


__all__ = ["Ciphertext", "LinkKeys", "dissect", "open_frame", "seal_frame"]
