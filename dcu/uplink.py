"""The way to the head-end: an MQTT 3.1.1 client as the concentrator sees it, whatever carries it.

`dcu.mqtt_uplink.MqttUplink` speaks to a broker over TCP or TLS; a virtual run passes a client of its in-memory
broker. Both keep this contract, and one suite runs on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that vanishes without a DISCONNECT (MQTT 3.1.1, 3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class UplinkListener:
    """Where an uplink reports. Every callback runs on the loop of the run and must not block or raise.

    `connected(session_present)`: CONNACK with return code 0; False means that the broker keeps no session, so its
    subscriptions are gone. `disconnected(reason)`: the connection went away or could not be had; the uplink retries
    by itself. `message(topic, payload)`: a PUBLISH of at least once delivery, so duplicates may come; the uplink sends
    PUBACK after the callback returned. `confirmed(message_id)`: PUBACK for what `publish` returned `message_id` for.
    """

    connected: Callable[[bool], None]
    disconnected: Callable[[str], None]
    message: Callable[[str, bytes], None]
    confirmed: Callable[[int], None]


class Uplink(Protocol):
    """One MQTT client with a persistent session (clean session off), a fixed client identifier and a will.

    Client identifier, credentials, address and link are the constructor's business. A message that `publish` took is
    delivered at least once, across reconnections, for as long as the object lives: in-flight messages are sent again
    with DUP after a reconnection. After a restart of the process nothing of it is left, and the caller publishes again
    what was not confirmed.
    """

    def start(self, listener: UplinkListener, will: Will | None = None) -> None:
        """Connect, and reconnect with back-off until `stop`. Raises LocalProtocolError when already started."""
        ...

    def stop(self) -> None:
        """Send DISCONNECT if connected (no will), and stop reconnecting. Nothing is called back after it."""
        ...

    def abort(self) -> None:
        """Drop the connection without DISCONNECT, as a power cut does (the broker publishes the will), and stop."""
        ...

    @property
    def is_connected(self) -> bool: ...

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Ask for messages. Remembered, and repeated after a connection without a session."""
        ...

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Queue a message; gives a positive id of this process, never re-used, which `confirmed` will name.

        Works while disconnected, too: the message leaves after the next connection. With `qos` 0 the message is
        confirmed when it was written, and lost if there is no connection. The caller bounds what it has in flight.
        """
        ...


class RoutedUplink(Uplink, Protocol):
    """An uplink that can take more than one way to the same broker."""

    def route(self, way: str) -> None:
        """Connect over this way from now on.

        Before `start` it says which way is the first. Afterwards a connection, or an attempt at one, is dropped without
        DISCONNECT, `disconnected` is called if there was one, and a new attempt is made at once; the session stays.
        Raises LocalProtocolError for a way that was not given to the constructor.
        """
        ...
