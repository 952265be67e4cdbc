"""Protection that travels with the APDU: general-ciphering with its three kinds of key, and general-signing.

Each direction has a key of its own: a sender brings it along once (wrapped under the master key, or agreed by ECDH),
and leaves key-info out from then on.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms.general import (
    AgreedKey,
    AgreementScheme,
    GeneralCiphering,
    GeneralHeader,
    GeneralSigning,
    IdentifiedKey,
    KeyId,
    KeyInfo,
    WrappedKey,
)
from protocols.dlms.security.agreement import (
    PUBLIC_KEY_BYTES,
    decode_public_key,
    derive_key,
    encode_public_key,
    new_private_key,
    shared_secret,
)
from protocols.dlms.security.ciphering import Ciphering, Opened
from protocols.dlms.security.counters import CounterStore, MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import Gcm, ProtectionError
from protocols.dlms.security.key_management import unwrap_key, wrap_key
from protocols.dlms.security.peer import AsymmetricKeys
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource

_TRANSACTION_BYTES = 8


class KeyScheme(enum.Enum):
    """Where the key of a general-ciphering APDU comes from."""

    IDENTIFIED = enum.auto()
    WRAPPED = enum.auto()
    ONE_PASS = enum.auto()
    STATIC_UNIFIED = enum.auto()


class UsedKeys:
    """Remembers keys that peers brought, so that none of them is taken again after its association has ended.

    The last `size` of them survive a restart.
    """

    def __init__(self, store: CounterStore, name: str, *, size: int = 16) -> None:
        self._store = store
        self._name = name
        self._size = size
        self._next = store.load(f"{name}.next") or 0
        self._known = {store.load(f"{name}.{slot}") for slot in range(size)}

    def __contains__(self, key: bytes) -> bool:
        return _digest(key) in self._known

    def add(self, key: bytes) -> None:
        digest = _digest(key)
        self._store.save(f"{self._name}.{self._next % self._size}", digest)
        self._next += 1
        self._store.save(f"{self._name}.next", self._next)
        self._known.add(digest)


def _digest(key: bytes) -> int:
    """48 bits that tell keys apart and nothing about them."""
    return int.from_bytes(hashlib.sha256(b"used key" + key).digest()[:6], "big")


@dataclass(slots=True)
class GeneralPeer:
    """Everything that one end knows about protection towards one peer."""

    own_title: bytes
    peer_title: bytes
    suite: int
    keys: KeySource
    used: UsedKeys
    authentication_key: Callable[[], bytes] = field(repr=False)
    master_key: Callable[[], bytes | None] = field(repr=False)
    unicast: Callable[[], Ciphering] = field(repr=False)
    asymmetric: AsymmetricKeys | None = field(default=None, repr=False)
    _sending: Ciphering | None = field(default=None, repr=False)
    _sending_scheme: KeyScheme | None = None
    _receiving: Ciphering | None = field(default=None, repr=False)
    _receiving_digest: int | None = None
    _receiving_scheme: KeyScheme = KeyScheme.WRAPPED
    _transaction: int = 0

    # general-ciphering

    def seal(self, plain: bytes, control: int, scheme: KeyScheme, date_time: bytes = b"") -> bytes:
        """A general-ciphering APDU. Raises LocalProtocolError if the scheme needs keys that this end does not have."""
        header = self._header(date_time)
        if scheme is KeyScheme.IDENTIFIED:
            ciphering, key_info = self.unicast(), IdentifiedKey()
            return GeneralCiphering(header, key_info, ciphering.seal(plain, control, header.encode())).encode()
        new_info: KeyInfo | None = None
        if scheme is KeyScheme.STATIC_UNIFIED or self._sending is None or self._sending_scheme is not scheme:
            key, new_info = self._new_key(scheme, header)
            self._sending, self._sending_scheme = self._transient(key), scheme
        return GeneralCiphering(header, new_info, self._sending.seal(plain, control, header.encode())).encode()

    def open(self, apdu: bytes) -> tuple[Opened, KeyScheme]:
        """The plain APDU and how its key came. Raises ProtectionError, RemoteProtocolError."""
        general = GeneralCiphering.decode(apdu)
        header = general.header
        self._check_header(header)
        if isinstance(general.key_info, IdentifiedKey):
            if general.key_info.key_id is not KeyId.GLOBAL_UNICAST_ENCRYPTION:
                raise ProtectionError("the broadcast key in an association", "wrong_key_set")
            return self.unicast().open(general.sealed, header.encode()), KeyScheme.IDENTIFIED
        if general.key_info is None:
            if self._receiving is None:
                raise ProtectionError("no key-info, and no key from before", "no_key")
            return self._receiving.open(general.sealed, header.encode()), self._receiving_scheme
        return self._open_with_new_key(general, general.key_info)

    def _open_with_new_key(
        self, general: GeneralCiphering, key_info: WrappedKey | AgreedKey
    ) -> tuple[Opened, KeyScheme]:
        key, scheme = self._peers_key(key_info, general.header)
        digest = _digest(key)
        is_current = digest == self._receiving_digest and self._receiving is not None
        if not is_current and key in self.used:
            raise ProtectionError("a key that was used before", "replay")
        ciphering = self._receiving if is_current and self._receiving is not None else self._transient(key)
        opened = ciphering.open(general.sealed, general.header.encode())
        if not is_current:
            self.used.add(key)
            self._receiving, self._receiving_digest, self._receiving_scheme = ciphering, digest, scheme
        return opened, scheme

    def _peers_key(self, key_info: WrappedKey | AgreedKey, header: GeneralHeader) -> tuple[bytes, KeyScheme]:
        if isinstance(key_info, WrappedKey):
            master_key = self.master_key()
            if master_key is None:
                raise ProtectionError("no master key to unwrap with", "no_key")
            try:
                return unwrap_key(master_key, key_info.wrapped), KeyScheme.WRAPPED
            except RemoteProtocolError as error:
                raise ProtectionError(str(error), "wrong_key") from error
        asymmetric = self._asymmetric_of_peer()
        if key_info.scheme is AgreementScheme.STATIC_UNIFIED:
            peer = asymmetric.peers.agreement_key(self.peer_title)
            if peer is None:
                raise ProtectionError("no agreement key of the peer", "no_key")
            secret = shared_secret(asymmetric.agreement, peer)
            return derive_key(secret, _nonced(self.peer_title, header), self.own_title), KeyScheme.STATIC_UNIFIED
        public_key, signature = key_info.data[:PUBLIC_KEY_BYTES], key_info.data[PUBLIC_KEY_BYTES:]
        verifier = asymmetric.verifier(self.peer_title)
        if verifier is None or not verifier.is_signed(public_key, signature):
            raise ProtectionError("the signature of an ephemeral key is wrong", "wrong_signature")
        secret = shared_secret(asymmetric.agreement, decode_public_key(public_key))
        return derive_key(secret, self.peer_title, self.own_title), KeyScheme.ONE_PASS

    def _new_key(self, scheme: KeyScheme, header: GeneralHeader) -> tuple[bytes, KeyInfo]:
        if scheme is KeyScheme.WRAPPED:
            master_key = self.master_key()
            if master_key is None:
                raise LocalProtocolError("no master key to wrap with")
            key = self.keys.random_bytes(16)
            return key, WrappedKey(wrap_key(master_key, key))
        if self.asymmetric is None:
            raise LocalProtocolError("no asymmetric keys")
        peer = self.asymmetric.peers.agreement_key(self.peer_title)
        if peer is None:
            raise LocalProtocolError("no agreement key of the peer")
        if scheme is KeyScheme.STATIC_UNIFIED:
            secret = shared_secret(self.asymmetric.agreement, peer)
            key = derive_key(secret, _nonced(self.own_title, header), self.peer_title)
            return key, AgreedKey(AgreementScheme.STATIC_UNIFIED)
        ephemeral = new_private_key(self.keys)
        public_key = encode_public_key(ephemeral.public_key())
        key = derive_key(shared_secret(ephemeral, peer), self.own_title, self.peer_title)
        return key, AgreedKey(AgreementScheme.ONE_PASS, public_key + self.asymmetric.signer.sign(public_key))

    # general-signing

    def sign(self, content: bytes, date_time: bytes = b"") -> bytes:
        """A general-signing APDU. Raises LocalProtocolError without a signing key."""
        if self.asymmetric is None:
            raise LocalProtocolError("no asymmetric keys")
        unsigned = GeneralSigning(self._header(date_time), content, b"")
        signature = self.asymmetric.signer.sign(unsigned.signed_bytes)
        return GeneralSigning(unsigned.header, content, signature).encode()

    def check_signature(self, apdu: bytes) -> GeneralSigning:
        """Raises ProtectionError if the signature is wrong, RemoteProtocolError."""
        signed = GeneralSigning.decode(apdu)
        self._check_header(signed.header)
        verifier = self._asymmetric_of_peer().verifier(self.peer_title)
        if verifier is None or not verifier.is_signed(signed.signed_bytes, signed.signature):
            raise ProtectionError("the signature is wrong", "wrong_signature")
        return signed

    def _asymmetric_of_peer(self) -> AsymmetricKeys:
        if self.asymmetric is None:
            raise ProtectionError("this end has no asymmetric keys", "no_key")
        return self.asymmetric

    def _header(self, date_time: bytes) -> GeneralHeader:
        self._transaction += 1
        if self._transaction == 1:  # begins anywhere, so that static keys differ between associations
            self._transaction = int.from_bytes(self.keys.random_bytes(6), "big") << 8
        transaction_id = self._transaction.to_bytes(_TRANSACTION_BYTES, "big")
        return GeneralHeader(transaction_id, self.own_title, self.peer_title, date_time)

    def _check_header(self, header: GeneralHeader) -> None:
        if header.originator != self.peer_title or header.recipient not in (b"", self.own_title):
            raise ProtectionError("an APDU from or for another system title", "wrong_title")

    def _transient(self, key: bytes) -> Ciphering:
        memory = MemoryCounterStore()
        gcm = Gcm(key, self.authentication_key())
        send, receive = SendCounter(memory, "send"), ReceiveCounter(memory, "receive")
        return Ciphering(gcm, self.suite, self.own_title, self.peer_title, send, receive)


def _nonced(title: bytes, header: GeneralHeader) -> bytes:
    """Party U of the static unified model: two static keys always give the same Z, the transaction makes it new."""
    return title + bytes((len(header.transaction_id),)) + header.transaction_id
