"""The secondary station: a meter's end of a serial line. Bytes and `now` in, bytes out.

One server listens for one physical device with its logical devices; every client address has a link of its own.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms.hdlc.frames import Frame, FrameDecoder, FrameType, HdlcAddress, UnknownControl
from protocols.dlms.hdlc.link import LLC_COMMAND, LLC_RESPONSE, Link, SequenceError
from protocols.dlms.hdlc.parameters import WIDEST, LinkParameters
from protocols.errors import RemoteProtocolError

Handler = Callable[[int, int, bytes, float], bytes | None]
"""Client SAP, server SAP, APDU, now: the answer, or None."""

_ALL_STATIONS = {1: 0x7F, 2: 0x7F, 4: 0x3FFF}
_NO_STATION = 0


@dataclass(frozen=True, slots=True)
class HdlcServerConfig:
    """`physical_address` is the lower address; `logical_devices` the upper ones that exist."""

    physical_address: int
    logical_devices: tuple[int, ...] = (1,)
    parameters: LinkParameters = field(default=WIDEST)
    inactivity_s: float = 120.0
    inter_octet_s: float = 0.5
    max_apdu_bytes: int = 0xFFFF


class StationState(enum.Enum):
    DISCONNECTED = enum.auto()
    """Normal disconnected mode."""
    CONNECTED = enum.auto()
    """Normal response mode."""


@dataclass(slots=True)
class _Station:
    """One client's link."""

    own: HdlcAddress
    client: HdlcAddress
    link: Link
    last_heard_s: float


