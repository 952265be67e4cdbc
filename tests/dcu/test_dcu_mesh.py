"""The concentrator over a real mesh: RCP, MAC, air, 6LoWPAN, RPL; and over the in-memory broker."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

pytest.importorskip("twin.air.air")

from dcu_fakes import CONFIG, ENERGY, START_UTC_S, FakeHeadend, FakeMeter, FakeUplink

from dcu.border_router import DLMS_PORT
from dcu.config import Predecessor
from dcu.daemon import Dcu
from dcu.storage import MemoryStorage
from protocols.headend import messages as m
from protocols.mesh.config import LinkKey, MeshConfig
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import BENCH
from twin.air.air import Air, AirSettings
from twin.air.obstacles import Position
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop


class Village:
    """A concentrator at 0 m and meters 250 m apart, each in reach of its neighbours only."""

    def __init__(self, meter_count: int, max_psdu_bytes: int = 2047, spacing_m: float = 250.0) -> None:
        self.loop = VirtualLoop()
        seeds = Seeds(7)
        self.air = Air(self.loop, seeds, settings=AirSettings(max_psdu_bytes=max_psdu_bytes))
        radio = replace(CONFIG.radio, max_psdu_bytes=max_psdu_bytes)
        self.config = replace(CONFIG, radio=radio)
        self.headend = FakeHeadend(self.loop)
        self.storage = MemoryStorage()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.dcu_radio = self.air.add_radio("dcu", CONFIG.eui64, Position(0.0, 0.0))
        self.meters = [FakeMeter(number) for number in range(1, meter_count + 1)]
        self.nodes: list[MeshRunner] = []
        for place, meter in enumerate(self.meters, 1):
            meter.loop = self.loop
            line = self.air.add_radio(meter.serial, meter.eui64, Position(spacing_m * place, 0.0))
            mesh = MeshConfig(
                eui64=meter.eui64,
                network_name=CONFIG.network_name,
                keys=(LinkKey(CONFIG.key_index, CONFIG.link_key),),
                radio=radio,
            )
            runner = MeshRunner(mesh, BENCH, timers=self.loop, link=line.host, rng=seeds.stream(f"node/{meter.serial}"))
            runner.bind_udp(DLMS_PORT, self._answering(runner, meter))
            self.nodes.append(runner)
        self.headend.known(*self.meters)

    def _answering(self, runner: MeshRunner, meter: FakeMeter) -> object:
        def answer(source: bytes, port: int, payload: bytes) -> None:
            reply = meter.datagram(payload, self.loop.time())
            if reply is not None:
                runner.send_udp(DLMS_PORT, source, port, reply)

        return answer

    def start(self) -> Dcu:
        self.dcu = Dcu(
            self.config,
            loop=self.loop,
            radio=self.dcu_radio.host,
            uplink=FakeUplink(self.headend),
            storage=self.storage,
            key_source=Seeds(7).keys("dcu"),
            rng=random.Random(7),
            utc_s=lambda: START_UTC_S + self.loop.time(),
            trace=lambda kind, /, **fields: self.events.append((kind, fields)),
        )
        self.dcu.start()
        return self.dcu

    def run(self, body: object) -> None:
        try:
            self.loop.run_until_complete(body())  # type: ignore[operator]
            assert self.loop.unhandled == []
            assert [fields for kind, fields in self.events if kind == "dcu-task-failed"] == []
        finally:
            self.loop.close()

    async def until(self, condition: object, within_s: float) -> None:
        end_s = self.loop.time() + within_s
        while not condition():  # type: ignore[operator]
            assert self.loop.time() < end_s, [item.__class__.__name__ for item in self.headend.heard]
            await asyncio.sleep(0.25)

    async def reading(self, request_id: str, meter: FakeMeter, within_s: float) -> m.ReadingResponse:
        self.headend.request(request_id, meter, within_s, ENERGY)
        await self.until(lambda: self.headend.responses(request_id), within_s + 5)
        return self.headend.responses(request_id)[0]


@pytest.mark.parametrize("max_psdu_bytes", [2047, 127])
@pytest.mark.requirement("UC-I.1")
def test_meters_join_register_and_are_read_over_several_hops(max_psdu_bytes: int) -> None:
    village = Village(3, max_psdu_bytes)

    async def body() -> None:
        dcu = village.start()
        for node in village.nodes:
            node.start()
        await village.until(lambda: len(village.headend.rows) == 3, 120)
        assert [dcu.where(meter.eui64).hops for meter in village.meters] == [1, 2, 3]  # type: ignore[union-attr]
        for meter in village.meters:
            response = await village.reading(f"r-{meter.serial}", meter, 30)
            assert response.status is m.ReadingStatus.OK
            assert response.values[0].value == meter.energy_wh

    village.run(body)


def test_a_restarted_concentrator_takes_its_mesh_up_again() -> None:
    village = Village(2)

    async def body() -> None:
        first = village.start()
        for node in village.nodes:
            node.start()
        await village.until(lambda: len(village.headend.rows) == 2, 120)
        first.halt()
        village.air.kill("dcu")
        await asyncio.sleep(5)
        village.air.revive("dcu")
        dcu = village.start()
        await village.until(
            lambda: all(dcu.registry.find(meter.eui64).state.value == "registered" for meter in village.meters),  # type: ignore[union-attr]
            200,
        )
        assert (await village.reading("r1", village.meters[1], 30)).status is m.ReadingStatus.OK

    village.run(body)


@pytest.mark.requirement("UC-II.1")
def test_a_reading_does_not_wait_long_for_a_restarted_concentrator() -> None:
    village = Village(2)

    async def body() -> None:
        first = village.start()
        for node in village.nodes:
            node.start()
        await village.until(lambda: len(village.headend.rows) == 2, 120)
        first.halt()
        village.air.kill("dcu")
        await asyncio.sleep(600)
        village.air.revive("dcu")
        village.start()
        began_s = village.loop.time()
        await asyncio.sleep(1.0)  # this broker keeps nothing for a concentrator that is not connected yet
        for number, meter in enumerate(village.meters):
            assert (await village.reading(f"r{number}", meter, 30)).status is m.ReadingStatus.OK
        assert village.loop.time() - began_s < 5.0

    village.run(body)


def _replaced(village: Village, predecessor: Predecessor) -> Dcu:
    """Another board with the same identity and keys, and an empty flash."""
    village.air.kill("dcu")
    village.air.revive("dcu")
    village.storage = MemoryStorage()
    village.config = replace(village.config, predecessor=predecessor)
    return village.start()


@pytest.mark.parametrize("tells_what_was_used", [True, False])
def test_meters_take_a_replacement_for_its_predecessor_if_it_goes_on_behind_it(tells_what_was_used: bool) -> None:
    village = Village(2)

    async def body() -> None:
        first = village.start()
        for node in village.nodes:
            node.start()
        await village.until(lambda: len(village.headend.rows) == 2, 120)
        heard = {message.id for message in village.headend.of(m.Registration)}
        first.halt()
        second = _replaced(village, first.used if tells_what_was_used else Predecessor())
        began_s = village.loop.time()
        try:
            await village.until(lambda: all(second.where(meter.eui64) for meter in village.meters), 10)
        except AssertionError:
            assert not tells_what_was_used
            return
        assert tells_what_was_used, "meters took frames that may be replays"
        assert village.loop.time() - began_s < 5.0
        assert second.used.starts == first.used.starts + 1
        await village.until(
            lambda: len({message.id for message in village.headend.of(m.Registration)} - heard) == 2, 30
        )
        assert (await village.reading("r1", village.meters[1], 30)).status is m.ReadingStatus.OK
        assert len(village.headend.rows) == 2

    village.run(body)


@pytest.mark.requirement("UC-II.2")
def test_a_dead_meter_times_out_and_is_lost() -> None:
    village = Village(2)

    async def body() -> None:
        village.start()
        for node in village.nodes:
            node.start()
        await village.until(lambda: len(village.headend.rows) == 2, 120)
        village.air.kill(village.meters[1].serial)
        response = await village.reading("r1", village.meters[1], 30)
        assert response.status is m.ReadingStatus.TIMEOUT
        assert (await village.reading("r2", village.meters[0], 30)).status is m.ReadingStatus.OK

    village.run(body)
