"""Group keys of the mesh on the concentrator's storage."""

import pytest

from dcu.group_keys import GroupKeyStore
from dcu.storage import MemoryStorage
from protocols.mesh.config import LinkKey

PROVISIONED = LinkKey(1, bytes(range(16)))
SECOND = LinkKey(2, bytes(range(16, 32)))


def test_without_a_rotation_the_provisioned_key_is_used() -> None:
    assert GroupKeyStore(MemoryStorage(), PROVISIONED).load() == ((PROVISIONED,), 1)


@pytest.mark.parametrize("keys", [(PROVISIONED, SECOND), (SECOND,), (SECOND, LinkKey(4, bytes(16)), PROVISIONED)])
def test_keys_and_their_order_survive_a_restart(keys: tuple[LinkKey, ...]) -> None:
    storage = MemoryStorage()
    GroupKeyStore(storage, PROVISIONED).save(keys, keys[0].index)
    assert GroupKeyStore(storage, PROVISIONED).load() == (keys, keys[0].index)


def test_no_key_is_on_storage_in_plain() -> None:
    storage = MemoryStorage()
    GroupKeyStore(storage, PROVISIONED).save((PROVISIONED, SECOND), 2)
    stored = storage.read("group-keys")
    assert stored is not None
    assert SECOND.key not in stored
    assert PROVISIONED.key not in stored


@pytest.mark.parametrize("damaged", [b"", b"junk", bytes(48)])
def test_damaged_storage_falls_back_to_the_provisioned_key(damaged: bytes) -> None:
    storage = MemoryStorage()
    storage.write("group-keys", damaged)
    assert GroupKeyStore(storage, PROVISIONED).load() == ((PROVISIONED,), 1)


def test_keys_stored_under_another_provisioned_key_are_not_taken() -> None:
    storage = MemoryStorage()
    GroupKeyStore(storage, SECOND).save((SECOND,), 2)
    assert GroupKeyStore(storage, PROVISIONED).load() == ((PROVISIONED,), 1)
