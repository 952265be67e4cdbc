"""What waits for the radio: what takes the place of what, and what keeps its own."""

from __future__ import annotations

import random

from mesh_bench import Bench, eui

from protocols.mesh.core import NodeCore
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import Ipv6Packet, Protocol
from protocols.mesh.rpl.messages import RplCode
from protocols.mesh.timers import BENCH
from protocols.mesh.transmit_queue import Outgoing, TransmitQueue
from protocols.rcp.codes import Status
from protocols.rcp.messages import Transmit, TransmitDone

BENCH_OF_TWO = Bench([(0, 1)])
ROOT = BENCH_OF_TWO.address(0)


def rpl(node: int, code: RplCode, body: bytes) -> Outgoing:
    source = BENCH_OF_TWO.address(node)
    payload = Icmpv6Message(Icmpv6Type.RPL_CONTROL, code, body).encode(source, ROOT)
    return Outgoing(Ipv6Packet(source, ROOT, Protocol.ICMPV6, payload), eui(1), frames=[body])


def sent_in_order(*entries: Outgoing) -> list[bytes]:
    """What goes to the radio when these are queued one after the other, each acknowledged."""
    core = NodeCore(BENCH_OF_TWO.config(0), BENCH, random.Random(1), None)
    queue = TransmitQueue(core, lambda _: True, lambda *_: None, lambda outgoing: outgoing.next_hop)
    for entry in entries:
        assert queue.push(entry)
    sent: list[bytes] = []
    queue.pump()
    while core.messages:
        message = core.messages.pop(0)
        assert isinstance(message, Transmit)
        sent.append(message.payload_ies)
        queue.done(TransmitDone(message.handle, Status.OK, 1))
    assert len(queue) == 0
    return sent


def test_a_later_dao_takes_the_place_of_the_one_that_still_waits() -> None:
    first, other, later = (rpl(node, RplCode.DAO, body) for node, body in ((5, b"first"), (6, b"other"), (5, b"later")))
    assert sent_in_order(first, other, later) == [b"later", b"other"]


def test_acknowledgements_and_datagrams_of_one_node_take_nobodys_place() -> None:
    acks = [rpl(0, RplCode.DAO_ACK, body) for body in (b"one", b"two")]
    assert sent_in_order(*acks) == [b"one", b"two"]
    packet = Ipv6Packet(BENCH_OF_TWO.address(5), ROOT, Protocol.UDP, bytes(8))
    assert sent_in_order(*(Outgoing(packet, eui(1), frames=[body]) for body in (b"a", b"b"))) == [b"a", b"b"]
