"""A whole meter under attack: altered and old APDUs, power cuts while it counts, and 100,000 damaged inputs."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from meter_bench import SAPS, Bench, Client

from protocols.dlms.acse import AARQ, Aare
from protocols.dlms.client import Associated, AttributeReference, GetDone, Send
from protocols.dlms.enums import AssociationResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import MemoryCounterStore

SERIAL = AttributeReference(1, ObisCode.parse("0-0:96.1.0*255"), 2)
TABLE = AttributeReference(7, ObisCode.parse("0-0:99.98.1*255"), 2)
COUNTER = (1, "0-0:43.1.0*255")
MANAGEMENT = SAPS["management"]
EXCEPTION = 0xD8
GLO_GET_REQUEST, GLO_GET_RESPONSE = 0xC8, 0xCC


@dataclass
class Heard:
    """What an eavesdropper has of one client's talk with the meter."""

    channel: int
    answered: list[tuple[bytes, bytes]] = field(default_factory=list)

    def requests(self, tag: int) -> list[bytes]:
        return [request for request, _ in self.answered if request[0] == tag]

    @property
    def sent_counters(self) -> list[int]:
        """Invocation counters of the meter's ciphered answers."""
        return [counter_of(answer) for _, answer in self.answered if answer[0] == GLO_GET_RESPONSE]


def counter_of(apdu: bytes) -> int:
    """Of a short glo- APDU: tag, length, security control, invocation counter."""
    return int.from_bytes(apdu[3:7], "big")


def talk(bench: Bench, *, store: MemoryCounterStore | None = None, reads: int = 2) -> Heard:
    """Associate as the management client and read; ends where the meter falls silent."""
    client = Client(bench, "management", open_=False, store=store)
    heard = Heard(id(client))
    waiting = [client.association.associate()]
    while waiting:
        request = waiting.pop(0)
        answer = bench.meter.handle_apdu(MANAGEMENT, 1, request, channel=heard.channel)
        if answer is None:
            break
        heard.answered.append((request, answer))
        for event in client.association.receive(answer):
            if isinstance(event, Send):
                waiting.append(event.apdu)
            elif isinstance(event, Associated | GetDone) and reads:
                reads -= 1
                waiting.append(client.association.get(SERIAL))
    return heard


def security_events(bench: Bench) -> list[str]:
    return [str(fields["reason"]) for kind, fields in bench.traced if kind == "meter.security"]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reply(bench: Bench, client: Client, apdu: bytes) -> bytes:
    answer = bench.meter.handle_apdu(MANAGEMENT, 1, apdu, channel=id(client))
    assert answer is not None
    return answer


# refused, counted, logged


@pytest.mark.requirement("SEC-1")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda apdu: apdu[:-1] + bytes((apdu[-1] ^ 1,)), "wrong_tag"),
        (lambda apdu: apdu[:8] + bytes((apdu[8] ^ 1,)) + apdu[9:], "wrong_tag"),
        (lambda apdu: apdu[:3] + bytes(4) + apdu[7:], "replay"),
    ],
    ids=["tag", "ciphertext", "old counter"],
)
def test_altered_request_is_refused_counted_and_logged(
    bench: Bench, change: Callable[[bytes], bytes], reason: str
) -> None:
    client = bench.client("management")
    request = client.association.get(SERIAL)
    assert reply(bench, client, change(request))[0] == EXCEPTION
    firmware = bench.meter.firmware
    assert firmware is not None
    assert firmware.server.refusals[reason] == 1
    assert reason in security_events(bench)
    assert ("dlms.refused", reason) in [(kind, fields.get("reason")) for kind, fields in bench.traced]
    assert reply(bench, client, request)[0] == GLO_GET_RESPONSE


@pytest.mark.requirement("SEC-1")
def test_client_of_another_title_is_refused_counted_and_logged(bench: Bench) -> None:
    client = Client(bench, "management", open_=False)
    aarq = client.association.associate()
    other = aarq.replace(b"OAMDCU01", b"OAMDCU99")
    assert other != aarq
    assert Aare.decode(reply(bench, client, other)).result is AssociationResult.REJECTED_PERMANENT
    firmware = bench.meter.firmware
    assert firmware is not None
    assert firmware.server.refusals["unknown_title"] == 1
    assert "unknown_title" in security_events(bench)


@pytest.mark.requirement("SEC-1")
def test_everything_heard_is_refused_when_it_comes_again(bench: Bench) -> None:
    heard = talk(bench)
    assert len(heard.requests(GLO_GET_REQUEST)) == 2
    for request in heard.requests(GLO_GET_REQUEST):
        answer = bench.meter.handle_apdu(MANAGEMENT, 1, request, channel=heard.channel)
        assert answer is not None
        assert answer[0] == EXCEPTION
    for request in heard.requests(AARQ):
        answer = bench.meter.handle_apdu(MANAGEMENT, 1, request, channel="elsewhere")
        assert answer is not None
        assert Aare.decode(answer).result is not AssociationResult.ACCEPTED


