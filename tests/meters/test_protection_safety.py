"""Safety logic, settings and relays of a tenant line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meters.firmware.protection.safety import (
    TRANSITIONS,
    Action,
    SafetyEvent,
    SafetyLogic,
    SafetyMemory,
)
from meters.firmware.protection.settings import ProtectionSettings
from meters.hardware.relay import RELAY_MODELS, Relay
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.leakage_protection import HELD_STATES, Refusal, SafetyState

_CLOSED = {SafetyState.CLOSED, SafetyState.WATCHING}
_E, _S = SafetyEvent, SafetyState


def _closed_line() -> SafetyLogic:
    logic = SafetyLogic(ProtectionSettings())
    logic.handle(_E.CLOSE_REQUESTED, 0.0)
    logic.handle(_E.CHECK_PASSED, 1.0)
    logic.handle_timer(11.0)
    assert logic.state is _S.CLOSED
    return logic


def test_the_table_answers_every_event_in_every_state() -> None:
    assert set(TRANSITIONS) == set(itertools.product(SafetyState, SafetyEvent))


def test_only_a_passed_check_leads_to_a_closed_line() -> None:
    into = {
        (before, event) for (before, event), after in TRANSITIONS.items() if after in _CLOSED and before not in _CLOSED
    }
    assert into == {(_S.CHECKING, _E.CHECK_PASSED)}


@given(events=st.lists(st.sampled_from(list(SafetyEvent)), max_size=40))
def test_the_relay_is_told_what_the_state_means(events: list[SafetyEvent]) -> None:
    logic, closed = SafetyLogic(ProtectionSettings()), False
    for second, event in enumerate(events):
        outcome = logic.handle(event, float(second))
        for action in outcome.actions:
            closed = {Action.OPEN_RELAY: False, Action.CLOSE_RELAY: True}.get(action, closed)
        assert closed == (logic.state in _CLOSED)


@given(held=st.none() | st.sampled_from(sorted(HELD_STATES, key=lambda state: state.value)), trips=st.integers(0, 255))
def test_memory_survives_its_own_bytes(held: SafetyState | None, trips: int) -> None:
    memory = SafetyMemory(held, trips)
    data = memory.encode()
    assert SafetyMemory.decode(data) == memory
    for cut in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            SafetyMemory.decode(data[:cut])
    with pytest.raises(RemoteProtocolError):
        SafetyMemory.decode(data + b"\0")


@given(st.binary(max_size=40))
def test_junk_in_the_memory_is_refused_by_name(data: bytes) -> None:
    try:
        memory = SafetyMemory.decode(data)
    except RemoteProtocolError:
        return
    assert memory.encode() == data


def test_a_leak_opens_a_closed_line_at_once() -> None:
    outcome = _closed_line().handle(_E.LEAKAGE, 20.0)
    assert outcome.after is _S.TRIPPED
    assert Action.OPEN_RELAY in outcome.actions


@pytest.mark.requirement("SAF-6")
def test_remote_close_is_refused_while_the_leak_lasts_and_allowed_once_it_is_gone() -> None:
    logic = _closed_line()
    logic.handle(_E.LEAKAGE, 20.0)
    assert logic.handle(_E.CLOSE_REQUESTED, 30.0).actions == (Action.START_CHECK,)
    refused = logic.handle(_E.CHECK_FAILED, 30.5)
    assert refused.refusal is Refusal.LEAKAGE_PERSISTS
    assert refused.after is _S.TRIPPED
    logic.handle(_E.CLOSE_REQUESTED, 40.0)
    assert Action.CLOSE_RELAY in logic.handle(_E.CHECK_PASSED, 40.5).actions
    assert logic.handle(_E.LEAKAGE, 41.0).after is _S.TRIPPED


def test_a_check_without_a_result_leaves_the_line_open() -> None:
    logic = SafetyLogic(ProtectionSettings(check_timeout_s=2.0))
    logic.handle(_E.CLOSE_REQUESTED, 5.0)
    assert logic.next_timer() == 7.0
    assert logic.handle_timer(6.9) is None
    outcome = logic.handle_timer(7.0)
    assert outcome is not None
    assert outcome.refusal is Refusal.CHECK_TIMED_OUT
    assert outcome.after is _S.TRIPPED


def test_three_trips_within_the_window_lock_out_until_a_reset_on_site() -> None:
    logic = SafetyLogic(ProtectionSettings())
    for at_s in (10.0, 20.0, 30.0):
        logic.handle(_E.CLOSE_REQUESTED, at_s)
        logic.handle(_E.CHECK_PASSED, at_s + 0.5)
        logic.handle(_E.LEAKAGE, at_s + 1.0)
    assert logic.state is _S.LOCKED_OUT
    assert logic.handle(_E.CLOSE_REQUESTED, 40.0).refusal is Refusal.LOCKED_OUT
    restored = SafetyLogic(ProtectionSettings(), SafetyMemory.decode(logic.memory.encode()))
    assert restored.state is _S.LOCKED_OUT
    assert restored.handle(_E.LOCAL_RESET, 50.0).after is _S.OPEN
    assert restored.memory == SafetyMemory()


def test_trips_spread_beyond_the_window_do_not_lock_out() -> None:
    logic = SafetyLogic(ProtectionSettings(lockout_window_s=100.0))
    for at_s in (0.0, 200.0, 400.0, 600.0):
        logic.handle(_E.CLOSE_REQUESTED, at_s)
        logic.handle(_E.CHECK_PASSED, at_s + 0.5)
        assert logic.handle(_E.LEAKAGE, at_s + 1.0).after is _S.TRIPPED


def test_a_line_that_was_closed_when_power_failed_is_on_probation_and_one_that_was_open_stays_open() -> None:
    memory = _closed_line().memory
    back = SafetyLogic(ProtectionSettings(), memory, closed=True, now_s=100.0)
    assert (back.state, back.next_timer()) == (_S.WATCHING, 110.0)
    assert SafetyLogic(ProtectionSettings(), memory, closed=False).state is _S.OPEN


@pytest.mark.parametrize("held", sorted(HELD_STATES, key=lambda state: state.value))
def test_no_power_cut_cures_what_holds_a_line_open(held: SafetyState) -> None:
    assert SafetyLogic(ProtectionSettings(), SafetyMemory(held, 1), closed=True).state is held


def test_trips_before_a_power_cut_count_towards_the_lock_out() -> None:
    logic = SafetyLogic(ProtectionSettings(), SafetyMemory(None, 2), closed=True, now_s=5.0)
    assert logic.handle(_E.LEAKAGE, 6.0).after is _S.LOCKED_OUT


def test_a_refusal_is_remembered_until_something_else_is_asked() -> None:
    logic = _closed_line()
    logic.handle(_E.LEAKAGE, 20.0)
    logic.handle(_E.CLOSE_REQUESTED, 21.0)
    logic.handle(_E.CHECK_FAILED, 21.1)
    assert logic.refusal is Refusal.LEAKAGE_PERSISTS
    logic.handle(_E.OPEN_REQUESTED, 22.0)
    assert logic.refusal is Refusal.NONE


def test_a_failed_sensor_opens_the_line_and_only_a_self_test_clears_it() -> None:
    logic = _closed_line()
    assert Action.OPEN_RELAY in logic.handle(_E.SENSOR_FAILURE, 20.0).actions
    assert logic.handle(_E.CLOSE_REQUESTED, 21.0).refusal is Refusal.SENSOR_FAILED
    assert logic.handle(_E.LOCAL_RESET, 22.0).after is _S.SENSOR_FAILED
    assert logic.handle(_E.SELF_TEST_PASSED, 23.0).after is _S.OPEN


@pytest.mark.parametrize(
    ("key", "value"),
    [("dc_threshold_ma", 6.001), ("ac_threshold_ma", 30.5), ("dc_threshold_ma", float("nan")), ("watch_s", 0.0)],
)
def test_no_setting_can_be_raised_above_its_limit(key: str, value: float) -> None:
    with pytest.raises(BadInputError, match=key):
        ProtectionSettings(**{key: value})


def test_a_relay_moves_after_its_time_and_a_welded_pole_never_opens() -> None:
    relay = Relay(RELAY_MODELS["contactor"])
    relay.close(1.0)
    assert not relay.is_closed(1.010)
    assert relay.is_closed(1.016)
    relay.weld("L")
    relay.open(2.0)
    assert relay.is_closed(2.019)
    assert (relay.is_closed(2.021, "L"), relay.is_closed(2.021, "N")) == (True, False)
    relay.free()
    assert not relay.is_closed(2.021)
    assert relay.operations == 2
    with pytest.raises(ValueError, match="no pole"):
        relay.weld("X")
