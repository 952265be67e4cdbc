"""The receiving half of a MAC: filters, verification, acknowledgements, duplicates. Every drop has its counter."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from protocols.errors import RemoteProtocolError
from protocols.mesh.checksum import has_valid_fcs
from protocols.mesh.ieee802154 import BROADCAST_PAN, BROADCAST_SHORT, MacFrameType, MacHeader, layout_of, split_body
from protocols.mesh.link_security import ENC_MIC_64, AuthenticationError
from protocols.mesh.mac_frames import Sealing, build_ack
from protocols.mesh.mac_states import Radio, RadioEvent
from protocols.mesh.mac_station import Identity, Station
from protocols.mesh.mac_transmit import Transmitter
from protocols.mesh.phy import TURNAROUND_S
from protocols.mesh.wisun import FrameType, HeaderElements
from protocols.ports import Cancellable
from protocols.rcp.messages import NO_PAN, UNSECURED, Received

_FOREIGN_PAN_TYPES = (FrameType.PA, FrameType.PAS)
"""What a node must hear from other PANs, to choose among them."""
_SECURED_TYPES = (FrameType.DATA, FrameType.PC)
_DUPLICATE_CAPACITY = 1024
_KEY_ID_MODE = 1


@dataclass(frozen=True, slots=True)
class Reception:
    """How a frame arrived."""

    rss_dbm: float
    channel: int
    lqi: int
    start_s: float


@functools.lru_cache(maxsize=64)
def _parse(psdu: bytes, fcs_bytes: int) -> tuple[bytes, MacHeader, int, HeaderElements, bytes]:
    """The frame without its FCS, header, where the body begins, elements, source; kept for the other receivers."""
    if not has_valid_fcs(psdu, fcs_bytes):
        raise _Drop("bad_fcs")
    frame = psdu[:-fcs_bytes]
    header, body_at = MacHeader.decode(frame)
    elements = HeaderElements.decode(header.header_ies)
    source = header.source
    if source is None or len(source) != 8 or header.frame_type not in (MacFrameType.DATA, MacFrameType.ACK):
        raise _Drop("unsupported")
    return frame, header, body_at, elements, source


class _Drop(Exception):  # noqa: N818 (control flow inside this module: the reason is a counter's name)
    pass


class Receiver:
    """Takes PSDUs from the air, gives verified new frames to `deliver`."""

    def __init__(self, station: Station, transmitter: Transmitter, deliver: Callable[[Received], None]) -> None:
        self._station = station
        self._transmitter = transmitter
        self._deliver = deliver
        self._recent: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._ack_timer: Cancellable | None = None

    def forget(self) -> None:
        """What was heard, and an acknowledgement that was due."""
        self._recent.clear()
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._station.radio is Radio.ACK_TURNAROUND:
            self._station.change(RadioEvent.CALLED_OFF)

    def receive(self, psdu: bytes, rss_dbm: float, channel: int, lqi: int, start_s: float) -> None:
        station = self._station
        identity = station.identity
        counters = station.counters
        if identity is None or station.radio is not Radio.LISTENING:
            counters["rx_deaf"] += 1
            return
        if len(psdu) <= identity.fcs_bytes + 2:
            counters["rx_malformed"] += 1
            return
        try:
            layout = layout_of(psdu[0] | psdu[1] << 8)
            at = layout.destination_at
            # Nearly everything that a radio hears is for others: looked at before anything is computed.
            if at >= 0:
                destination = psdu[at : layout.destination_end]
                if destination not in (identity.eui64_on_air, BROADCAST_SHORT):
                    counters["rx_not_for_us"] += 1
                    return
            self._accept(psdu, identity, Reception(rss_dbm, channel, lqi, start_s))
        except _Drop as drop:
            counters[f"rx_{drop}"] += 1
        except RemoteProtocolError:
            counters["rx_malformed"] += 1

    def _accept(self, psdu: bytes, identity: Identity, reception: Reception) -> None:
        frame, header, body_at, elements, source = _parse(psdu, identity.fcs_bytes)
        if source == identity.eui64:
            raise _Drop("own_address")
        _check_pan(header, elements.frame_type, identity.pan_id)
        if header.frame_type is MacFrameType.ACK:
            self._accept_ack(header, frame, body_at, source, elements, reception)
        else:
            self._accept_data(header, frame, body_at, source, elements, reception)

    def _accept_ack(
        self,
        header: MacHeader,
        frame: bytes,
        body_at: int,
        source: bytes,
        elements: HeaderElements,
        reception: Reception,
    ) -> None:
        if elements.frame_type is not FrameType.ACK or not self._transmitter.expects_ack(header):
            raise _Drop("unexpected_ack")
        if header.security is not None:
            self._open(header, frame, body_at, source)
        self._station.counters["rx_acks"] += 1
        self._station.schedule.heard(source, elements, b"", reception.start_s, authentic=self._is_trusted(header))
        self._transmitter.acknowledged(elements)

    def _accept_data(
        self,
        header: MacHeader,
        frame: bytes,
        body_at: int,
        source: bytes,
        elements: HeaderElements,
        reception: Reception,
    ) -> None:
        station = self._station
        if elements.frame_type is FrameType.ACK:
            raise _Drop("unsupported")
        if header.security is not None:
            body = self._open(header, frame, body_at, source)
        elif elements.frame_type in _SECURED_TYPES and len(station.keys):
            raise _Drop("unsecured")
        else:
            body = frame[body_at:]
        payload_ies, payload = split_body(header, body)
        station.schedule.heard(source, elements, payload_ies, reception.start_s, authentic=self._is_trusted(header))
        unicast = header.destination is not None and len(header.destination) == 8
        if unicast and header.ack_request and header.sequence is not None:
            self._acknowledge(header, reception)
            if self._is_duplicate(source, header.sequence):
                raise _Drop("duplicate")
        station.counters["rx_delivered"] += 1
        security = header.security
        self._deliver(
            Received(
                elements.frame_type,
                source,
                header.destination if unicast else None,
                self._pan_told(header, elements.frame_type),
                UNSECURED if security is None else security.key_index,
                0 if security is None else security.frame_counter,
                round(reception.rss_dbm),
                reception.lqi,
                reception.channel,
                round(reception.start_s * 1_000_000),
                payload_ies,
                payload,
            )
        )

    def _open(self, header: MacHeader, frame: bytes, body_at: int, source: bytes) -> bytes:
        """The body in clear, if the frame is authentic and new."""
        security, station = header.security, self._station
        if security is None or security.level != ENC_MIC_64 or security.key_id_mode != _KEY_ID_MODE:
            raise _Drop("bad_security")
        cipher = station.keys.cipher(security.key_index)
        if cipher is None:
            raise _Drop("no_key")
        if not station.replay.is_fresh(source, security.key_index, security.frame_counter):
            self._refused("replayed", source, security.frame_counter)
        try:
            body = cipher.open(frame[:body_at], frame[body_at:], source, security.frame_counter)
        except AuthenticationError:
            self._refused("bad_mic", source, security.frame_counter)
        station.replay.note(source, security.key_index, security.frame_counter)
        return body

    def _pan_told(self, header: MacHeader, frame_type: FrameType) -> int:
        """A data frame that names no PAN is one of ours: only nodes of one PAN send such frames to each other."""
        identity = self._station.identity
        pan = _pan_of(header)
        if pan == NO_PAN and frame_type is FrameType.DATA and identity is not None:
            return identity.pan_id
        return pan

    def _is_trusted(self, header: MacHeader) -> bool:
        """Verified, or in a network that does without keys."""
        return header.security is not None or not len(self._station.keys)

    def _refused(self, reason: str, source: bytes, frame_counter: int) -> NoReturn:
        trace = self._station.trace
        if trace is not None:
            trace("mac-refused", reason=reason, source=source.hex(), frame_counter=frame_counter)
        raise _Drop(reason)

    def _is_duplicate(self, source: bytes, sequence: int) -> bool:
        """A sender that missed our acknowledgement sends the same sequence number again, under a new counter."""
        now = self._station.timers.time()
        last = self._recent.get(source)
        self._recent[source] = (sequence, now)
        self._recent.move_to_end(source)
        if len(self._recent) > _DUPLICATE_CAPACITY:
            self._recent.popitem(last=False)
        return last is not None and last[0] == sequence and now - last[1] <= self._station.parameters.duplicate_window_s

    # acknowledgements

    def _acknowledge(self, header: MacHeader, reception: Reception) -> None:
        station = self._station
        station.change(RadioEvent.ACK_DUE)
        due_s = station.timers.time() + TURNAROUND_S
        self._ack_timer = station.timers.call_at(due_s, self._send_ack, header, reception)

    def _send_ack(self, header: MacHeader, reception: Reception) -> None:
        station = self._station
        identity = station.identity
        self._ack_timer = None
        sealing: Sealing | None = None
        if header.security is not None:
            sealing = station.sealing(header.security.key_index)
        if identity is None or (header.security is not None and sealing is None):
            station.change(RadioEvent.CALLED_OFF)
            return
        timing = station.schedule.timing(station.timers.time())
        rsl_dbm = min(max(round(reception.rss_dbm), -174), 80)
        psdu = build_ack(identity.eui64, header, timing, rsl_dbm, sealing, identity.fcs_bytes)
        station.change(RadioEvent.TURNED)
        station.counters["tx_acks"] += 1
        station.phy.transmit(psdu, reception.channel)


def _pan_of(header: MacHeader) -> int:
    if header.source_pan is not None:
        return header.source_pan
    return NO_PAN if header.destination_pan is None else header.destination_pan


def _check_pan(header: MacHeader, frame_type: FrameType, own_pan: int) -> None:
    pan = _pan_of(header)
    if BROADCAST_PAN not in (pan, own_pan) and pan != own_pan and frame_type not in _FOREIGN_PAN_TYPES:
        raise _Drop("other_pan")