# power cuts while it counts

PROGRESS = (0.0, 0.5, 1.0)
TALKS = 3


def erase_counts(bench: Bench) -> list[int]:
    flash = bench.meter.flash
    return [flash.erase_count(block) for block in range(flash.geometry.block_count)]


def saves_until_compaction() -> int:
    """How often a counter can be saved before the store moves to its next area of flash."""
    bench = Bench()
    firmware = bench.meter.firmware
    assert firmware is not None
    before, saves = erase_counts(bench), 0
    while erase_counts(bench) == before:
        saves += 1
        firmware.services.counters.save("filler", saves)
    return saves


def filled(saves: int) -> Bench:
    bench = Bench()
    firmware = bench.meter.firmware
    assert firmware is not None
    for value in range(1, saves + 1):
        firmware.services.counters.save("filler", value)
    return bench


def check_after_cut(bench: Bench, heard: list[Heard]) -> None:
    """Nothing that the meter answered before the cut is taken again, and no counter of its own is used again."""
    used = [counter for item in heard for counter in item.sent_counters]
    requests = [request for item in heard for request in item.requests(GLO_GET_REQUEST)]
    least = bench.client("public").get(*COUNTER)
    assert all(counter_of(request) < least for request in requests)
    store = MemoryCounterStore()
    store.save("send", least)
    again = talk(bench, store=store)
    assert len(again.requests(GLO_GET_REQUEST)) == 2
    used += again.sent_counters
    assert len(set(used)) == len(used)
    for request in requests:
        answer = bench.meter.handle_apdu(MANAGEMENT, 1, request, channel=again.channel)
        assert answer is not None
        assert answer[0] == EXCEPTION
    for request in (request for item in heard for request in item.requests(AARQ)):
        answer = bench.meter.handle_apdu(MANAGEMENT, 1, request, channel="elsewhere")
        assert answer is not None
        assert Aare.decode(answer).result is not AssociationResult.ACCEPTED


@pytest.mark.requirement("SEC-1")
@pytest.mark.parametrize("compacts", [False, True], ids=["appending", "moving to the next area"])
def test_no_old_counter_is_accepted_after_a_power_cut_at_any_point_of_an_update(compacts: bool) -> None:
    saves = saves_until_compaction() - 3 if compacts else 0
    reference = filled(saves)
    before, erases = reference.meter.flash.operations, erase_counts(reference)
    counted = [talk(reference) for _ in range(TALKS)]
    assert (erase_counts(reference) != erases) is compacts
    assert all(len(item.answered) == 4 for item in counted)
    operations = range(before, reference.meter.flash.operations)
    assert len(operations) >= TALKS
    for operation in operations:
        for progress in PROGRESS:
            bench = filled(saves)
            bench.meter.flash.fail_power_at(operation, progress)
            heard = [talk(bench) for _ in range(TALKS)]
            assert not bench.meter.running
            bench.meter.power_off()
            bench.meter.power_on()
            check_after_cut(bench, heard)


# damaged inputs


def damaged(rng: random.Random, apdu: bytes) -> bytes:
    raw = bytearray(apdu)
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(120))
    if kind == 1:
        return bytes(raw[: rng.randrange(len(raw) + 1)])
    if kind == 2:
        position = rng.randrange(len(raw) + 1)
        raw[position:position] = rng.randbytes(rng.randrange(1, 9))
    for _ in range(rng.randrange(1, 5)):
        raw[rng.randrange(len(raw))] = rng.choice((0, 0xFF, 0x80, rng.randrange(256)))
    return bytes(raw)


def soak(rounds: int) -> None:
    rng = random.Random(20261123)
    bench = Bench()
    good = [request for request, _ in talk(bench).answered]
    reader = bench.client("reader", max_receive_pdu_bytes=256)
    for reference in (SERIAL, TABLE):
        good.append(reader.association.get(reference))
        reader.association.abandon_request()
    settled = 0
    for number in range(rounds):
        if number == rounds // 2:
            settled, _ = tracemalloc.get_traced_memory()
        sap = rng.choice((*SAPS.values(), 102, 9))
        bench.meter.handle_apdu(sap, 1, damaged(rng, rng.choice(good)), channel=rng.randrange(20))
        bench.traced.clear()
    grown, _ = tracemalloc.get_traced_memory()
    firmware = bench.meter.firmware
    assert firmware is not None
    assert sum(firmware.server.refusals.values()) > rounds // 4
    assert grown - settled < 200_000
    bench.run(3600)  # a lock-out, if there was one, is over
    assert talk(bench).requests(GLO_GET_REQUEST)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.requirement("OSI-7")
@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("rounds", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_damaged_inputs_neither_stop_nor_swell_the_meter(rounds: int) -> None:
    soak(rounds)
