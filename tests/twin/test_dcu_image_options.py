"""`--dcu qemu`: which choices go with it, what the guest is told, and what is removed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dcu_guest import emulated_or_skip

from dcu.config import CollectionPolicy, DcuConfig
from dcu.config_file import load
from dcu.mesh_identity import MeshIdentity
from dcu.mqtt_uplink import TlsOptions
from images.dcu.build import default_cache
from images.dcu.workshop import run
from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.certificates import CertificateType
from protocols.dlms.security.signing import RandomSigner
from protocols.errors import BadInputError
from protocols.mesh.config import RadioSettings
from protocols.rcp.codes import ChannelFunction
from twin.brokers.tls import RunAuthority
from twin.clock.clocks import ClockKind
from twin.clock.seeds import SeededKeys
from twin.errors import RigError
from twin.rigs.authority import RunAuthority as RunIssuer
from twin.rigs.authority import private_key_pem
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


def test_clock_of_the_emulated_concentrator_follows_the_broker() -> None:
    assert chosen(BrokerKind.MOSQUITTO) is ClockKind.REAL
    assert chosen(BrokerKind.MEMORY) is ClockKind.VIRTUAL


def test_emulated_concentrator_needs_a_broker_with_sockets_in_real_time() -> None:
    with pytest.raises(BadInputError, match="--broker mosquitto"):
        chosen(BrokerKind.MEMORY, ClockKind.REAL)
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


def test_guest_is_told_its_certificate_for_the_mesh(tmp_path: Path) -> None:
    authority = RunIssuer.for_run(SeededKeys(b"mesh"), start_utc_s=1.8e9, repeatable=True)
    key = new_private_key(SeededKeys(b"device"))
    own = authority.issue(CONFIG.eui64, key.public_key(), CertificateType.TLS)
    identity = MeshIdentity(private_key_pem(key), authority.certificate.pem() + own.pem())
    told = guest_provisioning(CONFIG, BROKER, identity)
    path = tmp_path / "dcu.json"
    path.write_text(json.dumps(told.config))
    found = load(path).mesh_identity
    assert found == identity
    credentials = found.credentials(
        CONFIG.eui64, keys=SeededKeys(b"nonces"), utc_s=lambda: 1.8e9, make_signer=RandomSigner
    )
    assert credentials.certificate == own
    assert credentials.authorities == (authority.certificate,)
    assert identity.signing_key_pem not in repr(identity) + repr(told)
    path.write_text(json.dumps({**told.config, "eui64": bytes(8).hex()}))
    with pytest.raises(BadInputError, match=r"mesh_identity\.certificates_pem.*EUI-64"):
        load(path)


@pytest.mark.soak  # an image of its own, and its snapshot
@pytest.mark.requirement("HW-1")
def test_kernel_tree_and_modules_of_a_vendor_boot(tmp_path: Path) -> None:
    """The distribution's kernel under a vendor's names: nothing depends on where files lie or what they are called."""
    image = emulated_or_skip().image
    unpacked = next(
        folder
        for folder in sorted(default_cache().glob("kernel-*"))
        if (folder / "lib/modules" / image.kernel_version).is_dir()
    )
    kernel, tree, modules = tmp_path / "linux-acme.bin", tmp_path / "acme.dtb", tmp_path / "acme-modules"
    shutil.copyfile(image.kernel, kernel)
    shutil.copyfile(image.real_time_tree, tree)
    run("fdtput", "-t", "s", tree, "/", "model", "ACME IHM-4000")
    shutil.copytree(unpacked / "lib/modules", modules / "lib/modules")
    vendor = ("--kernel", str(kernel), "--dtb", str(tree), "--modules", str(modules))
    done = subprocess.run(
        [sys.executable, "-m", "twin", "dcu", "boot", "--json", *vendor],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    profile = json.loads(done.stdout)["profile"]
    assert "ACME IHM-4000" in json.dumps(profile)
    assert image.kernel_version in json.dumps(profile)
