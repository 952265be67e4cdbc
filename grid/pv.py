"""Solar plants: what the sun gives, minute by minute.

Clear sky: global horizontal irradiance after Haurwitz (Journal of Meteorology 2, 1945), 1098 cos(z) exp(-0.059 /
cos(z)) W/m2, with the sun's declination after Cooper (1969) and the equation of time after Spencer (1971). The panels
lie flat enough (a tropical roof) for that to be their irradiance. Clouds: a seeded two-state chain, clear or cloudy,
with a transmittance drawn for each cloud. Panels lose power with temperature as nominal operating cell temperature
(NOCT) and a coefficient per kelvin say. The parameters are ours, not taken from measured data.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protocols.errors import BadInputError

_DAY_S = 86_400
_MINUTES = 1440
_DAYS_KEPT = 3
_STANDARD_IRRADIANCE = 1000.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where the sun shines. Raises BadInputError outside the globe."""

    latitude_deg: float = -1.29
    longitude_deg: float = 36.82

    def __post_init__(self) -> None:
        if not -90.0 <= self.latitude_deg <= 90.0:
            raise BadInputError(f"must be from -90 to 90, is {self.latitude_deg:g}", key="latitude_deg")
        if not -180.0 <= self.longitude_deg <= 180.0:
            raise BadInputError(f"must be from -180 to 180, is {self.longitude_deg:g}", key="longitude_deg")

    def cosine_of_zenith(self, utc_s: float) -> float:
        """Cosine of the angle between sun and zenith; negative at night."""
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc_s)
        day = moment.timetuple().tm_yday
        declination = math.radians(23.45) * math.sin(2.0 * math.pi * (284 + day) / 365.0)
        angle = 2.0 * math.pi * (day - 1) / 365.0
        equation_min = 229.18 * (
            0.000075 + 0.001868 * math.cos(angle) - 0.032077 * math.sin(angle)
            - 0.014615 * math.cos(2.0 * angle) - 0.040849 * math.sin(2.0 * angle)
        )  # fmt: skip
        solar_min = (utc_s % _DAY_S) / 60.0 + 4.0 * self.longitude_deg + equation_min
        hour_angle = math.radians(solar_min / 4.0 - 180.0)
        latitude = math.radians(self.latitude_deg)
        return math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
            hour_angle
        )

    def clear_sky_w_m2(self, utc_s: float) -> float:
        """Irradiance on a horizontal plane under a clear sky."""
        cosine = self.cosine_of_zenith(utc_s)
        return 0.0 if cosine <= 0.0 else 1098.0 * cosine * math.exp(-0.059 / cosine)


class Sky:
    """Clouds over a site: the same seed gives the same sky. `cloudiness` is the share of time under clouds, 0 to 1."""

    def __init__(self, rng: random.Random, site: Site, cloudiness: float = 0.3, cloud_minutes: float = 12.0) -> None:
        if not 0.0 <= cloudiness <= 1.0:
            raise BadInputError(f"must be from 0 to 1, is {cloudiness:g}", key="cloudiness")
        self.site = site
        self._seed = rng.getrandbits(64)
        self._cloudiness = cloudiness
        self._cloud_minutes = cloud_minutes
        self._days: OrderedDict[int, tuple[float, ...]] = OrderedDict()

    def irradiance_w_m2(self, utc_s: float) -> float:
        """Constant within a minute: that of the minute's middle."""
        minute = math.floor(utc_s / 60.0)
        clear = self.site.clear_sky_w_m2(minute * 60.0 + 30.0)
        return clear * self._transmittance(minute) if clear > 0.0 else 0.0

    def _transmittance(self, minute: int) -> float:
        number, index = divmod(minute, _MINUTES)
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = self._make_day(random.Random(f"{self._seed}/sky/{number}"))
            if len(self._days) > _DAYS_KEPT:
                self._days.popitem(last=False)
        return day[index]

    def _make_day(self, rng: random.Random) -> tuple[float, ...]:
        if self._cloudiness in (0.0, 1.0):
            return (1.0,) * _MINUTES if self._cloudiness == 0.0 else self._overcast(rng)
        clear_minutes = self._cloud_minutes * (1.0 - self._cloudiness) / self._cloudiness
        cloudy = rng.random() < self._cloudiness
        values: list[float] = []
        while len(values) < _MINUTES:
            length = max(1, round(rng.expovariate(1.0 / (self._cloud_minutes if cloudy else clear_minutes))))
            values += [rng.uniform(0.2, 0.65) if cloudy else 1.0] * length
            cloudy = not cloudy
        return tuple(values[:_MINUTES])

    def _overcast(self, rng: random.Random) -> tuple[float, ...]:
        level = rng.uniform(0.15, 0.35)
        return tuple(level * rng.uniform(0.9, 1.1) for _ in range(_MINUTES))


@dataclass(frozen=True, slots=True)
class PvArray:
    """Panels: direct-current power under standard conditions, and how it falls with temperature."""

    peak_w: float
    ambient_c: float = 26.0
    nominal_cell_c: float = 45.0
    per_kelvin: float = -0.004
    other_losses: float = 0.10

    def __post_init__(self) -> None:
        if not (math.isfinite(self.peak_w) and 0.0 < self.peak_w <= 1e6):
            raise BadInputError(f"must be above 0 and at most 1 MW, is {self.peak_w:g} W", key="peak_w")

    def power_w(self, irradiance_w_m2: float) -> float:
        """Power behind the inverter's input, in W."""
        cell_c = self.ambient_c + (self.nominal_cell_c - 20.0) / 800.0 * irradiance_w_m2
        share = irradiance_w_m2 / _STANDARD_IRRADIANCE * (1.0 + self.per_kelvin * (cell_c - 25.0))
        return max(0.0, self.peak_w * share * (1.0 - self.other_losses))
