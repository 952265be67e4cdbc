"""One run from a loaded scenario to a written run folder."""

from __future__ import annotations

import logging
from dataclasses import replace

from twin.clock.clocks import ClockKind, RealClock, RunClock, VirtualClock
from twin.conformance.pictures.png import can_draw
from twin.conformance.report import Figure, RunReport, Table, write_report
from twin.conformance.verdicts import Attempt, CaseResult, Record, Verdict, equals
from twin.rigs import pictures
from twin.rigs.cautions import cautions
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.options import AirKind, BrokerKind, DcuKind, RunOptions
from twin.rigs.radio import timers_profile
from twin.rigs.rig import Rig, open_rig
from twin.rigs.uplink_pictures import uplink_figures
from twin.scenarios.loading import LoadedScenario
from twin.scenarios.playing import Progress, play, resolve_script

MACHINE_LEAD_S = 15.0
"""Of virtual time: a concentrator that goes on from its snapshot needs about 5 s until its daemon has its identity."""
_REPORT_FILES = ("report.html", "report.json", "report.xml")


def run_scenario(
    loaded: LoadedScenario, options: RunOptions, folder: RunFolder, command: str, progress: Progress
) -> RunReport:
    """Play the scenario and write its report. Raises BadInputError or RigError where it cannot even begin."""
    script = resolve_script(loaded)
    clock = make_clock(loaded, options)
    handler = folder.log_handler()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with folder.file("events.jsonl").open("w", encoding="utf-8") as file:
            trace = EventTrace(file, clock)

            async def main() -> RunReport:
                async with open_rig(loaded, options, clock, folder, trace) as rig:
                    cases = await play(script, rig, progress)
                    cases.append(_health(rig))
                    progress(cases[-1].title, cases[-1])
                    return _report(rig, cases, command)

            report = clock.run(main())
    finally:
        root.removeHandler(handler)
        handler.close()
    drawn = {name for figure in report.figures for name in figure.files}
    report = replace(report, files=tuple(sorted({*folder.written(), *_REPORT_FILES, *drawn} - {"run.log"})))
    write_report(report, folder.path)
    return report


def make_clock(loaded: LoadedScenario, options: RunOptions) -> RunClock:
    """The clock that the options ask for. A machine is switched on before the run begins, to be ready when it does."""
    if options.clock is ClockKind.REAL:
        return RealClock()
    return VirtualClock(loaded.scenario.start, MACHINE_LEAD_S if options.dcu is DcuKind.QEMU else 0.0)


def _health(rig: Rig) -> CaseResult:
    """The rig's own verdict: an exception that nobody caught makes a run an ERROR, whatever the steps measured."""
    record = Record()
    record.measure("errors that nobody caught", len(rig.unhandled), limit=equals(0))
    record.measure("background tasks that failed", rig.trace.counts.get("dcu-task-failed", 0), limit=equals(0))
    if rig.options.air is AirKind.SCAPY:
        record.measure("frames that Scapy could not rebuild exactly", rig.rebuild_differences, limit=equals(0))
    tally = rig.lockstep
    if tally is not None:
        from twin.rigs.lockstep.report import measure_lockstep

        measure_lockstep(record, tally)
    verdict, reason = record.verdict()
    if verdict is Verdict.FAIL:
        verdict, reason = Verdict.ERROR, "; ".join([reason, *rig.unhandled])
    now = rig.clock.now()
    attempt = Attempt(verdict, reason, now, now, tuple(record.measurements))
    return CaseResult("rig-health", "the rig itself ran without an error", (), (attempt,))


def _report(rig: Rig, cases: list[CaseResult], command: str) -> RunReport:
    scenario, options = rig.scenario, rig.options
    return RunReport(
        title=scenario.title,
        about=scenario.about,
        conditions={
            "scenario": scenario.scenario,
            "seed": str(options.seed),
            "clock": str(options.clock),
            "timer profile": timers_profile(scenario),
            "radio": (
                f"{scenario.radio.region}, {scenario.radio.data_rate_kbps} kb/s, "
                f"PSDU up to {scenario.radio.max_psdu_bytes} bytes"
            ),
            "emulated": _emulated(options, has_grid=rig.has_grid),
            "real": _real(options),
        },
        command=command,
        simulated_s=rig.clock.now(),
        cases=tuple(cases),
        statistics=_statistics(rig),
        figures=_figures(rig),
        tables=(_meter_table(rig), _traffic_table(rig), *_lockstep_tables(rig)),
        warnings=(*cautions(rig), *_warnings()),
    )


def _lockstep_tables(rig: Rig) -> tuple[Table, ...]:
    if rig.lockstep is None:
        return ()
    from twin.rigs.lockstep.report import lockstep_table

    return (lockstep_table(rig.lockstep),)