class HdlcServer:
    """Answers frames for its addresses, and passes APDUs to `handler`.

    `on_disconnect` is called with the client SAP when a link ends, and its associations with it.
    """

    def __init__(
        self,
        config: HdlcServerConfig,
        handler: Handler,
        *,
        on_disconnect: Callable[[int], None] | None = None,
    ) -> None:
        self._config = config
        self._handler = handler
        self._on_disconnect = on_disconnect
        self._decoder = FrameDecoder()
        self._stations: dict[tuple[HdlcAddress, HdlcAddress], _Station] = {}
        self._last_octet_s = 0.0
        self.counters: Counter[str] = Counter()
        """Frames that were refused or passed over, by reason."""

    def state_of(self, client_sap: int) -> StationState:
        connected = any(station.client.upper == client_sap for station in self._stations.values())
        return StationState.CONNECTED if connected else StationState.DISCONNECTED

    def receive(self, data: bytes, now: float) -> bytes:
        """What to put on the line in answer to these bytes. Never raises on anything that a peer may send."""
        self.handle_timer(now)
        self._last_octet_s = now
        before = self._decoder.discarded
        out = b"".join([self._on_frame(frame, now) for frame in self._decoder.feed(data)])
        self.counters["no_frame"] += self._decoder.discarded - before
        return out

    def next_timer(self) -> float | None:
        """When `handle_timer` is due, in seconds; None while there is nothing to wait for."""
        config = self._config
        times = [station.last_heard_s + config.inactivity_s for station in self._stations.values()]
        if self._decoder.is_inside_frame:
            times.append(self._last_octet_s + config.inter_octet_s)
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        if self._decoder.is_inside_frame and now - self._last_octet_s >= self._config.inter_octet_s:
            self._decoder.reset()
            self.counters["inter_octet_time_out"] += 1
        for key, station in list(self._stations.items()):
            if now - station.last_heard_s >= self._config.inactivity_s:
                self.counters["inactivity_time_out"] += 1
                self._end(key)

    # frames

    def _on_frame(self, frame: Frame | UnknownControl, now: float) -> bytes:
        own = frame.destination
        reach = self._reach(own)
        if reach is None or frame.source.size_bytes != 1 or frame.source.upper == _NO_STATION:
            self.counters["not_for_us"] += 1
            return b""
        key = (own, frame.source)
        station = self._stations.get(key)
        if isinstance(frame, UnknownControl):
            return self._reject(station, frame.control, unknown=True)
        if reach == "all":
            if frame.type is FrameType.UI:
                self._on_information(frame, now)
            return b""
        if station is not None:
            station.last_heard_s = now
        if frame.type is FrameType.SNRM:
            return self._connect(key, frame, now)
        if frame.type is FrameType.DISC:
            return self._disconnect(key, frame)
        if frame.type is FrameType.UI:
            answer = self._on_information(frame, now)
            return b"" if answer is None or not frame.final else self._unnumbered(frame, FrameType.UI, answer)
        if station is None:
            return self._unnumbered(frame, FrameType.DM) if frame.final else b""
        if frame.type in (FrameType.I, FrameType.RR, FrameType.RNR):
            return self._transfer(station, frame, now)
        return self._reject(station, frame.control, unknown=True)

    def _reach(self, own: HdlcAddress) -> str | None:
        """Whether a destination is ours, everybody's, or neither."""
        all_stations = _ALL_STATIONS[own.size_bytes]
        if own.lower is not None and own.lower not in (self._config.physical_address, all_stations):
            return None
        if own.upper == all_stations or own.lower == all_stations:
            return "all"
        return "ours" if own.upper in self._config.logical_devices else None

    def _connect(self, key: tuple[HdlcAddress, HdlcAddress], frame: Frame, now: float) -> bytes:
        if not frame.final:
            self.counters["snrm_without_poll"] += 1
            return b""
        try:
            proposed = LinkParameters.decode(frame.information)
        except RemoteProtocolError:
            self.counters["malformed_snrm"] += 1
            return b""
        if key in self._stations:
            self._end(key)
        agreed = self._config.parameters.answer_to(proposed)
        own, client = key
        link = Link(own, client, agreed, LLC_RESPONSE, LLC_COMMAND, max_apdu_bytes=self._config.max_apdu_bytes)
        self._stations[key] = _Station(own, client, link, now)
        return self._unnumbered(frame, FrameType.UA, agreed.encode())

    def _disconnect(self, key: tuple[HdlcAddress, HdlcAddress], frame: Frame) -> bytes:
        if key not in self._stations:
            return self._unnumbered(frame, FrameType.DM)
        self._end(key)
        return self._unnumbered(frame, FrameType.UA)

    def _end(self, key: tuple[HdlcAddress, HdlcAddress]) -> None:
        station = self._stations.pop(key)
        if self._on_disconnect is not None:
            self._on_disconnect(station.client.upper)

    def _transfer(self, station: _Station, frame: Frame, now: float) -> bytes:
        link = station.link
        if len(frame.information) > link.parameters.receive_information_bytes:
            return self._reject(station, frame.control, too_long=True)
        try:
            link.acknowledge(frame.receive)
            apdu = link.accept(frame) if frame.type is FrameType.I else None
        except SequenceError:
            return self._reject(station, frame.control, bad_receive=True)
        except RemoteProtocolError:
            self.counters["malformed_information"] += 1
            apdu = None
        if apdu is not None:
            answer = self._handler(station.client.upper, station.own.upper, apdu, now)
            if answer is not None:
                link.queue(answer)
        if not frame.final:
            return b""
        link.go_back()
        frames = [] if frame.type is FrameType.RNR else link.window()
        return b"".join(item.encode() for item in frames or [link.receive_ready()])

    def _on_information(self, frame: Frame, now: float) -> bytes | None:
        if frame.information[:3] != LLC_COMMAND:
            self.counters["malformed_information"] += 1
            return None
        answer = self._handler(frame.source.upper, frame.destination.upper, frame.information[3:], now)
        return None if answer is None else LLC_RESPONSE + answer

    @staticmethod
    def _unnumbered(frame: Frame, kind: FrameType, information: bytes = b"") -> bytes:
        answer = Frame(frame.source, frame.destination, kind, final=True, information=information)
        return answer.encode()

    def _reject(
        self,
        station: _Station | None,
        control: int,
        *,
        unknown: bool = False,
        too_long: bool = False,
        bad_receive: bool = False,
    ) -> bytes:
        """FRMR, and the link waits for a new SNRM or DISC with what it has."""
        self.counters["frame_reject"] += 1
        if station is None:
            return b""
        information = station.link.reject_information(
            control, unknown=unknown, too_long=too_long, bad_receive=bad_receive
        )
        return Frame(station.client, station.own, FrameType.FRMR, final=True, information=information).encode()
