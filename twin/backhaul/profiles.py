"""How the ways to the head-end behave, as data. Figures are what such bearers give in the field, not their best."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import BadInputError


@dataclass(frozen=True, slots=True)
class BackhaulProfile:
    """One bearer. `loss` is the probability that an IP packet is lost; delays in seconds, rates in bit/s."""

    name: str
    round_trip_s: float
    jitter_s: float
    up_bps: float
    down_bps: float
    loss: float

    def __post_init__(self) -> None:
        if self.round_trip_s < 0 or self.jitter_s < 0 or self.up_bps <= 0 or self.down_bps <= 0:
            raise BadInputError("delays must be at least 0 and rates above 0", key=self.name)
        if not 0 <= self.loss < 1:
            raise BadInputError("loss must be at least 0 and below 1", key=self.name)


PROFILES: dict[str, BackhaulProfile] = {
    profile.name: profile
    for profile in (
        BackhaulProfile("satellite", 0.600, 0.020, 64_000, 256_000, 0.005),
        BackhaulProfile("4g", 0.050, 0.010, 10_000_000, 30_000_000, 0.001),
        BackhaulProfile("3g", 0.120, 0.030, 1_000_000, 4_000_000, 0.005),
        BackhaulProfile("2g", 0.650, 0.150, 20_000, 60_000, 0.010),
        BackhaulProfile("lan", 0.001, 0.0, 100_000_000, 100_000_000, 0.0),
    )
}


def profile_named(name: str) -> BackhaulProfile:
    """Raises BadInputError that lists the names there are."""
    profile = PROFILES.get(name)
    if profile is None:
        raise BadInputError(f"no backhaul profile {name!r}; there are {', '.join(PROFILES)}", key="profile")
    return profile