def _warnings() -> tuple[str, ...]:
    if can_draw():
        return ()
    return ("the pictures are in this page only: PNG files need matplotlib (pip install 'openami-twin[grid]')",)


def _emulated(options: RunOptions, *, has_grid: bool) -> str:
    parts = ["meters", "air", "backhaul" if options.broker is BrokerKind.MEMORY else "", "households"]
    if has_grid:
        parts.append("feeder and inverters (computed power flow)")
    if options.broker is BrokerKind.MEMORY:
        parts.append("MQTT broker (real packets, in memory)")
    return ", ".join(part for part in parts if part)


def _real(options: RunOptions) -> str:
    parts = ["every byte at every boundary", "the head-end's REST interface and database"]
    if options.dcu is DcuKind.QEMU and options.clock is ClockKind.VIRTUAL:
        parts.append(
            "the DCU's daemon in its ARMv7 Linux image under QEMU, in lock-step (an agent in the guest carries its "
            "serial lines and its MQTT, without TLS)"
        )
    elif options.dcu is DcuKind.QEMU:
        parts.append("the DCU's daemon in its ARMv7 Linux image under QEMU, over UART and Ethernet")
    else:
        parts.append("the DCU's daemon, natively")
    if options.broker is BrokerKind.MOSQUITTO:
        parts.append("mosquitto over TCP on loopback")
    if options.broker is BrokerKind.EMBEDDED:
        parts.append("amqtt over TCP on loopback")
    if options.air is AirKind.SCAPY:
        parts.append("every frame dissected and rebuilt by Scapy")
    return ", ".join(parts)


def _statistics(rig: Rig) -> dict[str, object]:
    air = rig.air.statistics()
    return {
        "transmissions": air.transmissions,
        "receptions": air.receptions,
        **({"loop_events": rig.clock.loop.events_run} if isinstance(rig.clock, VirtualClock) else {}),
        "meters_by_hops": {str(hops): count for hops, count in pictures.hop_counts(rig).items()},
        "channel_airtime_s": {str(channel): value for channel, value in pictures.channel_occupancy(rig).items()},
        "nodes": {
            node.name: {
                "sent": node.sent,
                "received": node.received,
                "lost": dict(sorted(node.lost.items())),
                "airtime_s": round(node.airtime_s, 6),
                "duty_cycle": round(node.duty_cycle, 9),
            }
            for node in air.nodes
        },
        "events": dict(sorted(rig.trace.counts.items())),
    }


def _figures(rig: Rig) -> tuple[Figure, ...]:
    return (
        Figure(
            "The mesh",
            "To scale. The way that a meter's traffic took at the end of the run, coloured by each link's ETX, and "
            "the thicker the more frames it carried; dashed red: ways it took before; grey: other links that carried "
            "frames. Point at a node or a line for its figures.",
            "mesh",
            pictures.mesh_map(rig),
        ),
        Figure(
            "Joining and healing",
            "Join states of every node over the run: from looking for a PAN (light) to operational (dark).",
            "joining",
            pictures.join_timeline(rig),
        ),
        Figure(
            "Hops",
            "How many hops the meters are away from the concentrator at the end of the run.",
            "hops",
            pictures.hop_histogram(rig),
        ),
        Figure(
            "Channels",
            "How long each channel was in use; a discovery burst counts on every channel of the plan.",
            "channels",
            pictures.channel_picture(rig),
        ),
        *uplink_figures(rig),
        *rig.figures,
    )


def _meter_table(rig: Rig) -> Table:
    rows = []
    for meter in rig.meters.values():
        hops = rig.mesh.hops(meter.name)
        x_m, y_m = meter.settings.position
        rows.append((
            meter.name, meter.serial, meter.provision.model.model, f"{x_m:g}, {y_m:g}", rig.mesh.state(meter.name),
            rig.mesh.parent(meter.name) or "none", "none" if hops is None else hops, f"{meter.imported_wh():.1f}",
            f"{meter.household.daily_kwh:.2f}", len(rig.hes.registrations(meter.serial)),
        ))  # fmt: skip
    columns = (
        "Meter", "Serial", "Model", "Position, m", "State", "Relay", "Hops", "Counted, Wh", "Mean day, kWh",
        "Registrations",
    )  # fmt: skip
    return Table("Meters at the end of the run", columns, tuple(rows))


def _traffic_table(rig: Rig) -> Table:
    rows = tuple(
        (
            node.name, node.sent, node.received, sum(node.lost.values()), f"{node.airtime_s:.2f}",
            f"{100 * node.duty_cycle:.3f}",
        )
        for node in rig.air.statistics().nodes
    )  # fmt: skip
    columns = ("Node", "Frames sent", "Frames received", "Receptions lost", "Time on air, s", "Duty cycle, %")
    return Table("Traffic", columns, rows)
