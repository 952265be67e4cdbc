"""Cases of our own: the same meter over each of its ways."""

from __future__ import annotations

from protocols.dlms.get import AttributeReference, GetRequestNormal
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import CURRENT_ASSOCIATION
from protocols.meter_identity import LOGICAL_DEVICE_NAME
from twin.conformance.cases import Plan, case
from twin.conformance.needs import Need
from twin.conformance.plans.answers import DATA, in_words
from twin.conformance.plans.application import aarq, initiate
from twin.conformance.plans.hdlc_station import Station
from twin.conformance.tester import Role, Tester
from twin.conformance.verdicts import Record, equals

_SAP_ASSIGNMENT = ObisCode.parse("0-0:41.0.0*255")
_READINGS = {
    "logical device name": AttributeReference(1, LOGICAL_DEVICE_NAME, 2),
    "SAP assignment": AttributeReference(17, _SAP_ASSIGNMENT, 2),
    "object_list": AttributeReference(15, CURRENT_ASSOCIATION, 2),
}


@case(
    "SameReading_1",
    Plan.TRANSPORT,
    "The same reading is had over the mesh, over the wrapper and over a serial line, byte for byte.",
    shows=("UNECE-1", "OSI-4", "OSI-7"),
    needs=(Need.HDLC, Need.MESH, Need.BENCH),
    timeout_s=1800.0,
)
async def _same_reading_1(tester: Tester, record: Record) -> None:
    mesh = await tester.dialogue(Role.PUBLIC, link=await tester.open_mesh_link(), max_receive_pdu_bytes=0xFFFF)
    await mesh.associate()
    wrapper = await tester.associate(Role.PUBLIC, max_receive_pdu_bytes=0xFFFF)
    station = await Station.of(tester)
    record.measure("serial line: SNRM", await station.connect(), limit=equals("UA"))
    await station.exchange(aarq(user_information=initiate(max_receive_pdu_bytes=0xFFFF)))
    for name, reference in _READINGS.items():
        request = GetRequestNormal(0xC1, reference).encode()
        answers = {"mesh": await mesh.raw(request), "wrapper": await wrapper.raw(request)}
        answers["serial line"], _ = await station.exchange(request)
        for way, answer in answers.items():
            record.measure(f"{name} over {way}", in_words(answer), limit=equals(DATA))
        same = answers["mesh"] == answers["wrapper"] == answers["serial line"]
        record.measure(f"{name}: the same bytes", same, limit=equals(True))
