"""Transformers and conductors as data.

Conductors: direct-current resistance at 20 degrees as IEC 60228 gives it for stranded conductors, reactance typical
of bundled low-voltage conductors. Transformers: losses of tier 1 (A0, Ck) of Commission Regulation (EU) 548/2014,
impedance 4 %. Both from general knowledge, not checked against the texts; they are the model, not a claim.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conductor:
    """Three phases and a neutral of the same section. `rated_a` is the continuous current of a phase."""

    name: str
    resistance_ohm_per_km: float
    reactance_ohm_per_km: float
    rated_a: float


@dataclass(frozen=True, slots=True)
class Transformer:
    """A Dyn11 distribution transformer. Its secondary voltage is the one between phases without a load."""

    name: str
    rated_va: float
    load_loss_w: float
    no_load_loss_w: float
    primary_v: float = 11_000.0
    impedance_pu: float = 0.04


CONDUCTORS = {
    item.name: item
    for item in (
        Conductor("al-16", 1.91, 0.10, 66.0),
        Conductor("al-25", 1.20, 0.10, 88.0),
        Conductor("al-35", 0.868, 0.10, 110.0),
        Conductor("al-50", 0.641, 0.10, 133.0),
        Conductor("al-70", 0.443, 0.09, 175.0),
        Conductor("al-95", 0.320, 0.09, 210.0),
        Conductor("al-150", 0.206, 0.08, 290.0),
        Conductor("al-240", 0.125, 0.08, 390.0),
    )
}

TRANSFORMERS = {
    item.name: item
    for item in (
        Transformer("25kva", 25e3, 900.0, 70.0),
        Transformer("50kva", 50e3, 1100.0, 90.0),
        Transformer("100kva", 100e3, 1750.0, 145.0),
        Transformer("160kva", 160e3, 2350.0, 210.0),
        Transformer("250kva", 250e3, 3250.0, 300.0),
        Transformer("315kva", 315e3, 3900.0, 360.0),
        Transformer("630kva", 630e3, 6500.0, 600.0),
        Transformer("1000kva", 1000e3, 10500.0, 770.0, impedance_pu=0.06),
    )
}
