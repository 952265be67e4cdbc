"""An emulated meter of our own as a target: in this process, on the run's virtual clock, with its bench verbs."""

from __future__ import annotations

import asyncio

from meters.identity import MeterIdentity
from meters.keys import MeterKeys
from meters.meter import Meter, MeterHardware
from meters.models.schema import MeterModel
from protocols.dlms.wrapper import Wpdu
from protocols.loads import ConstantLoad, PhaseLoad
from protocols.ports import Trace
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds
from twin.conformance.certified import Certified, certify
from twin.conformance.links import MemoryLink
from twin.conformance.mesh_bench import MeshBench

LOAD_W = 1150.0
"""Of each phase, at its nominal voltage and a power factor of 1."""
CLIENT_SYSTEM_TITLE = b"OAMDCU01"
_EUI64 = bytes.fromhex("0249484d00c0ffee")
_SERIAL = "CONFORM00001"


class MeterBench:
    """One meter, made for one case: switched on, with an ideal crystal, a constant load and fresh keys.

    The verbs are those of its hardware; the firmware does not know them.
    """

    def __init__(
        self,
        model: MeterModel,
        clock: RunClock,
        seeds: Seeds,
        suite: int,
        trace: Trace | None,
        *,
        in_mesh: bool = False,
    ) -> None:
        """`in_mesh` gives it a radio, and a mesh to join."""
        self.model = model
        self.clock = clock
        title = model.manufacturer.encode("ascii") + bytes((0, 0, 0, 0, 1))
        self.certified: Certified | None = None
        """The authority and the tester's own keys, under suite 1."""
        source = seeds.keys("keys")
        self.keys = MeterKeys.generate(source, system_title=title, client_system_title=CLIENT_SYSTEM_TITLE, suite=suite)
        if suite == 1:
            self.keys, self.certified = certify(self.keys, source, clock)
        share = PhaseLoad(LOAD_W, 0.0, model.nominal_voltage_v)
        self.hardware = MeterHardware.for_model(
            model,
            clock,
            clock.loop,
            ConstantLoad((share,) * model.phases, model.nominal_frequency_hz),
            seeds.stream("hardware"),
            crystal_ppm=0.0,
        )
        self.mesh = MeshBench(clock, seeds, _EUI64) if in_mesh else None
        self.meter = Meter(
            model,
            MeterIdentity(_SERIAL, _EUI64),
            self.keys,
            self.hardware,
            timers=clock.loop,
            rng=seeds.stream("firmware"),
            key_source=seeds.keys("firmware"),
            trace=trace,
            radio=None if self.mesh is None else self.mesh.meter_radio,
            mesh=None if self.mesh is None else self.mesh.settings,
        )
        self.meter.power_on()

    def open_link(self) -> MemoryLink:
        """A channel of its own to the meter, as a TCP connection would be."""
        channel = object()

        def deliver(datagram: bytes) -> bytes | None:
            wpdu = Wpdu.decode(datagram)
            answer = self.meter.handle_apdu(wpdu.source_port, wpdu.destination_port, wpdu.apdu, channel=channel)
            return None if answer is None else Wpdu(wpdu.destination_port, wpdu.source_port, answer).encode()

        return MemoryLink(deliver, lambda: self.meter.close_channel(channel))

    # verbs

    async def pass_time(self, seconds: float) -> None:
        """The world goes on for `seconds`."""
        await asyncio.sleep(seconds)

    def power_cycle(self) -> None:
        """Mains goes without a warning and comes back: what was in RAM is lost."""
        self.meter.power_off()
        self.meter.power_on()

    def close(self) -> None:
        """Switch off, so that no timer of the meter is left."""
        self.meter.power_off()
        if self.mesh is not None:
            self.mesh.close()
