"""Brokers on real sockets: paho as an independent client of ours, our client at mosquitto, TLS, restarts."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dcu.uplink import UplinkListener, Will
from protocols.errors import BadInputError, LocalProtocolError
from twin.brokers import mosquitto as mosquitto_module
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.broker import Broker
from twin.brokers.client import ClientOptions, MqttClient
from twin.brokers.mosquitto import HOST, MosquittoBroker, find_mosquitto
from twin.brokers.tcp import TcpConnector, address_of, serve_broker
from twin.brokers.tls import Identity, RunAuthority, client_context
from twin.clock.clocks import RealClock
from twin.clock.seeds import SeededKeys
from twin.errors import RigError

RULES = AccessRules((dcu_client("dcu-1", "one"), headend_client("head")))
EVENT = "openami/v1/dcu/dcu-1/event"
STATUS = "openami/v1/dcu/dcu-1/status"
REQUEST = "openami/v1/dcu/dcu-1/request"
PATIENCE_S = 15.0

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None, reason="mosquitto is not installed: this was NOT checked on it"
)


def run(main: Coroutine[Any, Any, None]) -> None:
    RealClock().run(asyncio.wait_for(main, 40))


class Seen:
    """What an uplink reports, as queues that can be waited on."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[bool] = asyncio.Queue()
        self.losses: asyncio.Queue[str] = asyncio.Queue()
        self.messages: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.confirmations: asyncio.Queue[int] = asyncio.Queue()
        self.listener = UplinkListener(
            connected=self.connections.put_nowait,
            disconnected=self.losses.put_nowait,
            message=lambda topic, payload: self.messages.put_nowait((topic, payload)),
            confirmed=self.confirmations.put_nowait,
        )


def client(address: tuple[str, int], name: str, password: str, tls: ssl.SSLContext | None = None) -> MqttClient:
    loop = asyncio.get_running_loop()
    options = ClientOptions(name, username=name, password=password, retry_first_s=0.05, retry_max_s=0.2)
    return MqttClient(loop, TcpConnector(loop, *address, tls), options, random.Random(1))


@needs_mosquitto
def test_nothing_is_lost_while_mosquitto_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        broker = MosquittoBroker(tmp_path, RULES, SeededKeys(b"s"))
        await broker.start()
        hes, dcu, heard, sent = None, None, Seen(), Seen()
        try:
            hes, dcu = client(broker.address, "hes", "head"), client(broker.address, "dcu-1", "one")
            hes.subscribe("openami/v1/dcu/+/event")
            hes.start(heard.listener)
            dcu.start(sent.listener)
            assert not await sent.connections.get()
            assert not await heard.connections.get()
            dcu.publish(EVENT, b"before")
            assert await heard.messages.get() == (EVENT, b"before")
            await broker.stop()
            await sent.losses.get()
            message_id = dcu.publish(EVENT, b"meanwhile")
            await broker.start()
            assert await heard.messages.get() == (EVENT, b"meanwhile")
            while await sent.confirmations.get() != message_id:
                pass
            assert await sent.connections.get(), "mosquitto kept the session"
        finally:
            for each in (hes, dcu):
                if each is not None:
                    each.stop()
            await broker.stop()

    run(main())
    for name in ("mosquitto.conf", "mosquitto.passwd", "mosquitto.acl"):
        assert "one" not in (tmp_path / name).read_text().split(), "no password in clear"


@needs_mosquitto
def test_tls_takes_the_user_from_the_client_certificate(tmp_path: Path) -> None:
    async def main() -> None:
        authority = RunAuthority(tmp_path / "pki", datetime.now(UTC))
        broker = MosquittoBroker(tmp_path, RULES, SeededKeys(b"s"), tls=authority.issue_server("broker", HOST))
        await broker.start()
        seen, dcu = Seen(), None
        try:
            context = client_context(authority.issue_client("dcu-1"))
            dcu = client(broker.address, "dcu-1", "ignored", context)
            dcu.subscribe(STATUS)
            dcu.start(seen.listener, Will(STATUS, b"offline"))
            await seen.connections.get()
            message_id = dcu.publish(EVENT, b"x")
            assert await seen.confirmations.get() == message_id
            assert context.minimum_version is ssl.TLSVersion.TLSv1_3
            await refused(broker, RunAuthority(tmp_path / "foreign", datetime.now(UTC)), authority)
        finally:
            if dcu is not None:
                dcu.stop()
            await broker.stop()

    async def refused(broker: MosquittoBroker, foreign: RunAuthority, authority: RunAuthority) -> None:
        """A certificate of another authority, and none at all."""
        stranger = foreign.issue_client("dcu-1")
        server_ca = authority.issue_client("unused").ca
        seen = Seen()
        foreigner = client(
            broker.address, "dcu-1", "", client_context(Identity(server_ca, stranger.certificate, stranger.private_key))
        )
        foreigner.start(seen.listener)
        assert await seen.losses.get()
        foreigner.stop()
        assert seen.connections.empty()

    run(main())


