"""States of a MAC and the complete tables of their transitions. What is not in a table is a bug and raises."""

from __future__ import annotations

import enum

from protocols.errors import LocalProtocolError


class _State(enum.Enum):
    """Members are looked up in the tables for every frame: their hash is their identity, which is the fastest."""

    __hash__ = object.__hash__


class Radio(_State):
    """What the transceiver does. It hears only while LISTENING."""

    OFF = "off"
    LISTENING = "listening"
    TURNAROUND = "turnaround"
    SENDING = "sending"
    ACK_TURNAROUND = "ack turnaround"
    SENDING_ACK = "sending ack"


class RadioEvent(_State):
    POWER_ON = "power on"
    POWER_OFF = "power off"
    CHANNEL_CLEAR = "channel clear"
    ACK_DUE = "ack due"
    TURNED = "turned"
    CALLED_OFF = "called off"
    SENT = "sent"


RADIO_TRANSITIONS: dict[tuple[Radio, RadioEvent], Radio] = {
    (Radio.OFF, RadioEvent.POWER_ON): Radio.LISTENING,
    (Radio.LISTENING, RadioEvent.CHANNEL_CLEAR): Radio.TURNAROUND,
    (Radio.LISTENING, RadioEvent.ACK_DUE): Radio.ACK_TURNAROUND,
    (Radio.TURNAROUND, RadioEvent.TURNED): Radio.SENDING,
    (Radio.TURNAROUND, RadioEvent.CALLED_OFF): Radio.LISTENING,
    (Radio.ACK_TURNAROUND, RadioEvent.TURNED): Radio.SENDING_ACK,
    (Radio.ACK_TURNAROUND, RadioEvent.CALLED_OFF): Radio.LISTENING,
    (Radio.SENDING, RadioEvent.SENT): Radio.LISTENING,
    (Radio.SENDING_ACK, RadioEvent.SENT): Radio.LISTENING,
    **{(state, RadioEvent.POWER_OFF): Radio.OFF for state in Radio},
}


class Step(_State):
    """How far the frame at the head of the queue is."""

    IDLE = "idle"
    BACKOFF = "backoff"
    ON_AIR = "on air"
    AWAITING_ACK = "awaiting ack"


class StepEvent(_State):
    TAKEN = "taken"
    CHANNEL_BUSY = "channel busy"
    CHANNEL_CLEAR = "channel clear"
    SENT_BROADCAST = "sent broadcast"
    SENT_UNICAST = "sent unicast"
    RETRY = "retry"
    FINISHED = "finished"
    DROPPED = "dropped"


STEP_TRANSITIONS: dict[tuple[Step, StepEvent], Step] = {
    (Step.IDLE, StepEvent.TAKEN): Step.BACKOFF,
    (Step.BACKOFF, StepEvent.CHANNEL_BUSY): Step.BACKOFF,
    (Step.BACKOFF, StepEvent.CHANNEL_CLEAR): Step.ON_AIR,
    (Step.BACKOFF, StepEvent.FINISHED): Step.IDLE,
    (Step.ON_AIR, StepEvent.SENT_BROADCAST): Step.IDLE,
    (Step.ON_AIR, StepEvent.SENT_UNICAST): Step.AWAITING_ACK,
    (Step.ON_AIR, StepEvent.FINISHED): Step.IDLE,
    (Step.AWAITING_ACK, StepEvent.RETRY): Step.BACKOFF,
    (Step.AWAITING_ACK, StepEvent.FINISHED): Step.IDLE,
    **{(state, StepEvent.DROPPED): Step.IDLE for state in Step},
}


def next_radio(state: Radio, event: RadioEvent) -> Radio:
    """Raises LocalProtocolError for a transition that is not in the table."""
    try:
        return RADIO_TRANSITIONS[state, event]
    except KeyError as error:
        raise LocalProtocolError(f"radio {state.value}: no transition for {event.value}") from error


def next_step(state: Step, event: StepEvent) -> Step:
    """Raises LocalProtocolError for a transition that is not in the table."""
    try:
        return STEP_TRANSITIONS[state, event]
    except KeyError as error:
        raise LocalProtocolError(f"transmission {state.value}: no transition for {event.value}") from error
