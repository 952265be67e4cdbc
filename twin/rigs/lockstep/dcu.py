"""The concentrator of a rig as its ARMv7 image in virtual time: verbs of the native one, and of the machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcu.config import DcuConfig
from dcu.mesh_identity import MeshIdentity
from images.dcu.build import Image, Vendor, build_image, default_cache
from images.dcu.workshop import Progress
from protocols.ports import ByteLink, KeySource, Trace
from twin.air.air import Air
from twin.air.radio import Radio
from twin.backhaul.oscillator import Oscillator
from twin.backhaul.ptp import PtpLine
from twin.brokers.transport import Connector
from twin.clock.clocks import VirtualClock
from twin.errors import RigError
from twin.rigs.brokers import BrokerAccess
from twin.rigs.lockstep.channels import SerialChannel, TraceLines, UplinkChannel
from twin.rigs.lockstep.console import ConsoleLog
from twin.rigs.lockstep.costs import COSTS_FILE, Costs
from twin.rigs.lockstep.emulator import SNAPSHOT, EmulatorOptions, check_emulator
from twin.rigs.lockstep.network import GRANDMASTER, NetworkChannel
from twin.rigs.lockstep.node import GuestNode, Phase, Tally
from twin.rigs.lockstep.protocol import ENTROPY_BYTES, Channel, Record
from twin.rigs.lockstep.snapshot import ready_card
from twin.rigs.maintenance_verbs import MaintenanceVerbs
from twin.rigs.opt import GuestOpt, Opt
from twin.rigs.qemu.dcu import GuestProvisioning, guest_provisioning, shift_clock_command
from twin.rigs.qemu.lines import Console, MaintenanceLine
from twin.rigs.qemu.machine import CONSOLE_LOG, QEMU_LOG
from twin.rigs.qemu.snapshot import copy_card

_LOG = logging.getLogger(__name__)
CARD = "dcu-flash.qcow2"
LOOPBACK = "127.0.0.1"
PORTS = {Channel.SATELLITE: 1883, Channel.CELLULAR: 1884}
"""The loopback ports of the guest at which its ways to the broker begin."""
DEVICES = "/dev/lockstep"
START_TIMEOUT_S = 60.0
BOOT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run needs to start the concentrator in virtual time: the image, and a card with its snapshot."""

    image: Image
    card: Path
    resumes_at_ns: int


def prepare(progress: Progress, cache: Path | None = None, *, vendor: Vendor | None = None) -> Prepared:
    """Build image and snapshot if the cache does not have them. Blocks; raises BuildError or RigError."""
    check_emulator()  # before anything is built
    cache = cache or default_cache()
    image = build_image(cache, progress, vendor=vendor)
    return Prepared(image, *ready_card(image, cache, progress))


def lockstep_provisioning(
    config: DcuConfig,
    user: str,
    password: str,
    mesh_identity: MeshIdentity | None = None,
    *,
    has_gps: bool = False,
    has_ptp: bool = False,
    has_modem: bool = False,
) -> GuestProvisioning:
    """As in real time, but with the agent's devices, and without TLS: its randomness would be the host's."""
    made = guest_provisioning(config, BrokerAccess(LOOPBACK, PORTS[Channel.SATELLITE], user, password), mesh_identity)
    document = {
        **made.config,
        "radio_device": f"{DEVICES}/radio",
        "trace_file": f"{DEVICES}/trace",
        "broker": {**made.config["broker"], "host": LOOPBACK},
    }
    references: dict[str, Any] = {"gps_device": f"{DEVICES}/gps"} if has_gps else {}
    if has_ptp:
        references["ptp"] = {"host": GRANDMASTER}
    if references:
        document["time"] = {**references, "sets_system_clock": True}
    if has_modem:
        ways = {channel.name.lower(): {"host": LOOPBACK, "port": port} for channel, port in PORTS.items()}
        document |= {"modem": {"device": f"{DEVICES}/modem"}, "uplink": ways}
    return replace(made, config=document)


