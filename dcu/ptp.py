"""PTP as a slave with software time stamps: a grandmaster is asked for unicast service, and its answers become samples.

The delay is measured end to end; what its two directions differ by cannot be seen, so half of it is the uncertainty.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dcu.discipline import TimeSample
from protocols.errors import RemoteProtocolError
from protocols.ports import Cancellable, Timers
from protocols.ptp import (
    ANY_PORT,
    EVENT_MESSAGES,
    Announce,
    DelayReq,
    DelayResp,
    Flags,
    FollowUp,
    Header,
    Message,
    MessageType,
    PortIdentity,
    Signaling,
    Sync,
    TlvType,
    UnicastTlv,
    decode,
    encode,
)

_LOG = logging.getLogger(__name__)
_ASK_EVERY_S = 10.0
_DURATION_S = 300
_RENEW_S = 120.0
_WANTED = (MessageType.ANNOUNCE, MessageType.SYNC, MessageType.DELAY_RESP)
_WORST_CLASS = 7
"""Classes 6 and 7: follows a primary reference, or did lately and still vouches for its time."""
_STAMP_UNCERTAINTY_S = 100e-6
_DAY_S = 86_400


class PtpPort(Protocol):
    """A way to the grandmaster. `is_event` tells the port of event messages from that of general ones."""

    def send(self, data: bytes, *, is_event: bool) -> None: ...

    def on_datagram(self, callback: Callable[[bytes], None]) -> None: ...


@dataclass(slots=True)
class _Exchange:
    """One measurement, in the seconds of the oscillator (`*_count_s`) and of the master (TAI)."""

    sequence: int
    sync_count_s: float
    sync_correction_s: float
    left_tai_s: float | None = None
    asked_count_s: float | None = None


class PtpSlave:
    """Negotiates, measures, and gives a sample for each Sync that was answered.

    Nothing is offered of a master that vouches for nothing: a clock class beyond 7, no PTP timescale, or no valid
    offset of UTC. `on_leap(at_utc_s, step_s)` is told of an announced leap second at the end of the UTC day.
    """

    def __init__(
        self,
        port: PtpPort,
        identity: bytes,
        *,
        timers: Timers,
        oscillator_s: Callable[[], float],
        on_sample: Callable[[TimeSample], None],
        on_leap: Callable[[int, int], None],
        domain: int = 0,
    ) -> None:
        self._port = port
        self._me = PortIdentity(identity, 1)
        self._timers = timers
        self._oscillator_s = oscillator_s
        self._on_sample = on_sample
        self._on_leap = on_leap
        self._domain = domain
        self._sequence = 0
        self._granted_until_s = 0.0
        self._announce: Announce | None = None
        self._exchange: _Exchange | None = None
        self._timer: Cancellable | None = None
        self.delay_s: float | None = None
        """One way, as last measured."""
        self.counters: Counter[str] = Counter()

    @property
    def has_master(self) -> bool:
        """Whether a master that vouches for its time serves us."""
        return self._announce is not None and self._vouches(self._announce)

    def start(self) -> None:
        self._port.on_datagram(self._received)
        self._ask()

    def stop(self) -> None:
        self._port.on_datagram(lambda _: None)
        if self._timer is not None:
            self._timer.cancel()

    # negotiation

    def _ask(self) -> None:
        tlvs = tuple(UnicastTlv(TlvType.REQUEST_UNICAST, kind, 0, _DURATION_S) for kind in _WANTED)
        self._send(Signaling(self._header(), ANY_PORT, tlvs))
        is_granted = self._granted_until_s - _RENEW_S > self._timers.time()
        self._timer = self._timers.call_at(self._timers.time() + (_RENEW_S if is_granted else _ASK_EVERY_S), self._ask)

    def _signaled(self, message: Signaling) -> None:
        for tlv in message.tlvs:
            if tlv.kind is TlvType.GRANT_UNICAST and tlv.message is MessageType.SYNC:
                if not tlv.duration_s:
                    self.counters["refused"] += 1
                    continue
                if self._granted_until_s <= self._timers.time():
                    # Through a translator of addresses the master learns our event port by this.
                    self._send(DelayReq(self._header()))
                self._granted_until_s = self._timers.time() + tlv.duration_s

    # messages

    def _received(self, data: bytes) -> None:
        count_s = self._oscillator_s()
        try:
            message = decode(data)
        except RemoteProtocolError as error:
            self.counters["malformed"] += 1
            _LOG.debug("a PTP message was dropped: %s", error)
            return
        if message.header.domain != self._domain:
            self.counters["other_domain"] += 1
            return
        match message:
            case Announce():
                self._announced(message)
            case Sync():
                self._synced(message, count_s)
            case FollowUp():
                self._followed(message)
            case DelayResp():
                self._answered(message)
            case Signaling():
                self._signaled(message)
            case DelayReq():
                self.counters["unexpected"] += 1

    def _announced(self, message: Announce) -> None:
        self._announce = message
        if not self._vouches(message):
            self.counters["not_vouched"] += 1

    @staticmethod
    def _vouches(message: Announce) -> bool:
        needed = Flags.PTP_TIMESCALE | Flags.UTC_OFFSET_VALID
        return message.clock_class <= _WORST_CLASS and message.header.flags & needed == needed

    def _synced(self, message: Sync, count_s: float) -> None:
        correction_s = message.header.correction_ns * 1e-9
        self._exchange = exchange = _Exchange(message.header.sequence, count_s, correction_s)
        if not message.header.flags & Flags.TWO_STEP:
            exchange.left_tai_s = message.origin.tai_s
            self._ask_delay(exchange)

    def _followed(self, message: FollowUp) -> None:
        exchange = self._exchange
        if exchange is None or exchange.sequence != message.header.sequence or exchange.left_tai_s is not None:
            self.counters["unexpected"] += 1
            return
        exchange.left_tai_s = message.precise_origin.tai_s
        exchange.sync_correction_s += message.header.correction_ns * 1e-9
        self._ask_delay(exchange)

    def _ask_delay(self, exchange: _Exchange) -> None:
        request = DelayReq(self._header())
        exchange.sequence = request.header.sequence
        exchange.asked_count_s = self._oscillator_s()
        self._send(request)

    def _answered(self, message: DelayResp) -> None:
        exchange, announce = self._exchange, self._announce
        if message.requester != self._me or exchange is None or exchange.asked_count_s is None:
            return
        if exchange.left_tai_s is None or message.header.sequence != exchange.sequence:
            return
        self._exchange = None
        there_s = message.received.tai_s - message.header.correction_ns * 1e-9 - exchange.left_tai_s
        here_s = exchange.asked_count_s - exchange.sync_count_s + exchange.sync_correction_s
        delay_s = (there_s - here_s) / 2
        if not 0 <= delay_s < 1:
            self.counters["implausible"] += 1
            return
        self.delay_s = delay_s
        if announce is None or not self._vouches(announce):
            return
        utc_s = exchange.left_tai_s + delay_s + exchange.sync_correction_s - announce.utc_offset_s
        uncertainty_s = delay_s / 2 + _STAMP_UNCERTAINTY_S
        self.counters["samples"] += 1
        self._on_sample(TimeSample(exchange.sync_count_s, utc_s, uncertainty_s))
        self._leap(announce, utc_s)

    def _leap(self, announce: Announce, utc_s: float) -> None:
        flags = announce.header.flags & (Flags.LEAP_61 | Flags.LEAP_59)
        if flags:
            midnight_s = (int(utc_s) // _DAY_S + 1) * _DAY_S
            self._on_leap(midnight_s, 1 if flags & Flags.LEAP_61 else -1)

    # sending

    def _header(self) -> Header:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return Header(self._me, self._sequence, Flags.UNICAST, self._domain)

    def _send(self, message: Message) -> None:
        self._port.send(encode(message), is_event=message.TYPE in EVENT_MESSAGES)
