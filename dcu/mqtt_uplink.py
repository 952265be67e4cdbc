"""The uplink over TCP or TLS 1.3: paho-mqtt driven by the event loop, without threads.

paho opens its sockets blocking, which would stop the mesh for as long as a satellite link takes. Here the connection
and the TLS handshake are made on the loop, and paho is handed the finished socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from dcu.uplink import UplinkListener, Will
from protocols.errors import BadInputError, LocalProtocolError

_LOG = logging.getLogger(__name__)
_LOOKS_PER_KEEP_ALIVE = 4
"""How often paho looks whether it is time for a ping: it is late by a quarter at most, and brokers wait for a half. Not
more often: a concentrator sleeps most of the time, and every look wakes it."""
_MAX_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS 1.3 with a client certificate. PEM files: the CA that signed the broker, own certificate and key.

    `server_name` is the name in the broker's certificate where it is not the host.
    """

    ca_file: Path
    certificate_file: Path
    key_file: Path
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """Raises BadInputError when a file is missing or is not what it should be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.ca_file)
        except OSError as error:
            raise BadInputError(
                f"is no CA certificate in PEM: {error.strerror or error}", file=str(self.ca_file)
            ) from None
        try:
            context.load_cert_chain(self.certificate_file, self.key_file)
        except OSError as error:
            raise BadInputError(
                f"is no certificate in PEM with its key: {error.strerror or error}", file=str(self.certificate_file)
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class WayAddress:
    """Where the broker is reached over one way, and the network interface that leads there if the routes do not."""

    host: str
    port: int
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """Which broker, as whom, and how patiently (times in seconds).

    `ways` are the addresses that `route` chooses from; without them there is one, `host` and `port`. `host` is the name
    in the broker's certificate in any case, unless `tls` names another.
    """

    host: str
    port: int
    client_id: str
    ways: tuple[tuple[str, WayAddress], ...] = ()
    clean_session: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsOptions | None = None
    keep_alive_s: int = 60
    connect_timeout_s: float = 30.0
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that paho has not been given yet; `message_id` is what `publish` returned for it."""

    message_id: int
    topic: str
    payload: bytes
    qos: int
    retain: bool


class _ReadySocketClient(mqtt.Client):
    """paho's client, given its socket instead of opening one."""

    ready_socket: Any = None

    def _create_socket(self) -> Any:
        ready, self.ready_socket = self.ready_socket, None
        if ready is None:
            raise OSError("paho asked for a connection by itself")
        return ready

    def drop_connection(self) -> None:
        """Close the socket at once, without DISCONNECT."""
        self._sock_close()


