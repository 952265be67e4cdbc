"""The concentrator's configuration: what provisioning gives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcu.identity import DeviceIdentity
from protocols.mesh.authentication.trust import MeshCredentials
from protocols.mesh.config import RadioSettings


@dataclass(frozen=True, slots=True)
class DlmsTimeouts:
    """How long the client waits for a meter behind the mesh, in seconds, and how often it sends a request.

    Each repetition waits `growth` times as long as the one before.
    """

    response_s: float = 4.0
    attempts: int = 3
    growth: float = 1.5


@dataclass(frozen=True, slots=True)
class RegistrationPolicy:
    """Back-off of registrations, in seconds, and how many run at the same time."""

    credentials_timeout_s: float = 20.0
    ack_timeout_s: float = 30.0
    retry_first_s: float = 15.0
    retry_max_s: float = 3600.0
    parallel: int = 2


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """The daily bundle (use case IV). `local_offset_s` is local time minus UTC: the day ends at local midnight.

    `bundle_after_s` after midnight, when the meters' pushes are over, gaps are pulled and the bundle is made; a meter
    that is out of reach is waited for `patience_s`. `margin_s` is how far a pull reaches back behind what is known:
    more than meters' clocks are wrong. A meter that was never collected is asked for its last `backfill_days`.
    """

    local_offset_s: int = 0
    bundle_after_s: float = 1500.0
    patience_s: float = 900.0
    margin_s: int = 3600
    backfill_days: int = 40
    ack_timeout_s: float = 180.0
    refused_retry_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class ClockPolicy:
    """Time synchronization of meters (use case VI), in seconds.

    A clock that is off by more than `limit_s` starts a round, at most one in `least_between_s`; after it every clock
    is within `goal_s`. All clocks are read once a day, `check_after_s` after local midnight. `usual_way_s` is how long
    a datagram takes to a meter that was never measured. A concentrator that lost its reference more than
    `longest_holdover_s` ago sets no clock.
    """

    limit_s: float = 2.0
    goal_s: float = 1.0
    check_after_s: float = 10_800.0
    least_between_s: float = 900.0
    settle_s: float = 5.0
    usual_way_s: float = 0.3
    longest_holdover_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class SimSlot:
    """One SIM of the modem: the access point that its contract names, and its PIN where it asks for one."""

    apn: str = "internet"
    pin: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ModemPolicy:
    """The modem and its SIMs, in the order of preference. Times in seconds.

    `select_sim` is the modem's command that selects a card slot, with `{slot}` from 0. A technology that is registered
    but carries nothing is forbidden for `forbid_technology_s`.
    """

    sims: tuple[SimSlot, ...] = (SimSlot(), SimSlot())
    select_sim: str = "AT+CSUS={slot}"
    command_timeout_s: float = 5.0
    connect_timeout_s: float = 60.0
    poll_s: float = 30.0
    register_timeout_s: float = 90.0
    forbid_technology_s: float = 900.0


@dataclass(frozen=True, slots=True)
class UplinkPolicy:
    """When the uplink changes its way, in seconds.

    A way on which there has been no connection for `give_up_s` is left, and so is one on which nothing that was sent is
    confirmed for `stalled_s`. While another way is in use, the preferred one
    is tried every `probe_s`, less and less often up to `probe_max_s`; `return_after` good trials in a row bring the
    uplink back. Each return that fails within `flap_s` doubles the number of trials that the next one needs.
    """

    give_up_s: float = 20.0
    stalled_s: float = 45.0
    probe_s: float = 60.0
    probe_max_s: float = 600.0
    probe_timeout_s: float = 15.0
    return_after: int = 3
    flap_s: float = 900.0


@dataclass(frozen=True, slots=True)
class TimePolicy:
    """How the clock is disciplined. Times in seconds.

    A reference that is silent for `lost_after_s` is lost. An offset beyond `step_s` is not slewed but stepped. A
    reference that disagrees by more than both uncertainties and `margin_s` is not followed. In holdover the clock may
    wander by up to `holdover_ppm`; for `holdover_s` that is preferred to the head-end's time, while it is the better of
    the two. The head-end is asked for the time every `ask_s`, and every `ask_first_s`
    while there is nothing better.
    """

    lost_after_s: float = 5.0
    step_s: float = 0.5
    margin_s: float = 0.1
    holdover_ppm: float = 1.0
    holdover_s: float = 43_200.0
    ask_s: float = 3600.0
    ask_first_s: float = 60.0


@dataclass(frozen=True, slots=True)
class FirmwarePolicy:
    """Distribution of meters' firmware (use case VII), times in seconds.

    From `multicast_from` meters on, blocks go to all by multicast; then, in at most `multicast_rounds`, those again
    that at least `multicast_share` of the meters lack. Between two multicasts lie `flood_times` the way to the farthest
    meter and `airtimes` the airtime of one frame, of which the request is all but `frame_overhead_bytes`. `settle_s`
    after the last one the meters are asked what they lack. Before the first, those that are ready are waited for, at
    most `gather_s`.

    `parallel_restarts` meters change over at a time: each has `restart_s` to go and come back, and `restart_limit_s` if
    it takes longer. A meter that does not answer is tried again after `retry_s`, one that is not there after
    `absent_s`; what one does by itself is looked at every `trial_look_s`. The head-end is told of changes every
    `report_every_s`.
    """

    multicast_from: int = 2
    multicast_rounds: int = 3
    multicast_share: float = 0.05
    least_spacing_s: float = 0.5
    flood_times: float = 2.0
    airtimes: float = 8.0
    frame_overhead_bytes: int = 110
    settle_s: float = 10.0
    prepare_attempts: int = 2
    gather_s: float = 300.0
    keep_every_blocks: int = 16
    parallel_restarts: int = 4
    restart_s: float = 20.0
    restart_limit_s: float = 120.0
    retry_s: float = 5.0
    absent_s: float = 60.0
    trial_look_s: float = 45.0
    report_every_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Predecessor:
    """What the concentrator had used up in whose place this one comes, with its identity and keys but not its flash.

    `starts` is how often it had started, `frame_counter` the first one that its radio cannot have sent: as its status
    tells over the maintenance line. This one goes on behind both, or meters and head-end would take it for a replay.
    """

    starts: int = 0
    frame_counter: int = 0


@dataclass(frozen=True, slots=True)
class DcuConfig:
    """Identity and settings of one concentrator.

    `dcu_id` names it in topics and logs. `eui64`, 8 bytes, is its radio's address; `system_title`, 8 bytes, its DLMS
    client title; `link_key`, 16 bytes, the mesh's group key under `key_index` 1 to 7; `prefix` the first 8 bytes of the
    mesh's IPv6 addresses. `timers_profile` names a profile of `protocols.mesh.timers`. `radio` is how its radio
    works: channels, rate, longest frame.
    """

    dcu_id: str
    eui64: bytes
    system_title: bytes
    link_key: bytes = field(repr=False)
    key_index: int = 1
    network_name: str = "openami"
    pan_id: int = 0x0A41
    prefix: bytes = bytes.fromhex("fd00000000000a41")
    radio: RadioSettings = field(default_factory=RadioSettings)
    mesh_credentials: MeshCredentials | None = field(default=None, repr=False)
    """With them meters must prove themselves by their certificates before they are given the group key."""
    timers_profile: str = "fan-small"
    parallel_readings: int = 3
    max_meters: int = 2000
    outbox_limit_bytes: int = 4 * 1024 * 1024
    dlms: DlmsTimeouts = DlmsTimeouts()
    registration: RegistrationPolicy = RegistrationPolicy()
    identity: DeviceIdentity | None = None
    """For meters of security suite 1; without it, they are refused."""
    collection: CollectionPolicy = CollectionPolicy()
    clocks: ClockPolicy = ClockPolicy()
    firmware: FirmwarePolicy = FirmwarePolicy()
    firmware_keys_pem: str = field(default="", repr=False)
    """Public keys of those whose firmware it passes on to meters; empty: nobody's."""
    modem: ModemPolicy = ModemPolicy()
    uplink: UplinkPolicy = UplinkPolicy()
    time: TimePolicy = TimePolicy()
    predecessor: Predecessor = Predecessor()
