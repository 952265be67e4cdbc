"""The five join states of a Wi-SUN FAN node, as a table."""

from __future__ import annotations

import enum

from protocols.errors import LocalProtocolError


class JoinState(enum.Enum):
    OFF = 0
    SELECT_PAN = 1
    AUTHENTICATE = 2
    CONFIGURE = 3
    ROUTE = 4
    OPERATIONAL = 5


class JoinEvent(enum.Enum):
    STARTED = "started"
    ROOT_STARTED = "root started"
    PAN_SELECTED = "PAN selected"
    AUTHENTICATED = "authenticated"
    AUTHENTICATION_FAILED = "authentication failed"
    CONFIGURED = "PAN configuration received"
    CONFIGURATION_FAILED = "no PAN configuration received"
    DAO_ACKNOWLEDGED = "DAO acknowledged"
    PARENT_LOST = "parent lost"
    ROUTE_FAILED = "no parent found"
    PAN_TIMED_OUT = "PAN timed out"
    STOPPED = "stopped"


_JOINING = (JoinState.AUTHENTICATE, JoinState.CONFIGURE, JoinState.ROUTE, JoinState.OPERATIONAL)

TRANSITIONS: dict[tuple[JoinState, JoinEvent], JoinState] = {
    (JoinState.OFF, JoinEvent.STARTED): JoinState.SELECT_PAN,
    (JoinState.OFF, JoinEvent.ROOT_STARTED): JoinState.OPERATIONAL,
    (JoinState.SELECT_PAN, JoinEvent.PAN_SELECTED): JoinState.AUTHENTICATE,
    (JoinState.AUTHENTICATE, JoinEvent.AUTHENTICATED): JoinState.CONFIGURE,
    (JoinState.AUTHENTICATE, JoinEvent.AUTHENTICATION_FAILED): JoinState.SELECT_PAN,
    (JoinState.CONFIGURE, JoinEvent.CONFIGURED): JoinState.ROUTE,
    (JoinState.CONFIGURE, JoinEvent.CONFIGURATION_FAILED): JoinState.SELECT_PAN,
    (JoinState.ROUTE, JoinEvent.DAO_ACKNOWLEDGED): JoinState.OPERATIONAL,
    (JoinState.ROUTE, JoinEvent.PARENT_LOST): JoinState.ROUTE,
    (JoinState.ROUTE, JoinEvent.ROUTE_FAILED): JoinState.SELECT_PAN,
    (JoinState.OPERATIONAL, JoinEvent.DAO_ACKNOWLEDGED): JoinState.OPERATIONAL,
    (JoinState.OPERATIONAL, JoinEvent.PARENT_LOST): JoinState.ROUTE,
    **{(state, JoinEvent.PAN_TIMED_OUT): JoinState.SELECT_PAN for state in _JOINING},
    **{(state, JoinEvent.STOPPED): JoinState.OFF for state in JoinState},
}


def next_state(state: JoinState, event: JoinEvent) -> JoinState:
    """Raises LocalProtocolError for an event that the state does not know."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LocalProtocolError(f"{event.name} in join state {state.name}") from None
