"""What a shot at the protection is, and what came of it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from grid.faults import Expectation
from grid.loads import Load
from grid.waveforms import LineFrequency
from meters.firmware.protection.settings import MAX_ISOLATION_MS, ProtectionSettings
from meters.hardware.leakage_sensor import SENSOR_MODELS, SensorModel
from meters.hardware.relay import RELAY_MODELS, RelayModel
from protocols.errors import BadInputError
from twin.conformance.verdicts import Verdict

Samples = npt.NDArray[np.float64]


class ShotKind(enum.StrEnum):
    SHOT = "shot"
    RAMP = "ramp"
    PULSE_RAMP = "pulse-ramp"
    SEQUENCE = "sequence"
    PHASE_SWEEP = "phase-sweep"
    FREQUENCY_SWEEP = "frequency-sweep"
    SAMPLES = "samples"


@dataclass(frozen=True, slots=True)
class FaultState:
    """A stretch of a state sequence: a waveform at a current for a time. `ma` 0 is a healthy line."""

    waveform: str
    ma: float
    duration_s: float
    direct_ma: float = 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One fault, fired at `phases` evenly spaced onset phases.

    `ma` is the current in the waveform's own rating; `direct_ma` comes with the fault, `standing_ac_ma` and
    `standing_dc_ma` flow all the time. `ramp_ma_per_s` lets the fault grow from zero. A `sequence` replaces waveform
    and current. `expected` overrules what the table asks for. Raises BadInputError for values that make no sense.
    """

    name: str
    waveform: str
    ma: float
    kind: ShotKind = ShotKind.SHOT
    frequency: LineFrequency = field(default_factory=LineFrequency)
    phases: int = 64
    first_phase_deg: float = 0.0
    relay: RelayModel = RELAY_MODELS["mosfet"]
    sensor: SensorModel = SENSOR_MODELS["type-b"]
    load: Load = field(default_factory=Load)
    direct_ma: float = 0.0
    standing_ac_ma: float = 0.0
    standing_dc_ma: float = 0.0
    ramp_ma_per_s: float | None = None
    sequence: tuple[FaultState, ...] = ()
    pre_fault_s: float = 0.2
    duration_s: float = 1.0
    settings: ProtectionSettings = field(default_factory=ProtectionSettings)
    welded: frozenset[str] = frozenset()
    expected: Expectation | None = None
    limit_ms: float = MAX_ISOLATION_MS
    seed: int = 1

    def __post_init__(self) -> None:
        for key in ("ma", "direct_ma", "standing_ac_ma", "standing_dc_ma", "duration_s", "pre_fault_s"):
            if not math.isfinite(getattr(self, key)):
                raise BadInputError(f"must be a number, is {getattr(self, key)}", key=key)
        hz = self.frequency.hz
        if not 40.0 <= hz <= 70.0:
            raise BadInputError(f"must be from 40 to 70 Hz, is {hz:g}", key="hz")
        if not 1 <= self.phases <= 4096:
            raise BadInputError(f"must be from 1 to 4096, is {self.phases}", key="phases")
        if not 0.0 < self.duration_s <= 86400.0:
            raise BadInputError(f"must be more than 0 and at most 86400 s, is {self.duration_s:g}", key="duration_s")
        if self.ramp_ma_per_s is not None and not (math.isfinite(self.ramp_ma_per_s) and self.ramp_ma_per_s > 0.0):
            raise BadInputError(f"must be more than 0, is {self.ramp_ma_per_s:g}", key="ramp_ma_per_s")


@dataclass(frozen=True, slots=True)
class Capture:
    """What the meter would store of a trip: samples around it. Times are in seconds from the onset."""

    first_s: float
    rate_hz: float
    residual_ma: Samples
    measured_ma: Samples
    phase_a: Samples
    neutral_a: Samples
    closed: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShotResult:
    """What one shot at one phase did. Times in ms from the fault's first sample; for a ramp, from the sample at which
    it reaches the current that must trip (so they are negative where it tripped earlier, as it should)."""

    shot: Shot
    phase_deg: float
    tripped: bool
    detect_ms: float | None
    isolate_ms: float | None
    cause: str
    expected: Expectation
    verdict: Verdict
    reason: str = ""
    level_ma: float | None = None
    """The fault's current when it tripped, where it grows."""
    capture: Capture | None = None

    def to_json(self) -> dict[str, object]:
        """What `twin trip --json` prints of it."""
        shot = self.shot
        return {
            "name": shot.name,
            "kind": shot.kind.value,
            "waveform": shot.waveform,
            "ma": shot.ma,
            "hz": shot.frequency.hz,
            "relay": shot.relay.name,
            "sensor": shot.sensor.name,
            "phase_deg": round(self.phase_deg, 4),
            "tripped": self.tripped,
            "detect_ms": None if self.detect_ms is None else round(self.detect_ms, 4),
            "isolate_ms": None if self.isolate_ms is None else round(self.isolate_ms, 4),
            "isolated": self.isolate_ms is not None,
            "cause": self.cause,
            "level_ma": None if self.level_ma is None else round(self.level_ma, 4),
            "expected": self.expected.value,
            "limit_ms": shot.limit_ms,
            "verdict": self.verdict.value,
            "reason": self.reason,
        }


def judge(
    expected: Expectation, tripped: bool, isolate_ms: float | None, limit_ms: float, opening_reason: str
) -> tuple[Verdict, str]:
    """The verdict, and in words why it is not PASS."""
    if expected is Expectation.HOLD:
        return (Verdict.FAIL, "tripped, and must not") if tripped else (Verdict.PASS, "")
    if not tripped:
        return (Verdict.FAIL, "did not trip, and must") if expected is Expectation.TRIP else (Verdict.PASS, "")
    if isolate_ms is None:
        return Verdict.FAIL, f"NOT ISOLATED: {opening_reason}"
    if expected is Expectation.TRIP and isolate_ms > limit_ms:
        return Verdict.FAIL, f"isolated after {isolate_ms:.1f} ms, the limit is {limit_ms:g} ms"
    return Verdict.PASS, ""
