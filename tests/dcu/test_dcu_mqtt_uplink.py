"""The uplink over real sockets: paho on the loop, against a real mosquitto on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dcu.mqtt_uplink import MqttOptions, MqttUplink, TlsOptions
from dcu.uplink import UplinkListener, Will
from protocols.errors import BadInputError, LocalProtocolError

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (make system)")
PATIENCE_S = 15.0


class Broker:
    """A mosquitto process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, *extra: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join(
                (
                    f"listener {self.port} 127.0.0.1",
                    "allow_anonymous true",
                    "persistence true",
                    f"persistence_location {folder}/",
                    "autosave_interval 1",
                    "user root",
                    *extra,
                    "",
                )
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(  # noqa: ASYNC220
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


class Heard:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.sessions: list[bool] = []
        self.reasons: list[str] = []
        self.messages: list[tuple[str, bytes]] = []
        self.confirmed: list[int] = []

    def listener(self) -> UplinkListener:
        return UplinkListener(
            self.sessions.append,
            self.reasons.append,
            lambda topic, payload: self.messages.append((topic, payload)),
            self.confirmed.append,
        )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (real sockets of several processes; nothing signals all of it)
            await asyncio.sleep(0.01)


async def subscribed(link: MqttUplink, heard: Heard, topic: str) -> None:
    """Subscribe, and wait until the broker acts on it: a client's packets are handled in order."""
    link.subscribe(topic)
    await until(lambda: link.is_connected)
    link.publish(topic, b"probe")
    await until(lambda: bool(heard.messages) and bool(heard.confirmed))
    heard.messages.clear()
    heard.confirmed.clear()


def uplink(port: int, client_id: str, tls: TlsOptions | None = None, host: str = "127.0.0.1") -> MqttUplink:
    options = MqttOptions(host, port, client_id, tls=tls, retry_first_s=0.1, retry_max_s=0.2)
    return MqttUplink(options, asyncio.get_running_loop(), random.Random(1))


def with_broker(folder: Path, body: Callable[[Broker], Awaitable[None]], *extra: str) -> None:
    async def main() -> None:
        broker = Broker(folder, *extra)
        await broker.start()
        try:
            await body(broker)
        finally:
            broker.stop()

    asyncio.run(main())


@contextlib.contextmanager
def running(link: MqttUplink, heard: Heard, will: Will | None = None) -> Iterator[MqttUplink]:
    link.start(heard.listener(), will)
    try:
        yield link
    finally:
        link.stop()


@needs_mosquitto
def test_messages_go_both_ways_and_are_confirmed(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        heard, other = Heard(), Heard()
        with running(uplink(broker.port, "hes"), other) as peer, running(uplink(broker.port, "dcu"), heard) as link:
            await subscribed(peer, other, "to/hes")
            await subscribed(link, heard, "to/dcu")
            second = link.publish("to/hes", b"after the connection")
            peer.publish("to/dcu", b"hello")
            unconfirmed = link.publish("to/hes", b"fire and forget", qos=0)
            await until(lambda: len(heard.confirmed) == 2 and len(other.messages) == 2 and len(heard.messages) == 1)
            assert sorted(heard.confirmed) == [second, unconfirmed]
            assert heard.messages == [("to/dcu", b"hello")]
            assert link.is_connected

    with_broker(tmp_path, body)


@needs_mosquitto
def test_a_broker_that_goes_away_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        heard, other = Heard(), Heard()
        with running(uplink(broker.port, "dcu"), heard) as link, running(uplink(broker.port, "hes"), other) as peer:
            await subscribed(peer, other, "readings")
            await until(lambda: link.is_connected)
            ids = [link.publish("readings", b"%d" % number) for number in range(3)]
            await until(lambda: len(other.messages) == 3)
            broker.stop()
            await until(lambda: not link.is_connected and not peer.is_connected)
            ids += [link.publish("readings", b"%d" % number) for number in range(3, 60)]
            await broker.start()
            await until(lambda: len(heard.confirmed) == 60)
            await until(lambda: int(other.messages[-1][1]) == 59)
            assert heard.confirmed == ids
            numbers = [int(payload) for _, payload in other.messages]
            # At least once: what was not acknowledged when the broker died may come again, and nothing else.
            assert list(dict.fromkeys(numbers)) == list(range(60))
            assert all(numbers.count(number) == 1 for number in range(3, 60))
            assert heard.sessions == [False, True]
            assert heard.reasons

    with_broker(tmp_path, body)


@needs_mosquitto
def test_the_session_holds_what_came_while_the_client_was_away(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        heard, other = Heard(), Heard()
        with running(uplink(broker.port, "hes"), other) as peer:
            with running(uplink(broker.port, "dcu"), heard) as link:
                await subscribed(link, heard, "requests")
                await until(lambda: peer.is_connected)
                peer.publish("requests", b"one")
                await until(lambda: len(heard.messages) == 1)
            peer.publish("requests", b"two")
            await until(lambda: len(other.confirmed) == 2)
            with running(uplink(broker.port, "dcu"), heard):
                await until(lambda: len(heard.messages) == 2)
        assert heard.sessions == [False, True]

    with_broker(tmp_path, body)


@needs_mosquitto
def test_the_will_is_published_after_an_abort_and_not_after_a_stop(tmp_path: Path) -> None:
    async def body(broker: Broker) -> None:
        other = Heard()
        with running(uplink(broker.port, "hes"), other) as peer:
            await subscribed(peer, other, "status")
            for ending, expected in (("stop", 0), ("abort", 1)):
                link = uplink(broker.port, f"dcu-{ending}")
                link.start(Heard().listener(), Will("status", b"offline"))
                await until(lambda link=link: link.is_connected)  # type: ignore[misc]
                getattr(link, ending)()
                assert not link.is_connected
                peer.publish("status", b"marker " + ending.encode())
                await until(lambda: any(payload.startswith(b"marker") for _, payload in other.messages))
                await until(lambda expected=expected: sum(p == b"offline" for _, p in other.messages) == expected)  # type: ignore[misc]
                other.messages = [item for item in other.messages if item[1] == b"offline"]

    with_broker(tmp_path, body)


def test_an_absent_broker_is_reported_and_tried_again_without_blocking() -> None:
    async def body() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening: every connection is refused
            heard = Heard()
            with running(uplink(taken.getsockname()[1], "dcu"), heard) as link:
                link.publish("readings", b"kept")
                await until(lambda: len(heard.reasons) >= 2)
                assert "cannot connect" in heard.reasons[0]
                assert not link.is_connected
                assert heard.confirmed == []

    asyncio.run(body())


def test_what_is_said_while_the_broker_still_answers_connect_overtakes_nothing() -> None:
    """paho would send it at once, and what it has from before only with the CONNACK."""
    stream = bytearray()

    async def main() -> None:
        connecting, answer, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            connecting.set()
            await answer.wait()
            writer.write(bytes.fromhex("20020000"))
            while data := await reader.read(1024):
                stream.extend(data)
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        link = uplink(server.sockets[0].getsockname()[1], "dcu")
        link.publish("t", b"first")
        link.start(Heard().listener())
        await connecting.wait()
        link.publish("t", b"second")
        answer.set()
        await until(lambda: link.is_connected)
        link.publish("t", b"third")
        await until(lambda: b"third" in stream)
        link.abort()
        await ended.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert sorted((b"third", b"second", b"first"), key=stream.index) == [b"first", b"second", b"third"]


def test_a_silent_peer_does_not_stop_the_loop() -> None:
    async def body() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            options = MqttOptions("127.0.0.1", silent.getsockname()[1], "dcu", connect_timeout_s=0.3, retry_first_s=0.1)
            heard = Heard()
            with running(MqttUplink(options, asyncio.get_running_loop(), random.Random(1)), heard):
                await until(lambda: heard.reasons == ["the broker did not answer CONNECT"])

    asyncio.run(body())


def test_a_second_start_is_a_mistake_of_ours() -> None:
    async def body() -> None:
        with running(uplink(1, "dcu"), Heard()) as link, pytest.raises(LocalProtocolError):
            link.start(Heard().listener())

    asyncio.run(body())


# TLS


class Authority:
    """A certification authority of the test, and what it signs, as PEM files in `folder`."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, is_authority=True)
        self.ca_file = self._write(f"{name}.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, is_authority=False)
        encoded_key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{name}.key", encoded_key),
        )

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("broker.test")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name.replace(" ", "-")
        path.write_bytes(data)
        return path


@needs_mosquitto
@pytest.mark.requirement("OSI-5")
def test_tls_1_3_with_client_certificates_and_no_entry_without(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_certificate, server_key = authority.issue("broker.test")
    certificate, key = authority.issue("dcu-1")
    stranger = Authority(tmp_path, "another CA")
    foreign_certificate, foreign_key = stranger.issue("dcu-2")

    async def body(broker: Broker) -> None:
        heard = Heard()
        good = TlsOptions(authority.ca_file, certificate, key, "broker.test")
        with running(uplink(broker.port, "dcu", good), heard) as link:
            await subscribed(link, heard, "loop")
            payload = bytes(range(256)) * 400
            link.publish("loop", payload)
            await until(lambda: len(heard.messages) == 1)
            assert heard.messages == [("loop", payload)]
        for refused in (
            TlsOptions(authority.ca_file, foreign_certificate, foreign_key, "broker.test"),
            TlsOptions(stranger.ca_file, certificate, key, "broker.test"),
            TlsOptions(authority.ca_file, certificate, key, "elsewhere.test"),
        ):
            heard = Heard()
            with running(uplink(broker.port, "dcu-refused", refused), heard) as link:
                await until(lambda heard=heard: bool(heard.reasons))  # type: ignore[misc]
                assert not heard.sessions
                assert not link.is_connected

    with_broker(
        tmp_path,
        body,
        f"cafile {authority.ca_file}",
        f"certfile {server_certificate}",
        f"keyfile {server_key}",
        "require_certificate true",
        "tls_version tlsv1.3",
    )


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("dcu-1")
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for ca_file, certificate_file, named in (
        (tmp_path / "missing.pem", certificate, "missing.pem"),
        (junk, certificate, "junk.pem"),
        (authority.ca_file, junk, "junk.pem"),
    ):
        with pytest.raises(BadInputError, match=named):
            TlsOptions(ca_file, certificate_file, key).context()
