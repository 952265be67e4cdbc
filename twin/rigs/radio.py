"""The scenario's radio plan, in the numbers that radios are configured with."""

from __future__ import annotations

from protocols.mesh import phy
from protocols.mesh.config import RadioSettings
from protocols.mesh.timers import BENCH, BENCH_HOPPING
from protocols.rcp.codes import ChannelFunction
from twin.air.propagation import sensitivity_dbm
from twin.scenarios.schema import Scenario


def radio_numbers(scenario: Scenario) -> tuple[int, int]:
    """Channel plan and FSK mode by their Wi-SUN numbers."""
    rate_bps = scenario.radio.data_rate_kbps * 1000
    plan = next(number for number, plan in phy.CHANNEL_PLANS.items() if plan.name == scenario.radio.region)
    mode = next(number for number, mode in phy.FSK_MODES.items() if mode.rate_bps == rate_bps)
    return plan, mode


def radio_settings(scenario: Scenario) -> RadioSettings:
    """How every radio of the scenario is told to work."""
    plan, mode = radio_numbers(scenario)
    return RadioSettings(
        plan=plan,
        fsk_mode=mode,
        channel_function=ChannelFunction.DH1CF if scenario.radio.hopping else ChannelFunction.FIXED,
        max_psdu_bytes=scenario.radio.max_psdu_bytes,
        sensitivity_dbm=sensitivity_dbm(phy.FSK_MODES[mode].rate_bps),
    )


def timers_profile(scenario: Scenario) -> str:
    """Name of the mesh's timer profile: `bench` leaves time for discovery bursts where radios hop."""
    hops = scenario.radio.hopping and scenario.timers == BENCH.name
    return BENCH_HOPPING.name if hops else scenario.timers
