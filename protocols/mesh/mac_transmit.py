"""The sending half of a MAC: queue, CSMA-CA (IEEE 802.15.4-2015, 6.2.5.1, unslotted), acknowledgements, retries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from protocols.mesh.ieee802154 import MacHeader, encode_body
from protocols.mesh.mac_frames import Sealing, ack_size, build_frame, frame_size, is_consistent
from protocols.mesh.mac_schedule import Kind
from protocols.mesh.mac_states import Radio, RadioEvent, Step, StepEvent, next_step
from protocols.mesh.mac_station import Station
from protocols.mesh.phy import TURNAROUND_S, UNIT_BACKOFF_S
from protocols.mesh.wisun import DISCOVERY, FrameType, HeaderElements
from protocols.ports import Cancellable
from protocols.rcp.codes import Status
from protocols.rcp.messages import UNSECURED, Transmit, TransmitDone

_SOON_S = 0.02
"""A frame whose slot is so near is not overtaken."""


@dataclass(slots=True)
class _Job:
    """The frame that is being sent, and how it goes."""

    request: Transmit
    kind: Kind
    sequence: int
    attempts: int = 0
    frame_counter: int = 0
    backoffs: int = 0
    exponent: int = 0
    channel: int = 0
    airtime_s: float = 0.0


class Transmitter:
    """Sends one frame at a time, in the order of the queue, and reports each exactly once."""

    def __init__(self, station: Station, report: Callable[[TransmitDone], None]) -> None:
        self._station = station
        self._report = report
        self._queue: deque[Transmit] = deque()
        self._step = Step.IDLE
        self._job: _Job | None = None
        self._timer: Cancellable | None = None
        self._sequence = station.rng.getrandbits(8)

    def submit(self, request: Transmit) -> None:
        """Queue a frame, or report at once why it cannot be sent."""
        refusal = self._refusal(request)
        if refusal is not None:
            self._station.counters[f"tx_{refusal.name.lower()}"] += 1
            self._report(TransmitDone(request.handle, refusal, 0))
            return
        self._queue.append(request)
        self._take_next()

    def _refusal(self, request: Transmit) -> Status | None:
        station = self._station
        identity = station.identity
        if identity is None:
            return Status.NOT_CONFIGURED
        if not is_consistent(request.frame_type, request.destination):
            return Status.INVALID
        secured = request.key_index != UNSECURED
        if secured and not station.keys.is_usable(request.key_index):
            return Status.NO_KEY
        size = frame_size(
            request.frame_type,
            request.destination is not None,
            secured,
            encode_body(request.payload_ies, request.payload),
            station.schedule.has_broadcast_timing,
            identity.max_psdu_bytes,
        )
        if size > identity.max_psdu_bytes:
            return Status.FRAME_TOO_LONG
        if len(self._queue) >= station.parameters.queue_length:
            return Status.QUEUE_FULL
        return None

    def drop_all(self) -> None:
        """Forget everything, unreported: the radio lost its power, or its host starts afresh."""
        self._queue.clear()
        self._cancel_timer()
        self._job = None
        self._step = next_step(self._step, StepEvent.DROPPED)
        if self._station.radio is Radio.TURNAROUND:
            self._station.change(RadioEvent.CALLED_OFF)

    # channel access

    def _take_next(self) -> None:
        """Begin with the first frame whose slot is near; wait for one when none is."""
        if self._step is not Step.IDLE or not self._queue:
            return
        self._cancel_timer()
        now = self._station.timers.time()
        index, start_s = self._earliest(now)
        if start_s > now + _SOON_S:
            self._timer = self._station.timers.call_at(start_s - _SOON_S / 2, self._take_next)
            return
        request = self._queue[index]
        del self._queue[index]
        self._sequence = (self._sequence + 1) & 0xFF
        self._job = _Job(request, _kind_of(request), self._sequence)
        self._advance(StepEvent.TAKEN)
        self._begin_access(self._job)

    def _earliest(self, now: float) -> tuple[int, float]:
        """Which frame of the queue can go first, and when: a broadcast does not keep others waiting for its slot."""
        schedule = self._station.schedule
        best, best_start_s = 0, float("inf")
        for index, request in enumerate(self._queue):
            chance = schedule.opportunity(_kind_of(request), request.destination, now)
            start_s = now if chance is None else chance.start_s
            if start_s < best_start_s:
                best, best_start_s = index, start_s
                if start_s <= now + _SOON_S:
                    break
        return best, best_start_s

    def _begin_access(self, job: _Job, delay_s: float = 0.0) -> None:
        job.backoffs, job.exponent = 0, self._station.parameters.min_be
        self._back_off(job, self._station.timers.time() + delay_s)

    def _retry_delay_s(self, job: _Job) -> float:
        """Random, doubling, in airtimes of the frame.

        At 50 kb/s a frame is twenty backoff periods long: two senders that do not hear each other and collided once
        would go on colliding if only the backoffs told them apart.
        """
        parameters = self._station.parameters
        exponent = min(job.attempts, parameters.max_retry_exponent)
        return self._station.rng.random() * job.airtime_s * (1 << exponent)

    def _back_off(self, job: _Job, not_before_s: float) -> None:
        delay_s = self._station.rng.getrandbits(job.exponent) * UNIT_BACKOFF_S if job.exponent else 0.0
        self._timer = self._station.timers.call_at(not_before_s + delay_s, self._assess, job)

    def _assess(self, job: _Job) -> None:
        """The backoff is over: is it our turn, and is the channel clear?"""
        station = self._station
        now = station.timers.time()
        if station.radio is not Radio.LISTENING or station.phy.is_receiving():
            self._back_off(job, now)
            return
        start_s = now + TURNAROUND_S
        chance = station.schedule.opportunity(job.kind, job.request.destination, start_s)
        if chance is None:
            self._finish(job, Status.NO_SCHEDULE)
        elif chance.start_s > start_s:
            self._back_off(job, chance.start_s - TURNAROUND_S)
        elif station.phy.is_clear(chance.channel):
            self._advance(StepEvent.CHANNEL_CLEAR)
            station.change(RadioEvent.CHANNEL_CLEAR)
            self._timer = station.timers.call_at(start_s, self._send, job, chance.channel)
        else:
            self._channel_busy(job, now)

    def _channel_busy(self, job: _Job, now: float) -> None:
        parameters = self._station.parameters
        self._station.counters["tx_channel_busy"] += 1
        job.backoffs += 1
        if job.backoffs > parameters.max_csma_backoffs:
            self._finish(job, Status.CHANNEL_ACCESS_FAILURE)
            return
        self._advance(StepEvent.CHANNEL_BUSY)
        job.exponent = min(job.exponent + 1, parameters.max_be)
        self._back_off(job, now)

    # on the air

    def _send(self, job: _Job, channel: int) -> None:
        """The radio has turned. Counter and timing are those of this very attempt."""
        station, request = self._station, job.request
        identity = station.identity
        sealing: Sealing | None = None
        if request.key_index != UNSECURED:
            sealing = station.sealing(request.key_index)
        if identity is None or (sealing is None and request.key_index != UNSECURED):
            station.change(RadioEvent.CALLED_OFF)
            self._finish(job, Status.NOT_CONFIGURED if identity is None else Status.NO_KEY)
            return
        job.frame_counter = 0 if sealing is None else sealing.frame_counter
        psdu = build_frame(
            request.frame_type,
            identity.eui64,
            request.destination,
            job.sequence,
            identity.pan_id,
            station.schedule.timing(station.timers.time()),
            request.payload_ies,
            request.payload,
            sealing,
            identity.fcs_bytes,
        )
        station.change(RadioEvent.TURNED)
        job.attempts += 1
        job.channel = channel
        job.airtime_s = identity.mode.airtime_s(len(psdu))
        station.counters["tx_frames"] += 1
        self._timer = None
        station.phy.transmit(psdu, channel)

    def sent(self) -> None:
        """The frame has left the antenna (or one that was dropped meanwhile)."""
        job, station = self._job, self._station
        if job is None or self._step is not Step.ON_AIR:
            self._take_next()
        elif job.request.destination is None:
            self._finish(job, Status.OK, event=StepEvent.SENT_BROADCAST)
        else:
            self._advance(StepEvent.SENT_UNICAST)
            ack_airtime_s = self._ack_airtime_s(job)
            end_s = station.timers.time() + TURNAROUND_S + ack_airtime_s + station.parameters.ack_slack_s
            self._timer = station.timers.call_at(end_s, self._no_ack, job, end_s + ack_airtime_s)

    @property
    def awaited_channel(self) -> int | None:
        """The channel on which an acknowledgement is due, None when none is."""
        if self._job is None or self._step is not Step.AWAITING_ACK:
            return None
        return self._job.channel

    def _ack_airtime_s(self, job: _Job) -> float:
        request, identity = job.request, self._station.identity
        if identity is None:
            return 0.0
        secured, names_pan = request.key_index != UNSECURED, request.frame_type is FrameType.EAPOL
        return identity.mode.airtime_s(ack_size(secured, names_pan, identity.max_psdu_bytes))

    def _no_ack(self, job: _Job, last_s: float) -> None:
        """Nothing came in time; but what is being received right now may be it, so wait for its end, until `last_s`."""
        station = self._station
        now = station.timers.time()
        if now < last_s and station.radio is Radio.LISTENING and station.phy.is_receiving():
            again_s = min(now + station.parameters.ack_slack_s, last_s)
            self._timer = station.timers.call_at(again_s, self._no_ack, job, last_s)
            return
        if job.attempts > self._station.parameters.max_frame_retries:
            self._finish(job, Status.NO_ACK)
            return
        self._station.counters["tx_retries"] += 1
        self._advance(StepEvent.RETRY)
        self._begin_access(job, self._retry_delay_s(job))

    def expects_ack(self, header: MacHeader) -> bool:
        """Whether an acknowledgement with this header is the one that is waited for, as far as its header says."""
        job = self._job
        if job is None or self._step is not Step.AWAITING_ACK:
            return False
        key_index = 0 if header.security is None else header.security.key_index
        return (
            header.source == job.request.destination
            and header.sequence == job.sequence
            and key_index == job.request.key_index
        )

    def acknowledged(self, elements: HeaderElements) -> None:
        """The acknowledgement that was waited for came, and is authentic."""
        if self._job is not None:
            self._finish(self._job, Status.OK, rsl_dbm=elements.rsl_dbm)

    # bookkeeping

    def _finish(
        self, job: _Job, status: Status, *, event: StepEvent = StepEvent.FINISHED, rsl_dbm: int | None = None
    ) -> None:
        self._cancel_timer()
        self._advance(event)
        self._job = None
        self._station.counters[f"tx_{status.name.lower()}"] += 1
        self._report(TransmitDone(job.request.handle, status, job.attempts, job.frame_counter, rsl_dbm))
        self._take_next()

    def _advance(self, event: StepEvent) -> None:
        self._step = next_step(self._step, event)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _kind_of(request: Transmit) -> Kind:
    if request.destination is not None:
        return Kind.UNICAST
    return Kind.DISCOVERY if request.frame_type in DISCOVERY else Kind.BROADCAST
