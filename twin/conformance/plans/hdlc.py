"""Data link layer: HDLC frames, addresses, modes and information transfer (names HDLC of the public list)."""

from __future__ import annotations

from protocols.dlms.enums import ContextName
from protocols.dlms.get import AttributeReference, GetRequestNormal
from protocols.dlms.hdlc.frames import FLAG, FrameType, HdlcAddress, checksum
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.dlms.reading import CURRENT_ASSOCIATION
from twin.conformance.cases import Need, Plan, case
from twin.conformance.plans.answers import DATA, SILENCE
from twin.conformance.plans.answers import in_words as apdu_in_words
from twin.conformance.plans.application import GET_NAME, aarq
from twin.conformance.plans.hdlc_station import Station, in_words
from twin.conformance.tester import Role, Tester
from twin.conformance.verdicts import Limit, Record, at_least, at_most, equals, one_of

_NEEDS = (Need.HDLC,)
_INTER_OCTET_S = 2.0
"""More silence inside a frame than any station waits for."""
_LEAST_INFORMATION_BYTES = 32
_REJECTED = one_of("FRMR", "DM", SILENCE)
_NOT_CONNECTED = Limit("DM or no answer", lambda value: value in ("DM", SILENCE))
GET_OBJECT_LIST = GetRequestNormal(0xC1, AttributeReference(15, CURRENT_ASSOCIATION, 2)).encode()


def _with_checksum(content: bytes) -> bytes:
    """A frame of these bytes between flags, with a right FCS and whatever is wrong in the rest."""
    return bytes((FLAG,)) + content + checksum(content) + bytes((FLAG,))


async def _still_connects(station: Station, record: Record) -> None:
    record.measure("a right SNRM afterwards", await station.connect(), limit=equals("UA"))
    record.measure("DISC", await station.disconnect(), limit=equals("UA"))


async def _associated(station: Station, record: Record, information: bytes = b"") -> bool:
    """Connect and open an association without security."""
    record.measure("SNRM", await station.connect(information), limit=equals("UA"))
    answer, _ = await station.exchange(aarq(context=ContextName.LN))
    outcome = apdu_in_words(answer)
    record.measure("AARQ", outcome, limit=equals("accepted"))
    return outcome == "accepted"


async def _get_name(station: Station) -> str:
    answer, _ = await station.exchange(GET_NAME)
    return apdu_in_words(answer)


# frames


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
        await _still_connects(station, record)


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
    await _still_connects(station, record)


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
    await _still_connects(station, record)


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
    await _still_connects(await Station.of(tester), record)


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
    await _still_connects(await Station.of(tester), record)


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
    await _still_connects(await Station.of(tester), record)


# modes


