"""When relays bring their currents to zero."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")

from meters.hardware.relay import RELAY_MODELS  # noqa: E402
from meters.hardware.relay_opening import open_relay  # noqa: E402

_RATE_HZ = 8000.0


def _sine(rms_a: float, hz: float, phase_deg: float = 0.0, length_s: float = 0.3) -> object:
    angle = 2 * np.pi * hz * np.arange(round(length_s * _RATE_HZ)) / _RATE_HZ + np.radians(phase_deg)
    return rms_a * np.sqrt(2) * np.sin(angle)


def _open(model: str, current: object, command_s: float, **more: object) -> object:
    return open_relay(RELAY_MODELS[model], {"L": current, "N": -current}, command_s, _RATE_HZ, **more)  # type: ignore[operator, arg-type]


def test_a_mosfet_opens_after_its_delay_whatever_flows() -> None:
    assert _open("mosfet", np.full(2400, 60.0), 0.01).zero_s == pytest.approx(0.011)  # type: ignore[attr-defined]


@pytest.mark.parametrize("hz", [45.0, 50.0, 52.0])
def test_a_thyristor_waits_for_the_next_zero_of_its_pole(hz: float) -> None:
    half_s = 0.5 / hz
    for command_s in (0.0101, 0.0153, 0.0199):
        zero_s = _open("thyristor", _sine(10.0, hz), command_s).zero_s  # type: ignore[attr-defined]
        wanted_s = np.ceil(command_s / half_s) * half_s
        # Below 30 mA it lets go, a few microseconds before the zero itself.
        assert wanted_s - 2e-4 <= zero_s <= wanted_s + 1e-5


def test_a_thyristor_never_lets_go_of_direct_current_above_its_holding_current() -> None:
    opening = _open("thyristor", np.full(2400, 0.060), 0.01)
    assert not opening.isolated  # type: ignore[attr-defined]
    assert "pole L" in opening.reason  # type: ignore[attr-defined]
    assert _open("thyristor", np.full(2400, 0.006), 0.01).zero_s == pytest.approx(0.01)  # type: ignore[attr-defined]


def test_a_contactor_parts_then_arcs_to_a_zero() -> None:
    zero_s = _open("contactor", _sine(10.0, 50.0, 45.0), 0.0).zero_s  # type: ignore[attr-defined]
    assert 0.022 <= zero_s <= 0.032
    assert not _open("contactor", np.full(2400, 5.0), 0.0).isolated  # type: ignore[attr-defined]


def test_a_welded_pole_is_not_isolated() -> None:
    opening = _open("mosfet", _sine(10.0, 50.0), 0.0, welded=frozenset({"N"}))
    assert opening.zero_s is None  # type: ignore[attr-defined]
    assert opening.reason == "pole N is welded"  # type: ignore[attr-defined]
