"""The concentrator of a rig as its ARMv7 image in QEMU: the verbs of the native one, and those of the machine."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dcu.config import DcuConfig
from dcu.mesh_identity import MeshIdentity
from dcu.service import UPDATE_KEY
from images.dcu.build import Image, Vendor, build_image, default_cache
from images.dcu.workshop import Progress
from protocols.mesh.config import RadioSettings
from protocols.ports import ByteLink
from twin.air.air import Air
from twin.air.radio import Radio
from twin.clock.clocks import RunClock
from twin.errors import RigError
from twin.rigs.brokers import BROKER_NAME, BrokerAccess
from twin.rigs.equipment import Equipment
from twin.rigs.maintenance_verbs import MaintenanceVerbs
from twin.rigs.opt import GuestOpt, Opt
from twin.rigs.qemu.devices import connect_devices, device_sections
from twin.rigs.qemu.lines import bridge
from twin.rigs.qemu.machine import CONSOLE_LOG, QEMU_LOG, Machine, MachineOptions, Power
from twin.rigs.qemu.snapshot import copy_card, ready_card
from twin.rigs.qemu.update import UpdateKey, install_over_network

_LOG = logging.getLogger(__name__)
CARD = "dcu-flash.qcow2"
GUEST_HOST = "10.0.2.2"
"""The address at which the guest's Ethernet reaches the host's loopback interface."""
RADIO_DEVICE = "/dev/ttymxc1"
STORAGE = "/opt/data"
COLD_BOOT_TIMEOUT_S = 400.0
SNAPSHOT_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Emulated:
    """What a run needs to start the concentrator: the image, and a card with its snapshot. Both are shared."""

    image: Image
    ready: Path


def prepare(
    progress: Progress, cache: Path | None = None, *, vendor: Vendor | None = None, renew_packages: bool = False
) -> Emulated:
    """Build image and snapshot if the cache does not have them. Blocks; raises BuildError or RigError."""
    cache = cache or default_cache()
    image = build_image(cache, progress, vendor=vendor, renew_packages=renew_packages)
    return Emulated(image, ready_card(image, cache, progress))


@dataclass(frozen=True, slots=True)
class GuestProvisioning:
    """What goes over the maintenance line: the daemon's configuration, and the files that it names."""

    config: dict[str, Any] = field(repr=False)
    files: dict[str, str] = field(default_factory=dict, repr=False)

    def with_file(self, name: str, text: str) -> GuestProvisioning:
        """The same, and one more file."""
        return GuestProvisioning(self.config, {**self.files, name: text})

    def behind(self, used: dict[str, int]) -> GuestProvisioning:
        """The same for a replacement, which goes on behind what its predecessor's status calls `used`."""
        return GuestProvisioning({**self.config, "predecessor": used}, self.files)


def radio_section(radio: RadioSettings) -> dict[str, Any]:
    """The `mesh.radio` section of the daemon's configuration."""
    return {
        "plan": radio.plan,
        "fsk_mode": radio.fsk_mode,
        "channel_function": radio.channel_function.name.lower(),
        "fixed_channel": radio.fixed_channel,
        "unicast_dwell_ms": radio.unicast_dwell_ms,
        "broadcast_interval_ms": radio.broadcast_interval_ms,
        "broadcast_dwell_ms": radio.broadcast_dwell_ms,
        "max_psdu_bytes": radio.max_psdu_bytes,
        "sensitivity_dbm": radio.sensitivity_dbm,
    }