@case(
    "NDM2NRM_P1",
    Plan.HDLC,
    "SNRM connects, and a second one connects anew: its counters begin at zero, the association is gone.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _ndm2nrm_p1(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    if not await _associated(station, record):
        return
    record.measure("GET", await _get_name(station), limit=equals(DATA))
    record.measure("SNRM again", await station.connect(), limit=equals("UA"))
    outcome = await _get_name(station)
    record.measure("GET without a new association", outcome, limit=Limit("not data", lambda value: value != DATA))
    record.measure(
        "association and GET anew", await _associated(station, record) and await _get_name(station), limit=equals(DATA)
    )
    record.measure("DISC", await station.disconnect(), limit=equals("UA"))


@case(
    "NDM2NRM_P2",
    Plan.HDLC,
    "Link parameters are negotiated: what the UA states is within what was proposed, and is kept to.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _ndm2nrm_p2(tester: Tester, record: Record) -> None:
    small = _LEAST_INFORMATION_BYTES
    for proposed in (LinkParameters(), LinkParameters(small, small, 1, 1), LinkParameters(512, 512, 7, 7)):
        station = await Station.of(tester)
        name = f"{proposed.receive_information_bytes} bytes, window {proposed.receive_window}"
        if not await _associated(station, record, proposed.encode()):
            continue
        stated = station.parameters
        record.measure(
            f"{name}: meter sends",
            stated.transmit_information_bytes,
            unit="bytes",
            limit=at_most(proposed.receive_information_bytes),
        )
        record.measure(f"{name}: meter's window", stated.transmit_window, limit=at_most(proposed.receive_window))
        answer, frames = await station.exchange(GET_OBJECT_LIST)
        record.measure(f"{name}: GET of object_list", apdu_in_words(answer), limit=equals(DATA))
        longest = max(len(frame.information) for frame in frames)
        record.measure(
            f"{name}: longest information field",
            longest,
            unit="bytes",
            limit=at_most(proposed.receive_information_bytes),
        )
        record.measure(f"{name}: DISC", await station.disconnect(), limit=equals("UA"))


# information


@case(
    "INFO_P1",
    Plan.HDLC,
    "Information is exchanged past the counters' end, in segments where it is long, and says what the wrapper says.",
    shows=("OSI-7", "UNECE-1"),
    needs=_NEEDS,
)
async def _info_p1(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    if not await _associated(station, record):
        return
    for number in range(1, 11):
        record.measure(f"GET {number}", await _get_name(station), limit=equals(DATA))
    answer, frames = await station.exchange(GET_OBJECT_LIST)
    record.measure("GET of object_list", apdu_in_words(answer), limit=equals(DATA))
    record.measure("segments that it took", len([frame for frame in frames if frame.segmented]), limit=at_least(1))
    record.measure("DISC", await station.disconnect(), limit=equals("UA"))
    if tester.bench is not None:
        dialogue = await tester.associate(Role.PUBLIC)
        same = await dialogue.raw(GET_OBJECT_LIST) == answer
        record.measure("the same answer over the wrapper", same, limit=equals(True))


@case(
    "INFO_N1",
    Plan.HDLC,
    "An I frame out of sequence is not served; the meter says which one it waits for.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _info_n1(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    if not await _associated(station, record):
        return
    for name, by in (("repeated", -1), ("ahead of its turn", 2)):
        wrong = station.information(GET_NAME, send=(station.send_state + by) % 8)
        frames = await station.ask(wrong)
        record.measure(f"I frame {name}", in_words(frames), limit=one_of("RR", SILENCE))
        if frames:
            record.measure(f"{name}: N(R)", frames[-1].receive, limit=equals(station.send_state))
    record.measure("the right one", await _get_name(station), limit=equals(DATA))


@case(
    "INFO_N2",
    Plan.HDLC,
    "An N(R) that acknowledges what was never sent is rejected, and a new link can be set up.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _info_n2(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    if not await _associated(station, record):
        return
    wrong = station.information(GET_NAME, receive=(station.receive_state + 3) % 8)
    record.measure("I frame with a wrong N(R)", await station.outcome(wrong), limit=_REJECTED)
    await _still_connects(station, record)


@case(
    "INFO_N3",
    Plan.HDLC,
    "An information field longer than negotiated is rejected and not served; a new link can be set up.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _info_n3(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    small = LinkParameters(_LEAST_INFORMATION_BYTES, _LEAST_INFORMATION_BYTES, 1, 1)
    record.measure("SNRM", await station.connect(small.encode()), limit=equals("UA"))
    request = aarq(called_ap_title=b"TOO LONG")
    record.measure("information field", len(request) + 3, unit="bytes", limit=at_least(_LEAST_INFORMATION_BYTES + 1))
    record.measure("I frame that is too long", await station.outcome(station.information(request)), limit=_REJECTED)
    await _still_connects(station, record)


@case(
    "NDMOP_N1",
    Plan.HDLC,
    "Without a link nothing is served: I and RR frames and DISC get DM or nothing.",
    shows="OSI-7",
    needs=_NEEDS,
)
async def _ndmop_n1(tester: Tester, record: Record) -> None:
    station = await Station.of(tester)
    await station.disconnect()
    frames = {
        "I frame": station.information(aarq()),
        "RR": station.frame(FrameType.RR),
        "DISC": station.frame(FrameType.DISC),
    }
    for name, frame in frames.items():
        record.measure(f"{name} without a link", await station.outcome(frame), limit=_NOT_CONNECTED)
    await _still_connects(station, record)
