"""Data link layer: HDLC frames and addresses (names HDLC of the public list)."""

from __future__ import annotations

from protocols.dlms.get import AttributeReference, GetRequestNormal
from protocols.dlms.hdlc.frames import FLAG, FrameType, HdlcAddress, checksum
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.dlms.reading import CURRENT_ASSOCIATION
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need
from twin.conformance.plans.answers import SILENCE
from twin.conformance.plans.hdlc_station import Station, in_words, still_connects
from twin.conformance.tester import Tester
from twin.conformance.verdicts import Record, at_least, equals, one_of

_NEEDS = (Need.HDLC,)
_INTER_OCTET_S = 2.0
"""More silence inside a frame than any station waits for."""
_REJECTED = one_of("FRMR", "DM", SILENCE)
GET_OBJECT_LIST = GetRequestNormal(0xC1, AttributeReference(15, CURRENT_ASSOCIATION, 2)).encode()


def _with_checksum(content: bytes) -> bytes:
    """A frame of these bytes between flags, with a right FCS and whatever is wrong in the rest."""
    return bytes((FLAG,)) + content + checksum(content) + bytes((FLAG,))


@case(
    "FRAME_P1",
    Plan.HDLC,
    "Right frames are answered: SNRM and DISC with UA, final bit set, to the client's address.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _frame_p1(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    for kind in (FrameType.SNRM, FrameType.DISC):
        frames = await station.ask(station.frame(kind))
        record.measure(kind.name, in_words(frames), limit=equals("UA"))
        if frames:
            record.measure(f"{kind.name}: final bit", frames[0].final, limit=equals(True))
            to_us = frames[0].destination == station.client and frames[0].source == station.server
            record.measure(f"{kind.name}: from the meter to the client", to_us, limit=equals(True))


@case(
    "FRAME_P2",
    Plan.HDLC,
    "Flags: one may end a frame and begin the next, and any number may fill the pause between.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _frame_p2(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    snrm, disc = station.frame(FrameType.SNRM).encode(), station.frame(FrameType.DISC).encode()
    flags = bytes((FLAG,)) * 5
    record.measure("SNRM between flags", await station.outcome(flags + snrm + flags), limit=equals("UA"))
    record.measure("DISC after them", await station.outcome(disc), limit=equals("UA"))
    both = await station.ask(snrm[:-1] + disc)
    if len(both) == 1:
        both += await station.ask(b"")
    record.measure("SNRM and DISC with one flag between", in_words(both), limit=equals("UA UA"))


@case(
    "FRAME_P3", Plan.HDLC, "A frame that comes byte by byte, or in two pieces, is a frame.", shows="OSI-7", needs=_NEEDS
)
async def _frame_p3(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    snrm, disc = station.frame(FrameType.SNRM).encode(), station.frame(FrameType.DISC).encode()
    for byte in snrm[:-1]:
        station.line.write(bytes((byte,)))
    record.measure("SNRM byte by byte", await station.outcome(snrm[-1:]), limit=equals("UA"))
    station.line.write(disc[:5])
    record.measure("DISC in two pieces", await station.outcome(disc[5:]), limit=equals("UA"))


async def _is_ignored(tester: Tester, record: Record, wrong: dict[str, bytes]) -> None:
    station = await Station.of(tester)
    for name, data in wrong.items():
        record.measure(name, await station.outcome(data), limit=equals(SILENCE))
        await station.line.read(_INTER_OCTET_S)
        await still_connects(station, record)


async def _snrm(tester: Tester, information: bytes = b"") -> bytes:
    station = await Station.of(tester)
    return station.frame(FrameType.SNRM, information=information).encode()


def _flipped(data: bytes, index: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 0x01
    return bytes(changed)


@case("FRAME_N1", Plan.HDLC, "A frame with a wrong FCS is passed over.", shows="OSI-7", needs=_NEEDS)
async def _frame_n1(tester: Tester, record: Record) -> None:
    snrm = await _snrm(tester)
    await _is_ignored(tester, record, {"SNRM with a wrong FCS": _flipped(snrm, -2)})


@case("FRAME_N2", Plan.HDLC, "A frame with information whose HCS is wrong is passed over.", shows="OSI-7", needs=_NEEDS)
async def _frame_n2(tester: Tester, record: Record) -> None:
    information = LinkParameters().encode()
    inside = (await _snrm(tester, information))[1:-3]
    at = len(inside) - len(information) - 1
    await _is_ignored(tester, record, {"SNRM with a wrong HCS": _with_checksum(_flipped(inside, at))})


@case("FRAME_N3", Plan.HDLC, "A frame of another format type than 3 is passed over.", shows="OSI-7", needs=_NEEDS)
async def _frame_n3(tester: Tester, record: Record) -> None:
    inside = (await _snrm(tester))[1:-3]
    wrong = {
        f"format type {kind:X}": _with_checksum(bytes((kind << 4 | inside[0] & 0x0F,)) + inside[1:])
        for kind in (0, 9, 0xB)
    }
    await _is_ignored(tester, record, wrong)


@case(
    "FRAME_N4", Plan.HDLC, "A frame whose length field is not its length is passed over.", shows="OSI-7", needs=_NEEDS
)
async def _frame_n4(tester: Tester, record: Record) -> None:
    inside = (await _snrm(tester))[1:-3]
    wrong = {
        name: _with_checksum(inside[:1] + bytes((inside[1] + by,)) + inside[2:])
        for name, by in (("length field too small", -1), ("length field too large", 3))
    }
    await _is_ignored(tester, record, wrong)


@case(
    "FRAME_N5",
    Plan.HDLC,
    "A frame that is cut off is passed over, and so is one without its flags.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _frame_n5(tester: Tester, record: Record) -> None:
    snrm = await _snrm(tester)
    await _is_ignored(tester, record, {"cut off": snrm[:6], "no opening flag": snrm[1:-1], "a flag alone": snrm[:1]})


@case(
    "FRAME_N7",
    Plan.HDLC,
    "A command without the poll bit, or with a control byte that has no meaning, gets no UA.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _frame_n7(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    unpolled = station.frame(FrameType.SNRM, final=False)
    record.measure("SNRM without the poll bit", await station.outcome(unpolled), limit=equals(SILENCE))
    inside = station.frame(FrameType.SNRM).encode()[1:-3]
    unknown = _with_checksum(inside[:-1] + bytes((0xEF | 0x10,)))
    record.measure("unknown control byte", await station.outcome(unknown), limit=_REJECTED)
    await still_connects(station, record)


@case(
    "FRAME_N8",
    Plan.HDLC,
    "Silence inside a frame ends it: what comes later is not its rest.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _frame_n8(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    snrm = station.frame(FrameType.SNRM).encode()
    station.line.write(snrm[:5])
    await station.line.read(_INTER_OCTET_S)
    record.measure("the rest after a long silence", await station.outcome(snrm[5:]), limit=equals(SILENCE))
    await station.line.read(_INTER_OCTET_S)
    await still_connects(station, record)


# addresses


@case(
    "ADDRESS_P1",
    Plan.HDLC,
    "The meter answers at its address, in the form in which it is asked: 1, 2 or 4 bytes.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _address_p1(tester: Tester, record: Record) -> None:
    saps, answered = tester.facts.saps, 0
    forms = {1: HdlcAddress(saps.server)}
    if saps.physical is not None:
        forms |= {size: HdlcAddress(saps.server, saps.physical, size) for size in (2, 4)}
    for size, address in forms.items():
        station = await Station.of(tester)
        station.server = address
        frames = await station.ask(station.frame(FrameType.SNRM))
        record.measure(f"SNRM to an address of {size} bytes", in_words(frames), limit=one_of("UA", SILENCE))
        if frames:
            answered += 1
            record.measure(f"{size} bytes: answered in the same form", frames[0].source == address, limit=equals(True))
            record.measure(f"{size} bytes: DISC", await station.disconnect(), limit=equals("UA"))
    record.measure("forms that are answered", answered, limit=at_least(1))
    station = await Station.of(tester)
    record.measure("SNRM to the address as it was given", await station.connect(), limit=equals("UA"))


async def _is_not_reached(tester: Tester, record: Record, name: str, server: HdlcAddress) -> None:
    station = await Station.of(tester)
    station.server = server
    record.measure(name, await station.outcome(station.frame(FrameType.SNRM)), limit=equals(SILENCE))


@case("ADDRESS_N1", Plan.HDLC, "A frame to another physical device is passed over.", shows="OSI-7", needs=_NEEDS)
async def _address_n1(tester: Tester, record: Record) -> None:
    saps = tester.facts.saps
    other = 0x2A if saps.physical != 0x2A else 0x2B
    for size in (2, 4):
        await _is_not_reached(
            tester, record, f"another physical device, {size} bytes", HdlcAddress(saps.server, other, size)
        )
    await still_connects(await Station.of(tester), record)


@case(
    "ADDRESS_N4",
    Plan.HDLC,
    "A frame to a logical device that is not there is passed over.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _address_n4(tester: Tester, record: Record) -> None:
    saps = tester.facts.saps
    await _is_not_reached(tester, record, "another logical device, 1 byte", HdlcAddress(0x5E))
    if saps.physical is not None:
        for size in (2, 4):
            await _is_not_reached(
                tester, record, f"another logical device, {size} bytes", HdlcAddress(0x5E, saps.physical, size)
            )
    await still_connects(await Station.of(tester), record)


@case("ADDRESS_N6", Plan.HDLC, "A frame whose addresses are malformed is passed over.", shows="OSI-7", needs=_NEEDS)
async def _address_n6(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    control = bytes((FrameType.SNRM.value | 0x10,))
    client = station.client.encode()
    addresses = {
        "a server address of 3 bytes": bytes.fromhex("020023") + client,
        "a server address that does not end": bytes.fromhex("020202020202"),
        "no client address": station.server.encode(),
    }
    wrong = {}
    for name, both in addresses.items():
        body = both + control
        wrong[name] = _with_checksum(bytes((0xA0, len(body) + 4)) + body)
    await _is_ignored(tester, record, wrong)


@case(
    "ADDRESS_N7",
    Plan.HDLC,
    "A frame from no station, or a SNRM to all stations, is passed over.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _address_n7(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    own = station.client
    station.client = HdlcAddress(0)
    record.measure("SNRM from no station", await station.outcome(station.frame(FrameType.SNRM)), limit=equals(SILENCE))
    station.client = own
    everyone = {1: HdlcAddress(0x7F), 2: HdlcAddress(0x7F, 0x7F), 4: HdlcAddress(0x3FFF, 0x3FFF, 4)}
    for size, address in everyone.items():
        await _is_not_reached(tester, record, f"SNRM to all stations, {size} bytes", address)
    await still_connects(await Station.of(tester), record)
