"""Radio facts: modulation modes, regional channel plans, airtime and the timing constants of CSMA-CA."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PhyMode:
    """One modulation at one rate. Symbols carry one bit in FSK; O-QPSK is kept for comparisons with other tools."""

    name: str
    rate_bps: int
    preamble_bytes: int
    sfd_bytes: int = 2
    phr_bytes: int = 2

    def airtime_s(self, psdu_bytes: int) -> float:
        """Seconds on the air of a PSDU, its FCS included, with preamble, SFD and PHY header."""
        return (self.preamble_bytes + self.sfd_bytes + self.phr_bytes + psdu_bytes) * 8 / self.rate_bps


FSK_MODES: dict[int, PhyMode] = {
    1: PhyMode("FSK 1a", 50_000, 8),
    2: PhyMode("FSK 1b", 50_000, 8),
    3: PhyMode("FSK 2a", 100_000, 12),
    4: PhyMode("FSK 2b", 100_000, 12),
    5: PhyMode("FSK 3", 150_000, 12),
    6: PhyMode("FSK 4a", 200_000, 24),
    7: PhyMode("FSK 4b", 200_000, 24),
    8: PhyMode("FSK 5", 300_000, 24),
    250: PhyMode("O-QPSK 250", 250_000, 4, sfd_bytes=1, phr_bytes=1),
}
"""By Wi-SUN PHY mode id; 250 is the 2.4 GHz PHY of 127-byte frames, outside of Wi-SUN."""


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """The channels of one regulatory domain and operating class."""

    name: str
    regulatory_domain: int
    operating_class: int
    channel0_hz: int
    spacing_hz: int
    channel_count: int

    def frequency_hz(self, channel: int) -> int:
        """Centre frequency. Raises ValueError outside of the plan."""
        if not 0 <= channel < self.channel_count:
            raise ValueError(f"{self.name} has channels 0 to {self.channel_count - 1}, not {channel}")
        return self.channel0_hz + channel * self.spacing_hz


CHANNEL_PLANS: dict[int, ChannelPlan] = {
    1: ChannelPlan("NA-1", 1, 1, 902_200_000, 200_000, 129),
    3: ChannelPlan("EU-1", 3, 1, 863_100_000, 100_000, 69),
    5: ChannelPlan("IN-1", 5, 1, 865_100_000, 100_000, 29),
}
"""By Wi-SUN regulatory domain."""

TURNAROUND_S = 0.001
"""aTurnaroundTime of SUN PHYs: between receiving and sending, and before an acknowledgement (AIFS)."""
CCA_S = 0.000_160
"""phyCcaDuration: 8 symbols at 50 kb/s."""
UNIT_BACKOFF_S = TURNAROUND_S + CCA_S
"""aUnitBackoffPeriod."""
