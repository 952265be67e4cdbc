"""What the report of a run says about its lock-step. All of it is the same in every run of a seed."""

from __future__ import annotations

from twin.conformance.tables import Table
from twin.conformance.verdicts import Record, equals
from twin.rigs.lockstep.node import LATE_NS, Tally


def measure_lockstep(record: Record, tally: Tally) -> None:
    """The rig's own health: nothing that crossed was lost, or came before its time."""
    record.measure("rendezvous with the guest", tally.rendezvous)
    record.measure("times guest and simulator disagreed on what crossed", tally.disagreements, limit=equals(0))
    record.measure("bytes that no device of the guest would take", tally.dropped_bytes, limit=equals(0))
    record.measure("outputs of the guest that were found too late", tally.broken_quiets, limit=equals(0))
    record.measure(f"deliveries more than {LATE_NS / 1e6:g} ms late", tally.late_deliveries)
    record.measure("latest delivery", tally.latest_ns / 1e6, unit="ms")


def lockstep_table(tally: Tally) -> Table:
    """What crossed between guest and simulator."""
    rows = (
        ("Rendezvous", tally.rendezvous),
        ("Deliveries to the guest", tally.deliveries),
        ("of them more than 1 ms late", tally.late_deliveries),
        ("Latest delivery, ms", f"{tally.latest_ns / 1e6:.3f}"),
        ("Bytes to the guest", tally.delivered_bytes),
        ("Bytes from the guest", tally.collected_bytes),
        ("Outputs of the guest", tally.outputs),
        ("Outputs found too late", tally.broken_quiets),
    )
    return Table("Lock-step with the concentrator's machine", ("What", "How much"), rows)
