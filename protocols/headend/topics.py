"""MQTT topics between DCU and head-end: `openami/v1/dcu/<dcu id>/<channel>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from protocols.errors import LocalProtocolError, RemoteProtocolError

PREFIX = "openami/v1/dcu"
DCU_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,62}"


class Channel(StrEnum):
    """The last level of a topic; what may travel on it is in `messages.CHANNELS`."""

    REQUEST = "request"
    RESPONSE = "response"
    CREDENTIALS_REQUEST = "credentials-request"
    CREDENTIALS = "credentials"
    REGISTRATION = "registration"
    REGISTRATION_ACK = "registration-ack"
    EVENT = "event"
    STATUS = "status"
    BUNDLE = "bundle"
    BUNDLE_ACK = "bundle-ack"
    TIME_REQUEST = "time-request"
    TIME = "time"


TO_DCU = (Channel.REQUEST, Channel.CREDENTIALS, Channel.REGISTRATION_ACK, Channel.BUNDLE_ACK, Channel.TIME)
TO_HEADEND = (
    Channel.RESPONSE,
    Channel.CREDENTIALS_REQUEST,
    Channel.REGISTRATION,
    Channel.EVENT,
    Channel.STATUS,
    Channel.BUNDLE,
    Channel.TIME_REQUEST,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One channel of one DCU."""

    dcu_id: str
    channel: Channel

    def __post_init__(self) -> None:
        if re.fullmatch(DCU_ID_PATTERN, self.dcu_id) is None:
            raise LocalProtocolError(f"a DCU's id must match {DCU_ID_PATTERN}")

    def encode(self) -> str:
        return f"{PREFIX}/{self.dcu_id}/{self.channel}"

    @classmethod
    def decode(cls, text: str) -> Topic:
        """Raises RemoteProtocolError for a topic that is none of ours."""
        match = re.fullmatch(f"{PREFIX}/({DCU_ID_PATTERN})/([a-z-]+)", text)
        if match is None:
            raise RemoteProtocolError("topic is not openami/v1/dcu/<id>/<channel>", spec="openami/v1")
        try:
            return cls(match[1], Channel(match[2]))
        except ValueError:
            raise RemoteProtocolError("topic names an unknown channel", spec="openami/v1") from None


def dcu_subscriptions(dcu_id: str) -> tuple[str, ...]:
    """Topic filters that the DCU subscribes to."""
    return tuple(Topic(dcu_id, channel).encode() for channel in TO_DCU)


def headend_subscriptions() -> tuple[str, ...]:
    """Topic filters that the head-end subscribes to: every DCU's channels to it."""
    return tuple(f"{PREFIX}/+/{channel}" for channel in TO_HEADEND)
