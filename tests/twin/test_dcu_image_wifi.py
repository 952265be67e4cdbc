"""HW-8: maintenance log-in over Wi-Fi. The adapter's module is the reference's; the radio is the kernel's simulation.

The emulator has no such adapter. mac80211_hwsim gives the guest two radios on one air: one takes the adapter's place in
the cabinet, the other is the technician's, in a network namespace of its own, so that nothing goes over the loopback.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dcu_guest import Guest, guest_in

from dcu.config import DcuConfig
from twin.errors import RigError
from twin.rigs.brokers import BrokerAccess
from twin.rigs.qemu.dcu import guest_provisioning

_CONFIG = DcuConfig(dcu_id="IHM4000-0001", eui64=bytes(range(8)), system_title=bytes(8), link_key=bytes(range(16)))
_BROKER = BrokerAccess("127.0.0.1", 9, "IHM4000-0001", "nobody listens")
_WIFI = "ssid=IHM-4000 maintenance\nwpa_passphrase=cabinet door 12\n"
_SUPPLICANT = 'network={{\n ssid="IHM-4000 maintenance"\n psk="{passphrase}"\n}}\n'
_HOST = "192.168.77.1"


def _technician(guest: Guest, command: str, timeout_s: float = 120.0) -> str:
    return guest.shell(f"busybox nsenter -t $(cat /tmp/technician.pid) -n {command}", timeout_s)


def _provision(guest: Guest, files: dict[str, str]) -> None:
    told = guest_provisioning(_CONFIG, _BROKER)
    guest.run(guest.machine.maintenance.ask("provision", config=told.config, files=files, timeout_s=60.0))


def _associate(guest: Guest, passphrase: str) -> None:
    """Bring the technician's radio on the air with that passphrase. Raises RigError if it is not let in."""
    guest.put("/tmp/technician.conf", _SUPPLICANT.format(passphrase=passphrase).encode())
    guest.shell("killall wpa_supplicant 2>/dev/null; rm -f /tmp/technician.log; true")
    _technician(guest, "wpa_supplicant -B -t -f /tmp/technician.log -i wlan1 -c /tmp/technician.conf")
    guest.shell(
        "until grep -q -e CTRL-EVENT-CONNECTED -e WRONG_KEY -e 4WAY_HANDSHAKE.*timed /tmp/technician.log;"
        " do usleep 200000; done; grep -q CTRL-EVENT-CONNECTED /tmp/technician.log",
        timeout_s=120.0,
    )


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest with its access point on, and the technician's radio in a namespace."""
    with guest_in(tmp_path_factory.mktemp("guest")) as made:
        made.from_snapshot()
        made.shell("modprobe mac80211_hwsim radios=2")
        made.shell("dropbearkey -t ed25519 -f /tmp/technician-key > /dev/null 2>&1")
        made.shell("dropbearkey -t ed25519 -f /tmp/stranger-key > /dev/null 2>&1")
        public = made.shell("dropbearkey -y -f /tmp/technician-key | grep ^ssh-")
        _provision(made, {"wifi.conf": _WIFI, "authorized-keys": public + "\n"})
        made.shell("until [ -r /tmp/run/wifi/dropbear.pid ]; do usleep 200000; done", timeout_s=120.0)
        made.shell("busybox unshare -n sh -c 'echo $$ > /tmp/technician.pid; exec sleep 1000000' & usleep 1")
        made.shell("until [ -s /tmp/technician.pid ]; do usleep 100000; done")
        made.shell("iw phy phy1 set netns $(cat /tmp/technician.pid)")
        _associate(made, "cabinet door 12")
        _technician(made, "ifconfig wlan1 192.168.77.20 netmask 255.255.255.0 up")
        yield made


def _log_in(guest: Guest, key: str, command: str) -> str:
    return _technician(guest, f"dbclient -y -i {key} root@{_HOST} '{command}' < /dev/null 2> /tmp/log-in.log")


@pytest.mark.requirement("HW-8")
def test_adapter_s_module_loads_and_says_that_the_emulator_has_no_adapter(guest: Guest) -> None:
    guest.shell("modprobe r8188eu")
    assert "r8188eu" in guest.shell("cut -d' ' -f1 /proc/modules").split()
    assert "mac80211_hwsim" in guest.shell("readlink /sys/class/net/wlan0/device/driver")
    assert guest.shell("ls /sys/bus/usb/drivers/r8188eu | grep -c '^[0-9]' || true") == "0"


@pytest.mark.requirement("HW-8")
def test_technician_logs_in_over_the_air_with_the_provisioned_key(guest: Guest) -> None:
    assert "Connected to" in _technician(guest, "iw dev wlan1 link")
    pairwise = _technician(guest, "wpa_cli -i wlan1 status 2>/dev/null | grep pairwise || echo pairwise_cipher=?")
    assert "pairwise_cipher" in pairwise
    answer = _log_in(guest, "/tmp/technician-key", "uname -m; id -u; echo $SSH_CONNECTION")
    assert answer.split() == ["armv7l", "0", "192.168.77.20", *answer.split()[3:4], _HOST, "22"]
    received = guest.shell("cat /sys/class/net/wlan0/statistics/rx_bytes")
    assert int(received) > 1000, "the log-in did not go over the radio"


@pytest.mark.requirement("HW-8")
def test_another_key_and_a_password_are_refused(guest: Guest) -> None:
    with pytest.raises(RigError):
        _log_in(guest, "/tmp/stranger-key", "true")
    assert "No auth methods could be used" in guest.shell("cat /tmp/log-in.log")


@pytest.mark.requirement("HW-8")
def test_wrong_passphrase_gets_no_association_and_the_right_one_does_again(guest: Guest) -> None:
    with pytest.raises(RigError):
        _associate(guest, "some other door")
    _associate(guest, "cabinet door 12")
    assert _log_in(guest, "/tmp/technician-key", "echo in").strip() == "in"


@pytest.mark.requirement("HW-8")
def test_access_point_ends_when_the_identity_is_forgotten(guest: Guest) -> None:
    guest.run(guest.machine.maintenance.ask("forget", timeout_s=60.0))
    guest.shell("while pgrep hostapd > /dev/null || pgrep dropbear > /dev/null; do usleep 200000; done")
    assert guest.shell("ls /tmp/run/wifi 2>/dev/null | wc -l") == "0"