def guest_provisioning(
    config: DcuConfig,
    broker: BrokerAccess | None,
    mesh_identity: MeshIdentity | None = None,
    equipment: Equipment | None = None,
) -> GuestProvisioning:
    """A concentrator's provisioning for a broker on the host's loopback interface. RigError where there is none."""
    if broker is None:
        raise RigError("the emulated concentrator needs a broker with sockets")
    broker_section, files = _broker_section(broker)
    document: dict[str, Any] = {
        "dcu_id": config.dcu_id,
        "eui64": config.eui64.hex(),
        "system_title": config.system_title.hex(),
        "link_key": config.link_key.hex(),
        "mesh": {
            "network_name": config.network_name,
            "pan_id": config.pan_id,
            "prefix": config.prefix.hex(),
            "key_index": config.key_index,
            "timers_profile": config.timers_profile,
            "radio": radio_section(config.radio),
        },
        "radio_device": RADIO_DEVICE,
        "storage": STORAGE,
        "broker": broker_section,
    }
    if config.collection.local_offset_s:
        document["collection"] = {"local_offset_s": config.collection.local_offset_s}
    if config.firmware_keys_pem:
        document["firmware_keys_pem"] = config.firmware_keys_pem
    if config.identity is not None:
        document["identity"] = asdict(config.identity)
    if mesh_identity is not None:
        document["mesh_identity"] = asdict(mesh_identity)
    if equipment is not None:
        document |= device_sections(equipment)
    return GuestProvisioning(document, files)


def _broker_section(broker: BrokerAccess) -> tuple[dict[str, Any], dict[str, str]]:
    """The `broker` section of the daemon's configuration, and the PEM files that it names."""
    section: dict[str, Any] = {"host": GUEST_HOST, "port": broker.port, "client_id": broker.user}
    if broker.tls is None:
        return {**section, "username": broker.user, "password": broker.password}, {}
    paths = {"ca_file": broker.tls.ca, "certificate_file": broker.tls.certificate, "key_file": broker.tls.private_key}
    names = {"ca_file": "broker-ca.pem", "certificate_file": "uplink.pem", "key_file": "uplink-key.pem"}
    section["tls"] = {**names, "server_name": BROKER_NAME}
    return section, {name: paths[key].read_text(encoding="ascii") for key, name in names.items()}


def shift_clock_command(by_s: float) -> str:
    """For the guest's shell. Relative, so that it does not matter how long the command takes to begin."""
    return f'python3 -c "import time; time.clock_settime(time.CLOCK_REALTIME, time.time() + {by_s!r})"'


