"""The daemon's life around a concentrator: provisioned or not, started, replaced, and ended by a signal."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import enum
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcu import __version__
from dcu.config import DcuConfig
from dcu.config_file import BrokerAddress, Provisioning
from dcu.daemon import Dcu
from dcu.device_lines import DeviceLines, keep_system_clock, make_uplink, system_clock
from dcu.download import download
from dcu.maintenance import MaintenancePort
from dcu.mesh_commands import MeshCommands
from dcu.mqtt_uplink import MqttOptions, TlsOptions
from dcu.provisioning import ProvisioningStore
from dcu.serial_link import SerialError, SerialLink, open_serial
from dcu.station import Station
from dcu.storage import FileStorage, StorageError
from dcu.tasks import TaskGroup
from dcu.update import UpdateError, Updater
from protocols.dlms.security.signing import RandomSigner
from protocols.errors import BadInputError

_LOG = logging.getLogger(__name__)
_CONFIRM_INTERVAL_S = 5.0
_MAINTENANCE_REST_S = 0.02
_RADIO_REST_S = 0.002
UPDATE_KEY = "update-key.pem"


class State(enum.StrEnum):
    """UNPROVISIONED waits for an identity; FAILED has one that it cannot run with."""

    UNPROVISIONED = "unprovisioned"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Where a service keeps and finds things; `sets_clock` lets provisioning set the system's clock."""

    state_folder: Path
    maintenance_device: str
    workspace: Path
    program_folder: Path | None = None
    sets_clock: bool = False
    on_provisioned: Path | None = None
    """A program of the board, run with the workspace at the start and whenever provisioning has changed."""
    maintenance_baud: int = 921600
    begin_again_s: float = 30.0
    """After a start that flash refused: full today, it may have room again tomorrow, with nobody at the cabinet."""


class FileTrace:
    """Trace events as JSON lines in a file, with seconds on the loop's clock; bytes as hex. Without a file, nothing.

    Raises StorageError if the file cannot be written.
    """

    def __init__(self, path: Path | None, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._file = None if path is None else path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"the trace file {path} cannot be written: {error.strerror}") from error
        self._loop = loop

    def __call__(self, kind: str, /, **fields: object) -> None:
        if self._file is not None:
            event = {"t_s": round(self._loop.time(), 6), "kind": kind, **fields}
            self._file.write(json.dumps(event, default=_plain) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class SystemKeys:
    """A KeySource of the operating system."""

    def random_bytes(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)


class Concentrator:
    """A `Station` with its real lines and ways. `on_lost(reason)` is called if the radio's line goes away.

    Raises SerialError, StorageError or BadInputError if it cannot begin.
    """

    def __init__(
        self,
        provisioning: Provisioning,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[str], None],
    ) -> None:
        rng = random.SystemRandom()
        self.provisioning = provisioning
        self._trace = FileTrace(provisioning.trace_file, loop)
        self._radio = open_serial(
            provisioning.radio_device, provisioning.radio_baud, loop, on_lost, rest_s=_RADIO_REST_S
        )
        self._lines = DeviceLines(provisioning.devices, loop)
        self._tasks = TaskGroup(loop, self._trace)
        try:
            policy = provisioning.dcu.uplink
            options = _mqtt_options(provisioning.broker)
            self.uplink, ways = make_uplink(options, provisioning.devices, policy, loop, rng)
            self._station = Station(
                _with_mesh_identity(provisioning),
                self._lines.devices,
                loop=loop,
                radio=self._radio,
                uplink=ways,
                storage=FileStorage(provisioning.storage),
                key_source=SystemKeys(),
                rng=rng,
                clock=system_clock(),
                trace=self._trace,
            )
            self._station.start()
        except BaseException:
            self._lines.close()
            self._radio.close()
            self._trace.close()
            raise
        keeper = self._station.keeper
        if keeper is not None and provisioning.devices.sets_system_clock:
            self._tasks.spawn(keep_system_clock(keeper, _set_realtime), "system clock")

    @property
    def station(self) -> Station:
        return self._station

    def counters(self) -> dict[str, dict[str, int]]:
        return {part: dict(counter) for part, counter in self._station.counters().items()}

    def used(self) -> dict[str, int]:
        """What to provision to a replacement, as its `predecessor`."""
        return dataclasses.asdict(self._station.dcu.used)

    def devices(self) -> dict[str, Any]:
        """How the devices beside it are: for people at the maintenance line."""
        return {**self._station.devices(), "troubles": dict(self._lines.troubles)}

    async def stop(self) -> None:
        """An orderly end."""
        try:
            await self._station.stop()
        finally:
            self._tasks.cancel()
            await self._tasks.wait()
            self._lines.close()
            self._radio.close()
            self._trace.close()


