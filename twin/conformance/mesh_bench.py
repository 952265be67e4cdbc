"""A mesh of two for a meter under test: the tester's border router a hundred metres away, on the simulated air."""

from __future__ import annotations

import asyncio

from meters.firmware.mesh_node import MeshSettings
from protocols.dlms.wrapper import Wpdu
from protocols.errors import RemoteProtocolError
from protocols.mesh.config import LinkKey, MeshConfig, RadioSettings, Role
from protocols.mesh.events import MeshEvent, NodeReachable
from protocols.mesh.phy import FSK_MODES
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import BENCH
from protocols.meter_identity import WRAPPER_PORT
from protocols.ports import ByteLink
from twin.air.air import Air, AirSettings
from twin.air.obstacles import Position
from twin.air.propagation import sensitivity_dbm
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds
from twin.conformance.links import check_ports
from twin.errors import RigError

ANSWER_TIMEOUT_S = 30.0
JOIN_TIMEOUT_S = 600.0
_DISTANCE_M = 100.0
_ROOT_EUI64 = bytes.fromhex("0249484400c0ffee")
_PREFIX = bytes.fromhex("fd00000000000001")
_PAN_ID = 0x0A01
_NETWORK_NAME = "conformance"


class MeshBench:
    """Air, the tester's root and the settings with which the meter joins it."""

    def __init__(self, clock: RunClock, seeds: Seeds, meter_eui64: bytes) -> None:
        air_settings = AirSettings()
        radio = RadioSettings(
            plan=air_settings.plan,
            fsk_mode=air_settings.fsk_mode,
            max_psdu_bytes=air_settings.max_psdu_bytes,
            sensitivity_dbm=sensitivity_dbm(FSK_MODES[air_settings.fsk_mode].rate_bps),
        )
        air = Air(clock.loop, seeds, settings=air_settings)
        key = LinkKey(1, seeds.keys("mesh/key").random_bytes(16))
        self.settings = MeshSettings(_NETWORK_NAME, (key,), BENCH, radio=radio)
        self.meter_radio: ByteLink = air.add_radio("meter", meter_eui64, Position(_DISTANCE_M, 0.0)).host
        self._meter_eui64 = meter_eui64
        self._reached: asyncio.Event = asyncio.Event()
        self._meter_address = b""
        self._next_port = WRAPPER_PORT
        root = MeshConfig(
            _ROOT_EUI64, _NETWORK_NAME, (key,), role=Role.ROOT, pan_id=_PAN_ID, prefix=_PREFIX, radio=radio
        )
        self._runner = MeshRunner(
            root,
            BENCH,
            timers=clock.loop,
            link=air.add_radio("root", _ROOT_EUI64, Position(0.0, 0.0)).host,
            rng=seeds.stream("mesh/root"),
            on_event=self._on_event,
        )
        self._runner.start()

    def _on_event(self, event: MeshEvent) -> None:
        if isinstance(event, NodeReachable) and event.eui64 == self._meter_eui64:
            self._meter_address = event.address
            self._reached.set()

    async def open_link(self) -> MeshLink:
        """A UDP port of the tester's to the meter, once that has joined. Raises RigError if it does not."""
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await self._reached.wait()
        except TimeoutError:
            raise RigError(f"the meter does not join the mesh within {JOIN_TIMEOUT_S:g} s") from None
        port, self._next_port = self._next_port, self._next_port + 1
        return MeshLink(self._runner, self._meter_address, port)

    def close(self) -> None:
        self._runner.stop()


class MeshLink:
    """The wrapper in UDP over 6LoWPAN and 802.15.4. The first link has the port that meters push to."""

    def __init__(self, runner: MeshRunner, meter_address: bytes, port: int) -> None:
        self._runner = runner
        self._meter_address = meter_address
        self._port = port
        self._received: asyncio.Queue[Wpdu | RemoteProtocolError] = asyncio.Queue()
        runner.bind_udp(port, self._on_datagram)

    def _on_datagram(self, source: bytes, source_port: int, payload: bytes) -> None:
        if source != self._meter_address:
            return
        try:
            self._received.put_nowait(Wpdu.decode(payload))
        except RemoteProtocolError as error:
            self._received.put_nowait(error)

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        datagram = Wpdu(client_sap, server_sap, apdu).encode()
        self._runner.send_udp(self._port, self._meter_address, WRAPPER_PORT, datagram)
        wpdu = await self._next(ANSWER_TIMEOUT_S)
        return None if wpdu is None else check_ports(wpdu, client_sap, server_sap)

    async def unasked(self, timeout_s: float) -> bytes | None:
        wpdu = await self._next(timeout_s)
        return None if wpdu is None else wpdu.apdu

    async def _next(self, timeout_s: float) -> Wpdu | None:
        try:
            async with asyncio.timeout(timeout_s):
                item = await self._received.get()
        except TimeoutError:
            return None
        if isinstance(item, RemoteProtocolError):
            raise item
        return item

    async def close(self) -> None:
        """The port stays bound until the mesh ends."""
