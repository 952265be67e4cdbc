"""An emulated PTP grandmaster that serves by unicast, in memory or on real UDP ports, with the verbs of a bench."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import RemoteProtocolError
from protocols.ports import Cancellable, Trace
from protocols.ptp import (
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
    Timestamp,
    TlvType,
    UnicastTlv,
    decode,
    encode,
    milliseconds,
)
from twin.clock.clocks import RunClock

TAI_MINUS_UTC_S = 37
"""Since 2017; leap seconds of the run come on top."""
_LONGEST_GRANT_S = 1000
_ANNOUNCED_AHEAD_S = 12 * 3600
_VOUCHED = Flags.UNICAST | Flags.PTP_TIMESCALE | Flags.UTC_OFFSET_VALID | Flags.TIME_TRACEABLE
CLASS_LOCKED, CLASS_FREE = 6, 248

Send = Callable[[bytes, bool], None]
"""Sends one datagram to a client; the flag chooses its event port."""


@dataclass(slots=True)
class _Client:
    """A slave that is served: how to reach it, and each kind of message with its timer and its end."""

    identity: PortIdentity
    send: Send
    until_s: dict[MessageType, float] = field(default_factory=dict)
    timers: dict[MessageType, Cancellable] = field(default_factory=dict)
    sequence: int = 0


class Grandmaster:
    """Gives whoever asks Announce, Sync with Follow_Up, and Delay_Resp. Its time is the world's."""

    def __init__(
        self, clock: RunClock, *, trace: Trace | None = None, identity: bytes = b"\x02IH\xff\xfeGM\x01"
    ) -> None:
        self._clock = clock
        self._trace = trace
        self._me = PortIdentity(identity, 1)
        self._clients: dict[PortIdentity, _Client] = {}
        self._is_silent = False
        self._wrong_s = 0.0
        self._class = CLASS_LOCKED

    # verbs

    def fall_silent(self) -> None:
        """It sends nothing more, until `speak`."""
        self._is_silent = True
        self._note("silent")

    def speak(self) -> None:
        self._is_silent = False
        self._note("serving")

    def mislead(self, offset_s: float) -> None:
        """Its time is `offset_s` ahead of the true one; 0 ends it."""
        self._wrong_s = offset_s
        self._note("misleading", offset_s=offset_s)

    def lose_reference(self) -> None:
        """It runs free, and says so by its clock class."""
        self._class = CLASS_FREE
        self._note("free")

    def regain_reference(self) -> None:
        self._class = CLASS_LOCKED
        self._note("locked")

    def stop(self) -> None:
        for client in self._clients.values():
            for timer in client.timers.values():
                timer.cancel()
        self._clients.clear()

    # its port

    def received(self, data: bytes, send: Send) -> None:
        """A datagram came; `send` reaches its sender. What is no message for a master is passed over."""
        arrived = self._now()
        try:
            message = decode(data)
            match message:
                case Signaling():
                    self._negotiate(message, send)
                case DelayReq():
                    self._answer(message, arrived, send)
        except RemoteProtocolError:
            return

    def _negotiate(self, message: Signaling, send: Send) -> None:
        client = self._clients.setdefault(message.header.source, _Client(message.header.source, send))
        client.send = send
        grants: list[UnicastTlv] = []
        for tlv in message.tlvs:
            if tlv.kind is TlvType.REQUEST_UNICAST:
                grants.append(self._grant(client, tlv))
            elif tlv.kind is TlvType.CANCEL_UNICAST:
                client.until_s.pop(tlv.message, None)
                grants.append(UnicastTlv(TlvType.ACKNOWLEDGE_CANCEL, tlv.message))
        if grants:
            self._send(client, Signaling(self._header(client), client.identity, tuple(grants)))

    def _grant(self, client: _Client, asked: UnicastTlv) -> UnicastTlv:
        if asked.message not in (MessageType.ANNOUNCE, MessageType.SYNC, MessageType.DELAY_RESP):
            return UnicastTlv(TlvType.GRANT_UNICAST, asked.message, asked.log_interval, 0)
        interval_s = milliseconds(asked.log_interval) / 1000
        duration_s = min(asked.duration_s, _LONGEST_GRANT_S)
        client.until_s[asked.message] = self._clock.timers.time() + duration_s
        if asked.message is not MessageType.DELAY_RESP and asked.message not in client.timers:
            self._serve(client, asked.message, interval_s)
        return UnicastTlv(TlvType.GRANT_UNICAST, asked.message, asked.log_interval, duration_s)

    def _serve(self, client: _Client, kind: MessageType, interval_s: float) -> None:
        client.timers.pop(kind, None)
        now_s = self._clock.timers.time()
        if now_s >= client.until_s.get(kind, 0.0):
            return
        if kind is MessageType.ANNOUNCE:
            offset_s = TAI_MINUS_UTC_S + self._clock.leaps.count(self._clock.uniform_s())
            header = self._header(client, _VOUCHED | self._leap_flags())
            self._send(client, Announce(header, offset_s, self._me.clock, clock_class=self._class))
        else:
            header = self._header(client, Flags.UNICAST | Flags.TWO_STEP)
            left = self._now()
            self._send(client, Sync(header, left))
            follow = Header(header.source, header.sequence, Flags.UNICAST)
            self._send(client, FollowUp(follow, left))
        client.timers[kind] = self._clock.timers.call_at(now_s + interval_s, self._serve, client, kind, interval_s)

    def _answer(self, message: DelayReq, arrived: Timestamp, send: Send) -> None:
        client = self._clients.get(message.header.source)
        if client is None:
            return
        client.send = send
        if self._clock.timers.time() < client.until_s.get(MessageType.DELAY_RESP, 0.0):
            header = Header(self._me, message.header.sequence, Flags.UNICAST)
            self._send(client, DelayResp(header, arrived, message.header.source))

    # inside

    def _now(self) -> Timestamp:
        return Timestamp(round((self._clock.uniform_s() + TAI_MINUS_UTC_S + self._wrong_s) * 1e9))

    def _leap_flags(self) -> Flags:
        leap = self._clock.leaps.announced
        if leap is None or not 0 < leap.at_utc_s - self._clock.utc_s() <= _ANNOUNCED_AHEAD_S:
            return Flags(0)
        return Flags.LEAP_61 if leap.step_s == 1 else Flags.LEAP_59

    def _header(self, client: _Client, flags: Flags = Flags.UNICAST) -> Header:
        client.sequence = (client.sequence + 1) & 0xFFFF
        return Header(self._me, client.sequence, flags, log_interval=0)

    def _send(self, client: _Client, message: Message) -> None:
        if not self._is_silent:
            client.send(encode(message), message.TYPE in EVENT_MESSAGES)

    def _note(self, state: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace("ptp.master", state=state, **fields)


class PtpLine:
    """A network in memory between one slave and a grandmaster: `delay_s` each way, and up to `jitter_s` more."""

    def __init__(
        self,
        clock: RunClock,
        master: Grandmaster,
        rng: random.Random,
        *,
        delay_s: float = 0.0005,
        jitter_s: float = 50e-6,
    ) -> None:
        self._clock = clock
        self._master = master
        self._rng = rng
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._receiver: Send | None = None

    def send(self, data: bytes, *, is_event: bool) -> None:
        self._later(self._master.received, data, self._back)

    def on_datagram(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = lambda data, _: callback(data)

    def on_port(self, callback: Send) -> None:
        """For a slave with two ports: it is told which one, too."""
        self._receiver = callback

    def _back(self, data: bytes, is_event: bool) -> None:
        self._later(self.deliver, data, is_event)

    def deliver(self, data: bytes, is_event: bool = False) -> None:
        """A datagram reaches the slave, whoever sent it."""
        if self._receiver is not None:
            self._receiver(data, is_event)

    def _later(self, callback: Callable[..., None], *arguments: object) -> None:
        timers = self._clock.timers
        timers.call_at(timers.time() + self._delay_s + self._rng.random() * self._jitter_s, callback, *arguments)


class _MasterSocket(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Any], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)


class UdpGrandmaster:
    """A grandmaster on two UDP ports of the loopback interface. Slaves are answered at the addresses they send from."""

    def __init__(self, master: Grandmaster, loop: asyncio.AbstractEventLoop) -> None:
        self._master = master
        self._loop = loop
        self._event: asyncio.DatagramTransport | None = None
        self._general: asyncio.DatagramTransport | None = None
        self._event_addresses: dict[str, Any] = {}
        self._general_addresses: dict[str, Any] = {}

    @property
    def ports(self) -> tuple[int, int]:
        """Event and general port. Only between `start` and `stop`."""
        assert self._event is not None
        assert self._general is not None
        return self._event.get_extra_info("sockname")[1], self._general.get_extra_info("sockname")[1]

    async def start(self, host: str = "127.0.0.1", event_port: int = 0, general_port: int = 0) -> None:
        """Raises OSError if the ports cannot be had; 0 picks free ones."""
        self._event, _ = await self._loop.create_datagram_endpoint(
            lambda: _MasterSocket(self._event_came), local_addr=(host, event_port)
        )
        self._general, _ = await self._loop.create_datagram_endpoint(
            lambda: _MasterSocket(self._general_came), local_addr=(host, general_port)
        )

    def stop(self) -> None:
        self._master.stop()
        for transport in (self._event, self._general):
            if transport is not None:
                transport.close()
        self._event = self._general = None

    def _event_came(self, data: bytes, address: Any) -> None:
        self._event_addresses[address[0]] = address
        self._master.received(data, lambda answer, is_event: self._send(address[0], answer, is_event))

    def _general_came(self, data: bytes, address: Any) -> None:
        self._general_addresses[address[0]] = address
        self._master.received(data, lambda answer, is_event: self._send(address[0], answer, is_event))

    def _send(self, host: str, data: bytes, is_event: bool) -> None:
        """To the slave's event or general port, once it has shown which that is."""
        transport = self._event if is_event else self._general
        address = (self._event_addresses if is_event else self._general_addresses).get(host)
        if transport is not None and address is not None:
            transport.sendto(data, address)
