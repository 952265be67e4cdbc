"""`--dcu qemu`: which choices go with it, what the guest is told, and what is removed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcu.config import CollectionPolicy, DcuConfig
from dcu.config_file import load
from dcu.mqtt_uplink import TlsOptions
from protocols.errors import BadInputError
from protocols.mesh.config import RadioSettings
from protocols.rcp.codes import ChannelFunction
from twin.brokers.tls import RunAuthority
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.brokers import BROKER_NAME, BrokerAccess
from twin.rigs.options import AirKind, BrokerKind, DcuKind, choose
from twin.rigs.qemu.dcu import guest_provisioning

CONFIG = DcuConfig(
    dcu_id="IHM4000-0001",
    eui64=bytes(range(8)),
    system_title=bytes(range(8, 16)),
    link_key=bytes(range(16)),
    timers_profile="bench",
    collection=CollectionPolicy(local_offset_s=10_800),
    radio=RadioSettings(channel_function=ChannelFunction.DH1CF, sensitivity_dbm=-108.38),
)
BROKER = BrokerAccess("127.0.0.1", 12345, "IHM4000-0001", "hunter2")


def chosen(broker: BrokerKind, clock: ClockKind | None = None) -> ClockKind:
    return choose(seed=1, clock=clock, broker=broker, air=AirKind.BYTES, database="sqlite", dcu=DcuKind.QEMU).clock


def test_emulated_concentrator_implies_real_time() -> None:
    assert chosen(BrokerKind.MOSQUITTO) is ClockKind.REAL


def test_emulated_concentrator_needs_a_broker_with_sockets() -> None:
    with pytest.raises(BadInputError, match="--broker mosquitto"):
        chosen(BrokerKind.MEMORY)
    with pytest.raises(RigError, match="sockets"):
        guest_provisioning(CONFIG, None)


def test_guest_is_told_the_configuration_of_the_native_daemon(tmp_path: Path) -> None:
    told = guest_provisioning(CONFIG, BROKER)
    path = tmp_path / "dcu.json"
    path.write_text(json.dumps(told.config))
    found = load(path)
    assert found.dcu == CONFIG
    assert (found.broker.host, found.broker.port) == ("10.0.2.2", 12345)
    assert found.radio_device == "/dev/ttymxc1"


def test_keys_and_passwords_are_not_in_a_repr() -> None:
    text = repr(guest_provisioning(CONFIG, BROKER)) + repr(BROKER)
    assert "hunter2" not in text
    assert CONFIG.link_key.hex() not in text


def test_guest_is_given_its_certificate_and_no_password(tmp_path: Path) -> None:
    authority = RunAuthority(tmp_path / "authority", datetime(2026, 3, 2, tzinfo=UTC))
    identity = authority.issue_client("IHM4000-0001")
    told = guest_provisioning(CONFIG, replace(BROKER, tls=identity))
    (tmp_path / "dcu.json").write_text(json.dumps(told.config))
    for name, text in told.files.items():
        (tmp_path / name).write_text(text)
    broker = load(tmp_path / "dcu.json").broker
    assert broker.username is None
    assert broker.password is None
    assert broker.tls is not None
    assert broker.tls.server_name == BROKER_NAME
    assert Path(broker.tls.key_file).read_bytes() == identity.private_key.read_bytes()
    TlsOptions(Path(broker.tls.ca_file), Path(broker.tls.certificate_file), Path(broker.tls.key_file)).context()
