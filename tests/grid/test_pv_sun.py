"""The sun over Nairobi, and what panels make of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from grid.pv import PvArray, Site, Sky
from protocols.errors import BadInputError

NAIROBI = Site(-1.29, 36.82)
EQUINOX = datetime(2026, 3, 20, tzinfo=UTC).timestamp()
DAY_S = 86_400


def test_the_sun_stands_highest_at_solar_noon_and_is_gone_at_night() -> None:
    minutes = [NAIROBI.cosine_of_zenith(EQUINOX + minute * 60.0) for minute in range(1440)]
    noon = minutes.index(max(minutes))
    # 12:00 UTC less 4 minutes for every degree east, plus 7.5 minutes by which the sun is late in March.
    assert noon == pytest.approx(720 - 4 * 36.82 + 7.5, abs=2)
    assert max(minutes) > 0.999
    assert min(minutes) < -0.99
    assert sum(value > 0 for value in minutes) == pytest.approx(720, abs=6)


@pytest.mark.parametrize(
    ("latitude", "day", "least", "most"), [(52.0, "2026-12-21", 0.2, 0.3), (52.0, "2026-06-21", 0.87, 0.89)]
)
def test_the_height_of_the_sun_at_noon_follows_the_season(latitude: float, day: str, least: float, most: float) -> None:
    start_s = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()
    site = Site(latitude, 0.0)
    assert least < max(site.cosine_of_zenith(start_s + minute * 60.0) for minute in range(1440)) < most


def test_a_clear_day_brings_the_energy_that_the_tropics_have() -> None:
    wh_m2 = sum(NAIROBI.clear_sky_w_m2(EQUINOX + minute * 60.0) for minute in range(1440)) / 60.0
    assert 6800 < wh_m2 < 8000


def test_clouds_take_their_share_and_are_the_same_for_the_same_seed() -> None:
    def day(seed: int, cloudiness: float) -> list[float]:
        sky = Sky(random.Random(seed), NAIROBI, cloudiness)
        return [sky.irradiance_w_m2(EQUINOX + minute * 60.0) for minute in range(1440)]

    assert day(1, 0.4) == day(1, 0.4)
    assert day(1, 0.4) != day(2, 0.4)
    clear = sum(day(1, 0.0))
    assert sum(day(3, 1.0)) < 0.4 * clear
    mean = sum(sum(day(seed, 0.4)) for seed in range(20)) / 20 / clear
    assert 0.65 < mean < 0.85
    sky = Sky(random.Random(5), NAIROBI, 0.4)
    later = sky.irradiance_w_m2(EQUINOX + 4 * DAY_S + 9 * 3600.0)
    sky.irradiance_w_m2(EQUINOX + 9 * 3600.0)
    assert sky.irradiance_w_m2(EQUINOX + 4 * DAY_S + 9 * 3600.0) == later


def test_panels_give_less_when_they_are_hot_and_nothing_in_the_dark() -> None:
    panels = PvArray(1000.0)
    assert panels.power_w(0.0) == 0.0
    assert panels.power_w(1000.0) == pytest.approx(1000.0 * 0.9 * (1 - 0.004 * (26 + 31.25 - 25)))
    assert PvArray(1000.0, ambient_c=40.0).power_w(800.0) < panels.power_w(800.0)


def test_places_and_plants_that_cannot_be_are_refused() -> None:
    for make in (lambda: Site(91.0, 0.0), lambda: Site(0.0, 200.0), lambda: PvArray(0.0), lambda: PvArray(float("nan")),
                 lambda: Sky(random.Random(1), NAIROBI, 1.5)):  # fmt: skip
        with pytest.raises(BadInputError):
            make()
