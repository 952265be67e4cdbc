"""Data link layer: HDLC modes and information transfer (names HDLC of the public list)."""

from __future__ import annotations

from protocols.dlms.enums import ContextName
from protocols.dlms.get import AttributeReference, GetRequestNormal
from protocols.dlms.hdlc.frames import FrameType
from protocols.dlms.hdlc.parameters import LinkParameters
from protocols.dlms.reading import CURRENT_ASSOCIATION
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need
from twin.conformance.plans.answers import DATA, SILENCE
from twin.conformance.plans.answers import in_words as apdu_in_words
from twin.conformance.plans.application import GET_NAME, aarq
from twin.conformance.plans.hdlc_station import Station, in_words, still_connects
from twin.conformance.tester import Role, Tester
from twin.conformance.verdicts import Limit, Record, at_least, at_most, equals, one_of

_NEEDS = (Need.HDLC,)
_LEAST_INFORMATION_BYTES = 32
_REJECTED = one_of("FRMR", "DM", SILENCE)
_NOT_CONNECTED = Limit("DM or no answer", lambda value: value in ("DM", SILENCE))
GET_OBJECT_LIST = GetRequestNormal(0xC1, AttributeReference(15, CURRENT_ASSOCIATION, 2)).encode()


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
    await still_connects(station, record)


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
    await still_connects(station, record)


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
    await still_connects(station, record)