def _with_mesh_identity(provisioning: Provisioning) -> DcuConfig:
    config, identity = provisioning.dcu, provisioning.mesh_identity
    if identity is None:
        return config
    credentials = identity.credentials(config.eui64, keys=SystemKeys(), utc_s=time.time, make_signer=RandomSigner)
    return dataclasses.replace(config, mesh_credentials=credentials)


def _mqtt_options(broker: BrokerAddress) -> MqttOptions:
    tls = broker.tls
    return MqttOptions(
        host=broker.host,
        port=broker.port,
        client_id=broker.client_id,
        username=broker.username,
        password=broker.password,
        keep_alive_s=broker.keep_alive_s,
        tls=None
        if tls is None
        else TlsOptions(Path(tls.ca_file), Path(tls.certificate_file), Path(tls.key_file), tls.server_name),
    )


def end_on_signal(loop: asyncio.AbstractEventLoop, ending: asyncio.Future[str]) -> None:
    """From now on SIGTERM and SIGINT set an empty reason. Asked for before anything of the daemon is seen outside."""

    def end() -> None:
        if not ending.done():
            ending.set_result("")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)


class Service:
    """A concentrator that is given its identity over the maintenance line, and keeps it over restarts."""

    def __init__(self, options: ServiceOptions, loop: asyncio.AbstractEventLoop) -> None:
        """Raises StorageError or SerialError if flash or maintenance line cannot be used."""
        self._options = options
        self._loop = loop
        self._tasks = TaskGroup(loop, lambda kind, /, **fields: None)
        self._store = ProvisioningStore(FileStorage(options.state_folder), options.workspace)
        self._updater = self._make_updater()
        self._concentrator: Concentrator | None = None
        self._failure = ""
        self._again: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[str] = loop.create_future()
        self._replacing = asyncio.Lock()
        self._telling = asyncio.Lock()
        self._line: SerialLink = open_serial(
            options.maintenance_device, options.maintenance_baud, loop, self._line_lost, rest_s=_MAINTENANCE_REST_S
        )
        mesh = MeshCommands(self._running)
        self.port = MaintenancePort(
            self._line,
            {
                "status": self._status,
                "provision": self._provision,
                "forget": self._forget,
                "upload": self._upload,
                "install": self._install,
                "restart": self._restart,
                "clock": self._clock,
                "rotate-group-key": mesh.rotate_group_key,
                "revoke": mesh.revoke,
            },
            {"ping": mesh.ping, "download": self._download},
            self._tasks.spawn,
        )

    @property
    def state(self) -> State:
        if self._concentrator is not None:
            return State.RUNNING
        return State.FAILED if self._failure else State.UNPROVISIONED

    async def run(self) -> str:
        """Until a signal (an empty text) or until the radio's line is lost or a restart is asked for (a reason)."""
        end_on_signal(self._loop, self._ending)
        try:
            found = self._store.load()
        except BadInputError as error:
            self._fail(str(error))
        else:
            if found is not None:
                self._updater = self._make_updater()  # the files that provisioning named are in RAM again
                self._begin(found)
        self._tell_board()
        self._loop.call_later(_CONFIRM_INTERVAL_S, self._confirm_update)
        _LOG.info("maintenance on %s: %s", self._options.maintenance_device, self.state)
        try:
            return await self._ending
        finally:
            self._give_up_beginning()
            if self._concentrator is not None:
                await self._concentrator.stop()
            self._tasks.cancel()
            await self._tasks.wait()
            self._line.close()

    # the concentrator

    def _begin(self, provisioning: Provisioning) -> None:
        try:
            self._concentrator = Concentrator(provisioning, self._loop, lambda why: self._end(f"radio: {why}"))
            self._failure = ""
        except StorageError as error:
            self._fail(str(error))
            self._again = self._loop.call_later(self._options.begin_again_s, self._begin, provisioning)
        except (SerialError, BadInputError) as error:
            self._fail(str(error))

    def _give_up_beginning(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _tell_board(self) -> None:
        program = self._options.on_provisioned
        if program is not None:
            self._tasks.spawn(self._run_program(program), "board's program")

    async def _run_program(self, program: Path) -> None:
        """What lies in the workspace may be for the board, such as its maintenance Wi-Fi."""
        async with self._telling:
            try:
                process = await asyncio.create_subprocess_exec(
                    program, self._options.workspace, stdin=asyncio.subprocess.DEVNULL
                )
            except OSError as error:
                _LOG.error("%s cannot be run: %s", program, error.strerror)
                return
            status = await process.wait()
        if status:
            _LOG.error("%s ended with status %d", program, status)

    def _fail(self, reason: str) -> None:
        self._failure = reason
        _LOG.error("the concentrator cannot run: %s", reason)

    async def _replace(self, provisioning: Provisioning | None) -> None:
        """Stop what runs, and start anew with another identity, or with none."""
        async with self._replacing:
            self._give_up_beginning()
            if self._concentrator is not None:
                old, self._concentrator = self._concentrator, None
                await old.stop()
            self._failure = ""
            if provisioning is not None:
                self._begin(provisioning)

    def _end(self, reason: str) -> None:
        if not self._ending.done():
            self._ending.set_result(reason)

    def _line_lost(self, why: str) -> None:
        self._end(f"maintenance line: {why}")

    # commands

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        concentrator = self._concentrator
        answer: dict[str, Any] = {"state": self.state, "version": __version__, "utc_s": time.time()}
        if self._failure:
            answer["failure"] = self._failure
        if concentrator is not None:
            answer["dcu_id"] = concentrator.provisioning.dcu.dcu_id
            answer["uplink"] = concentrator.uplink.is_connected
            answer["counters"] = concentrator.counters()
            answer["devices"] = concentrator.devices()
            answer["waiting"] = concentrator.station.waiting
            answer["used"] = concentrator.used()
        if self._updater is not None:
            state = self._updater.state()
            answer["program"] = {"slot": state.slot, "status": state.status}
        return answer

    def _clock(self, request: dict[str, Any]) -> dict[str, Any]:
        concentrator = self._concentrator
        reading = None if concentrator is None else concentrator.station.clock_reading()
        if reading is None:
            raise BadInputError("nothing disciplines the clock; provision a receiver or PTP under 'time'")
        return reading

    def _running(self) -> Dcu:
        if self._concentrator is None:
            raise BadInputError(f"the concentrator does not run, it is {self.state}; provision it first")
        return self._concentrator.station.dcu

    def _provision(self, request: dict[str, Any]) -> dict[str, Any]:
        utc_s = request.get("utc_s")
        if utc_s is not None and self._options.sets_clock:
            _set_clock(utc_s)
        found = self._store.save(request.get("config"), request.get("files", {}))
        self._updater = self._make_updater()
        self._tasks.spawn(self._replace(found), "provision")
        self._tell_board()
        return {"dcu_id": found.dcu.dcu_id}

    def _forget(self, request: dict[str, Any]) -> dict[str, Any]:
        self._store.forget()
        self._tasks.spawn(self._replace(None), "forget")
        self._tell_board()
        return {}

    def _restart(self, request: dict[str, Any]) -> dict[str, Any]:
        self._loop.call_later(0.2, self._end, "a restart was asked for")
        return {}

    # update

    def _make_updater(self) -> Updater | None:
        folder = self._options.program_folder
        if folder is None:
            return None
        key = self._options.workspace / UPDATE_KEY
        return Updater(folder, key.read_bytes() if key.exists() else None)

    def _updates(self) -> Updater:
        if self._updater is None:
            raise UpdateError("this daemon was not started by a start-up that could update it")
        return self._updater

    def _upload(self, request: dict[str, Any]) -> dict[str, Any]:
        offset = request.get("offset")
        if not isinstance(offset, int):
            raise UpdateError("`offset` must be a number of bytes")
        return {"size_bytes": self._updates().upload(offset, _decoded(request, "data"))}

    async def _download(self, request: dict[str, Any]) -> dict[str, Any]:
        url = request.get("url")
        if not isinstance(url, str):
            raise UpdateError("`url` must be an http:// address")
        self._updates()
        archive = await download(url)
        return {"size_bytes": self._updates().upload(0, archive)}

    def _install(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"slot": self._updates().install(_decoded(request, "signature"))}

    def _confirm_update(self) -> None:
        """A program that has reached the head-end has proved itself."""
        try:
            if self._updater is not None and self._concentrator is not None and self._concentrator.uplink.is_connected:
                if self._updater.confirm():
                    _LOG.info("the update has reached the head-end and is confirmed")
                return
        except UpdateError as error:
            _LOG.error("%s", error)
        self._loop.call_later(_CONFIRM_INTERVAL_S, self._confirm_update)


def _decoded(request: dict[str, Any], name: str) -> bytes:
    value = request.get(name)
    if not isinstance(value, str):
        raise UpdateError(f"`{name}` must be base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UpdateError(f"`{name}` is not base64") from error


def _set_realtime(utc_s: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, utc_s)


def _set_clock(utc_s: object) -> None:
    if isinstance(utc_s, bool) or not isinstance(utc_s, (int, float)) or not 0 < utc_s < 2**32:
        raise BadInputError("must be seconds since 1970", key="utc_s")
    try:
        _set_realtime(utc_s)
    except OSError as error:
        raise BadInputError(f"the clock cannot be set: {error.strerror}", key="utc_s") from error