class LockstepDcu(MaintenanceVerbs):
    """One concentrator under test, in a machine whose time the run grants.

    Its first start goes on from the snapshot, every later one is a cold boot with the flash as it was left.
    """

    shows_events = True

    def __init__(
        self,
        prepared: Prepared,
        folder: Path,
        clock: VirtualClock,
        radio: Radio,
        air: Air,
        provisioning: GuestProvisioning,
        *,
        connectors: dict[Channel, Connector],
        devices: dict[Channel, ByteLink],
        keys: KeySource,
        trace: Trace,
        ptp: PtpLine | None = None,
        crystal: Oscillator | None = None,
    ) -> None:
        """`connectors` are the ways to the broker by channel, `devices` what is on the serial lines but the radio.

        `ptp` leads to the grandmaster on the machine's network.
        `trace` is given the events of the daemon's own trace file, at the instants at which it writes them. The
        machine's time runs as `crystal` counts it, or right.
        """
        super().__init__(clock)
        self.opt: Opt | None = GuestOpt(self.shell)
        self._prepared = prepared
        self._folder = folder
        self._loop = clock.loop
        self._radio = radio
        self._air = air
        self._provisioning = provisioning
        self._devices = devices
        self._keys = keys
        self._card = folder / CARD
        self._has_started = False
        self._is_open = False
        self._task: asyncio.Task[None] | None = None
        self._failure: RigError | None = None
        self._began = time.perf_counter()  # for the costs only
        for name in (QEMU_LOG, CARD, COSTS_FILE):  # an earlier run's
            (folder / name).unlink(missing_ok=True)
        self._log = ConsoleLog(folder / CONSOLE_LOG)
        self._node = GuestNode(
            self._loop, self._log, on_record=self._received, on_failure=self._failed, crystal=crystal
        )
        send = self._node.send
        serial = (Channel.RADIO, Channel.MAINTENANCE, Channel.GPS, Channel.MODEM, Channel.SHELL, Channel.TRACE)
        self._lines = {channel: SerialChannel(channel, send) for channel in serial}
        self._uplinks = {channel: UplinkChannel(channel, way, send) for channel, way in connectors.items()}
        self._network = NetworkChannel(ptp, send)
        self._events = TraceLines(trace)
        self._lines[Channel.TRACE].on_data(self._events.add)
        self._maintenance = MaintenanceLine(self._lines[Channel.MAINTENANCE])
        self._console = Console(self._lines[Channel.SHELL])

    @property
    def alive(self) -> bool:
        """Whether the machine has power."""
        return self._node.phase is not Phase.OFF

    @property
    def card(self) -> Path:
        """The file that is its flash chip, in QEMU's qcow2 format. Whole whenever the machine is off."""
        return self._card

    @property
    def tally(self) -> Tally:
        """What crossed between run and guest, as both sides counted it."""
        return self._node.tally

    def start(self) -> None:
        """Power comes: radio and board start. Returns at once; `ready` waits."""
        self._air.revive(self._radio.name)
        self._power_on()

    async def ready(self) -> None:
        """Until the daemon runs with its identity. Raises RigError if the machine or the daemon does not come up."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._failure is not None:
            raise self._failure
        self._is_open = True

    async def stop(self) -> None:
        """The end of the run: the machine goes off, and its flash is forgotten: it holds the run's keys."""
        await self._abandon_start()
        self._end(self._node.cut_power)
        self._log.close(self._loop.time())
        node = self._node
        Costs.measured(
            wall_s=time.perf_counter() - self._began, processor_s=node.processor_s, waited_s=node.waited_s,
            rendezvous=node.tally.rendezvous, guest_s=node.tally.guest_s,
        ).save(self._folder)  # fmt: skip
        self._card.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """Board and radio end at this instant; what is in flash stays."""
        if self._task is not None:
            self._task.cancel()
        self._end(self._node.cut_power)
        self._air.kill(self._radio.name)

    async def pause(self) -> None:
        """Stop the guest's processor, and its time."""
        self._node.pause()

    async def resume(self) -> None:
        self._node.resume()

    async def reset(self) -> None:
        """Press the reset button: the board boots from cold, the radio goes on. Raises RigError if it stays away."""
        await self._abandon_start()
        self._end(self._node.cut_power)
        self._power_on()
        await self.ready()

    async def shell(self, command: str, *, timeout_s: float = 60.0) -> str:
        """The output of a command in the guest. Raises RigError if it fails."""
        return await self._console.run(command, timeout_s=timeout_s)

    async def shift_clock(self, by_s: float) -> None:
        """Move the guest's wall clock, as somebody at its console could."""
        await self.shell(shift_clock_command(by_s))

    async def ask(self, command: str, *, timeout_s: float = 60.0, **fields: object) -> dict[str, Any]:
        """One request over the maintenance line. Raises TimeoutError without an answer, RigError if it is refused."""
        return await self._maintenance.ask(command, timeout_s=timeout_s, **fields)

    # inside

    def _power_on(self) -> None:
        is_first, self._has_started = not self._has_started, True
        if is_first:
            copy_card(self._prepared.card, self._card)
        options = EmulatorOptions(
            self._prepared.image, self._card, self._folder, self._run_clock.utc_s(),
            snapshot=SNAPSHOT if is_first else None,
        )  # fmt: skip
        self._log.note(f"power on: {'goes on from the snapshot' if is_first else 'boots from cold'}", self._loop.time())
        self._connect()
        self._events.restart()
        self._node.power_on(
            options, self._keys.random_bytes(ENTROPY_BYTES), self._prepared.resumes_at_ns if is_first else None
        )
        self._task = self._loop.create_task(self._come_up(is_first), name="dcu-power-on")

    def _connect(self) -> None:
        """Join the guest's serial lines to what is beside it."""
        host_end: ByteLink = self._radio.host
        for channel, device in {Channel.RADIO: host_end, **self._devices}.items():
            line = self._lines[channel]
            line.on_data(device.write)
            device.on_data(line.write)

    async def _come_up(self, is_first: bool) -> None:
        try:
            if is_first:
                await self._maintenance.wait_until_ready(timeout_s=START_TIMEOUT_S)
                await self._maintenance.ask(
                    "provision",
                    config=self._provisioning.config,
                    files=self._provisioning.files,
                    utc_s=self._run_clock.utc_s(),
                )
            status = await self._maintenance.wait_until_ready(timeout_s=START_TIMEOUT_S if is_first else BOOT_TIMEOUT_S)
        except (RigError, TimeoutError) as error:
            self._fail(RigError(f"{error or 'no answer'}; the console's end:\n{self._log.tail()}"))
        else:
            _LOG.info("the concentrator is %s", status["state"])

    def _received(self, record: Record) -> None:
        if record.channel in self._uplinks:
            self._uplinks[record.channel].received(record)
        elif record.channel in self._lines:
            self._lines[record.channel].received(record)
        elif record.channel is Channel.NETWORK:
            self._network.received(record)
        else:
            _LOG.error("the guest opened a way that this run does not have: %s", record.channel.name.lower())

    def _failed(self, error: RigError) -> None:
        """The guest ended or hangs by itself."""
        for uplink in self._uplinks.values():
            uplink.abort()
        self._air.kill(self._radio.name)
        if self._task is not None:
            self._task.cancel()
        self._fail(error)

    def _fail(self, error: RigError) -> None:
        """Before the run is open this ends it; later it makes it an ERROR, and the run shows what follows from it."""
        if self._failure is None:
            self._failure = error
        _LOG.error("%s", error)
        if self._is_open:
            self._loop.call_exception_handler({"message": "the emulated concentrator failed", "exception": error})

    def _end(self, cut: Callable[[], None]) -> None:
        cut()
        self._log.note("power off", self._loop.time())
        for uplink in self._uplinks.values():
            uplink.abort()

    async def _abandon_start(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            if not task.done():
                task.cancel()
            await asyncio.wait([task])
