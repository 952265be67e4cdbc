"""Join state 2 in a mesh: certificates, relays, group keys, rotation, revocation."""

from __future__ import annotations

import pytest
from authentication_support import Authority
from mesh_bench import GROUP_KEY, Bench, eui

from protocols.errors import LocalProtocolError
from protocols.mesh.authentication.trust import MeshCredentials, RefusalReason
from protocols.mesh.config import LinkKey, MeshConfig
from protocols.mesh.events import AccessRefused, AuthenticationFailed, DeviceAuthenticated, GroupKeysChanged
from protocols.mesh.join import JoinState
from protocols.mesh.wisun import FrameType

AUTHORITY = Authority()
FOREIGN = Authority("another CA")
SECOND_KEY = LinkKey(2, bytes(range(16, 32)))
LINE = [(0, 1), (1, 2), (2, 3)]


class SecureBench(Bench):
    """Every node proves itself by its certificate; only the root has the group key at first."""

    credentials: dict[int, MeshCredentials]

    def config(self, number: int) -> MeshConfig:
        plain = super().config(number)
        credentials = getattr(self, "credentials", {}).get(number) or AUTHORITY.device(eui(number))
        keys = (LinkKey(1, GROUP_KEY),) if number == 0 else ()
        return MeshConfig(
            eui64=plain.eui64,
            network_name=plain.network_name,
            keys=keys,
            frame_counter=plain.frame_counter,
            start_count=plain.start_count,
            role=plain.role,
            pan_id=plain.pan_id,
            prefix=plain.prefix,
            radio=plain.radio,
            credentials=credentials,
        )

    def rotate(self, key: LinkKey = SECOND_KEY) -> None:
        self.nodes[0].rotate_group_key(key, self.now)
        self.settle(0)

    def revoke(self, number: int) -> None:
        self.nodes[0].revoke(eui(number), self.now)
        self.settle(0)

    def is_in(self, *numbers: int) -> bool:
        return all(self.nodes[number].state is JoinState.OPERATIONAL for number in numbers)


def started(edges: list[tuple[int, int]] = LINE, **credentials: MeshCredentials) -> SecureBench:
    bench = SecureBench(edges)
    bench.credentials = {int(name[1:]): value for name, value in credentials.items()}
    bench.power_on_all()
    return bench


@pytest.mark.requirement("NET-3", "UC-I.1")
def test_devices_get_the_group_key_over_three_hops_and_only_by_their_certificates() -> None:
    bench = started()
    bench.run_until(bench.joined, 300)
    assert {event.eui64 for event in bench.of(0, DeviceAuthenticated)} == {eui(n) for n in (1, 2, 3)}
    assert all(radio.keys == {1: GROUP_KEY} for radio in bench.radios.values())
    assert bench.nodes[2].counters["eapol_relayed_up"] > 5
    bench.send(3, 0, b"hello")
    bench.run_for(5)
    assert all(frame.key_index == 0 for frame in bench.frames_of(FrameType.EAPOL))
    assert all(GROUP_KEY not in frame.payload_ies for _, _, frame in bench.frames)


@pytest.mark.requirement("UC-I.3")
@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (FOREIGN.device(eui(2), trusts=AUTHORITY), RefusalReason.FOREIGN),
        (AUTHORITY.device(eui(2), valid_for_s=3600.0), RefusalReason.EXPIRED),
        (AUTHORITY.device(eui(2), named=eui(1)), RefusalReason.WRONG_DEVICE),
    ],
)
def test_a_device_with_a_wrong_certificate_stays_out(credentials: MeshCredentials, reason: RefusalReason) -> None:
    bench = started([(0, 1), (1, 2)], n2=credentials)
    bench.run_until(lambda: len(bench.of(0, AccessRefused)) >= 2, 900)
    assert {(event.eui64, event.reason) for event in bench.of(0, AccessRefused)} == {(eui(2), reason)}
    assert bench.is_in(1)
    assert not bench.is_in(2)
    assert bench.radios[2].keys == {}
    assert bench.of(2, AuthenticationFailed)
    assert bench.nodes[0].counters[f"refused_{reason.name.lower()}"] >= 2


def test_a_device_does_not_join_a_root_of_a_foreign_authority() -> None:
    bench = started([(0, 1)], n0=FOREIGN.device(eui(0), trusts=AUTHORITY))
    bench.run_until(lambda: bool(bench.of(1, AuthenticationFailed)), 120)
    assert bench.of(1, AuthenticationFailed)[0].reason is RefusalReason.FOREIGN
    assert bench.radios[1].keys == {}


