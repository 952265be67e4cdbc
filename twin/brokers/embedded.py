"""The embedded broker: amqtt on the run's real loop, in this process, with our access rules."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import LocalProtocolError
from twin.brokers.access import AccessRules, Client
from twin.errors import RigError

try:
    from amqtt.contexts import Action
    from amqtt.errors import AMQTTError
    from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
    from amqtt.session import Session

    from twin.brokers.amqtt_repairs import RepairedBroker
except ModuleNotFoundError as error:
    raise RigError("amqtt is not installed; install openami-twin[mqtt], or use --broker memory") from error

HOST = "127.0.0.1"


class RulesAuthPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Lets in whom the access rules know."""

    @dataclass
    class Config:
        rules: Any = field(default=None, repr=False)

    async def authenticate(self, *, session: Session) -> bool:
        rules: AccessRules = self.config.rules
        password = session.password
        secret = password.encode() if isinstance(password, str) else password
        return rules.authenticate(session.username, secret) is not None


class RulesTopicPlugin(BaseTopicPlugin):  # type: ignore[misc]
    """Holds every client to its topics."""

    @dataclass
    class Config:
        rules: Any = field(default=None, repr=False)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        client = _client(self.config.rules, session)
        if client is None or topic is None:
            return False
        if action == Action.PUBLISH:
            return client.may_write(topic)
        if action == Action.SUBSCRIBE:
            return client.may_subscribe(topic)
        return client.may_read(topic)


def _client(rules: AccessRules, session: Session | None) -> Client | None:
    if session is None:
        return None
    return next((client for client in rules.clients if client.username == session.username), None)


class EmbeddedBroker:
    """One amqtt broker. Sessions do not survive `stop`."""

    def __init__(self, access: AccessRules) -> None:
        self._access = access
        self._broker: RepairedBroker | None = None
        self._port = 0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; LocalProtocolError while it does not run."""
        if not self._port:
            raise LocalProtocolError("the broker does not run")
        return HOST, self._port

    async def start(self) -> None:
        """Listen on a free port. Raises RigError when it cannot."""
        plugins = {
            f"{__name__}.RulesAuthPlugin": {"rules": self._access},
            f"{__name__}.RulesTopicPlugin": {"rules": self._access},
        }
        config = {"listeners": {"default": {"type": "tcp", "bind": f"{HOST}:0"}}, "plugins": plugins}
        broker = RepairedBroker(config, loop=asyncio.get_running_loop())
        try:
            await broker.start()
        except AMQTTError as error:
            raise RigError(f"the embedded broker does not start: {error}") from None
        self._broker = broker
        self._port = _port_of(broker)

    async def stop(self) -> None:
        broker, self._broker, self._port = self._broker, None, 0
        if broker is not None:
            await broker.shutdown()


def _port_of(broker: RepairedBroker) -> int:
    """The port that the system picked; amqtt itself does not say it."""
    server = broker._servers["default"].instance  # noqa: SLF001
    port: int = server.sockets[0].getsockname()[1]
    return port
