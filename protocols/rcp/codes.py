"""Codes that the RCP messages carry."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """How a transmission ended."""

    OK = 0
    """Sent; a unicast frame: acknowledged."""
    NO_ACK = 1
    """All retries were used up without an acknowledgement."""
    CHANNEL_ACCESS_FAILURE = 2
    """The channel stayed busy through all backoffs."""
    QUEUE_FULL = 3
    FRAME_TOO_LONG = 4
    NO_KEY = 5
    """The key index has no key, or its frame counters are used up."""
    NOT_CONFIGURED = 6
    NO_SCHEDULE = 7
    """The radio hops, and nothing was heard from the destination that tells its schedule."""
    INVALID = 8
    """The request contradicts itself: a discovery frame with a destination, EAPOL without one, an ACK."""


class ResetReason(enum.IntEnum):
    """Why the radio says `Ready`."""

    POWER_ON = 0
    REQUESTED = 1
    FAULT = 2


class ChannelFunction(enum.IntEnum):
    """Wi-SUN channel function numbers."""

    FIXED = 0
    DH1CF = 2


class RefusalCode(enum.IntEnum):
    """Why the radio did not take a message."""

    MALFORMED = 0
    VERSION = 1
    OUT_OF_RANGE = 2
