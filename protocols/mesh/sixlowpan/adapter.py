"""The adaptation layer of one node: IPv6 packets to frame payloads and back."""

from __future__ import annotations

import functools
import random
from collections import Counter

from protocols.mesh.ipv6 import Ipv6Packet, interface_identifier
from protocols.mesh.sixlowpan.addresses import Context, Contexts
from protocols.mesh.sixlowpan.fragmentation import Fragment, Reassembler, fragment, is_fragment
from protocols.mesh.sixlowpan.iphc import DISPATCH_IPV6, Compressed, compress, decompress

# What a broadcast's interface identifier is derived from matters to no one: multicast destinations are not elided.
_NO_IID = bytes(8)


@functools.lru_cache(maxsize=64)
def _decompress_broadcast(payload: bytes, source_iid: bytes, contexts: tuple[tuple[int, Context], ...]) -> Ipv6Packet:
    """Kept for the others who hear the same frame."""
    return decompress(payload, source_iid, _NO_IID, Contexts(dict(contexts)))


class LowpanAdapter:
    """Compresses, fragments, reassembles and decompresses for the node with this EUI-64."""

    def __init__(
        self,
        eui64: bytes,
        rng: random.Random,
        counters: Counter[str],
        *,
        capacity_bytes: int,
        reassembly_timeout_s: float,
    ) -> None:
        self.contexts = Contexts()
        self._iid = interface_identifier(eui64)
        self._capacity_bytes = capacity_bytes
        self._reassembler = Reassembler(reassembly_timeout_s, counters)
        self._tag = rng.randrange(0x1_0000)

    def set_prefix(self, prefix: bytes) -> None:
        """Context 0 is the PAN's prefix, 8 bytes."""
        self.contexts.set(0, Context.of_prefix(prefix))

    def to_frames(self, packet: Ipv6Packet, next_hop: bytes | None) -> list[bytes]:
        """The 6LoWPAN payloads that carry `packet` to the link address `next_hop` (None: broadcast), in order.

        Raises LocalProtocolError if the packet is larger than fragmentation allows.
        """
        destination_iid = _NO_IID if next_hop is None else interface_identifier(next_hop)
        compressed = compress(packet, self._iid, destination_iid, self.contexts)
        if len(compressed.header) + len(compressed.payload) <= self._capacity_bytes:
            return [compressed.header + compressed.payload]
        self._tag = (self._tag + 1) & 0xFFFF
        frames = fragment(compressed, self._tag, self._capacity_bytes)
        if frames is None:
            # A compressed header must fit in the first fragment; an uncompressed one may be cut.
            whole = packet.encode()
            plain = Compressed(bytes((DISPATCH_IPV6,)), whole, 0)
            frames = fragment(plain, self._tag, self._capacity_bytes) or []
        return frames

    def from_frame(self, payload: bytes, source: bytes, destination: bytes | None, now: float) -> Ipv6Packet | None:
        """The packet that this frame payload completes, None if fragments are missing. Raises RemoteProtocolError."""
        source_iid = interface_identifier(source)
        destination_iid = _NO_IID if destination is None else self._iid
        if payload and is_fragment(payload[0]):

            def expand_first(first: bytes, datagram_bytes: int) -> bytes:
                if first[0] == DISPATCH_IPV6:
                    return first[1:]
                packet = decompress(first, source_iid, destination_iid, self.contexts, datagram_bytes)
                return packet.encode(datagram_bytes)

            whole = self._reassembler.add(Fragment.decode(payload), source, destination, now, expand_first)
            return None if whole is None else Ipv6Packet.decode(whole)
        if destination is None:
            return _decompress_broadcast(payload, source_iid, self.contexts.snapshot())
        return decompress(payload, source_iid, destination_iid, self.contexts)

    def next_deadline(self) -> float | None:
        return self._reassembler.next_deadline()

    def expire(self, now: float) -> None:
        """Give up datagrams whose fragments stay away."""
        self._reassembler.expire(now)

    def clear(self) -> None:
        """Forget contexts and unfinished datagrams; tags go on."""
        self._reassembler.clear()
        self.contexts.clear()