class MqttUplink:
    """See `dcu.uplink.Uplink`. Real time only."""

    def __init__(self, options: MqttOptions, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        """Raises BadInputError when the TLS files cannot be used."""
        self._options = options
        self._loop = loop
        self._rng = rng
        self._tls = options.tls.context() if options.tls is not None else None
        self._address = options.ways[0][1] if options.ways else WayAddress(options.host, options.port)
        self._listener: UplinkListener | None = None
        self._task: asyncio.Task[None] | None = None
        self._misc: asyncio.TimerHandle | None = None
        self._lost: asyncio.Future[str] = loop.create_future()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._is_connected = False
        self._is_stopping = False
        self._may_send = False
        self._held: list[_Message] = []
        self._next_id = 1
        self._ids: dict[int, int] = {}  # packet identifier of paho: id that publish gave
        self._confirmed_early: list[int] = []
        self._filters: dict[str, int] = {}
        self._client = self._make_client()

    def _make_client(self) -> _ReadySocketClient:
        options = self._options
        client = _ReadySocketClient(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=options.clean_session,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(_MAX_IN_FLIGHT)
        client.max_queued_messages_set(0)
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        client.connect_async(options.host, options.port, options.keep_alive_s)
        client.on_socket_open = self._socket_opened
        client.on_socket_close = self._socket_closed
        client.on_socket_register_write = self._want_write
        client.on_socket_unregister_write = self._want_no_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    # the port

    def start(self, listener: UplinkListener, will: Will | None = None) -> None:
        if self._listener is not None:
            raise LocalProtocolError("the uplink has been started already")
        self._listener = listener
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._begin()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._stay_connected(self._task), name="mqtt uplink")

    def route(self, way: str) -> None:
        """See `dcu.uplink.RoutedUplink`."""
        found = dict(self._options.ways).get(way)
        if found is None:
            raise LocalProtocolError(f"no way {way!r} was configured")
        self._address = found
        if self._task is None or self._is_stopping:
            return
        was_connected = self._is_connected
        self._task.cancel()
        self._close_socket()
        if was_connected:
            self._report_down("another way is taken")
        self._begin()

    def stop(self) -> None:
        self._end()
        if self._is_connected:
            self._hand_over()
            self._client.disconnect()
            self._client.loop_write()
        self._close_socket()

    def abort(self) -> None:
        self._end()
        self._close_socket()

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        self._filters[topic_filter] = qos
        if self._is_connected:
            self._client.subscribe(topic_filter, qos)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        message = _Message(self._next_id, topic, payload, qos, retain)
        self._next_id += 1
        self._held.append(message)
        if self._may_send or self._client.socket() is None:
            self._hand_over()
        return message.message_id

    def _hand_over(self) -> None:
        """Give paho what was held.

        Between CONNECT and the end of `on_connect` paho would send it at once, before all that it still has from
        before: those would be overtaken.
        """
        while self._held:
            self._publish(self._held.pop(0))

    def _publish(self, message: _Message) -> None:
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise LocalProtocolError(f"the MQTT client refused a message: {mqtt.error_string(info.rc)}")
        if info.mid in self._confirmed_early:
            self._confirmed_early.remove(info.mid)
            self._loop.call_soon(self._confirm, message.message_id)
        elif message.qos > 0 or info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._ids[info.mid] = message.message_id

    # connecting

    async def _stay_connected(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])  # it may still have a socket to close
        wait_s = self._options.retry_first_s
        while True:
            reason, was_accepted = await self._one_connection()
            self._report_down(reason)
            wait_s = self._options.retry_first_s if was_accepted else min(wait_s * 2, self._options.retry_max_s)
            await asyncio.sleep(wait_s * (1.0 - 0.5 * self._rng.random()))

    async def _one_connection(self) -> tuple[str, bool]:
        """Connect and stay until the connection is lost. Says why, and whether the broker had accepted it."""
        self._lost, self._accepted = self._loop.create_future(), self._loop.create_future()
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                self._client.ready_socket = await self._open_socket()
            self._client.reconnect()
        except TimeoutError:
            return f"no connection within {self._options.connect_timeout_s:g} s", False
        except OSError as error:
            return f"cannot connect: {error.strerror or error}", False
        self._schedule_misc()
        try:
            waited_for = (self._accepted, self._lost)
            await asyncio.wait(waited_for, timeout=self._options.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._accepted.done():
                return await self._lost, True
            return (self._lost.result() if self._lost.done() else "the broker did not answer CONNECT"), False
        finally:
            self._close_socket()

    async def _open_socket(self) -> Any:
        way = self._address
        addresses = await self._loop.getaddrinfo(way.host, way.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in addresses:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.setblocking(False)
                if way.interface is not None:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.interface.encode())
                await self._loop.sock_connect(plain, address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return plain if self._tls is None else await self._handshake(plain)
            except OSError as error:
                plain.close()
                failure = error
            except BaseException:
                plain.close()
                raise
        raise failure

    async def _handshake(self, plain: socket.socket) -> Any:
        tls = self._options.tls
        name = (tls.server_name if tls is not None else None) or self._options.host
        if self._tls is None:
            raise LocalProtocolError("no TLS context")
        wrapped = self._tls.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await self._ready(wrapped, self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._ready(wrapped, self._loop.add_writer, self._loop.remove_writer)
            except BaseException:
                wrapped.close()
                raise
            else:
                return wrapped

    def _ready(
        self, ready_socket: socket.socket, add: Callable[..., None], remove: Callable[..., bool]
    ) -> Awaitable[None]:
        """Done when the socket can be read from or written to, by `add`."""
        future: asyncio.Future[None] = self._loop.create_future()
        descriptor = ready_socket.fileno()
        add(descriptor, _complete, future)
        future.add_done_callback(lambda _: remove(descriptor))
        return future

    # driving paho

    def _socket_opened(self, _client: mqtt.Client, _userdata: Any, opened: Any) -> None:
        self._loop.add_reader(opened.fileno(), self._read)

    def _socket_closed(self, _client: mqtt.Client, _userdata: Any, closed: Any) -> None:
        descriptor = closed.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def _want_write(self, _client: mqtt.Client, _userdata: Any, ready: Any) -> None:
        self._loop.add_writer(ready.fileno(), self._write)

    def _want_no_write(self, _client: mqtt.Client, _userdata: Any, ready: Any) -> None:
        if ready.fileno() >= 0:
            self._loop.remove_writer(ready.fileno())

    def _read(self) -> None:
        self._client.loop_read()
        # TLS may hold decrypted bytes for which the descriptor will not become readable again.
        while self._tls is not None and self._has_pending_bytes():
            self._client.loop_read()

    def _has_pending_bytes(self) -> bool:
        ready: Any = self._client.socket()
        return ready is not None and ready.pending() > 0

    def _write(self) -> None:
        self._client.loop_write()

    def _schedule_misc(self) -> None:
        if self._misc is not None:
            self._misc.cancel()
        self._misc = self._loop.call_later(self._options.keep_alive_s / _LOOKS_PER_KEEP_ALIVE, self._run_misc)

    def _run_misc(self) -> None:
        if self._client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._schedule_misc()

    def _close_socket(self) -> None:
        """Without DISCONNECT, unless one was written before."""
        if self._misc is not None:
            self._misc.cancel()
            self._misc = None
        self._is_connected = self._may_send = False
        self._client.drop_connection()
        self._hand_over()

    def _end(self) -> None:
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # what paho reports

    def _on_connect(self, client: mqtt.Client, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._lose(f"the broker refused: {reason}")
            return
        self._is_connected = True
        if not self._accepted.done():
            self._accepted.set_result(None)
        if not flags.session_present:
            for topic_filter, qos in self._filters.items():
                client.subscribe(topic_filter, qos)
        if self._listener is not None and not self._is_stopping:
            self._listener.connected(flags.session_present)
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        """paho has sent again what the broker never confirmed: what came meanwhile may follow."""
        if self._is_connected:
            self._may_send = True
            self._hand_over()

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._is_connected = self._may_send = False
        self._lose(f"connection lost: {reason}")

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    def _report_down(self, reason: str) -> None:
        self._is_connected = False
        if self._listener is not None and not self._is_stopping:
            self._listener.disconnected(reason)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        if self._listener is not None and not self._is_stopping:
            self._listener.message(message.topic, bytes(message.payload))

    def _on_publish(self, _client: mqtt.Client, _userdata: Any, mid: int, _reason: Any, _properties: Any) -> None:
        message_id = self._ids.pop(mid, None)
        if message_id is None:
            self._confirmed_early.append(mid)  # a QoS 0 message is written before publish returns its id
        else:
            self._confirm(message_id)

    def _confirm(self, message_id: int) -> None:
        if self._listener is not None and not self._is_stopping:
            self._listener.confirmed(message_id)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
