"""The air of one run, as scenarios see it: radios, distances, obstacles, faults, captures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, SupportsBytes, TypeVar

from protocols.errors import BadInputError
from protocols.mesh.checksum import FCS16_BYTES, FCS32_BYTES, fcs_size, has_valid_fcs
from protocols.mesh.mac import ALL_CHANNELS
from protocols.mesh.phy import CHANNEL_PLANS, FSK_MODES
from protocols.ports import Timers, Trace
from protocols.rcp.messages import MAX_PSDU_BYTES
from twin.air.capture import CaptureWriter
from twin.air.interference import Interferer
from twin.air.medium import Medium
from twin.air.obstacles import Position, Terrain, Vegetation, outline_of
from twin.air.pipeline import FramePipeline
from twin.air.propagation import (
    DEFAULT_TX_POWER_DBM,
    LogDistance,
    Propagation,
    Shadowing,
    delivery_probability,
    sensitivity_dbm,
)
from twin.air.radio import MacFactory, Radio, default_mac
from twin.air.stations import Link, Station, Transmission
from twin.air.statistics import AirReport, LinkReport, NodeReport
from twin.clock.seeds import Seeds

_TYPICAL_PSDU_BITS = 127 * 8
_FULL_LQI = 255
_Row = TypeVar("_Row")


def _row(table: Mapping[int, _Row], key: int, name: str) -> _Row:
    try:
        return table[key]
    except KeyError:
        known = ", ".join(str(known) for known in table)
        raise BadInputError(f"{key} is not one of {known}", key=name) from None


@dataclass(frozen=True, slots=True)
class AirSettings:
    """The physical layer that all radios of a run share.

    `plan` and `fsk_mode` are keys of the tables in `protocols.mesh.phy`; they and `max_psdu_bytes` (FCS included;
    up to 127 the FCS has 2 bytes, else 4) are to agree with the RCP's `Configure`. `serial_baud` is the line speed
    between a radio and its host; None for a line that takes no time. `duty_cycle_limit` (0 to 1) is what the region
    allows a node in an hour, None where it does not say.
    """

    plan: int = 1
    fsk_mode: int = 1
    max_psdu_bytes: int = MAX_PSDU_BYTES
    serial_baud: float | None = None
    shadowing_sigma_db: float = 1.5
    duty_cycle_limit: float | None = None


class Air:
    """All radios of a run and the space between them.

    Deterministic: draws come from the streams `air/...` of `seeds`, and nodes are gone through in the order in which
    they were added. Verbs take node names; an unknown one raises BadInputError.
    """

    def __init__(
        self,
        timers: Timers,
        seeds: Seeds,
        *,
        settings: AirSettings | None = None,
        propagation: Propagation | None = None,
        pipeline: FramePipeline | None = None,
        mac_factory: MacFactory = default_mac,
        trace: Trace | None = None,
    ) -> None:
        self.settings = settings if settings is not None else AirSettings()
        self.plan = _row(CHANNEL_PLANS, self.settings.plan, "plan")
        self.mode = _row(FSK_MODES, self.settings.fsk_mode, "fsk_mode")
        self.propagation = propagation if propagation is not None else self._open_ground(seeds)
        self.medium = Medium(
            timers,
            seeds.stream("air/medium"),
            self.propagation,
            self.mode.airtime_s,
            channel_count=self.plan.channel_count,
        )
        self.radios: dict[str, Radio] = {}
        self._timers = timers
        self._seeds = seeds
        self._started_s = timers.time()
        self._mac_factory = mac_factory
        self._trace = trace
        self._pipeline: FramePipeline | None = None
        self._capture: CaptureWriter | None = None
        self._capture_stream: BinaryIO | None = None
        self._capture_observer: Station | None = None
        if pipeline is not None:
            self.set_pipeline(pipeline)

    def _open_ground(self, seeds: Seeds) -> LogDistance:
        shadowing = Shadowing(seeds.keys("air/shadowing").random_bytes(16), self.settings.shadowing_sigma_db)
        return LogDistance(sensitivity_dbm(self.mode.rate_bps), shadowing=shadowing, frequency_hz=self.plan.channel0_hz)

    # nodes

    def add_radio(
        self, name: str, eui64: bytes, position: Position, *, tx_power_dbm: float = DEFAULT_TX_POWER_DBM
    ) -> Radio:
        """A new radio, switched on. Its host talks to `radio.host`, a ByteLink, in RCP frames.

        Raises BadInputError if the name or the EUI-64 is taken.
        """
        if name in self.radios:
            raise BadInputError(f"there is a radio named {name!r} already", key="name")
        for radio in self.radios.values():
            if radio.eui64 == eui64:
                raise BadInputError(f"{name!r} has the EUI-64 of {radio.name!r}, {eui64.hex()}", key="eui64")
        station = self.medium.attach(name, eui64, position, tx_power_dbm)
        radio = Radio(
            station,
            self._seeds.stream(f"air/mac/{name}"),
            mac_factory=self._mac_factory,
            serial_baud=self.settings.serial_baud,
            trace=self._trace,
        )
        self.radios[name] = radio
        return radio

    def radio(self, name: str) -> Radio:
        """The radio of that name. Raises BadInputError if there is none."""
        try:
            return self.radios[name]
        except KeyError:
            raise BadInputError(f"no radio named {name!r}; there are: {', '.join(self.radios)}", key="name") from None

    def _station(self, name: str) -> Station:
        return self.radio(name).station

    def kill(self, name: str) -> None:
        """Cut the power of a radio: it breaks off in mid-frame and forgets its keys. Its host is not told."""
        self.radio(name).power_off()
        self._note("air-kill", node=name)

    def revive(self, name: str) -> None:
        """Give power back: the radio starts unconfigured and says `Ready` to its host."""
        self.radio(name).power_on()
        self._note("air-revive", node=name)

    def move(self, name: str, position: Position) -> None:
        """Put a node elsewhere, at once."""
        self._station(name).position = position
        self.medium.changed()
        self._note("air-move", node=name, x_m=position.x_m, y_m=position.y_m, z_m=position.z_m)

    # faults and surroundings

    def jam(
        self, channel: int | None, power_dbm: float, position: Position, duration_s: float | None = None
    ) -> Interferer:
        """Noise from a place, on one channel or on all (None), from now for `duration_s` or until it is stopped."""
        now = self._timers.time()
        end_s = math.inf if duration_s is None else now + duration_s
        interferer = Interferer(position, power_dbm, channel, now, end_s)
        self.medium.add_interferer(interferer)
        self._note("air-jam", channel=channel, power_dbm=power_dbm, duration_s=duration_s)
        return interferer

    def stop_jamming(self, interferer: Interferer) -> None:
        """End what `jam` began."""
        interferer.stop(self._timers.time())

    def set_loss(self, a: str, b: str, probability: float, both_ways: bool = True) -> None:
        """Lose that share (0 to 1) of the frames from `a` to `b`, on top of what the air loses; 0 takes it back."""
        if not 0.0 <= probability <= 1.0:
            raise BadInputError(f"a loss probability lies between 0 and 1, not {probability}", key="probability")
        self.medium.set_configured_loss(self._station(a), self._station(b), probability)
        if both_ways:
            self.medium.set_configured_loss(self._station(b), self._station(a), probability)
        self._note("air-loss", sender=a, receiver=b, probability=probability, both_ways=both_ways)

    def set_attenuation(self, a: str, b: str, loss_db: float, both_ways: bool = True) -> None:
        """Weaken what `b` receives from `a` by `loss_db`, for asymmetric links; 0 takes it back.

        Raises BadInputError for an amplification: nothing carries a link past its range.
        """
        if loss_db < 0.0:
            raise BadInputError(f"an attenuation is 0 dB or more, not {loss_db}", key="loss_db")
        self.medium.set_extra_loss_db(self._station(a), self._station(b), loss_db)
        if both_ways:
            self.medium.set_extra_loss_db(self._station(b), self._station(a), loss_db)
        self._note("air-attenuation", sender=a, receiver=b, loss_db=loss_db, both_ways=both_ways)

    def add_vegetation(
        self,
        polygon: Sequence[Position | tuple[float, float]],
        loss_db: float,
        loss_db_per_m: float | None = None,
    ) -> Vegetation:
        """A wood with that outline (m). A path through it loses `loss_db`, or `loss_db_per_m` up to `loss_db`."""
        try:
            wood = Vegetation(outline_of(polygon), loss_db, loss_db_per_m)
        except ValueError as error:
            raise BadInputError(str(error), key="vegetation") from error
        self.propagation.add_obstacle(wood)
        self.medium.changed()
        return wood

    def add_terrain(
        self, ridge: Sequence[Position | tuple[float, float]], loss_db: float, top_m: float = math.inf
    ) -> Terrain:
        """A ridge along a line (m). A path that crosses it below `top_m` loses `loss_db`."""
        try:
            terrain = Terrain(outline_of(ridge), loss_db, top_m)
        except ValueError as error:
            raise BadInputError(str(error), key="terrain") from error
        self.propagation.add_obstacle(terrain)
        self.medium.changed()
        return terrain

    # frames

    def inject(self, frame: bytes | SupportsBytes, origin: str | Position, channel: int) -> float:
        """Put a frame on the air now, past every MAC. Returns when it ends.

        `frame` is a PSDU with its FCS, as bytes or as anything that turns into them (a Scapy packet). `origin` is a
        node, from whose aerial it goes out, or a place. It goes through no pipeline, waits for no clear channel, and
        the node's own MAC does not know of it.
        """
        psdu = bytes(frame)
        if isinstance(origin, Position):
            return self.medium.emit_at(origin, psdu, channel)
        return self.medium.emit_from(self._station(origin), psdu, channel)

    def set_pipeline(self, pipeline: FramePipeline | None) -> None:
        """Let every frame that a MAC sends pass through `pipeline` before it goes on the air; None takes it out."""
        self._pipeline = pipeline
        self.medium.before_air = None if pipeline is None else self._through_pipeline

    def _through_pipeline(self, station: Station, psdu: bytes, channel: int) -> list[tuple[bytes, float]]:
        pipeline = self._pipeline
        if pipeline is None:
            return [(psdu, 0.0)]
        emissions = pipeline.process(psdu, channel=channel, sender=station.name, now=self._timers.time())
        return [(emission.psdu, emission.delay_s) for emission in emissions]

    def capture_to(self, path: Path | str, *, start_utc_s: float = 0.0, observer: str | None = None) -> None:
        """Write every frame that goes on the air to a pcap file, once, from now on until `close`.

        Frames are those that really went out, after the pipeline and with those injected. `start_utc_s` is the
        world's time when the loop's clock shows 0. The signal strength is what the node `observer` receives at its
        place, collisions aside; 0 dBm for its own frames, and for all without an observer. A discovery burst is
        written once, under channel 0. Raises BadInputError if a capture runs already.
        """
        if self._capture is not None:
            raise BadInputError("the air is being captured already", key="capture")
        self._capture_observer = None if observer is None else self._station(observer)
        self._capture_stream = Path(path).open("wb")  # noqa: SIM115 (stays open until close)
        self._capture = CaptureWriter(self._capture_stream, start_utc_s=start_utc_s)
        self.medium.on_air.append(self._write_frame)

    def _write_frame(self, transmission: Transmission) -> None:
        if self._capture is None:
            return
        observer, rss_dbm = self._capture_observer, 0
        if observer is not None and transmission.sender is not observer:
            rss_dbm = self.medium.rss_dbm(transmission, observer)
        self._capture.write(
            transmission.start_s,
            transmission.psdu,
            rss_dbm=rss_dbm,
            channel=0 if transmission.channel == ALL_CHANNELS else transmission.channel,
            lqi=_FULL_LQI,
            fcs_bytes=self._fcs_bytes(transmission.psdu),
        )

    def _fcs_bytes(self, psdu: bytes) -> int:
        """Size of the FCS that fits; for a damaged frame, that of the settings."""
        for size_bytes in (FCS32_BYTES, FCS16_BYTES):
            if has_valid_fcs(psdu, size_bytes):
                return size_bytes
        return fcs_size(self.settings.max_psdu_bytes)

    def close(self) -> None:
        """End the capture, if one runs."""
        if self._capture is None or self._capture_stream is None:
            return
        self.medium.on_air.remove(self._write_frame)
        self._capture_stream.close()
        self._capture, self._capture_stream = None, None

    # what happened

    def links(self) -> tuple[LinkReport, ...]:
        """Every direction of every link in range, live or not, for topology pictures; senders in order of making."""
        return tuple(
            self._link_report(station, link)
            for station in self.medium.stations
            for link in self.medium.links_of(station)
        )

    @staticmethod
    def _link_report(sender: Station, link: Link) -> LinkReport:
        quiet = delivery_probability(link.margin, _TYPICAL_PSDU_BITS)
        return LinkReport(
            sender=sender.name,
            receiver=link.receiver.name,
            distance_m=sender.position.distance_m(link.receiver.position),
            rss_dbm=link.power_dbm,
            expected_delivery=quiet * (1.0 - link.configured_loss),
            received=link.statistics.received,
            lost={str(reason): count for reason, count in link.statistics.lost.items()},
        )

    def statistics(self) -> AirReport:
        """Counters since the air was made."""
        elapsed_s = self._timers.time() - self._started_s
        return AirReport(
            elapsed_s=elapsed_s,
            transmissions=self.medium.transmissions,
            receptions=self.medium.receptions,
            nodes=tuple(self._node_report(station, elapsed_s) for station in self.medium.stations),
            links=self.links(),
        )

    def _node_report(self, station: Station, elapsed_s: float) -> NodeReport:
        counted, limit = station.statistics, self.settings.duty_cycle_limit
        return NodeReport(
            name=station.name,
            alive=station.alive,
            sent=counted.sent,
            sent_bytes=counted.sent_bytes,
            received=counted.received,
            lost={str(reason): count for reason, count in counted.lost.items()},
            airtime_s=counted.airtime_s,
            duty_cycle=counted.duty_cycle(elapsed_s),
            worst_hour_duty_cycle=counted.worst_hour_duty_cycle,
            over_duty_limit=limit is not None and counted.worst_hour_duty_cycle > limit,
        )

    def _note(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, **fields)


def write_keys(path: Path | str, group_key: bytes, others: Mapping[int, bytes] | None = None) -> None:
    """Write `keys.json` of a run folder, with which captures can be decrypted. For run folders only: it is a secret.

    `others` are the group keys by index that rotations may bring into use.
    """
    document: dict[str, object] = {"group_key": group_key.hex()}
    if others:
        document["group_keys"] = {str(index): key.hex() for index, key in others.items()}
    Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


__all__ = ["Air", "AirSettings", "Position", "Transmission", "write_keys"]