class QemuDcu(MaintenanceVerbs):
    """One concentrator under test, in its own machine. Its first start goes on from the snapshot, every later one is a
    cold boot with the flash as it was left.
    """

    def __init__(
        self,
        emulated: Emulated,
        folder: Path,
        clock: RunClock,
        radio: Radio,
        air: Air,
        provisioning: GuestProvisioning,
        equipment: Equipment,
    ) -> None:
        super().__init__(clock)
        self.opt: Opt | None = GuestOpt(self.shell)
        self._clock = clock
        self._radio = radio
        self._air = air
        self._equipment = equipment
        self._update_key = UpdateKey()
        self._provisioning = provisioning.with_file(UPDATE_KEY, self._update_key.public_pem)
        self._card = folder / CARD
        self._emulated = emulated
        self._has_started = False
        self._task: asyncio.Task[None] | None = None
        for name in (CONSOLE_LOG, QEMU_LOG, CARD):  # an earlier run's
            (folder / name).unlink(missing_ok=True)
        self.machine = Machine(MachineOptions(emulated.image, self._card, folder))

    @property
    def alive(self) -> bool:
        """Whether the machine has power."""
        return self.machine.power is not Power.OFF

    def start(self) -> None:
        """Power comes: radio and board start. Returns at once; `ready` waits."""
        self._air.revive(self._radio.name)
        self._task = self._clock.loop.create_task(self._power_on(), name="dcu-power-on")

    async def ready(self) -> None:
        """Until the daemon runs with its identity. Raises RigError if the machine or the daemon does not come up."""
        if self._task is not None:
            await self._task

    async def stop(self) -> None:
        """The end of the run: the machine goes off, and its flash is forgotten: it holds the run's keys."""
        await self._abandon_start()
        await self.machine.power_off()
        self._card.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """Board and radio end at once; what is in flash stays, torn pages included."""
        if self._task is not None:
            self._task.cancel()
        self.machine.cut_power()
        self._air.kill(self._radio.name)

    async def replace(self) -> None:
        """Put another board in this one's place: power on, out of the snapshot, with the same identity and no memory.

        Returns as `start` does, at once; `ready` waits. Raises RigError or TimeoutError if this one's daemon does not
        say what it has used: meters would take its successor for a replay.
        """
        status = await self.status()
        if "used" not in status:
            raise RigError(f"the concentrator is {status['state']}: there is nothing to replace")
        self.cut_power()
        await self.machine.power_off()
        self._provisioning = self._provisioning.behind(status["used"])
        self._has_started = False
        self.start()

    async def pause(self) -> None:
        """Stop the guest's processor, and its time."""
        await self.machine.pause()

    async def resume(self) -> None:
        await self.machine.resume()

    async def reset(self) -> None:
        """Press the reset button. Raises RigError if the daemon does not come back."""
        await self.machine.reset()
        await self._wait_for_identity(COLD_BOOT_TIMEOUT_S)

    async def shell(self, command: str, *, timeout_s: float = 60.0) -> str:
        """The output of a command on the guest's console. Raises RigError if it fails."""
        return await self.machine.console.run(command, timeout_s=timeout_s)

    async def shift_clock(self, by_s: float) -> None:
        """Move the guest's wall clock, as somebody at its console could."""
        await self.shell(shift_clock_command(by_s))

    async def update(self, archive: bytes, signature: bytes | None = None) -> str:
        """Install an update.tar.gz for the next start, signed by the run's maker unless a signature is given.

        The concentrator fetches it over its Ethernet.
        Gives its slot. Raises RigError with the concentrator's reason if it refuses.
        """
        signed = self._update_key.sign(archive) if signature is None else signature
        return await install_over_network(self.machine.maintenance, GUEST_HOST, archive, signed)

    async def restart(self) -> None:
        """End the daemon; the start-up script starts the program anew. Raises RigError if it does not come back."""
        pid = (await self.shell("cat /tmp/run/daemon.pid")).strip()
        await self.machine.maintenance.ask("restart")
        await self.shell(f"while [ -d /proc/{pid} ]; do usleep 200000; done", timeout_s=SNAPSHOT_TIMEOUT_S)
        await self._wait_for_identity(COLD_BOOT_TIMEOUT_S)

    async def ask(self, command: str, *, timeout_s: float = 60.0, **fields: object) -> dict[str, Any]:
        """One request over the maintenance line. Raises TimeoutError without an answer, RigError if it is refused."""
        return await self.machine.maintenance.ask(command, timeout_s=timeout_s, **fields)

    # inside

    async def _power_on(self) -> None:
        is_first = not self._has_started
        if is_first:
            self._has_started = True
            copy_card(self._emulated.ready, self._card)
        await self.machine.power_off()
        await self.machine.power_on(snapshot=is_first)
        host_end: ByteLink = self._radio.host
        bridge(self.machine.line("radio"), host_end)
        connect_devices(self.machine, self._equipment)
        if is_first:
            await self.machine.maintenance.wait_until_ready(timeout_s=SNAPSHOT_TIMEOUT_S)
            await self.machine.maintenance.ask(
                "provision",
                config=self._provisioning.config,
                files=self._provisioning.files,
                utc_s=self._clock.utc_s(),
            )
        await self._wait_for_identity(SNAPSHOT_TIMEOUT_S if is_first else COLD_BOOT_TIMEOUT_S)

    async def _wait_for_identity(self, timeout_s: float) -> None:
        status = await self.machine.maintenance.wait_until_ready(timeout_s=timeout_s)
        _LOG.info("the concentrator is %s", status["state"])

    async def _abandon_start(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("the concentrator did not start: %s", task.exception())
