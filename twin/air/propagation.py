"""How strong a signal arrives, and how many frames survive it.

Path loss is log-distance: `loss(d) = loss(1 m) + 10 n log10(d)` with obstacles and shadowing added. The exponent `n` is
not guessed but calibrated, so that the default power arrives at exactly the receiver's sensitivity at the practical
limit (400 m). Shadowing is drawn once for each pair of nodes from a half-normal distribution, cut off so that a link
in the open at three quarters of the limit keeps working: it can shorten a link and never lengthens one. Nothing is
heard beyond the limit, whatever the budget says.

Sensitivity is meant as IEEE 802.15.4 means it: the power at which one frame of 250 octets in ten is lost.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from twin.air.obstacles import Obstacle, Position

RANGE_LIMIT_M = 400.0
DEFAULT_TX_POWER_DBM = 14.0
REFERENCE_FRAME_BITS = 250 * 8
REFERENCE_PER = 0.1
CAPTURE_RATIO_DB = 8.0
"""Signal over co-channel interference at which a reference frame is lost one time in ten."""
NOISE_FIGURE_DB = 6.0
_THERMAL_NOISE_DBM_PER_HZ = -174.0
_NEAR_FIELD_M = 1.0


def _required_snr(frame_bits: int, frame_error_rate: float) -> float:
    """Energy per bit over noise density, linear, at which non-coherent 2-FSK loses that share of such frames."""
    bit_error_rate = 1.0 - (1.0 - frame_error_rate) ** (1.0 / frame_bits)
    return -2.0 * math.log(2.0 * bit_error_rate)


REFERENCE_SNR = _required_snr(REFERENCE_FRAME_BITS, REFERENCE_PER)


def sensitivity_dbm(rate_bps: float, noise_figure_db: float = NOISE_FIGURE_DB) -> float:
    """Power at which 250-octet frames of 2-FSK at `rate_bps` are lost one time in ten, from thermal noise upwards."""
    noise_dbm = _THERMAL_NOISE_DBM_PER_HZ + 10.0 * math.log10(rate_bps) + noise_figure_db
    return noise_dbm + 10.0 * math.log10(REFERENCE_SNR)


def milliwatts(power_dbm: float) -> float:
    return math.pow(10.0, power_dbm / 10.0)


def bit_error_rate(margin: float) -> float:
    """Bit errors of non-coherent 2-FSK, `0.5 exp(-x g / 2)`.

    `margin` is x = S / (sensitivity + c I), linear: S is the signal, I the interference on the channel, c the capture
    ratio; g is the SNR at sensitivity.
    """
    exponent = 0.5 * REFERENCE_SNR * margin
    return 0.5 * math.exp(-exponent) if exponent < 700.0 else 0.0


def delivery_probability(margin: float, bits: float) -> float:
    """Probability that `bits` in a row arrive without error at that margin (see `bit_error_rate`)."""
    return math.exp(bits * math.log1p(-bit_error_rate(margin)))


class Propagation(Protocol):
    """What the medium asks about space."""

    sensitivity_dbm: float
    """Receiver sensitivity, and the level above which a channel is found busy."""
    range_m: float
    """No frame is heard from farther than this."""

    def received_dbm(
        self, power_dbm: float, sender: Position, receiver: Position, link: tuple[bytes, bytes] | None
    ) -> float:
        """Power that arrives. `link` names the two ends (any order), None where there is no lasting link."""
        ...

    def add_obstacle(self, obstacle: Obstacle) -> None: ...


@dataclass(frozen=True, slots=True)
class Shadowing:
    """Loss on top of the path loss, one draw a link: half-normal with `sigma_db`, cut off at `limit_db`.

    The draw depends on `key` and the two ends only, not on the order in which nodes were made.
    """

    key: bytes
    sigma_db: float = 1.5
    limit_db: float = 3.0

    def loss_db(self, link: tuple[bytes, bytes]) -> float:
        """At least 0 and at most `limit_db`; the same in both directions."""
        if self.sigma_db <= 0.0:
            return 0.0
        first, second = sorted(link)
        digest = hashlib.blake2b(first + b"|" + second, key=self.key, digest_size=8).digest()
        uniform = int.from_bytes(digest, "big") / 2**64
        unit = NormalDist()
        below_limit = unit.cdf(self.limit_db / self.sigma_db) - 0.5
        return min(self.limit_db, self.sigma_db * unit.inv_cdf(0.5 + uniform * below_limit))


class LogDistance:
    """Log-distance path loss with shadowing and obstacles; see the module's text for the calibration."""

    def __init__(
        self,
        sensitivity_dbm: float,
        *,
        shadowing: Shadowing | None = None,
        range_m: float = RANGE_LIMIT_M,
        frequency_hz: float = 868e6,
        calibrated_at_dbm: float = DEFAULT_TX_POWER_DBM,
    ) -> None:
        self.sensitivity_dbm = sensitivity_dbm
        self.range_m = range_m
        self._shadowing = shadowing
        self._obstacles: list[Obstacle] = []
        self.reference_loss_db = 20.0 * math.log10(4.0 * math.pi * frequency_hz / 299_792_458.0)
        budget_db = calibrated_at_dbm - sensitivity_dbm - self.reference_loss_db
        self.exponent = budget_db / (10.0 * math.log10(range_m))

    def add_obstacle(self, obstacle: Obstacle) -> None:
        self._obstacles.append(obstacle)

    def path_loss_db(self, sender: Position, receiver: Position) -> float:
        """Loss over open ground, without shadowing and obstacles."""
        distance_m = max(_NEAR_FIELD_M, sender.distance_m(receiver))
        return self.reference_loss_db + 10.0 * self.exponent * math.log10(distance_m)

    def received_dbm(
        self, power_dbm: float, sender: Position, receiver: Position, link: tuple[bytes, bytes] | None
    ) -> float:
        loss_db = self.path_loss_db(sender, receiver)
        if link is not None and self._shadowing is not None:
            loss_db += self._shadowing.loss_db(link)
        for obstacle in self._obstacles:
            loss_db += obstacle.loss_between_db(sender, receiver)
        return power_dbm - loss_db


class UnitDisc:
    """Lossless up to `range_m` and nothing beyond: the idealised channel that simulators are compared on."""

    def __init__(self, range_m: float, sensitivity_dbm: float = -100.0, margin_db: float = 40.0) -> None:
        self.range_m = range_m
        self.sensitivity_dbm = sensitivity_dbm
        self._inside_dbm = sensitivity_dbm + margin_db
        self._obstacles: list[Obstacle] = []

    def add_obstacle(self, obstacle: Obstacle) -> None:
        self._obstacles.append(obstacle)

    def received_dbm(
        self, power_dbm: float, sender: Position, receiver: Position, link: tuple[bytes, bytes] | None
    ) -> float:
        if sender.distance_m(receiver) > self.range_m:
            return -math.inf
        return self._inside_dbm - sum(obstacle.loss_between_db(sender, receiver) for obstacle in self._obstacles)