def test_a_refused_device_asks_ever_more_seldom() -> None:
    bench = started([(0, 1)], n1=FOREIGN.device(eui(1), trusts=AUTHORITY))
    bench.run_for(4 * 3600)
    assert 3 <= len(bench.of(0, AccessRefused)) <= 12


@pytest.mark.requirement("NET-3")
def test_a_new_group_key_reaches_everybody_and_the_old_one_ends() -> None:
    bench = started()
    bench.run_until(bench.joined, 300)
    bench.rotate()
    bench.run_until(lambda: all(set(radio.keys) == {1, 2} for radio in bench.radios.values()), 60)
    assert bench.frames_of(FrameType.DATA)[-1].key_index == 1
    bench.run_for(bench.profile.authentication.activation_s + bench.profile.authentication.removal_s + 60)
    since = bench.now
    bench.send(3, 0, b"hello")
    bench.run_for(20)
    assert {frame.key_index for frame in bench.frames_of(FrameType.DATA, since)} == {2}
    for number, node in bench.nodes.items():
        assert node.key_indices == {2}, number
    assert bench.joined()


@pytest.mark.requirement("UC-I.3")
def test_a_revoked_device_is_shut_out_by_the_next_rotation() -> None:
    bench = started([(0, 1), (1, 2), (0, 3)])
    bench.run_until(bench.joined, 300)
    bench.revoke(2)
    bench.rotate()
    bench.run_for(600)
    assert bench.is_in(1, 3)
    assert not bench.is_in(2)
    assert {event.reason for event in bench.of(0, AccessRefused)} == {RefusalReason.REVOKED}
    assert SECOND_KEY.key not in bench.radios[2].keys.values()


def test_a_device_stays_revoked_when_the_root_restarts() -> None:
    bench = SecureBench([(0, 1), (0, 2)])
    bench.power_on(0, revoked=frozenset({eui(2)}))
    bench.power_on(1)
    bench.power_on(2)
    bench.run_for(200)
    assert bench.is_in(1)
    assert not bench.is_in(2)


def test_a_device_that_comes_back_proves_itself_again() -> None:
    bench = started()
    bench.run_until(bench.joined, 300)
    bench.power_off(3)
    bench.run_for(30)
    bench.power_on(3)
    bench.run_until(bench.joined, 300)
    assert [event.eui64 for event in bench.of(0, DeviceAuthenticated)].count(eui(3)) == 2


def test_a_root_that_restarts_takes_its_members_as_they_are_and_authenticates_new_ones() -> None:
    bench = SecureBench([*LINE, (0, 4)])
    for number in (0, 1, 2, 3):
        bench.power_on(number)
    bench.run_until(bench.joined, 300)
    bench.power_off(0)
    bench.run_for(10)
    bench.power_on(0)
    bench.power_on(4)
    bench.run_until(bench.joined, 600)
    since = bench.now
    bench.rotate()
    bench.run_until(lambda: all(2 in node.key_indices for node in bench.nodes.values()), 120)
    assert since < bench.now


def test_a_root_that_restarts_in_a_rotation_goes_on_with_it() -> None:
    bench = started()
    bench.run_until(bench.joined, 300)
    bench.rotate()
    bench.run_until(lambda: all(2 in node.key_indices for node in bench.nodes.values()), 60)
    stored = bench.of(0, GroupKeysChanged)[-1]
    assert [key.index for key in stored.keys] == [1, 2]
    bench.power_off(0)
    bench.power_on(0, keys=stored.keys, active_key_index=stored.active_index)
    bench.run_for(400)
    assert bench.joined()
    assert all(node.key_indices == {2} for node in bench.nodes.values())


def test_only_a_root_that_authenticates_can_rotate() -> None:
    bench = Bench([(0, 1)])
    bench.power_on_all()
    for node in bench.nodes.values():
        with pytest.raises(LocalProtocolError):
            node.rotate_group_key(SECOND_KEY, bench.now)


def test_authentication_gets_through_where_a_fifth_of_all_frames_is_lost() -> None:
    bench = SecureBench(LINE, loss=0.2, seed=3)
    bench.power_on_all()
    bench.run_until(bench.joined, 900)
    assert all(radio.keys == {1: GROUP_KEY} for radio in bench.radios.values())


@pytest.mark.requirement("VEND-3")
def test_the_same_seed_gives_the_same_frames() -> None:
    def frames() -> list[object]:
        bench = started()
        bench.run_until(bench.joined, 300)
        return bench.frames

    # Devices of the module share their key sources: fresh ones for each run.
    global AUTHORITY
    AUTHORITY = Authority()
    first = frames()
    AUTHORITY = Authority()
    assert frames() == first
