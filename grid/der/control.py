"""Active and reactive power that an inverter aims at, from its settings and the grid at its terminals.

Active power is in percent of the rated active power, reactive power in percent of the rated apparent power.
"""

from __future__ import annotations

import math

from grid.der.settings import DerSettings, Rating, VarReference


class Response:
    """A value that follows its target: to 90 % of a step within the response time, as the standard measures it."""

    def __init__(self) -> None:
        self.value = 0.0

    def follow(self, target: float, response_s: float, duration_s: float, rate_per_s: float | None) -> None:
        """Move towards `target` for `duration_s`, no faster upwards than `rate_per_s`."""
        before = self.value
        if response_s <= 0.0:
            self.value = target
        else:
            self.value = target + (before - target) * 10.0 ** (-duration_s / response_s)
        if rate_per_s is not None and self.value > before:
            self.value = min(self.value, before + rate_per_s * duration_s)


def active_target(
    settings: DerSettings,
    rating: Rating,
    voltage_pu: float,
    hz: float,
    available_pct: float,
    pre_disturbance_pct: float | None,
) -> tuple[float, float]:
    """Active power aimed at, and the response time in s of the function that rules it.

    `pre_disturbance_pct` is the power before the frequency left its deadband; None within it.
    """
    power = settings.power
    scale = settings.maximum_w / rating.active_w
    target, response_s = min(available_pct, 100.0 * scale), 0.0
    if power.set_enabled:
        target = min(target, power.set_pct * scale)
    if power.limit_enabled:
        target = min(target, power.limit_pct * scale)
    if settings.volt_watt.enabled:
        limit = settings.volt_watt.curve.at(100.0 * voltage_pu) * scale
        if limit < target:
            target = limit
        response_s = settings.volt_watt.response_s
    if settings.droop.enabled and pre_disturbance_pct is not None:
        droop_limit = _droop(settings, hz, pre_disturbance_pct)
        if hz > settings.nominal_hz:
            target = min(target, droop_limit)
        response_s = max(response_s, settings.droop.response_s) if response_s else settings.droop.response_s
    return target, response_s


def _droop(settings: DerSettings, hz: float, before_pct: float) -> float:
    """Active power by the frequency-droop function, in percent."""
    droop, nominal = settings.droop, settings.nominal_hz
    if hz > nominal + droop.over_deadband_hz:
        change = (hz - nominal - droop.over_deadband_hz) / (nominal * droop.over_droop)
        return max(droop.minimum_power_pct, before_pct - 100.0 * change)
    if hz < nominal - droop.under_deadband_hz:
        change = (nominal - droop.under_deadband_hz - hz) / (nominal * droop.under_droop)
        return before_pct + 100.0 * change
    return before_pct


def reactive_target(
    settings: DerSettings, rating: Rating, voltage_pu: float, active_pct: float
) -> tuple[float, float, float]:
    """Reactive power aimed at, its response time in s, and its largest amount beside this active power.

    Of the four functions one rules: volt-var before watt-var before constant var before constant power factor.
    """
    active_share = active_pct * rating.active_w / rating.apparent_va
    apparent_pct = 100.0 * settings.maximum_va / rating.apparent_va
    room = math.sqrt(max(0.0, apparent_pct**2 - active_share**2))
    most = 100.0 * settings.maximum_var / rating.apparent_va

    def share(percent: float, reference: VarReference) -> float:
        of = {
            VarReference.W_MAX: 100.0 * settings.maximum_w / rating.apparent_va,
            VarReference.VAR_MAX: most,
            VarReference.VAR_AVAILABLE: min(room, most),
            VarReference.VA_MAX: apparent_pct,
        }[reference]
        return percent / 100.0 * of

    power = settings.power
    target, response_s = 0.0, 0.0
    if settings.volt_var.enabled:
        curve = settings.volt_var
        target, response_s = share(curve.curve.at(100.0 * voltage_pu), curve.reference), curve.response_s
    elif settings.watt_var.enabled:
        curve = settings.watt_var
        target, response_s = share(curve.curve.at(active_pct), curve.reference), curve.response_s
    elif power.var_enabled:
        target, response_s = share(power.var_pct, power.var_reference), 10.0
    elif power.power_factor_enabled and power.power_factor > 0.0:
        angle = math.acos(min(1.0, power.power_factor))
        # At full power the apparent power is shared by the factor: active power gives way, the factor holds.
        within_rating = min(active_share, apparent_pct * power.power_factor)
        target = within_rating * math.tan(angle) * (1.0 if power.over_excited else -1.0)
        response_s = 10.0
    return max(-most, min(most, target)), response_s, min(room, most)
