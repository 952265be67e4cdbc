"""The radio hardware of a third party's firmware: frames come and go as they are, acknowledgements are automatic.

Such firmware has its own MAC and believes that it sits on a transceiver that assesses the channel and acknowledges by
itself (IEEE 802.15.4-2015, 6.7.4.2, Imm-Ack). This is that transceiver. It learns the node's addresses from what it
sends.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable

from protocols.errors import RemoteProtocolError
from protocols.mesh.checksum import FCS16_BYTES, append_fcs, has_valid_fcs
from protocols.mesh.ieee802154 import BROADCAST_SHORT, MacFrameType, layout_of
from protocols.mesh.phy import TURNAROUND_S, UNIT_BACKOFF_S
from protocols.ports import Timers
from twin.air.gateway.zep import MAX_PSDU_BYTES
from twin.air.stations import Station

_ACK_REQUEST = 0x20
_SEQUENCE_SUPPRESSION = 0x0100
_MIN_BE, _MAX_BE, _MAX_BACKOFFS = 3, 5, 4
_QUEUE_LENGTH = 16

Deliver = Callable[[bytes, int, int], None]
"""Called with PSDU, channel, LQI of every whole frame of at most 127 bytes that the radio hears."""


class ZepRadio:
    """`twin.air.stations.RadioUser` for one peer. What it drops has a counter in `counters`."""

    def __init__(self, station: Station, timers: Timers, rng: random.Random, deliver: Deliver) -> None:
        self._station = station
        self._timers = timers
        self._rng = rng
        self._deliver = deliver
        self._queue: deque[tuple[bytes, int]] = deque()
        self._accessing = False
        self._sending_ack = False
        self._addresses: set[bytes] = set()
        self._channel: int | None = None
        self.counters: Counter[str] = Counter()
        station.user = self

    # the firmware's side

    def send(self, psdu: bytes, channel: int) -> None:
        """Queue a frame of the firmware, whose FCS is worked out anew; the radio listens on its channel from now on."""
        content = psdu[:-FCS16_BYTES]
        try:
            layout = layout_of(content[0] | content[1] << 8)
        except (IndexError, RemoteProtocolError):
            self.counters["malformed"] += 1
            return
        if layout.addresses_end > len(content):
            self.counters["malformed"] += 1
            return
        if layout.source_at >= 0:
            self._addresses.add(content[layout.source_at : layout.addresses_end])
        self._channel = channel
        if len(self._queue) >= _QUEUE_LENGTH:
            self.counters["queue_full"] += 1
            return
        self._queue.append((append_fcs(content, FCS16_BYTES), channel))
        self._begin_access()

    def _begin_access(self) -> None:
        if self._queue and not self._accessing:
            self._accessing = True
            self._back_off(_MIN_BE, 0)

    def _back_off(self, exponent: int, backoffs: int) -> None:
        when = self._timers.time() + self._rng.getrandbits(exponent) * UNIT_BACKOFF_S
        self._timers.call_at(when, self._assess, exponent, backoffs)

    def _assess(self, exponent: int, backoffs: int) -> None:
        psdu, channel = self._queue[0]
        if self._is_sending():
            self._back_off(exponent, backoffs)
        elif self._station.is_clear(channel) and not self._station.is_receiving():
            self._queue.popleft()
            self.counters["sent"] += 1
            self._station.transmit(psdu, channel)
        elif backoffs >= _MAX_BACKOFFS:
            self._queue.popleft()
            self.counters["channel_access_failure"] += 1
            self._accessing = False
            self._begin_access()
        else:
            self._back_off(min(exponent + 1, _MAX_BE), backoffs + 1)

    def _is_sending(self) -> bool:
        return self._sending_ack or self._station.sending is not None

    # the medium's side

    def listening_channel(self, now: float) -> int | None:
        return self._channel

    def transmit_done(self) -> None:
        if self._sending_ack:
            self._sending_ack = False
            return
        self._accessing = False
        self._begin_access()

    def receive(self, psdu: bytes, rss_dbm: int, channel: int, lqi: int, start_s: float) -> None:
        if len(psdu) > MAX_PSDU_BYTES or not has_valid_fcs(psdu, FCS16_BYTES):
            self.counters["not_for_this_phy"] += 1
            return
        self._acknowledge(psdu, channel)
        self.counters["received"] += 1
        self._deliver(psdu, channel, lqi)

    def _acknowledge(self, psdu: bytes, channel: int) -> None:
        """What wants an acknowledgement, is for this node and has a sequence number gets one."""
        control = psdu[0] | psdu[1] << 8
        if not control & _ACK_REQUEST or control & _SEQUENCE_SUPPRESSION:
            return
        try:
            layout = layout_of(control)
        except RemoteProtocolError:
            return
        destination = psdu[layout.destination_at : layout.destination_end] if layout.destination_at >= 0 else b""
        if layout.frame_type is MacFrameType.ACK or destination == BROADCAST_SHORT:
            return
        if destination in self._addresses and not self._is_sending():
            self._sending_ack = True
            ack = append_fcs(bytes((MacFrameType.ACK, 0, psdu[layout.sequence_at])), FCS16_BYTES)
            self._timers.call_at(self._timers.time() + TURNAROUND_S, self._send_ack, ack, channel)

    def _send_ack(self, ack: bytes, channel: int) -> None:
        self.counters["acknowledged"] += 1
        self._station.transmit(ack, channel)