def test_wrong_tls_files_are_a_clear_error(tmp_path: Path) -> None:
    identity = RunAuthority(tmp_path, datetime(2026, 1, 1, tzinfo=UTC)).issue_client("dcu-1")
    assert identity.private_key.stat().st_mode & 0o077 == 0
    identity.certificate.write_text("nonsense")
    with pytest.raises(BadInputError, match=r"dcu-1\.pem"):
        client_context(identity)


def test_certificates_name_their_purpose(tmp_path: Path) -> None:
    x509 = pytest.importorskip("cryptography.x509")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    authority = RunAuthority(tmp_path, now)
    server = x509.load_pem_x509_certificate(authority.issue_server("broker", "broker.local").certificate.read_bytes())
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.local"]
    assert server.not_valid_before_utc < now < server.not_valid_after_utc < now + timedelta(days=398)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_missing_mosquitto_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto_module, "find_mosquitto", lambda: None)
    broker = MosquittoBroker(tmp_path, RULES, SeededKeys(b"s"))
    with pytest.raises(RigError, match="not installed"):
        run(broker.start())
    with pytest.raises(LocalProtocolError):
        _ = broker.address


@needs_mosquitto
def test_mosquitto_that_does_not_start_says_why(tmp_path: Path) -> None:
    missing = Identity(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    broker = MosquittoBroker(tmp_path, RULES, SeededKeys(b"s"), tls=missing)
    with pytest.raises(RigError, match="does not start"):
        run(broker.start())


def test_no_broker_is_reported_and_tried_again() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await serve_broker(Broker(loop, RULES))
        address = address_of(server)
        server.close()
        await server.wait_closed()
        seen, dcu = Seen(), client(address, "dcu-1", "one")
        dcu.start(seen.listener)
        assert "no connection to 127.0.0.1" in await seen.losses.get()
        await seen.losses.get()
        broker = Broker(loop, RULES)
        server = await serve_broker(broker, port=address[1])
        assert not await seen.connections.get()
        dcu.stop()
        server.close()
        broker.close_all()

    run(main())


class Paho:
    """paho-mqtt in its own thread; what it says arrives on the loop."""

    def __init__(self, address: tuple[str, int], name: str, password: str, *, clean: bool = True) -> None:
        mqtt = pytest.importorskip("paho.mqtt.client")
        loop = asyncio.get_running_loop()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean)
        self.client.username_pw_set(name, password)

        def say(kind: str, what: Any) -> None:
            loop.call_soon_threadsafe(self.states.put_nowait, (kind, what))

        self.client.on_connect = lambda _c, _u, flags, reason, _p: say("connect", (flags.session_present, str(reason)))
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: say("subscribe", [code.value for code in codes])
        self.client.on_publish = lambda _c, _u, mid, _reason, _p: say("publish", mid)
        self.client.on_message = lambda _c, _u, message: loop.call_soon_threadsafe(self.messages.put_nowait, message)
        self.client.connect_async(*address, keepalive=30)
        self.client.loop_start()

    async def next(self, kind: str) -> Any:
        found, what = await asyncio.wait_for(self.states.get(), PATIENCE_S)
        assert found == kind
        return what

    async def message(self) -> Any:
        return await asyncio.wait_for(self.messages.get(), PATIENCE_S)

    async def stop(self) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)


def test_paho_finds_our_broker_to_be_a_broker() -> None:
    async def main() -> None:
        broker = Broker(asyncio.get_running_loop(), RULES)
        server = await serve_broker(broker)
        address = address_of(server)
        hes = Paho(address, "hes", "head")
        assert await hes.next("connect") == (False, "Success")
        hes.client.subscribe([("openami/v1/dcu/+/event", 1), (STATUS, 0), ("openami/v1/dcu/x/request", 1)])
        assert await hes.next("subscribe") == [1, 0, 0x80]
        dcu = Paho(address, "dcu-1", "one", clean=False)
        assert await dcu.next("connect") == (False, "Success")
        dcu.client.subscribe(REQUEST, 1)
        assert await dcu.next("subscribe") == [1]
        sent = dcu.client.publish(EVENT, b"hello", qos=1)
        assert await dcu.next("publish") == sent.mid
        message = await hes.message()
        assert (message.topic, message.payload, message.qos) == (EVENT, b"hello", 1)
        await dcu.stop()
        hes.client.publish(REQUEST, b"read", qos=1)
        again = Paho(address, "dcu-1", "one", clean=False)
        assert (await again.next("connect"))[0], "the session is there"
        assert (await again.message()).payload == b"read"
        big = bytes(range(256)) * 800
        again.client.publish(EVENT, big, qos=1)
        assert (await hes.message()).payload == big
        await again.stop()
        await hes.stop()
        assert broker.error_count == 0
        server.close()
        broker.close_all()

    run(main())


def test_paho_is_told_that_its_password_is_wrong() -> None:
    async def main() -> None:
        broker = Broker(asyncio.get_running_loop(), RULES)
        server = await serve_broker(broker)
        stranger = Paho(address_of(server), "hes", "wrong")
        assert await stranger.next("connect") == (False, "Not authorized")
        await stranger.stop()
        server.close()
        broker.close_all()

    run(main())
