"""The MAC of one node: what runs in the radio co-processor, between the RCP serial line and the radio hardware."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.mac_hopping import Hopping
from protocols.mesh.mac_receive import Receiver
from protocols.mesh.mac_schedule import ALL_CHANNELS, FixedChannel, Schedule
from protocols.mesh.mac_states import Radio, RadioEvent
from protocols.mesh.mac_station import Identity, MacParameters, Phy, Station, identity_of
from protocols.mesh.mac_transmit import Transmitter
from protocols.ports import Timers, Trace
from protocols.rcp.codes import ChannelFunction, RefusalCode, ResetReason
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import (
    VERSION,
    ClearKey,
    Configure,
    HostMessage,
    RadioMessage,
    Ready,
    Refused,
    Reset,
    SetKey,
    SetReplayFloor,
    SetTimeSource,
    Transmit,
    decode_host_message,
)

__all__ = ["ALL_CHANNELS", "Mac", "MacParameters", "Phy"]


class Mac:
    """Callback-driven MAC. Radio hardware below (`phy`), RCP bytes above (`write_host`, `host_data`).

    Off until `power_on`. Never raises on what comes from the air or from the host: it counts it in `counters`, whose
    names begin with `rx_`, `tx_` or `host_`.
    """

    def __init__(
        self,
        timers: Timers,
        phy: Phy,
        rng: random.Random,
        write_host: Callable[[bytes], None],
        *,
        parameters: MacParameters | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._station = Station(timers, phy, rng, parameters or MacParameters(), trace)
        self._write_host = write_host
        self._decoder = FrameDecoder()
        self._transmitter = Transmitter(self._station, self._tell)
        self._receiver = Receiver(self._station, self._transmitter, self._tell)
        self.receive = self._receiver.receive
        """`receive(psdu, rss_dbm, channel, lqi, start_s)`: a frame ended now that began at `start_s` while this radio
        listened on `channel`; its bits may be wrong."""

    @property
    def counters(self) -> Counter[str]:
        return self._station.counters

    # power

    def power_on(self) -> None:
        """Start and say `Ready`. Nothing happens if it is on."""
        if self._station.radio is Radio.OFF:
            self._station.change(RadioEvent.POWER_ON)
            self._tell(Ready(VERSION, ResetReason.POWER_ON, self._station.parameters.queue_length))

    def power_off(self) -> None:
        """Lose everything at once. A transmission in the air is the medium's to cut; its `transmit_done` is ignored."""
        self._forget()
        self._station.change(RadioEvent.POWER_OFF)

    def _forget(self) -> None:
        self._transmitter.drop_all()
        self._receiver.forget()
        self._decoder.reset()
        self._station.forget()

    # the air

    def transmit_done(self) -> None:
        """The transmission that `Phy.transmit` began has ended."""
        station = self._station
        if station.radio is Radio.SENDING_ACK:
            station.change(RadioEvent.SENT)
        elif station.radio is Radio.SENDING:
            station.change(RadioEvent.SENT)
            self._transmitter.sent()
        else:
            station.counters["tx_stray_done"] += 1

    def listening_channel(self, now: float) -> int | None:
        """The channel that the radio listens on at `now`; None if it is off, not configured, or sending."""
        station = self._station
        if station.radio is not Radio.LISTENING or station.identity is None:
            return None
        awaited = self._transmitter.awaited_channel
        return station.schedule.listening_channel(now) if awaited is None else awaited

    # the host

    def host_data(self, data: bytes) -> None:
        """RCP bytes from the host, cut anyhow. Bytes that come while it is off are lost."""
        if self._station.radio is Radio.OFF:
            return
        for frame in self._decoder.feed(data):
            try:
                message = decode_host_message(frame)
            except RemoteProtocolError:
                self._station.counters["host_malformed"] += 1
                self._tell(Refused(frame[0], RefusalCode.MALFORMED))
            else:
                self._obey(message)

    def _obey(self, message: HostMessage) -> None:
        station = self._station
        match message:
            case Transmit():
                self._transmitter.submit(message)
            case Configure():
                self._configure(message)
            case SetKey():
                self._set_key(message)
            case ClearKey():
                station.keys.clear(message.index)
                station.replay.forget_key(message.index)
            case SetReplayFloor():
                station.replay.raise_floor(message.source, message.key_index, message.minimum_frame_counter)
            case SetTimeSource():
                station.schedule.set_time_source(message.source)
            case Reset():
                self._reset(message)

    def _reset(self, message: Reset) -> None:
        self._forget()
        self._tell(Ready(VERSION, ResetReason.REQUESTED, self._station.parameters.queue_length))
        if message.version != VERSION:
            self._refuse(message.TYPE, RefusalCode.VERSION)

    def _configure(self, message: Configure) -> None:
        identity = identity_of(message)
        if identity is None:
            self._refuse(message.TYPE, RefusalCode.OUT_OF_RANGE)
            return
        station, now = self._station, self._station.timers.time()
        if station.identity is None or not station.schedule.reconfigure(message, now):
            station.schedule = self._schedule_for(identity, now)
        station.identity = identity

    def _schedule_for(self, identity: Identity, now: float) -> Schedule:
        configure = identity.configure
        if configure.channel_function is ChannelFunction.FIXED:
            return FixedChannel(configure.fixed_channel)
        station = self._station
        return Hopping(configure, identity.plan.channel_count, station.rng, station.clock_drift_ppm, now)

    def _set_key(self, message: SetKey) -> None:
        try:
            is_new = self._station.keys.set(message.index, message.key, message.frame_counter)
        except LocalProtocolError:
            self._refuse(message.TYPE, RefusalCode.OUT_OF_RANGE)
            return
        if is_new:
            self._station.replay.forget_key(message.index)

    def _refuse(self, message_type: int, code: RefusalCode) -> None:
        self._station.counters["host_refused"] += 1
        self._tell(Refused(message_type, code))

    def _tell(self, message: RadioMessage) -> None:
        self._write_host(encode_frame(message.encode()))
