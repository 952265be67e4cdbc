"""amqtt 0.12 with five faults mended that the broker contract found. Each class says what amqtt does otherwise.

Its own methods are overridden, so the version is bounded in the package's requirements; the contract suite shows
whether a newer one still needs this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.errors import AMQTTError
from amqtt.mqtt.constants import QOS_1
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import OUTGOING, Session

_FROM_CONNECT = (
    "client_id", "will_flag", "will_retain", "will_qos", "will_topic", "will_message", "username", "password",
    "remote_address", "remote_port", "ssl_object", "keep_alive",
)  # fmt: skip
"""What a session takes from the CONNECT packet, but for its cleanness."""


class ReliableHandler(BrokerProtocolHandler):  # type: ignore[misc]
    """Keeps an outgoing QoS 1 message until its PUBACK.

    amqtt forgets it after 5 s, and when the connection ends, so that a lost PUBACK loses the message (4.4).
    """

    async def _handle_qos1_message_flow(self, app_message: Any) -> None:
        if app_message.direction != OUTGOING or self.session is None:
            await super()._handle_qos1_message_flow(app_message)
            return
        packet_id = app_message.packet_id
        self.session.inflight_out.setdefault(packet_id, app_message)
        packet = app_message.build_publish_packet(dup=app_message.publish_packet is not None)
        app_message.publish_packet = packet
        acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._puback_waiters[packet_id] = acknowledged
        try:
            await self._send_packet(packet)
            app_message.puback_packet = await acknowledged
        finally:
            self._puback_waiters.pop(packet_id, None)
        self.session.inflight_out.pop(packet_id, None)

    async def _retry_deliveries(self) -> None:
        """Send again what is in flight, and serve the client meanwhile: amqtt waits for every PUBACK first."""
        if self.session is None:
            return
        for message in list(self.session.inflight_out.values()):
            if message.qos == QOS_1:
                task = asyncio.create_task(self._handle_qos1_message_flow(message))
                self._redeliveries.add(task)
                task.add_done_callback(self._redelivered)

    def _redelivered(self, task: asyncio.Task[None]) -> None:
        self._redeliveries.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.logger.warning("redelivery failed: %s", task.exception())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._redeliveries: set[asyncio.Task[None]] = set()


class _Subscriptions(dict[str, list[Any]]):
    """Topic filters and their sessions; whoever iterates gets the state of the moment.

    amqtt waits inside such loops, and loses the message at hand when a client subscribes meanwhile.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        return [(topic_filter, list(sessions)) for topic_filter, sessions in super().items()]


class RepairedBroker(Broker):  # type: ignore[misc]
    """Closes connections that do not begin with CONNECT, ends clean sessions, survives a take-over, and ends clean.

    amqtt leaves the first open, keeps the second for up to a second after their connection ended, and in a take-over
    lets the end of the old connection mark the session of the new one as disconnected.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subscriptions = _Subscriptions()
        self._ended: dict[BrokerProtocolHandler, asyncio.Event] = {}
        self._serving: dict[asyncio.Task[Any], None] = {}

    async def stream_connected(self, reader: Any, writer: Any, listener_name: str) -> None:
        """One connection, from its beginning to the closed socket: amqtt leaves some open."""
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = None
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            del self._serving[task]
            writer.transport.abort()

    async def shutdown(self) -> None:
        """Also wait until every connection has ended."""
        await super().shutdown()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        # Aborted transports close their sockets in the next round of the loop.
        await asyncio.sleep(0)

    async def _initialize_client_session(self, reader: Any, writer: Any, *remote: Any) -> tuple[Any, Any]:
        try:
            _, session = await super()._initialize_client_session(reader, writer, *remote)
        except AMQTTError:
            await writer.close()
            raise
        if session.parent and session.clean_session:
            session = await self._without_clean_session(session)
        return ReliableHandler(self.plugins_manager, loop=self._loop), session

    async def _without_clean_session(self, ending: Any) -> Any:
        """A session in place of one that was a clean one and is about to end: amqtt would resume it."""
        session = Session()
        for name in _FROM_CONNECT:
            setattr(session, name, getattr(ending, name))
        session.parent = 0
        await self._end_previous(session.client_id)
        return session

    async def _handle_client_session(
        self, reader: Any, writer: Any, client_session: Any, handler: Any, server: Any, listener_name: str
    ) -> None:
        client_id = client_session.client_id
        await self._end_previous(client_id)
        ended = self._ended[handler] = asyncio.Event()
        try:
            await super()._handle_client_session(reader, writer, client_session, handler, server, listener_name)
        finally:
            del self._ended[handler]
            if client_session.clean_session and self._sessions.get(client_id) == (client_session, handler):
                await self._cleanup_session(client_id)
            ended.set()

    async def _end_previous(self, client_id: str) -> None:
        """End this client's older connection, and wait until nothing of it is left."""
        _, handler = self._sessions.get(client_id, (None, None))
        ended = None if handler is None else self._ended.get(handler)
        if handler is not None and ended is not None:
            await handler.handle_connection_closed()
            await ended.wait()
