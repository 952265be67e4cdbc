"""Published vectors, bit for bit."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dlms_support import METER_TITLE

from protocols.dlms.acse import Aare, Aarq
from protocols.dlms.enums import (
    AcseUserDiagnostic,
    AssociationResult,
    Conformance,
    ContextName,
    Mechanism,
)
from protocols.dlms.get import AttributeReference, GetRequestNormal, decode_request
from protocols.dlms.initiate import InitiateRequest, InitiateResponse
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.ciphering import GLO_TAGS, Ciphering, unwrap, wrap
from protocols.dlms.security.counters import MemoryCounterStore, ReceiveCounter, SendCounter
from protocols.dlms.security.gcm import AUTHENTICATED, ENCRYPTED, Gcm, ProtectionError
from protocols.dlms.security.hls import HlsExchange
from protocols.dlms.security.signing import DeterministicSigner, RandomSigner, Verifier

ENCRYPTION_KEY = bytes(range(16))
AUTHENTICATION_KEY = bytes(range(0xD0, 0xE0))
GCM = Gcm(ENCRYPTION_KEY, AUTHENTICATION_KEY)
NONCE = METER_TITLE + bytes.fromhex("01234567")
GET_CLOCK = bytes.fromhex("C0010000080000010000FF0200")
SEALED = {
    0x10: "C0010000080000010000FF0200" + "06725D910F9221D263877516",
    0x20: "411312FF935A47566827C467BC",
    0x30: "411312FF935A47566827C467BC" + "7D825C3BE4A77C3FCC056B6B",
}
PUBLIC_AARQ = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
PUBLIC_AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007")
HLS_AARE = bytes.fromhex(
    "6142A109060760857405080101A203020100A305A10302010E88020780890760857405080205AA0A8008503677524A323146"
    "BE10040E0800065F1F040000501F01F40007"
)


def ciphering(own_title: bytes, peer_title: bytes, first: int) -> Ciphering:
    store = MemoryCounterStore()
    store.values["send"] = first
    return Ciphering(GCM, 0, own_title, peer_title, SendCounter(store, "send"), ReceiveCounter(store, "receive"))


def test_get_of_the_clock() -> None:
    clock = AttributeReference(8, ObisCode.parse("0.0.1.0.0.255"), 2)
    assert GetRequestNormal(0, clock).encode() == GET_CLOCK
    assert decode_request(GET_CLOCK) == GetRequestNormal(0, clock)


@pytest.mark.parametrize("control", [0x10, 0x20, 0x30])
@pytest.mark.requirement("SEC-1")
def test_get_under_every_protection(control: int) -> None:
    sealed = bytes.fromhex(SEALED[control])
    assert GCM.seal(control, NONCE, GET_CLOCK) == sealed
    assert GCM.open(control, NONCE, sealed) == GET_CLOCK


@pytest.mark.requirement("SEC-1")
def test_glo_get_request() -> None:
    apdu = bytes.fromhex("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B")
    sender = ciphering(METER_TITLE, b"", 0x01234567)
    assert wrap(GLO_TAGS[0xC0], sender.seal(GET_CLOCK, AUTHENTICATED | ENCRYPTED)) == apdu
    receiver = ciphering(b"", METER_TITLE, 1)
    assert receiver.open(unwrap(apdu)) == (0x30, 0x01234567, GET_CLOCK)
    with pytest.raises(ProtectionError, match="used before"):
        receiver.open(unwrap(apdu))


def test_glo_initiate_request() -> None:
    plain = bytes.fromhex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
    glo = bytes.fromhex(
        "21303001234567801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855"
    )
    request = InitiateRequest(Conformance(0x007E1F), 1200, bytes.fromhex("00112233445566778899AABBCCDDEEFF"))
    assert request.encode() == plain
    assert InitiateRequest.decode(plain) == request
    assert wrap(GLO_TAGS[0x01], ciphering(METER_TITLE, b"", 0x01234567).seal(plain, 0x30)) == glo
    assert ciphering(b"", METER_TITLE, 1).open(unwrap(glo)).plain == plain


def test_gmac_of_high_level_security() -> None:
    client_title = bytes.fromhex("4D4D4D0000000001")
    challenge = bytes.fromhex("503677524A323146")
    client = HlsExchange(
        Mechanism.HIGH_GMAC,
        client_title,
        METER_TITLE,
        b"",
        challenge,
        ciphering=ciphering(client_title, METER_TITLE, 1),
    )
    proof = client.prove()
    assert proof == bytes.fromhex("10000000011A52FE7DD3E72748973C1E28")
    server = HlsExchange(
        Mechanism.HIGH_GMAC,
        METER_TITLE,
        client_title,
        challenge,
        b"",
        ciphering=ciphering(METER_TITLE, client_title, 1),
    )
    assert server.is_proved(proof)
    assert not server.is_proved(proof[:-1] + b"\x00")
    assert not server.is_proved(b"")


@pytest.mark.requirement("OSI-5")
def test_aarq_and_aare_without_security() -> None:
    request = InitiateRequest(Conformance(0x007E1F), 1200)
    aarq = Aarq(context=ContextName.LN, user_information=request.encode())
    assert aarq.encode() == PUBLIC_AARQ
    assert Aarq.decode(PUBLIC_AARQ) == aarq
    response = InitiateResponse(Conformance(0x00501F), 500)
    aare = Aare(ContextName.LN, AssociationResult.ACCEPTED, AcseUserDiagnostic.NULL, response.encode())
    assert aare.encode() == PUBLIC_AARE
    assert Aare.decode(PUBLIC_AARE) == aare


def test_aare_with_a_challenge() -> None:
    aare = Aare(
        ContextName.LN,
        AssociationResult.ACCEPTED,
        AcseUserDiagnostic.AUTHENTICATION_REQUIRED,
        InitiateResponse(Conformance(0x00501F), 500).encode(),
        mechanism=Mechanism.HIGH_GMAC,
        authentication_value=bytes.fromhex("503677524A323146"),
    )
    assert aare.encode() == HLS_AARE
    assert Aare.decode(HLS_AARE) == aare


def test_rfc6979_signatures() -> None:
    """RFC 6979, A.2.5: P-256 with SHA-256."""
    key = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
    signer = DeterministicSigner(key)
    assert signer.sign(b"sample") == bytes.fromhex(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )
    assert signer.sign(b"test") == bytes.fromhex(
        "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"
    )
    verifier = Verifier(key.public_key())
    assert verifier.is_signed(b"sample", signer.sign(b"sample"))
    assert verifier.is_signed(b"sample", RandomSigner(key).sign(b"sample"))
    assert not verifier.is_signed(b"other", signer.sign(b"sample"))
    assert not verifier.is_signed(b"sample", bytes(64))
    assert not verifier.is_signed(b"sample", b"")
