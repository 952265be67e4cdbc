"""One meter, read over the mesh, over TCP and over a serial line at once (UNECE-1). In real time: sockets and a pty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import read_quantity
from protocols.dlms.units import Quantity, Unit
from protocols.loads import ConstantLoad, PhaseLoad
from twin.clock.clocks import ClockKind
from twin.dlms_client.connection import ClientOptions, Connection, Role, connected, parse_address
from twin.rigs.meter_ports import ListenAddress, open_port
from twin.rigs.meters import RigMeter
from twin.rigs.options import RunOptions
from twin.rigs.sync import SyncRig, open_sync_rig

ENERGY, VOLTAGE = ObisCode.parse("1-0:1.8.0*255"), ObisCode.parse("1-0:32.7.0*255")
SCENARIO = """
scenario: one-meter
title: One meter next to its concentrator
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0]}
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join}
"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SyncRig]:
    scenario = tmp_path / "one-meter.yaml"
    scenario.write_text(SCENARIO)
    with open_sync_rig(str(scenario), tmp_path / "run", RunOptions(clock=ClockKind.REAL)) as opened:
        opened.registered(timeout_s=60)
        yield opened


async def energy(connection: Connection) -> Quantity:
    return await connection.run(read_quantity(connection.client, 3, ENERGY))


async def over_all_three(rig: SyncRig, meter: RigMeter) -> dict[str, Decimal]:
    """The energy register by transport. The supply is switched off: between the readings nothing is counted."""
    keys = meter.provision.keys
    async with AsyncExitStack() as stack:
        connections = []
        for listen in ("tcp://127.0.0.1:0", "hdlc:PTY"):
            port = await open_port(ListenAddress.parse(listen), meter.meter)
            stack.push_async_callback(port.close)
            options = ClientOptions(parse_address(str(port.address)), Role.READER, keys)
            connections.append(await stack.enter_async_context(connected(options, rig.rig.clock)))
        tcp, serial = connections
        over_tcp, over_serial = await energy(tcp), await energy(serial)
        mesh = (await rig.rig.hes.read_meter(meter.serial, ["active_energy_import"])).values["active_energy_import"]
        assert over_tcp.unit is over_serial.unit is Unit.WATT_HOUR
        assert mesh.unit == "Wh"
        assert isinstance(mesh.value, Decimal)
        return {"tcp": over_tcp.value, "serial": over_serial.value, "mesh": mesh.value}


@pytest.mark.requirement("UNECE-1")
def test_same_register_of_the_same_meter_is_equal_over_mesh_tcp_and_serial_line(rig: SyncRig) -> None:
    meter = rig.rig.meter("A")
    meter.metrology.set_source(ConstantLoad((PhaseLoad(3600.0, 0.0, 230.0),), 50.0))
    assert rig.until(lambda: meter.imported_wh() > 2, timeout_s=30)
    assert meter.meter.disconnector is not None
    meter.meter.disconnector.open()
    found = rig.run(over_all_three(rig, meter))
    assert found["tcp"] == found["serial"] == found["mesh"]
    assert 2 <= found["mesh"] <= Decimal(meter.imported_wh())
